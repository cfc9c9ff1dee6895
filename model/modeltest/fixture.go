// Package modeltest compares networks on any executor with what PyTorch,
// diffusers, transformers and PEFT computed on the same weights. It is used by
// tests and by the support table only.
package modeltest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// Fixture is a network with random numbers and what PyTorch computed on it: a
// folder that diffusers or transformers wrote, and beside it the values that
// tools/golden/golden.py describes.
type Fixture struct {
	Name         string // the folder
	Architecture string // the class, a row of the support table
	Weights      model.Source
	LoRA         *model.LoRA       // an adapter of the network, nil for none
	Values       model.Weights     // inputs, outputs, seeds and gradients
	MadeBy       map[string]string // programs and versions that made the values
	// Conditions names the inputs that are no pictures: their gradients are of
	// column DCond.
	Conditions []string
	// Build appends the network; in declares an input of the fixture by its name.
	// The outputs are by name, "" for the only one.
	Build func(g *graph.Graph, in func(name string) *graph.Node, o model.BuildOptions) map[string]*graph.Node
}

// kinds opens a folder by the class that its config names.
var kinds = map[string]func(fsys fs.FS, name string) ([]Fixture, error){
	"UNet2DModel":          unet2D,
	"UNet2DConditionModel": unet2DCondition,

	"AutoencoderKL":   autoencoder,
	"AutoencoderTiny": autoencoder,

	"CLIPTextModel":                 clipTowers,
	"CLIPTextModelWithProjection":   clipTowers,
	"CLIPVisionModel":               clipTowers,
	"CLIPVisionModelWithProjection": clipTowers,
	"CLIPModel":                     clipTowers,
}

// valuesFile holds the values of a folder's only fixture.
const valuesFile = "fixture.safetensors"

// Fixtures opens every fixture below testdata (model/testdata), sorted by name:
// the folders of a network with values beside.
func Fixtures(testdata fs.FS) ([]Fixture, error) {
	folders, err := fs.ReadDir(testdata, ".")
	if err != nil {
		return nil, err
	}
	var all []Fixture
	for _, folder := range folders {
		text, err := fs.ReadFile(testdata, folder.Name()+"/config.json")
		if err != nil {
			continue
		}
		var config struct {
			ClassName     string   `json:"_class_name"`
			Architectures []string `json:"architectures"`
		}
		if err := json.Unmarshal(text, &config); err != nil {
			return nil, fmt.Errorf("%s: %w", folder.Name(), err)
		}
		class := config.ClassName
		if class == "" && len(config.Architectures) > 0 {
			class = config.Architectures[0]
		}
		open := kinds[class]
		if open == nil {
			continue
		}
		fsys, err := fs.Sub(testdata, folder.Name())
		if err != nil {
			return nil, err
		}
		fixtures, err := open(fsys, folder.Name())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", folder.Name(), err)
		}
		all = append(all, fixtures...)
	}
	return all, nil
}

// newFixture reads what fixtures of all kinds have: the values, and the adapter
// in the folder lora.
func newFixture(fsys fs.FS, name, architecture, values string, weights model.Source, network model.Adaptable) (Fixture, error) {
	f := Fixture{Name: name, Architecture: architecture, Weights: weights}
	var err error
	if f.Values, f.MadeBy, err = model.LoadSafetensors(fsys, values); err != nil {
		return f, err
	}
	if _, err := fs.Stat(fsys, "lora"); err == nil {
		load := model.LoadLoRA
		if _, text := network.(model.CLIPTextConfig); text {
			load = model.LoadTextLoRA
		}
		if f.LoRA, err = load(fsys, "lora", network); err != nil {
			return f, err
		}
	}
	return f, nil
}

func unet2D(fsys fs.FS, name string) ([]Fixture, error) {
	if _, err := fs.Stat(fsys, valuesFile); err != nil {
		return nil, nil // a network that is for another test
	}
	network, err := model.LoadUNet2D(fsys)
	if err != nil {
		return nil, err
	}
	f, err := newFixture(fsys, name, network.Config.ClassName, valuesFile, network.Weights, network.Config)
	if err != nil {
		return nil, err
	}
	f.Conditions = []string{"class"}
	f.Build = func(g *graph.Graph, in func(string) *graph.Node, o model.BuildOptions) map[string]*graph.Node {
		return map[string]*graph.Node{"": network.Config.BuildWith(g, in("sample"), in("timestep"), f.optional(in, "class"), o)}
	}
	return []Fixture{f}, nil
}

func unet2DCondition(fsys fs.FS, name string) ([]Fixture, error) {
	if _, err := fs.Stat(fsys, valuesFile); err != nil {
		return nil, nil // a network that is for another test
	}
	network, err := model.LoadUNet2DCondition(fsys, ".")
	if err != nil {
		return nil, err
	}
	f, err := newFixture(fsys, name, network.Config.ClassName, valuesFile, network.Weights, network.Config)
	if err != nil {
		return nil, err
	}
	f.Conditions = []string{"condition", "class"}
	f.Build = func(g *graph.Graph, in func(string) *graph.Node, o model.BuildOptions) map[string]*graph.Node {
		o.Class = f.optional(in, "class")
		if scale, ok := f.Values["guidance"]; ok {
			o.GuidanceEmbedding = float64(scale.Data[0])
		}
		return map[string]*graph.Node{"": network.Config.BuildWith(g, in("sample"), in("timestep"), in("condition"), o)}
	}
	return []Fixture{f}, nil
}

// optional is an input that not every network of a kind has.
func (f Fixture) optional(in func(string) *graph.Node, name string) *graph.Node {
	if _, ok := f.Values[name]; !ok {
		return nil
	}
	return in(name)
}

// Column is what the support table compares.
type Column string

const (
	Forward Column = "forward" // the outputs
	DX      Column = "dX"      // the gradient at the picture or latent
	DCond   Column = "dCond"   // at the condition
	DLoRA   Column = "dLoRA"   // at every A and B of an adapter
	DW      Column = "dW"      // at every parameter: the vector is of those that the fixture holds whole

	withLoRA Column = "adapted" // the output with an adapter
)

// Columns are those of the table, in its order.
var Columns = []Column{Forward, DX, DCond, DLoRA, DW}

// Error is how far a column's tensors are from PyTorch's, in the Euclidean norm.
type Error struct {
	Relative float64 // of all of them taken as one vector
	Worst    float64 // of the one that is farthest
	Tensor   string  // its name

	distance, norm float64 // squares
}

// Errors are those of the columns that a fixture has values for.
type Errors map[Column]Error

// note takes a tensor into its column. The error of one that is small beside
// floor is measured against floor.
func (e Errors) note(column Column, name string, got []float64, want []float32, floor float64) error {
	if len(got) != len(want) {
		return fmt.Errorf("%s of %s: %d numbers, want %d", column, name, len(got), len(want))
	}
	distance, norm := squares(got, want)
	c := e[column]
	c.distance, c.norm = c.distance+distance, c.norm+norm
	c.Relative = math.Sqrt(c.distance / c.norm)
	e[column] = c
	e.worst(column, name, math.Sqrt(distance)/(math.Sqrt(norm)+floor))
	return nil
}

func (e Errors) worst(column Column, name string, relative float64) {
	if c := e[column]; c.Tensor == "" || !(relative <= c.Worst) {
		c.Worst, c.Tensor = relative, name
		e[column] = c
	}
}

// squares are |got - want|^2 and |want|^2.
func squares(got []float64, want []float32) (distance, norm float64) {
	for i := range want {
		w := float64(want[i])
		distance += (got[i] - w) * (got[i] - w)
		norm += w * w
	}
	return distance, norm
}

// Compare runs a fixture on ex with the weights stored as told, as a kept call is
// run: forward first, the gradients from it later. The network with its adapter
// is another run.
func Compare(ex graph.Executor, f Fixture, storage graph.Storage) (Errors, error) {
	e := Errors{}
	g := graph.New()
	outputs := f.Build(g, f.declare(g), model.BuildOptions{Storage: storage})
	params := g.Params()
	var wrt []*graph.Node
	for _, n := range g.Nodes {
		if _, varies := f.Values["grad_"+n.Name]; n.Op == graph.OpInput && varies {
			wrt = append(wrt, n)
		}
	}
	inputs := len(wrt)
	if _, ok := f.Values["grad_norms"]; ok {
		wrt = append(wrt, params...)
	}
	if err := f.compare(ex, g, outputs, wrt, "output", []model.Source{f.Weights}, e, Forward, func(got map[*graph.Node][]float64) error {
		for _, n := range wrt[:inputs] {
			column := DX
			if slices.Contains(f.Conditions, n.Name) {
				column = DCond
			}
			if err := e.note(column, n.Name, got[n], f.Values["grad_"+n.Name].Data, 0); err != nil {
				return err
			}
		}
		if inputs == len(wrt) {
			return nil
		}
		return f.compareParams(e, params, got)
	}); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	if f.LoRA == nil {
		return e, nil
	}

	g = graph.New()
	outputs = f.Build(g, f.declare(g), model.BuildOptions{Storage: storage, LoRA: &f.LoRA.LoRAConfig})
	wrt, largest := nil, 0.0
	for _, n := range g.Params() {
		if t, ok := f.Values["lora.grad."+n.Name]; ok {
			wrt = append(wrt, n)
			_, norm := squares(float64s(t.Data), t.Data)
			largest = max(largest, math.Sqrt(norm))
		}
	}
	if len(wrt) != len(f.LoRA.Weights) {
		return nil, fmt.Errorf("%s: gradients at %d tensors of the adapter, which has %d", f.Name, len(wrt), len(f.LoRA.Weights))
	}
	if err := f.compare(ex, g, outputs, wrt, "lora.output", []model.Source{f.Weights, f.LoRA.Weights}, e, withLoRA, func(got map[*graph.Node][]float64) error {
		for _, n := range wrt {
			if err := e.note(DLoRA, n.Name, got[n], f.Values["lora.grad."+n.Name].Data, negligible*largest); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("%s with LoRA: %w", f.Name, err)
	}
	return e, nil
}

// negligible is the size of a gradient, beside the network's largest, that is
// measured against the largest: one that is zero in exact arithmetic (attention
// does not feel a bias of its keys) has no relative error.
const negligible = 1e-3

func (f Fixture) declare(g *graph.Graph) func(name string) *graph.Node {
	return func(name string) *graph.Node {
		if n := g.Lookup(name); n != nil {
			return n
		}
		return g.Input(name, f.Values[name].Shape...)
	}
}

// compare runs a graph forward and back and hands on the errors of its outputs
// and the gradients at wrt, those that the outputs depend on.
func (f Fixture) compare(ex graph.Executor, g *graph.Graph, outputs map[string]*graph.Node, wrt []*graph.Node, prefix string,
	weights []model.Source, e Errors, column Column, gradients func(map[*graph.Node][]float64) error) error {
	var names []string
	for name := range outputs {
		names = append(names, name)
	}
	slices.Sort(names)
	var outs, seeds []*graph.Node
	for _, name := range names {
		outs = append(outs, outputs[name])
		seeds = append(seeds, g.Input(dotted("seed", name), outputs[name].Shape...))
	}
	var found, grads []*graph.Node
	if len(wrt) > 0 {
		for i, grad := range graph.Grad(g, outs, seeds, wrt) {
			if grad != nil {
				found, grads = append(found, wrt[i]), append(grads, grad)
			}
		}
	}
	segments := [][]*graph.Node{outs}
	if len(grads) > 0 {
		segments = append(segments, grads)
	}
	r, err := newRunner(ex, g, weights, segments...)
	if err != nil {
		return err
	}
	defer r.release()
	values, err := r.run(0, f.Values)
	if err != nil {
		return err
	}
	for i, name := range names {
		want, ok := f.Values[dotted(prefix, name)]
		if !ok {
			return fmt.Errorf("the fixture has no %s", dotted(prefix, name))
		}
		if err := e.note(column, dotted(prefix, name), values[i], want.Data, 0); err != nil {
			return err
		}
	}
	if len(grads) == 0 {
		return nil
	}
	if values, err = r.run(1, f.Values); err != nil {
		return err
	}
	got := map[*graph.Node][]float64{}
	for i, n := range found {
		got[n] = values[i]
	}
	return gradients(got)
}

func dotted(prefix, name string) string { return strings.TrimSuffix(prefix+"."+name, ".") }

// compareParams compares some gradients element by element, and all by norm and
// sum.
func (f Fixture) compareParams(e Errors, params []*graph.Node, got map[*graph.Node][]float64) error {
	byName := map[string][]float64{}
	var names []string
	for _, p := range params {
		if got[p] != nil {
			byName[p.Name] = got[p]
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	norms := f.Values["grad_norms"].Data
	if len(norms) != 2*len(names) {
		return fmt.Errorf("the fixture has gradients of %d parameters, the network %d", len(norms)/2, len(names))
	}
	largest := 0.0
	for i := range names {
		largest = max(largest, float64(norms[2*i]))
	}
	for i, name := range names {
		sum := 0.0
		for _, v := range byName[name] {
			sum += v
		}
		square := 0.0
		for _, v := range byName[name] {
			square += v * v
		}
		want := float64(norms[2*i])
		allowance := want + negligible*largest
		e.worst(DW, name, math.Abs(math.Sqrt(square)-want)/allowance)
		e.worst(DW, name, math.Abs(sum-float64(norms[2*i+1]))/(allowance*math.Sqrt(float64(len(byName[name])))))
		if full, ok := f.Values["grad."+name]; ok {
			if err := e.note(DW, name, byName[name], full.Data, negligible*largest); err != nil {
				return err
			}
		}
	}
	return nil
}
