// Package model writes networks as graphs and reads their checkpoints: the
// UNet2DModel of diffusers with its state-dict names, the attribute embedder
// that conditions it, low-rank adapters (LoRA), a small convolutional attribute
// classifier, safetensors files, diffusers and PEFT folders.
//
// It runs nothing: a network here is a function that appends nodes to a
// graph.Graph, a list of parameters, and a way to load their numbers. It knows
// no noise schedule either: scheduler_config.json passes through as raw JSON.
package model

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/sdo-go/sdo/graph"
)

// Tensor is a named parameter's shape and its numbers, row-major.
type Tensor struct {
	Shape []int
	Data  []float32
}

// Weights is a state dict: parameter names as diffusers spells them.
type Weights map[string]Tensor

// Count is the number of numbers in all tensors.
func (w Weights) Count() int {
	n := 0
	for _, t := range w {
		n += len(t.Data)
	}
	return n
}

// Clone copies the numbers, for averages and snapshots.
func (w Weights) Clone() Weights {
	c := make(Weights, len(w))
	for name, t := range w {
		c[name] = Tensor{slices.Clone(t.Shape), slices.Clone(t.Data)}
	}
	return c
}

// Param is one parameter of a network before it has numbers.
type Param struct {
	Name  string
	Shape graph.Shape
	init  initialiser
}

// initialiser says how a parameter starts: uniform in [-bound, bound], or
// normal with a standard deviation, or the constant value.
type initialiser struct{ bound, std, value float64 }

// ParamCount is the number of numbers in all parameters.
func ParamCount(params []Param) int {
	n := 0
	for _, p := range params {
		n += p.Shape.Size()
	}
	return n
}

// Init draws starting values as PyTorch's layers do: weights and biases of
// convolutions and linear layers uniform within 1/sqrt(fan in), norms one and
// zero, embeddings normal. A parameter's values depend on the seed and its own
// name only, never on its place in the list.
func Init(params []Param, seed uint64) Weights {
	weights := make(Weights, len(params))
	for _, p := range params {
		hash := fnv.New64a()
		hash.Write([]byte(p.Name))
		random := rand.New(rand.NewPCG(seed, hash.Sum64()))
		data := make([]float32, p.Shape.Size())
		for i := range data {
			v := p.init.value
			if p.init.bound > 0 {
				v += p.init.bound * (2*random.Float64() - 1)
			}
			if p.init.std > 0 {
				v += p.init.std * random.NormFloat64()
			}
			data[i] = float32(v)
		}
		weights[p.Name] = Tensor{slices.Clone(p.Shape), data}
	}
	return weights
}

// check compares tensors with the parameters they are for: none missing, none
// left over, every shape right. file names the source in the error.
func check(file string, params []Param, shapes map[string][]int) error {
	known := make(map[string]bool, len(params))
	for _, p := range params {
		known[p.Name] = true
		shape, ok := shapes[p.Name]
		if !ok {
			return fmt.Errorf("%s: tensor %q is missing; the file does not belong to this config", file, p.Name)
		}
		if !p.Shape.Equal(shape) {
			return fmt.Errorf("%s: tensor %q has shape %v, the config wants %v; the file does not belong to this config",
				file, p.Name, graph.Shape(shape), p.Shape)
		}
	}
	var extra []string
	for name := range shapes {
		if !known[name] {
			extra = append(extra, name)
		}
	}
	if len(extra) > 0 {
		slices.Sort(extra)
		return fmt.Errorf("%s: holds %d tensors the config has no place for, first %.200q; the file does not belong to this config",
			file, len(extra), extra[0])
	}
	return nil
}

// Check reports the first difference between weights and the parameters they
// are for.
func (w Weights) Check(params []Param) error {
	shapes := make(map[string][]int, len(w))
	for name, t := range w {
		shapes[name] = t.Shape
		if graph.Shape(t.Shape).Size() != len(t.Data) {
			return fmt.Errorf("weights: tensor %q of shape %v holds %d numbers", name, graph.Shape(t.Shape), len(t.Data))
		}
	}
	return check("weights", params, shapes)
}

// builder appends layers to a graph and records the parameters it meets. A
// parameter that the graph has already is shared, so one set of weights can
// serve several calls in one graph.
type builder struct {
	*graph.Graph
	prefix  string          // before the names of parameters in the graph
	storage graph.Storage   // of weight operands; biases and norms are always f32
	f32     map[string]bool // weight operands that are f32 all the same
	adapter *adapter        // nil for none
	params  []Param
	modules []Module
}

func newBuilder(g *graph.Graph, o BuildOptions) *builder {
	return &builder{Graph: g, prefix: o.Prefix, storage: o.Storage, f32: o.F32}
}

func (b *builder) param(name string, storage graph.Storage, init initialiser, shape ...int) *graph.Node {
	b.params = append(b.params, Param{name, shape, init})
	name = b.prefix + name
	if n := b.Lookup(name); n != nil {
		if n.Op != graph.OpParam || !n.Shape.Equal(shape) {
			fail("parameter %q of shape %v is already in the graph as %v", name, graph.Shape(shape), n)
		}
		return n
	}
	n := b.Param(name, shape...)
	n.Storage = storage
	return n
}

// weight declares a weight operand.
func (b *builder) weight(name string, init initialiser, shape ...int) *graph.Node {
	storage := b.storage
	if b.f32[name] {
		storage = graph.F32
	}
	return b.param(name, storage, init, shape...)
}

// weightBias declares a layer's weight [out in ...] and, where it has one, its
// bias [out].
func (b *builder) weightBias(m Module, hasBias bool) (weight, bias *graph.Node) {
	b.modules = append(b.modules, m)
	uniform := initialiser{bound: 1 / math.Sqrt(float64(m.Weight[1:].Size()))}
	if b.adapter != nil && b.adapter.merged && b.adapter.targets[m.Name] {
		weight = b.param(m.Name+MergedWeight, graph.F32, uniform, m.Weight...)
	} else {
		weight = b.weight(m.Name+".weight", uniform, m.Weight...)
	}
	if hasBias {
		bias = b.param(m.Name+".bias", graph.F32, uniform, m.Weight[0])
	}
	return weight, bias
}

func (b *builder) conv(name string, x *graph.Node, out, kernel int, geometry graph.Conv2DAttrs) *graph.Node {
	return b.convWith(name, x, out, kernel, geometry, true)
}

func (b *builder) convNoBias(name string, x *graph.Node, out, kernel int, geometry graph.Conv2DAttrs) *graph.Node {
	return b.convWith(name, x, out, kernel, geometry, false)
}

func (b *builder) convWith(name string, x *graph.Node, out, kernel int, geometry graph.Conv2DAttrs, hasBias bool) *graph.Node {
	m := Module{name, graph.Shape{out, x.Shape[1], kernel, kernel}}
	w, bias := b.weightBias(m, hasBias)
	y := b.Conv2D(x, w, bias, geometry)
	if down, up := b.branches(m); down != nil {
		y = b.Add(y, b.Conv2D(b.scaled(m, b.Conv2D(x, down, nil, geometry)), up, nil, graph.Same(1)))
	}
	return y
}

func (b *builder) linear(name string, x *graph.Node, out int) *graph.Node {
	return b.linearWith(name, x, out, true)
}

func (b *builder) linearNoBias(name string, x *graph.Node, out int) *graph.Node {
	return b.linearWith(name, x, out, false)
}

func (b *builder) linearWith(name string, x *graph.Node, out int, hasBias bool) *graph.Node {
	m := Module{name, graph.Shape{out, x.Shape[len(x.Shape)-1]}}
	w, bias := b.weightBias(m, hasBias)
	y := b.Linear(x, w, bias)
	if down, up := b.branches(m); down != nil {
		y = b.Add(y, b.Linear(b.scaled(m, b.Linear(x, down, nil)), up, nil))
	}
	return y
}

// layerNorm normalises the last axis of x.
func (b *builder) layerNorm(name string, x *graph.Node, eps float64) *graph.Node {
	channels := x.Shape[len(x.Shape)-1]
	gamma := b.param(name+".weight", graph.F32, initialiser{value: 1}, channels)
	beta := b.param(name+".bias", graph.F32, initialiser{}, channels)
	return b.LayerNorm(x, gamma, beta, eps)
}

func (b *builder) groupNorm(name string, x *graph.Node, groups int, eps float64, silu bool) *graph.Node {
	channels := x.Shape[1]
	gamma := b.param(name+".weight", graph.F32, initialiser{value: 1}, channels)
	beta := b.param(name+".bias", graph.F32, initialiser{}, channels)
	return b.GroupNorm(x, gamma, beta, graph.GroupNormAttrs{Groups: groups, Eps: eps, SiLU: silu})
}

func (b *builder) embedding(name string, index *graph.Node, rows, dim int, std float64) *graph.Node {
	return b.Embedding(b.weight(name, initialiser{std: std}, rows, dim), index)
}

// constant declares a constant; one of the same name must hold the same.
func (b *builder) constant(name string, data []float32, shape ...int) *graph.Node {
	name = b.prefix + name
	if n := b.Lookup(name); n != nil {
		if n.Op != graph.OpConst || !n.Shape.Equal(shape) || !slices.Equal(n.Data, data) {
			fail("constant %q is already in the graph as %v with other numbers", name, n)
		}
		return n
	}
	return b.Const(name, data, shape...)
}

// perChannel is x*scale + shift with numbers of its own for each channel of x
// [N C H W].
func (b *builder) perChannel(name string, x *graph.Node, scales, shifts []float64) *graph.Node {
	if len(slices.Compact(slices.Clone(scales))) == 1 && len(slices.Compact(slices.Clone(shifts))) == 1 {
		return b.Affine(x, scales[0], shifts[0])
	}
	s := x.Shape
	channels := func(kind string, values []float64) *graph.Node {
		data := make([]float32, len(values))
		for i, v := range values {
			data[i] = float32(v)
		}
		return b.constant(name+kind, data, s[1])
	}
	x = b.MulBroadcast(x, channels(".scale", scales), s[0], s[1], s[2]*s[3])
	return b.AddBroadcast(x, channels(".shift", shifts), s[0], s[1], s[2]*s[3])
}

func fail(format string, args ...any) {
	panic(&graph.BuildError{Message: fmt.Sprintf(format, args...)})
}

// declare runs a builder function once, for what it declares.
func declare(build func(b *builder)) (*builder, error) {
	var declared *builder
	_, err := graph.Build(func(g *graph.Graph) {
		declared = &builder{Graph: g}
		build(declared)
	})
	if err != nil {
		return nil, err
	}
	if n := ParamCount(declared.params); n > maxParams {
		return nil, fmt.Errorf("the config asks for a network of %d parameters, want at most %d", n, int64(maxParams))
	}
	return declared, nil
}

// maxParams bounds a network: one of 2^34 parameters takes 32 GiB as f16.
const maxParams = 1 << 34
