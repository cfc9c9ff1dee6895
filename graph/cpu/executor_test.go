package cpu

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
)

// block is a residual block with attention: most kernels, in both segments of a
// kept call.
type block struct {
	g             *graph.Graph
	x, seed       *graph.Node
	out, dx, dw   *graph.Node
	plan          *graph.Plan
	program       graph.Program
	feeds, seeded []graph.Feed
}

func newBlock[T Float](t testing.TB, e *Executor[T]) *block {
	t.Helper()
	const n, c, size, groups = 4, 8, 8, 4
	b := &block{g: graph.New()}
	g := b.g
	b.x = g.Input("x", n, c, size, size)
	w, gamma, beta := g.Param("w", c, c, 3, 3), g.Param("gamma", c), g.Param("beta", c)
	h := g.GroupNorm(b.x, gamma, beta, graph.GroupNormAttrs{Groups: groups, Eps: 1e-5, SiLU: true})
	h = g.Conv2D(h, w, nil, graph.Same(3))
	tokens := g.Transpose(g.Reshape(h, n, c, size*size))
	tokens = g.Attention(tokens, tokens, tokens, 2)
	h = g.Reshape(g.Transpose(tokens), b.x.Shape...)
	b.out = g.Add(b.x, h)
	b.seed = g.Input("seed", b.out.Shape...)
	grads := graph.Grad(g, []*graph.Node{b.out}, []*graph.Node{b.seed}, []*graph.Node{b.x, w})
	b.dx, b.dw = grads[0], grads[1]
	var err error
	if b.plan, err = graph.Compile(g, []*graph.Node{b.out}, grads); err != nil {
		t.Fatal(err)
	}
	params := map[*graph.Node]graph.Tensor{}
	for i, p := range g.Params() {
		data := make([]float32, p.Shape.Size())
		for j, v := range normals(uint64(i), len(data)) {
			data[j] = float32(v)
		}
		if params[p], err = e.NewParam(data, p.Storage); err != nil {
			t.Fatal(err)
		}
	}
	if b.program, err = e.Compile(b.plan, params); err != nil {
		t.Fatal(err)
	}
	b.feeds = []graph.Feed{{Node: b.x, From: upload(t, e, normals(7, b.x.Shape.Size()))}}
	b.seeded = []graph.Feed{{Node: b.seed, From: upload(t, e, normals(8, b.x.Shape.Size()))}}
	return b
}

func testLedger[T Float](t *testing.T, size int64) {
	e := New[T](Options{})
	defer e.Close()
	b := newBlock(t, e)
	scratch, taped := e.ScratchBytes(b.plan), b.plan.TapeBytes*size/4
	if own := b.plan.ScratchBytes * size / 4; scratch <= own {
		t.Errorf("an arena of %d bytes has no room for working memory beside the plan's %d", scratch, own)
	}
	want := graph.Usage{
		Params:          b.plan.ParamBytes * size / 4,
		Vectors:         2 * int64(b.x.Shape.Size()) * size,
		Activations:     scratch,
		PeakActivations: scratch,
	}
	check := func(when string) {
		t.Helper()
		if got := e.Usage(); got != want {
			t.Errorf("%s: ledger %+v, want %+v", when, got, want)
		}
	}
	check("compiled")
	first, _ := b.program.NewTape()
	second, _ := b.program.NewTape()
	if first.Bytes() != taped {
		t.Errorf("a tape of %d bytes, the plan says %d", first.Bytes(), taped)
	}
	want.Activations, want.PeakActivations = scratch+2*taped, scratch+2*taped
	check("two tapes")
	first.Release()
	first.Release()
	want.Activations -= taped
	check("one tape")
	e.ResetPeak()
	want.PeakActivations = want.Activations
	check("peak reset")
	second.Release()
	e.FreeVector(b.feeds[0].From)
	want.Activations, want.Vectors = scratch, want.Vectors/2
	check("released")
}

func TestLedgerIsThePlan(t *testing.T) {
	t.Run("float32", func(t *testing.T) { testLedger[float32](t, 4) })
	t.Run("float64", func(t *testing.T) { testLedger[float64](t, 8) })
}

func TestReplayAllocatesNothing(t *testing.T) {
	ctx := context.Background()
	e := New[float32](Options{Workers: 2})
	defer e.Close()
	b := newBlock(t, e)
	out, dx := upload(t, e, make([]float64, b.out.Shape.Size())), upload(t, e, make([]float64, b.dx.Shape.Size()))
	fetchOut, fetchDX := []graph.Fetch{{Node: b.out, To: out}}, []graph.Fetch{{Node: b.dx, To: dx}}
	allocs := testing.AllocsPerRun(5, func() {
		tape, err := b.program.NewTape()
		if err == nil {
			err = b.program.Run(ctx, tape, 0, b.feeds, fetchOut)
		}
		if err == nil {
			err = b.program.Run(ctx, tape, 1, b.seeded, fetchDX)
		}
		if err != nil {
			t.Fatal(err)
		}
		tape.Release()
	})
	if allocs > 4 { // the tape's handle, and the list it returns to
		t.Errorf("%v allocations a replay", allocs)
	}
}

// A kept call survives other calls on the same arena: its gradient is the same
// whether or not something ran in between.
func TestTapeSurvivesOtherCalls(t *testing.T) {
	ctx := context.Background()
	e := New[float64](Options{Workers: 2})
	defer e.Close()
	b := newBlock(t, e)
	gradient := func(between func()) []float64 {
		tape, err := b.program.NewTape()
		if err != nil {
			t.Fatal(err)
		}
		defer tape.Release()
		dx := upload(t, e, make([]float64, b.dx.Shape.Size()))
		if err := b.program.Run(ctx, tape, 0, b.feeds, nil); err != nil {
			t.Fatal(err)
		}
		between()
		if err := b.program.Run(ctx, tape, 1, b.seeded, []graph.Fetch{{Node: b.dx, To: dx}}); err != nil {
			t.Fatal(err)
		}
		got, _ := e.Read(ctx, dx)
		return got
	}
	want := gradient(func() {})
	got := gradient(func() {
		other, _ := b.program.NewTape()
		defer other.Release()
		if err := b.program.Run(ctx, other, 0, []graph.Feed{{Node: b.x, Value: 3}}, nil); err != nil {
			t.Fatal(err)
		}
		big := newBlock(t, e)
		_ = big
	})
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("element %d is %v after another call, %v without", i, got[i], want[i])
		}
	}
}

// The score matrix of a long sequence is never held: a worker's memory does not
// grow with it.
func TestAttentionNeverHoldsTheMatrix(t *testing.T) {
	e := New[float32](Options{Workers: 1})
	defer e.Close()
	g := graph.New()
	const l, c = 2048, 4
	q := g.Input("q", 1, l, c)
	y := g.Attention(q, q, q, 1)
	dy := g.Input("dy", y.Shape...)
	dq := graph.Grad(g, []*graph.Node{y}, []*graph.Node{dy}, []*graph.Node{q})
	plan, err := graph.Compile(g, dq)
	if err != nil {
		t.Fatal(err)
	}
	if most, held := int64(2*ownRows*otherRows+2*ownRows), (e.ScratchBytes(plan)-plan.ScratchBytes)/4; held > most {
		t.Errorf("a worker holds %d numbers, want at most %d; the matrix has %d", held, most, l*l)
	}
	if most := int64(10 * l * c * 4); plan.ScratchBytes > most {
		t.Errorf("the arena is %d bytes, want at most %d", plan.ScratchBytes, most)
	}
}

func TestWorkersDoNotChangeResults(t *testing.T) {
	ctx := context.Background()
	var want []float64
	for _, workers := range []int{1, 2, 5} {
		e := New[float64](Options{Workers: workers})
		b := newBlock(t, e)
		tape, _ := b.program.NewTape()
		dw := upload(t, e, make([]float64, b.dw.Shape.Size()))
		err := errors.Join(
			b.program.Run(ctx, tape, 0, b.feeds, nil),
			b.program.Run(ctx, tape, 1, b.seeded, []graph.Fetch{{Node: b.dw, To: dw}}))
		if err != nil {
			t.Fatal(err)
		}
		got, _ := e.Read(ctx, dw)
		if want != nil {
			wantClose(t, "weight gradient", got, want, 1e-28)
		}
		want = got
		e.Close()
	}
}

func TestTraceNaNNamesTheNode(t *testing.T) {
	e := New[float32](Options{TraceNaN: true})
	defer e.Close()
	g := graph.New()
	x := g.Input("x", 3)
	y := g.SiLU(g.Affine(g.Mul(x, x), 2, 0)) // the square of 1e30 is no float32
	plan, err := graph.Compile(g, []*graph.Node{y})
	if err != nil {
		t.Fatal(err)
	}
	program, err := e.Compile(plan, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = program.Run(context.Background(), nil, 0, []graph.Feed{{Node: x, Value: 1e30}}, nil)
	if err == nil || !strings.Contains(err.Error(), "mul#1[3]: element 0 is +Inf") {
		t.Errorf("got %v, want the product named", err)
	}
}

func TestGradientsAreFlushed(t *testing.T) {
	for x, want := range map[float32]float32{1e-31: 0, -1e-40: 0, 0: 0, 1e-29: 1e-29, -2: -2} {
		if got := flush(x); got != want {
			t.Errorf("%g became %g, want %g", x, got, want)
		}
	}
	if flush(1e-40) != 1e-40 { // a float64
		t.Error("float64, the reference, must not be flushed")
	}
	if nan := float32(math.NaN()); flush(nan) == flush(nan) {
		t.Error("NaN must stay")
	}
}

func TestMistakesAreErrors(t *testing.T) {
	ctx := context.Background()
	e := New[float64](Options{})
	defer e.Close()
	b := newBlock(t, e)
	other := New[float32](Options{})
	defer other.Close()
	foreign := upload(t, other, []float64{1})
	short := upload(t, e, []float64{1})
	tape, err := b.program.NewTape()
	if err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, compileErr := e.Compile(b.plan, nil)
	for want, got := range map[string]error{
		"given no tensor":            compileErr,
		"was not fed":                b.program.Run(ctx, tape, 0, nil, nil),
		"tape":                       b.program.Run(ctx, nil, 0, b.feeds, nil),
		"segment 2":                  b.program.Run(ctx, tape, 2, nil, nil),
		"not made by":                b.program.Run(ctx, tape, 0, []graph.Feed{{Node: b.x, From: foreign}}, nil),
		"has 1 numbers, want 2048":   b.program.Run(ctx, tape, 0, []graph.Feed{{Node: b.x, From: short}}, nil),
		"the tensor for add":         b.program.Run(ctx, tape, 0, b.feeds, []graph.Fetch{{Node: b.out, To: short}}),
		context.Canceled.Error():     b.program.Run(cancelled, tape, 0, b.feeds, nil),
		"do not split into 3 rows":   e.ScaleRows(b.feeds[0].From, make([]float64, 3)),
		"2 coefficients for 1":       e.Combine(short, make([]float64, 2), []graph.Tensor{short}),
		"steps count from 1":         e.Adam(short, short, short, short, []float64{1}, 0.9, 0.99, 1e-8, 0, 0),
		"a vector of 0 numbers":      func() error { _, err := e.NewVector(0); return err }(),
		"beside another has 2048":    e.Combine(short, []float64{1}, []graph.Tensor{b.feeds[0].From}),
		"the source of a write has ": e.Write(ctx, short, nil),
	} {
		if got == nil || !strings.Contains(got.Error(), want) {
			t.Errorf("got %v, want an error with %q", got, want)
		}
	}
}

// Where the machine has no room, every allocation says so and takes nothing.
func TestOutOfMemoryIsAnError(t *testing.T) {
	e := New[float32](Options{Workers: 2})
	defer e.Close()
	g := graph.New()
	x := g.Input("x", 1024, 1024)
	w := g.Param("w", 1024, 1024)
	y := g.MatMul(x, w, nil, graph.MatMulAttrs{})
	dx := graph.Grad(g, []*graph.Node{g.Mul(y, y)}, []*graph.Node{y}, []*graph.Node{x})[0]
	plan, err := graph.Compile(g, []*graph.Node{y}, []*graph.Node{dx})
	if err != nil {
		t.Fatal(err)
	}
	weights, err := e.NewParam(make([]float32, 1<<20), graph.F32)
	if err != nil {
		t.Fatal(err)
	}
	program, err := e.Compile(plan, map[*graph.Node]graph.Tensor{w: weights})
	if err != nil {
		t.Fatal(err)
	}
	before := e.Usage()

	defer func(real func() int64) { available = real }(available)
	available = func() int64 { return 3 << 20 }
	small := New[float32](Options{Workers: 2})
	defer small.Close()
	there, err := small.NewVector(1 << 18) // 1 MiB: fits
	if err != nil {
		t.Fatal(err)
	}
	small.FreeVector(there)
	_, vectorErr := e.NewVector(1 << 20)
	_, paramErr := e.NewParam(make([]float32, 1<<20), graph.F32)
	_, tapeErr := program.NewTape()
	_, compileErr := small.Compile(plan, map[*graph.Node]graph.Tensor{w: weights})
	for what, err := range map[string]error{"vector": vectorErr, "parameter": paramErr, "tape": tapeErr, "compile": compileErr} {
		if !errors.Is(err, ErrOutOfMemory) || !strings.Contains(err.Error(), "3 MiB are free") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if after := e.Usage(); after != before {
		t.Errorf("the ledger went from %+v to %+v", before, after)
	}
	if u := small.Usage(); u != (graph.Usage{}) {
		t.Errorf("the small executor holds %+v", u)
	}
}

// The arena goes with the last program, so that what one run needed is not
// counted as the next one's.
func TestArenaGoesWithTheLastProgram(t *testing.T) {
	e := New[float32](Options{})
	defer e.Close()
	compile := func(n int) graph.Program {
		g := graph.New()
		y := g.MatMul(g.Input("a", n, n), g.Input("b", n, n), nil, graph.MatMulAttrs{})
		plan, err := graph.Compile(g, []*graph.Node{y})
		if err != nil {
			t.Fatal(err)
		}
		p, err := e.Compile(plan, nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	large, small := compile(64), compile(8)
	both := e.Usage().Activations
	large.Release()
	large.Release() // a second time is harmless
	if got := e.Usage().Activations; got != both || got == 0 {
		t.Errorf("%d bytes while a program is left, were %d", got, both)
	}
	small.Release()
	if got := e.Usage().Activations; got != 0 {
		t.Errorf("%d bytes without programs", got)
	}
	compile(8)
	if got := e.Usage().Activations; got >= both || got == 0 {
		t.Errorf("%d bytes for the small program alone, %d for both", got, both)
	}
}
