// Package optable lists every operation of package graph with shapes that
// break kernels: extents of 1, primes, sizes that are no multiple of any tile,
// more than 65535 workgroups. One table serves every test and every device: the
// float64 executor is checked against finite differences, and each other
// executor against float64, forward and backward.
//
// It imports no testing package, so that the same table runs inside a browser.
// To add an operation, add a row; Missing names the operations without one.
// Gradient operations need no rows of their own: Gradients reaches them.
package optable

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/sdo-go/sdo/graph"
)

// Row is one test of one operation.
type Row struct {
	Op   string // the operation of graph the row is about
	Name string // the operation and what is special here; unique

	// Build declares inputs and parameters and returns the output. Inputs are
	// differentiated where a gradient exists; parameters are not, they are for
	// what only parameters can be, like weights stored as F16.
	Build func(g *graph.Graph) *graph.Node
	// Fill says what numbers a leaf holds, by name. The others are standard
	// normal.
	Fill map[string]Fill

	// NMSE bounds a device's normalised mean squared error against float64,
	// forward and backward.
	NMSE float64
	// GradEps is the step of central differences in float64, GradMax the number
	// of elements of each input that are tried, GradNMSE the bound on the error.
	GradEps, GradNMSE float64
	GradMax           int

	// Linear marks an output that is linear in the row's first input, the rest
	// held fixed, so that Adjoint applies.
	Linear bool
	// Large rows take most of a gigabyte in float64: tests skip them with
	// -short.
	Large bool
}

// Fill draws one number.
type Fill func(rng *rand.Rand) float64

// Whole draws 0, 1, … n-1: labels, indices and timesteps.
func Whole(n int) Fill { return func(rng *rand.Rand) float64 { return float64(rng.IntN(n)) } }

// Unit draws from [0, 1).
func Unit(rng *rand.Rand) float64 { return rng.Float64() }

// OffZero draws normal numbers at least 0.1 away from zero, where a ReLU has
// its kink.
func OffZero(rng *rand.Rand) float64 {
	x := rng.NormFloat64()
	return x + math.Copysign(0.1, x)
}

// Far draws numbers of up to a hundred either way, where exponentials overflow
// in careless formulas.
func Far(rng *rand.Rand) float64 { return 200*rng.Float64() - 100 }

// Seed is the name of the gradient at a row's output.
const Seed = "seed"

// network builds a row's graph: its output, the gradient fed to it, and the
// gradient at each input that has one.
func (r Row) network() (g *graph.Graph, out, seed *graph.Node, wrt, grads []*graph.Node, err error) {
	g, err = graph.Build(func(g *graph.Graph) {
		out = r.Build(g)
		for _, n := range g.Nodes {
			if n.Op == graph.OpInput {
				wrt = append(wrt, n)
			}
		}
		seed = g.Input(Seed, out.Shape...)
		grads = graph.Grad(g, []*graph.Node{out}, []*graph.Node{seed}, wrt)
	})
	if err != nil {
		return nil, nil, nil, nil, nil, fmt.Errorf("row %s: %w", r.Name, err)
	}
	for i := len(wrt) - 1; i >= 0; i-- {
		if grads[i] == nil {
			wrt, grads = slices.Delete(wrt, i, i+1), slices.Delete(grads, i, i+1)
		}
	}
	return g, out, seed, wrt, grads, nil
}

// Values draws a number for every element of every leaf and of Seed. They are
// exact in float32, so that all devices see the same.
func (r Row) Values(seed uint64) (map[string][]float64, error) {
	g, _, _, _, _, err := r.network()
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	values := map[string][]float64{}
	for _, n := range g.Nodes {
		if n.Op != graph.OpInput && n.Op != graph.OpParam {
			continue
		}
		fill := r.Fill[n.Name]
		if fill == nil {
			fill = (*rand.Rand).NormFloat64
		}
		data := make([]float64, n.Shape.Size())
		for i := range data {
			data[i] = float64(float32(fill(rng)))
		}
		values[n.Name] = data
	}
	return values, nil
}

// Ops lists the operations that a row's forward and backward reach.
func (r Row) Ops() ([]string, error) {
	g, _, _, _, _, err := r.network()
	if err != nil {
		return nil, err
	}
	var ops []string
	for _, n := range g.Nodes {
		if !n.IsLeaf() && n.Op != graph.OpReshape {
			ops = append(ops, n.Op)
		}
	}
	slices.Sort(ops)
	return slices.Compact(ops), nil
}

// Missing lists the operations of package graph that no row reaches.
func Missing() ([]string, error) {
	missing := graph.Ops()
	for _, r := range Rows() {
		ops, err := r.Ops()
		if err != nil {
			return nil, err
		}
		missing = slices.DeleteFunc(missing, func(op string) bool { return slices.Contains(ops, op) })
	}
	return missing, nil
}

// Case is a row made ready on an executor.
type Case struct {
	// Values are fed to the inputs, by name; a test may change them. Parameters
	// keep what they were given when the case was opened.
	Values map[string][]float64
	// Wrt names the inputs that Gradients returns a gradient for.
	Wrt []string

	exec    graph.Executor
	program graph.Program
	out     *graph.Node
	grads   []*graph.Node
	params  []graph.Tensor
}

// Open compiles a row for an executor, forward and backward as the two segments
// of a kept call, with the values of a seed. With backward false only the
// forward pass is compiled.
func Open(exec graph.Executor, r Row, seed uint64, backward bool) (*Case, error) {
	g, out, _, wrt, grads, err := r.network()
	if err != nil {
		return nil, err
	}
	c := &Case{exec: exec, out: out}
	if c.Values, err = r.Values(seed); err != nil {
		return nil, err
	}
	segments := [][]*graph.Node{{out}}
	if backward && len(wrt) > 0 {
		segments = append(segments, grads)
		c.grads = grads
		for _, n := range wrt {
			c.Wrt = append(c.Wrt, n.Name)
		}
	}
	plan, err := graph.Compile(g, segments...)
	if err != nil {
		return nil, err
	}
	params := map[*graph.Node]graph.Tensor{}
	for _, n := range plan.Params {
		data := n.Data
		if n.Op == graph.OpParam {
			for _, x := range c.Values[n.Name] {
				data = append(data, float32(x))
			}
		}
		if params[n], err = exec.NewParam(data, n.Storage); err != nil {
			return nil, err
		}
		c.params = append(c.params, params[n])
	}
	if c.program, err = exec.Compile(plan, params); err != nil {
		c.Close()
		return nil, fmt.Errorf("row %s: %w", r.Name, err)
	}
	return c, nil
}

// Close releases the program and its parameters.
func (c *Case) Close() {
	if c.program != nil {
		c.program.Release()
	}
	for _, p := range c.params {
		c.exec.FreeVector(p)
	}
}

// Forward evaluates the output.
func (c *Case) Forward(ctx context.Context) ([]float64, error) {
	got, err := c.run(ctx, false)
	if err != nil {
		return nil, err
	}
	return got[0], nil
}

// Gradients evaluates the gradient of <Seed, output> at each input of Wrt.
func (c *Case) Gradients(ctx context.Context) ([][]float64, error) {
	got, err := c.run(ctx, true)
	if err != nil {
		return nil, err
	}
	return got[1:], nil
}

// run evaluates the output and, after it, the gradients.
func (c *Case) run(ctx context.Context, backward bool) (got [][]float64, err error) {
	tape, err := c.program.NewTape()
	if err != nil {
		return nil, err
	}
	defer tape.Release()
	segments := c.program.Plan().Segments
	if !backward || len(c.grads) == 0 {
		segments = segments[:1]
	}
	for s, segment := range segments {
		results, err := c.segment(ctx, tape, s, segment)
		if err != nil {
			return nil, err
		}
		got = append(got, results...)
	}
	return got, nil
}

func (c *Case) segment(ctx context.Context, tape graph.Tape, s int, segment graph.Segment) (got [][]float64, err error) {
	var tensors []graph.Tensor
	defer func() {
		for _, t := range tensors {
			c.exec.FreeVector(t)
		}
	}()
	vector := func(size int) (graph.Tensor, error) {
		t, err := c.exec.NewVector(size)
		if err == nil {
			tensors = append(tensors, t)
		}
		return t, err
	}
	var feeds []graph.Feed
	var fetches []graph.Fetch
	for _, n := range segment.Inputs {
		t, err := vector(n.Shape.Size())
		if err != nil {
			return nil, err
		}
		if err := c.exec.Write(ctx, t, c.Values[n.Name]); err != nil {
			return nil, err
		}
		feeds = append(feeds, graph.Feed{Node: n, From: t})
	}
	for _, n := range segment.Wanted {
		t, err := vector(n.Shape.Size())
		if err != nil {
			return nil, err
		}
		fetches = append(fetches, graph.Fetch{Node: n, To: t})
	}
	if err := c.program.Run(ctx, tape, s, feeds, fetches); err != nil {
		return nil, err
	}
	for _, f := range fetches {
		data, err := c.exec.Read(ctx, f.To)
		if err != nil {
			return nil, err
		}
		got = append(got, data)
	}
	return got, nil
}

// Forward evaluates a row's output with the values of seed 1.
func Forward(exec graph.Executor, r Row) ([][]float64, error) {
	c, err := Open(exec, r, 1, false)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.run(context.Background(), false)
}

// Gradients evaluates the gradients of a row, one per differentiable input in
// the order of their declaration, with the values of seed 1.
func Gradients(exec graph.Executor, r Row) ([][]float64, error) {
	c, err := Open(exec, r, 1, true)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Gradients(context.Background())
}

// Adjoint returns <J v, u> and <v, J^T u> for the first input of a Linear row,
// and the product of the norms |J v| |u| they are to be compared by. It needs no
// reference, so it catches a transposed weight at sizes where none is at hand.
func Adjoint(exec graph.Executor, r Row) (left, right, scale float64, err error) {
	c, err := Open(exec, r, 2, true)
	if err != nil {
		return 0, 0, 0, err
	}
	defer c.Close()
	got, err := c.run(context.Background(), true)
	if err != nil {
		return 0, 0, 0, err
	}
	jv, u, v, ju := got[0], c.Values[Seed], c.Values[c.Wrt[0]], got[1]
	return dot(jv, u), dot(v, ju), math.Sqrt(dot(jv, jv) * dot(u, u)), nil
}

func dot(x, y []float64) (s float64) {
	for i := range x {
		s += x[i] * y[i]
	}
	return s
}

// NMSE is sum (got-want)^2 / sum want^2, where a reference of zeros counts as
// one of root mean square 1e-6. It is infinite for unequal lengths and for
// numbers that are not finite.
func NMSE(got, want []float64) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var diff, norm float64
	for i, w := range want {
		diff += (got[i] - w) * (got[i] - w)
		norm += w * w
	}
	if e := diff / max(norm, 1e-12*float64(len(want))); !math.IsNaN(e) {
		return e
	}
	return math.Inf(1)
}
