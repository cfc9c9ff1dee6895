package webgpu

import (
	"testing"

	"github.com/sdo-go/sdo/graph"
)

// mixer is y = reshape(conv2d(x, w, b)) v and its gradient with respect to x:
// three packed forms. Its weights are parameters, or inputs, which are packed at
// every run.
type mixer struct {
	x, w, b, v, dy, y, dx *graph.Node
	plan                  *graph.Plan
}

const mixerIn, mixerOut = 2 * 3 * 5 * 7, 2 * 11

func newMixer(t *testing.T, leaf func(g *graph.Graph, name string, shape ...int) *graph.Node) mixer {
	t.Helper()
	g := graph.New()
	m := mixer{x: g.Input("x", 2, 3, 5, 7), w: leaf(g, "w", 9, 3, 3, 3), b: leaf(g, "b", 9), v: leaf(g, "v", 11, 9*5*7), dy: g.Input("dy", 2, 11)}
	h := g.Reshape(g.Conv2D(m.x, m.w, m.b, graph.Same(3)), 2, 9*5*7)
	m.y = g.MatMul(h, m.v, nil, graph.MatMulAttrs{TransB: true})
	m.dx = graph.Grad(g, []*graph.Node{m.y}, []*graph.Node{m.dy}, []*graph.Node{m.x})[0]
	var err error
	m.plan, err = graph.Compile(g, []*graph.Node{m.y, m.dx})
	must(t, err)
	return m
}

// run returns y and dx after one another.
func (m mixer) run(t *testing.T, e *Executor, p graph.Program, more ...graph.Feed) []float64 {
	t.Helper()
	y, err := e.NewVector(mixerOut)
	must(t, err)
	dx, err := e.NewVector(mixerIn)
	must(t, err)
	x, dy := upload64(t, e, random(mixerIn, 1)), upload64(t, e, random(mixerOut, 2))
	defer func() {
		for _, v := range []graph.Tensor{y, dx, x, dy} {
			e.FreeVector(v)
		}
	}()
	feeds := append(more, graph.Feed{Node: m.x, From: x}, graph.Feed{Node: m.dy, From: dy})
	must(t, p.Run(background, nil, 0, feeds, []graph.Fetch{{Node: m.y, To: y}, {Node: m.dx, To: dx}}))
	return append(download(t, e, y), download(t, e, dx)...)
}

// A parameter that is written in place by any operation is packed again, for
// every program that reads it.
func TestPackedParametersFollowTheirTensor(t *testing.T) {
	for name, e := range openPresets(t) {
		t.Run(name, func(t *testing.T) {
			m := newMixer(t, (*graph.Graph).Param)
			w, b, v := upload64(t, e, random(9*27, 3)), upload64(t, e, random(9, 4)), upload64(t, e, random(11*9*35, 5))
			params := map[*graph.Node]graph.Tensor{m.w: w, m.b: b, m.v: v}
			first, err := e.Compile(m.plan, params)
			must(t, err)
			second, err := e.Compile(m.plan, params)
			must(t, err)

			fresh := newMixer(t, func(g *graph.Graph, name string, shape ...int) *graph.Node { return g.Input(name, shape...) })
			truth, err := e.Compile(fresh.plan, nil)
			must(t, err)

			g, m1, m2 := upload64(t, e, random(9*27, 6)), upload64(t, e, make([]float64, 9*27)), upload64(t, e, make([]float64, 9*27))
			copier := graph.New()
			from := copier.Input("from", 9)
			twice := copier.Affine(from, 2, 0)
			plan, err := graph.Compile(copier, []*graph.Node{twice})
			must(t, err)
			copies, err := e.Compile(plan, nil)
			must(t, err)

			for what, change := range map[string]func() error{
				"adam":       func() error { return e.Adam(w, m1, m2, g, []float64{0.1}, 0.9, 0.999, 1e-8, 0, 1) },
				"combine":    func() error { return e.Combine(w, []float64{0.5, 1}, []graph.Tensor{w, g}) },
				"scale rows": func() error { return e.ScaleRows(v, []float64{-2}) },
				"normal":     func() error { return e.Normal(v, 7, 7) },
				"write":      func() error { return e.Write(background, b, random(9, 8)) },
				"fetch": func() error {
					return copies.Run(background, nil, 0, []graph.Feed{{Node: from, From: b}}, []graph.Fetch{{Node: twice, To: b}})
				},
				"nothing": func() error { return nil },
			} {
				must(t, change())
				want := fresh.run(t, e, truth, graph.Feed{Node: fresh.w, From: w}, graph.Feed{Node: fresh.b, From: b}, graph.Feed{Node: fresh.v, From: v})
				near(t, what, m.run(t, e, first), want, 0)
				near(t, what+", second program", m.run(t, e, second), want, 0)
			}
		})
	}
}

// Packed forms are made once, shared, counted as parameters, and freed with the
// last program that reads them.
func TestPackedParametersAreShared(t *testing.T) {
	e := open(t)
	e.preset = &softwarePreset
	m := newMixer(t, (*graph.Graph).Param)
	params := map[*graph.Node]graph.Tensor{}
	for _, n := range m.plan.Params {
		params[n] = upload64(t, e, random(n.Shape.Size(), 1))
	}
	before := e.Usage()
	first, err := e.Compile(m.plan, params)
	must(t, err)
	one := e.Usage()
	// Strips of 8 columns, rows of taps*channels and one of the bias: w forward
	// and backward, v forward and backward.
	const want = 4 * 8 * (2*(9*3+1) + 1*(9*9+1) + 2*(315+1) + 40*(11+1))
	if got := one.Params - before.Params; got != want {
		t.Errorf("%d bytes of packed parameters, want %d", got, want)
	}
	if got := e.ScratchBytes(m.plan); got != m.plan.ScratchBytes || one.Activations != got {
		t.Errorf("arena of %d bytes, %d planned, %d without the kernels' own", one.Activations, got, m.plan.ScratchBytes)
	}
	second, err := e.Compile(m.plan, params)
	must(t, err)
	if two := e.Usage(); two.Params != one.Params {
		t.Errorf("a second program took %d bytes more", two.Params-one.Params)
	}
	first.Release()
	m.run(t, e, second)
	second.Release()
	if after := e.Usage(); after.Params != before.Params || len(e.packed) != 0 {
		t.Errorf("%d bytes of parameters are left, %d before", after.Params, before.Params)
	}
}
