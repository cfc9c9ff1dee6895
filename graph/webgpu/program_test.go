package webgpu

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/gpu"
	"github.com/sdo-go/sdo/graph"
)

var background = context.Background()

// square is y = (w*x + b)^2 with b a constant, and dx = 2*(w*x+b)*w*dy: two
// segments, one pinned tensor, an input bound twice.
type square struct {
	x, dy, w, y, dx *graph.Node
	plan            *graph.Plan
}

func newSquare(t *testing.T, n int) square {
	t.Helper()
	g := graph.New()
	s := square{x: g.Input("x", n), dy: g.Input("dy", n), w: g.Param("w", n)}
	ones := make([]float32, n)
	for i := range ones {
		ones[i] = 1
	}
	inner := g.Add(g.Mul(s.w, s.x), g.Const("b", ones, n))
	s.y = g.Mul(inner, inner)
	s.dx = graph.Grad(g, []*graph.Node{s.y}, []*graph.Node{s.dy}, []*graph.Node{s.x})[0]
	var err error
	s.plan, err = graph.Compile(g, []*graph.Node{s.y}, []*graph.Node{s.dx})
	must(t, err)
	return s
}

func (s square) compile(t *testing.T, e *Executor, w []float64) graph.Program {
	t.Helper()
	data := make([]float32, len(w))
	for i := range w {
		data[i] = float32(w[i])
	}
	param, err := e.NewParam(data, graph.F32)
	must(t, err)
	p, err := e.Compile(s.plan, map[*graph.Node]graph.Tensor{s.w: param})
	must(t, err)
	return p
}

func TestProgramForwardAndBackward(t *testing.T) {
	e := open(t)
	const n = 1000
	s, w := newSquare(t, n), random(n, 3)
	p := s.compile(t, e, w)

	// Two calls are kept at once; their tapes must not mix.
	var tapes []graph.Tape
	var xs [][]float64
	out, err := e.NewVector(n)
	must(t, err)
	for k := range 2 {
		tape, err := p.NewTape()
		must(t, err)
		if tape.Bytes() != s.plan.TapeBytes {
			t.Errorf("tape of %d bytes, the plan says %d", tape.Bytes(), s.plan.TapeBytes)
		}
		x := random(n, uint64(10+k))
		must(t, p.Run(background, tape, 0, []graph.Feed{{Node: s.x, From: upload64(t, e, x)}}, []graph.Fetch{{Node: s.y, To: out}}))
		want := make([]float64, n)
		for i := range want {
			want[i] = (w[i]*x[i] + 1) * (w[i]*x[i] + 1)
		}
		near(t, "y", download(t, e, out), want, 2e-6)
		tapes, xs = append(tapes, tape), append(xs, x)

		if k == 0 { // a larger program grows the scratch arena under the first
			large := newSquare(t, 5*n)
			large.compile(t, e, random(5*n, 1))
		}
	}
	for k, tape := range tapes {
		must(t, p.Run(background, tape, 1, []graph.Feed{{Node: s.dy, Value: 0.5}}, []graph.Fetch{{Node: s.dx, To: out}}))
		want := make([]float64, n)
		for i := range want {
			want[i] = (w[i]*xs[k][i] + 1) * w[i]
		}
		near(t, "dx", download(t, e, out), want, 2e-6)
		tape.Release()
		tape.Release()
	}
}

func TestProgramLedger(t *testing.T) {
	e := open(t)
	const n = 1000
	s := newSquare(t, n)
	p := s.compile(t, e, random(n, 1))
	idle := e.Usage()
	if idle.Params != 2*4*n { // w and the constant
		t.Errorf("%d bytes of parameters, want %d", idle.Params, 2*4*n)
	}
	if idle.Activations < s.plan.ScratchBytes {
		t.Errorf("%d bytes of activations, the plan needs %d", idle.Activations, s.plan.ScratchBytes)
	}
	var tapes []graph.Tape
	for range 3 {
		tape, err := p.NewTape()
		must(t, err)
		tapes = append(tapes, tape)
	}
	for _, tape := range tapes {
		tape.Release()
	}
	used := e.Usage()
	if used.Activations != idle.Activations || used.PeakActivations != idle.Activations+3*s.plan.TapeBytes {
		t.Errorf("after three tapes: %+v, before: %+v, a tape is %d", used, idle, s.plan.TapeBytes)
	}
	e.ResetPeak()
	if peak := e.Usage().PeakActivations; peak != idle.Activations {
		t.Errorf("peak %d after reset, want %d", peak, idle.Activations)
	}
	v, err := e.NewVector(n)
	must(t, err)
	if e.Usage().Vectors != 4*n {
		t.Errorf("%d bytes of vectors", e.Usage().Vectors)
	}
	e.FreeVector(v)
	e.FreeVector(v)
	p.Release()
	if left := e.Usage(); left.Vectors != 0 || left.Params != 4*n {
		t.Errorf("left: %+v", left)
	}
}

func TestProgramRefusesWrongRuns(t *testing.T) {
	e := open(t)
	s := newSquare(t, 10)
	p := s.compile(t, e, random(10, 1))
	tape, err := p.NewTape()
	must(t, err)
	short, err := e.NewVector(9)
	must(t, err)
	x := []graph.Feed{{Node: s.x, Value: 1}}
	for says, run := range map[string]func() error{
		"segment 2 of":    func() error { return p.Run(background, tape, 2, nil, nil) },
		"is not fed":      func() error { return p.Run(background, tape, 0, nil, nil) },
		"is not an input": func() error { return p.Run(background, tape, 1, append(x, graph.Feed{Node: s.dy}), nil) },
		"is not wanted":   func() error { return p.Run(background, tape, 0, x, []graph.Fetch{{Node: s.dx, To: short}}) },
		"needs a tape":    func() error { return p.Run(background, nil, 0, x, nil) },
		"elements for 10": func() error { return p.Run(background, tape, 0, x, []graph.Fetch{{Node: s.y, To: short}}) },
		"of 9 elements":   func() error { return p.Run(background, tape, 0, []graph.Feed{{Node: s.x, From: short}}, nil) },
		"has no tensor":   func() error { _, err := e.Compile(s.plan, nil); return err },
		"wants 10 elements": func() error {
			_, err := e.Compile(s.plan, map[*graph.Node]graph.Tensor{s.w: short})
			return err
		},
	} {
		if err := run(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want an error with %q", err, says)
		}
	}
	tape.Release()
	if err := p.Run(background, tape, 0, x, nil); err == nil {
		t.Error("a released tape was accepted")
	}
}

// A plan beyond the device's limits is refused with numbers, and nothing is
// left allocated.
func TestProgramTooLarge(t *testing.T) {
	t.Setenv("SDO_LIMITS", "default")
	e := open(t)
	before := e.Usage()
	n := int(gpu.DefaultLimits().MaxBinding/4) + 1
	for limit, build := range map[string]func(g *graph.Graph, x *graph.Node) *graph.Node{
		"268435456": func(g *graph.Graph, x *graph.Node) *graph.Node { return g.Affine(x, 2, 1) },
		"134217728": func(g *graph.Graph, x *graph.Node) *graph.Node { return g.ReduceSum(x, 1, 1, n, 1) },
	} {
		g := graph.New()
		plan, err := graph.Compile(g, []*graph.Node{build(g, g.Input("x", n))})
		must(t, err)
		_, err = e.Compile(plan, nil)
		if !errors.Is(err, gpu.ErrOutOfMemory) || !strings.Contains(err.Error(), limit) {
			t.Errorf("got %v, want the limit %s", err, limit)
		}
		t.Log(err)
	}
	if _, err := e.NewVector(n); !errors.Is(err, gpu.ErrOutOfMemory) {
		t.Errorf("vector: got %v", err)
	}
	if after := e.Usage(); after != before {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestReadCancelKeepsTheExecutor(t *testing.T) {
	e := open(t)
	x := upload64(t, e, []float64{1, 2, 3})
	ctx, cancel := context.WithCancel(background)
	cancel()
	if _, err := e.Read(ctx, x); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	near(t, "x", download(t, e, x), []float64{1, 2, 3}, 0)
}

// BenchmarkDispatch reports what one queued vector operation costs the host
// and, with its execution and a read-back, altogether.
func BenchmarkDispatch(b *testing.B) {
	e := open(b)
	x, y := upload64(b, e, []float64{1}), upload64(b, e, []float64{1})
	terms := []graph.Tensor{x, y}
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			if err := e.Combine(x, []float64{1, 1e-9}, terms); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			if _, err := e.Read(background, x); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestProfileNamesEveryKernel(t *testing.T) {
	e := open(t)
	s := newSquare(t, 10)
	p := s.compile(t, e, random(10, 1))
	tape, err := p.NewTape()
	must(t, err)
	times, err := e.Profile(background, p, tape, 0, []graph.Feed{{Node: s.x, Value: 1}})
	must(t, err)
	if len(times) < len(s.plan.Segments[0].Nodes) {
		t.Errorf("%d kernels for %d nodes", len(times), len(s.plan.Segments[0].Nodes))
	}
	for _, k := range times {
		if k.Op == "" || k.Shader == "" || k.Time < 0 { // browsers round time, some to 0
			t.Errorf("%+v", k)
		}
	}
}

// What the kernels of a plan bind of parameters, a table and both operands of two
// products, keeps to the plan's limit, and they compute the same.
func TestParametersLargerThanABinding(t *testing.T) {
	e := open(t)
	const limit = 4400
	for _, storage := range []graph.Storage{graph.F32, graph.F16} {
		build := func(o graph.CompileOptions) (plan *graph.Plan) {
			g := graph.New()
			param := func(name string, shape ...int) *graph.Node {
				p := g.Param(name, shape...)
				p.Storage = storage
				return p
			}
			x := g.Input("x", 5, 33)
			h := g.Add(x, g.Embedding(param("table", 97, 33), g.Const("index", []float32{96, 0, 41, 41, 77}, 5)))
			h = g.SiLU(g.Linear(h, param("up", 200, 33), g.Param("bias", 200)))
			h = g.Linear(h, param("down", 33, 200), nil)
			dx := graph.Grad(g, []*graph.Node{h}, []*graph.Node{g.Const("seed", make([]float32, 165), 5, 33)}, []*graph.Node{x})
			for i := range g.Lookup("seed").Data {
				g.Lookup("seed").Data[i] = float32(i%7) - 3
			}
			plan, err := graph.CompileWith(g, o, []*graph.Node{h, dx[0]})
			must(t, err)
			return plan
		}
		run := func(plan *graph.Plan) (got [][]float64, widest int64) {
			params := map[*graph.Node]graph.Tensor{}
			for _, p := range plan.Params {
				data := slices.Clone(p.Data)
				if data == nil {
					for _, v := range random(p.Shape.Size(), uint64(len(p.Name))) {
						data = append(data, float32(v))
					}
				}
				var err error
				params[p], err = e.NewParam(data, p.Storage)
				must(t, err)
			}
			made, err := e.Compile(plan, params)
			must(t, err)
			defer made.Release()
			for _, s := range made.(*program).segments[0] {
				for _, at := range s.bind {
					if at.region == graph.RegionParam {
						widest = max(widest, at.bytes)
					}
				}
			}
			feeds := []graph.Feed{{Node: plan.Segments[0].Inputs[0], From: upload64(t, e, random(165, 9))}}
			var fetches []graph.Fetch
			for _, w := range plan.Segments[0].Wanted {
				to, err := e.NewVector(w.Shape.Size())
				must(t, err)
				fetches = append(fetches, graph.Fetch{Node: w, To: to})
			}
			must(t, made.Run(background, nil, 0, feeds, fetches))
			for _, f := range fetches {
				got = append(got, download(t, e, f.To))
			}
			return got, widest
		}
		want, whole := run(build(graph.CompileOptions{}))
		got, parts := run(build(graph.CompileOptions{MaxBinding: limit}))
		if whole <= limit || parts > limit+slotAlign {
			t.Errorf("storage %v: up to %d bytes are bound, %d whole", storage, parts, whole)
		}
		for k := range want {
			near(t, "in parts", got[k], want[k], 1e-4)
		}
	}
}
