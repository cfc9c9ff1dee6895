package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sdo-go/sdo/graph"
)

// Attribute is one thing that can be said about an image, and the values it
// can have.
type Attribute struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`
}

// Null is the label that says nothing about the attribute: the row after the
// last value.
func (a Attribute) Null() int { return len(a.Values) }

// Attributes is an ordered schema. Labels, embedding tables and logits follow
// its order.
type Attributes []Attribute

// Validate wants names and values that are there, distinct, and usable as part
// of a tensor's name.
func (as Attributes) Validate() error {
	if len(as) == 0 {
		return fmt.Errorf("attributes: the list is empty")
	}
	seen := map[string]bool{}
	for _, a := range as {
		if a.Name == "" || strings.ContainsAny(a.Name, ". \t\n") || seen[a.Name] {
			return fmt.Errorf("attributes: the name %.100q is empty, repeated, or holds a dot or a space", a.Name)
		}
		seen[a.Name] = true
		if len(a.Values) < 2 {
			return fmt.Errorf("attributes: %.100q has %d values, want at least 2", a.Name, len(a.Values))
		}
		values := map[string]bool{}
		for _, v := range a.Values {
			if v == "" || values[v] {
				return fmt.Errorf("attributes: %.100q has the value %.100q empty or twice", a.Name, v)
			}
			values[v] = true
		}
	}
	return nil
}

// Names lists the attributes in order.
func (as Attributes) Names() []string {
	names := make([]string, len(as))
	for i, a := range as {
		names[i] = a.Name
	}
	return names
}

// Index finds an attribute by name.
func (as Attributes) Index(name string) (int, error) {
	i := slices.IndexFunc(as, func(a Attribute) bool { return a.Name == name })
	if i < 0 {
		return 0, fmt.Errorf("attribute %q does not exist, there are %s", name, strings.Join(as.Names(), ", "))
	}
	return i, nil
}

// Value finds an attribute and one of its values.
func (as Attributes) Value(name, value string) (attribute, label int, err error) {
	if attribute, err = as.Index(name); err != nil {
		return 0, 0, err
	}
	if label = slices.Index(as[attribute].Values, value); label < 0 {
		return 0, 0, fmt.Errorf("attribute %q has no value %q, only %s", name, value, strings.Join(as[attribute].Values, ", "))
	}
	return attribute, label, nil
}

// NullLabels says nothing about any attribute.
func (as Attributes) NullLabels() []int {
	labels := make([]int, len(as))
	for i, a := range as {
		labels[i] = a.Null()
	}
	return labels
}

// Labels turns a partial description into one label per attribute, null where
// nothing is said.
func (as Attributes) Labels(condition map[string]string) ([]int, error) {
	labels := as.NullLabels()
	for _, name := range slices.Sorted(maps.Keys(condition)) {
		i, label, err := as.Value(name, condition[name])
		if err != nil {
			return nil, err
		}
		labels[i] = label
	}
	return labels, nil
}

// Logits is the number of values of all attributes together.
func (as Attributes) Logits() int {
	n := 0
	for _, a := range as {
		n += len(a.Values)
	}
	return n
}

// LogitRange is where an attribute's logits [from, to) lie among all.
func (as Attributes) LogitRange(name string) (from, to int, err error) {
	i, err := as.Index(name)
	if err != nil {
		return 0, 0, err
	}
	from = as[:i].Logits()
	return from, from + len(as[i].Values), nil
}

// AttributeEmbedder turns labels into the class vector of a UNet2DModel with
// class_embed_type "identity": the sum of one row from each attribute's table,
// whose last row is the null label's. Weights hold "<attribute>.weight"
// [values+1, Dim].
type AttributeEmbedder struct {
	Attributes Attributes
	Dim        int
	Weights    Weights
}

// embedderStd starts the tables small beside the time embedding, so that an
// untrained condition does not drown the timestep.
const embedderStd = 0.1

// Params lists the tables as a file names them.
func (e AttributeEmbedder) Params() []Param {
	params := make([]Param, len(e.Attributes))
	for i, a := range e.Attributes {
		params[i] = Param{a.Name + ".weight", graph.Shape{len(a.Values) + 1, e.Dim}, initialiser{std: embedderStd}}
	}
	return params
}

// Embed sums the rows of labels, one per attribute, into a vector of Dim.
func (e AttributeEmbedder) Embed(labels []int) ([]float32, error) {
	if len(labels) != len(e.Attributes) {
		return nil, fmt.Errorf("attribute embedder: %d labels for %d attributes", len(labels), len(e.Attributes))
	}
	sum := make([]float32, e.Dim)
	for i, a := range e.Attributes {
		if labels[i] < 0 || labels[i] > a.Null() {
			return nil, fmt.Errorf("attribute embedder: %s has no label %d, only 0 to %d", a.Name, labels[i], a.Null())
		}
		row := e.Weights[a.Name+".weight"].Data[labels[i]*e.Dim:][:e.Dim]
		for d, v := range row {
			sum[d] += v
		}
	}
	return sum, nil
}

// Build appends the sum as nodes for training: labels [A N], attribute by
// attribute, to class vectors [N Dim]. The tables become parameters under the
// names a file gives them; Weights are not used.
func (e AttributeEmbedder) Build(g *graph.Graph, labels *graph.Node) *graph.Node {
	if len(labels.Shape) != 2 || labels.Shape[0] != len(e.Attributes) {
		fail("attribute embedder: labels %v must be [%d N]", labels.Shape, len(e.Attributes))
	}
	b := &builder{Graph: g}
	n := labels.Shape[1]
	var sum *graph.Node
	for i, p := range e.Params() {
		row := g.Reshape(g.Slice(labels, 0, i, i+1), n)
		v := b.Embedding(b.param(p.Name, graph.F32, p.init, p.Shape...), row)
		if sum == nil {
			sum = v
		} else {
			sum = g.Add(sum, v)
		}
	}
	return sum
}

// Split cuts one image's logits into one slice per attribute.
func (as Attributes) Split(logits []float64) [][]float64 {
	parts := make([][]float64, len(as))
	for i, a := range as {
		parts[i], logits = logits[:len(a.Values)], logits[len(a.Values):]
	}
	return parts
}

// Read is the label with the highest logit of each attribute of one image.
func (as Attributes) Read(logits []float64) []int {
	labels := make([]int, len(as))
	for i, scores := range as.Split(logits) {
		for j, s := range scores {
			if s > scores[labels[i]] {
				labels[i] = j
			}
		}
	}
	return labels
}
