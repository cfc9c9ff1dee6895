package model

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/x448/float16"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes/spelling"
)

// maxLoRARank bounds the rank a file or a recipe can ask for.
const maxLoRARank = 1 << 12

// LoRAConfig describes low-rank adaptation (Hu et al., arXiv 2106.09685,
// section 4.1) of some of a network's layers as PEFT computes it:
//
//	y = W x + (Alpha/Rank) * B A x
//
// Ranks and Alphas hold those of modules whose own are others, by name. For a
// linear layer A is [Rank in] and B [out Rank]. For a convolution A is a
// convolution of the layer's own geometry to Rank channels, [Rank in k k], and B
// one of 1x1, [out Rank 1 1].
type LoRAConfig struct {
	Rank  int
	Alpha float64
	// Targets are patterns over module names, as of Matches.
	Targets []string
	Ranks   map[string]int
	Alphas  map[string]float64
}

// Adaptable is a network whose layers an adapter can be for.
type Adaptable interface {
	// Modules lists the layers, in the order the network uses them.
	Modules() ([]Module, error)
}

// Validate reports the first number that makes no adapter.
func (c LoRAConfig) Validate() error {
	for of, rank := range c.Ranks {
		if rank < 1 || rank > maxLoRARank {
			return fmt.Errorf("lora: rank %d of %q, want 1 to %d", rank, of, maxLoRARank)
		}
	}
	for of, alpha := range c.Alphas {
		if !(alpha > 0) || math.IsInf(alpha, 0) {
			return fmt.Errorf("lora: alpha %g of %q, want a positive number", alpha, of)
		}
	}
	switch {
	case c.Rank < 1 || c.Rank > maxLoRARank:
		return fmt.Errorf("lora: rank %d, want 1 to %d", c.Rank, maxLoRARank)
	case !(c.Alpha > 0) || math.IsInf(c.Alpha, 0):
		return fmt.Errorf("lora: alpha %g, want a positive number", c.Alpha)
	}
	return nil
}

// RankOf is the rank of a module's branch.
func (c LoRAConfig) RankOf(module string) int {
	if rank, own := c.Ranks[module]; own {
		return rank
	}
	return c.Rank
}

// AlphaOf is the alpha of a module's branch.
func (c LoRAConfig) AlphaOf(module string) float64 {
	if alpha, own := c.Alphas[module]; own {
		return alpha
	}
	return c.Alpha
}

// Scale is the factor of a module's low-rank branch.
func (c LoRAConfig) Scale(module string) float64 {
	return c.AlphaOf(module) / float64(c.RankOf(module))
}

// Strengthened is the config with every branch's factor times strength.
func (c LoRAConfig) Strengthened(strength float64) LoRAConfig {
	c.Alpha *= strength
	c.Alphas = maps.Clone(c.Alphas)
	for module := range c.Alphas {
		c.Alphas[module] *= strength
	}
	return c
}

// Module is a layer that a LoRAConfig can target: a linear layer, whose weight
// is [out in], or a convolution, [out in k k].
type Module struct {
	Name   string
	Weight graph.Shape
}

// Kind is "linear" or "conv".
func (m Module) Kind() string {
	if len(m.Weight) == 2 {
		return "linear"
	}
	return "conv"
}

// lora lists the two parameters of a module's low-rank branch. They start as in
// PEFT: A uniform within 1/sqrt(fan in), which is Kaiming's rule with a = sqrt 5,
// and B zero, so that the adapted network begins as the network.
func (m Module) lora(rank int) (a, b Param) {
	in := slices.Clone(m.Weight)
	in[0] = rank
	out := graph.Shape{m.Weight[0], rank}
	if m.Kind() == "conv" {
		out = append(out, 1, 1)
	}
	uniform := initialiser{bound: 1 / math.Sqrt(float64(in[1:].Size()))}
	return Param{m.Name + loraA, in, uniform}, Param{m.Name + loraB, out, initialiser{}}
}

// AdaptedModule is the module whose A a parameter is; false for any other.
func AdaptedModule(param string) (module string, ok bool) { return strings.CutSuffix(param, loraA) }

// LoRANames are the names of a module's A and B.
func LoRANames(module string) (a, b string) { return module + loraA, module + loraB }

// Suffixes of PEFT's names.
const (
	loraA = ".lora_A.weight"
	loraB = ".lora_B.weight"
)

// Modules lists the layers that a LoRAConfig can target, in the order the
// network uses them.
func (c UNet2DConfig) Modules() ([]Module, error) {
	b, err := c.declare()
	if err != nil {
		return nil, err
	}
	return b.modules, nil
}

// Match lists the modules that the targets name, in the order of modules. A
// target that names none is an error.
func (c LoRAConfig) Match(modules []Module) ([]Module, error) {
	names := make([]string, len(modules))
	for i, m := range modules {
		names[i] = m.Name
	}
	chosen, err := match(c.Targets, names)
	if err != nil {
		return nil, fmt.Errorf("lora: %w", err)
	}
	matched := make([]Module, len(chosen))
	for k, i := range chosen {
		matched[k] = modules[i]
	}
	return matched, nil
}

// Select lists the parameters that patterns name, in the order the network uses
// them. A pattern that names none is an error.
func (c UNet2DConfig) Select(patterns []string) ([]Param, error) {
	params, err := c.Params()
	if err != nil {
		return nil, err
	}
	return selectParams(params, patterns)
}

func selectParams(params []Param, patterns []string) ([]Param, error) {
	names := make([]string, len(params))
	for i, p := range params {
		names[i] = p.Name
	}
	chosen, err := match(patterns, names)
	if err != nil {
		return nil, err
	}
	selected := make([]Param, len(chosen))
	for k, i := range chosen {
		selected[k] = params[i]
	}
	return selected, nil
}

// match returns the indices of the names that any pattern names.
func match(patterns, names []string) (chosen []int, err error) {
	if len(patterns) == 0 {
		return nil, fmt.Errorf(`no patterns of names, want at least one; "**" names everything`)
	}
	for _, p := range patterns {
		if !slices.ContainsFunc(names, func(name string) bool { return Matches(p, name) }) {
			return nil, fmt.Errorf("pattern %q names nothing in the network; the nearest names are %s", p, strings.Join(nearest(p, names), ", "))
		}
	}
	for i, name := range names {
		if slices.ContainsFunc(patterns, func(p string) bool { return Matches(p, name) }) {
			chosen = append(chosen, i)
		}
	}
	return chosen, nil
}

// Matches says whether a pattern names a module or a parameter. One without a
// star names it by its whole name or by the end of it after a dot, as PEFT's
// target_modules do: "to_q" is every query projection. One with stars must match
// the whole name, * for anything between dots and ** for anything:
// "mid_block.**", "**.attentions.*.to_*", "**".
func Matches(pattern, name string) bool {
	if !strings.Contains(pattern, "*") {
		return name == pattern || strings.HasSuffix(name, "."+pattern)
	}
	// Regular expressions take time linear in the name, whatever the pattern.
	text := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*\*`, ".*")
	text = strings.ReplaceAll(text, `\*`, `[^.]*`)
	names, err := regexp.Compile("^" + text + "$")
	return err == nil && names.MatchString(name) // an error is text that is not UTF-8, which names nothing
}

// nearest quotes the three names whose ends are fewest edits away from a pattern,
// one of each end.
func nearest(pattern string, names []string) []string {
	parts := strings.Count(pattern, ".") + 1
	end := func(name string) string {
		words := strings.Split(name, ".")
		return strings.Join(words[max(0, len(words)-parts):], ".")
	}
	distance, first := map[string]int{}, map[string]string{}
	var ends []string
	for _, name := range names {
		e := end(name)
		if _, seen := first[e]; !seen {
			first[e], distance[e] = name, spelling.Distance(pattern, e)
			ends = append(ends, e)
		}
	}
	slices.SortStableFunc(ends, func(a, b string) int { return distance[a] - distance[b] })
	var quoted []string
	for _, e := range ends[:min(3, len(ends))] {
		quoted = append(quoted, strconv.Quote(first[e]))
	}
	return quoted
}

// Modules lists the layers of a network that the config adapts.
func (c LoRAConfig) Modules(network Adaptable) ([]Module, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	all, err := network.Modules()
	if err != nil {
		return nil, err
	}
	return c.Match(all)
}

// Params lists the adapter's parameters under PEFT's names, A before B of each
// module: what Init draws and a file holds.
func (c LoRAConfig) Params(network Adaptable) ([]Param, error) {
	modules, err := c.Modules(network)
	if err != nil {
		return nil, err
	}
	return c.params(modules), nil
}

func (c LoRAConfig) params(modules []Module) []Param {
	var params []Param
	for _, m := range modules {
		a, b := m.lora(c.RankOf(m.Name))
		params = append(params, a, b)
	}
	return params
}

// LoRA is an adapter with its numbers.
type LoRA struct {
	LoRAConfig
	Weights Weights // names as in LoRAConfig.Params
	// Beside counts the tensors of the file that adapt another network of the
	// pipeline, which were not read.
	Beside int
}

// NewLoRA draws an adapter of a network that changes nothing yet.
func NewLoRA(c LoRAConfig, network Adaptable, seed uint64) (*LoRA, error) {
	params, err := c.Params(network)
	if err != nil {
		return nil, err
	}
	return &LoRA{LoRAConfig: c, Weights: Init(params, seed)}, nil
}

// modules lists the modules the adapter holds numbers for, sorted by name.
func (l *LoRA) modules() []string {
	var names []string
	for name := range l.Weights {
		if module, ok := AdaptedModule(name); ok {
			names = append(names, module)
		}
	}
	slices.Sort(names)
	return names
}

// Merge returns the weights of the adapted network as one without branches,
// W + (Alpha/Rank) B A. Tensors that the adapter does not touch are shared with
// the given ones.
func (l *LoRA) Merge(weights Weights) (Weights, error) {
	merged := make(Weights, len(weights))
	for name, t := range weights {
		merged[name] = t
	}
	for _, module := range l.modules() {
		name := module + ".weight"
		w, ok := weights[name]
		a, b := l.Weights[module+loraA], l.Weights[module+loraB]
		if !ok || len(w.Shape) != len(a.Shape) || len(w.Shape) < 2 {
			return nil, fmt.Errorf("lora: the weights hold no layer %q to merge into; the adapter belongs to another network", module)
		}
		wantA, wantB := Module{module, w.Shape}.lora(l.RankOf(module))
		if !wantA.Shape.Equal(a.Shape) || !wantB.Shape.Equal(b.Shape) {
			return nil, fmt.Errorf("lora: %q of shape %v takes A %v and B %v, the adapter holds %v and %v; it belongs to another network",
				module, graph.Shape(w.Shape), wantA.Shape, wantB.Shape, graph.Shape(a.Shape), graph.Shape(b.Shape))
		}
		sum := l.MergeInto(module, w.Data, float64s(a.Data), float64s(b.Data), w.Shape[0])
		data := make([]float32, len(sum))
		for i, v := range sum {
			data[i] = float32(v)
		}
		merged[name] = Tensor{w.Shape, data}
	}
	return merged, nil
}

// MergeInto returns w + (Alpha/Rank) B A for one module of out outputs: w of
// [out ...], a of [Rank ...] and b of [out Rank], each row-major. A convolution's
// B of 1x1 only mixes A's channels, so its product is that of the matrices
// [out Rank] and [Rank in*k*k].
func (c LoRAConfig) MergeInto(module string, w []float32, a, b []float64, out int) []float64 {
	width, rank, scale := len(w)/out, c.RankOf(module), c.Scale(module)
	merged := float64s(w)
	for o := range out {
		row := merged[o*width:][:width]
		for r := range rank {
			factor := scale * b[o*rank+r]
			if factor == 0 {
				continue
			}
			for i, v := range a[r*width:][:width] {
				row[i] += factor * v
			}
		}
	}
	return merged
}

// AsStored rounds numbers as a device that stores them so does.
func AsStored(data []float32, storage graph.Storage) []float32 {
	if storage == graph.F32 {
		return data
	}
	rounded := make([]float32, len(data))
	for i, v := range data {
		rounded[i] = float16.Fromfloat32(v).Float32()
	}
	return rounded
}

func float64s(data []float32) []float64 {
	wide := make([]float64, len(data))
	for i, v := range data {
		wide[i] = float64(v)
	}
	return wide
}

// adapter is a LoRAConfig at work in a builder.
type adapter struct {
	LoRAConfig
	targets map[string]bool
	merged  bool
}

// newAdapter finds the layers that the options adapt; nil for none.
func newAdapter(o BuildOptions, network Adaptable) *adapter {
	if o.LoRA == nil {
		return nil
	}
	modules, err := o.LoRA.Modules(network)
	if err != nil {
		fail("%v", err)
	}
	a := &adapter{LoRAConfig: *o.LoRA, targets: map[string]bool{}, merged: o.Merged}
	for _, m := range modules {
		a.targets[m.Name] = true
	}
	return a
}

// branches returns A and B of a layer that the network is to be built with a
// low-rank branch for; nil where there is none.
func (b *builder) branches(m Module) (down, up *graph.Node) {
	if b.adapter == nil || b.adapter.merged || !b.adapter.targets[m.Name] {
		return nil, nil
	}
	first, second := m.lora(b.adapter.RankOf(m.Name))
	return b.param(first.Name, graph.F32, first.init, first.Shape...), b.param(second.Name, graph.F32, second.init, second.Shape...)
}

// scaled applies a branch's factor where there are fewest numbers: between A
// and B.
func (b *builder) scaled(m Module, x *graph.Node) *graph.Node {
	if s := b.adapter.Scale(m.Name); s != 1 {
		return b.Affine(x, s, 0)
	}
	return x
}
