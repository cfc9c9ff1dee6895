package webgpu

import (
	"slices"
	"testing"

	"github.com/sdo-go/sdo/graph"
)

func TestArenaTakesRoomWhereThereIsSome(t *testing.T) {
	a := arena{sizes: []int64{900, 256}, limit: 1024}
	for i, c := range []struct {
		bytes          int64
		buffer, offset int
	}{
		{400, 1, 256}, // 900 is on no boundary and leaves no room
		{256, 1, 768},
		{1000, 2, 0},
		{5000, 3, 0}, // more than a buffer holds: the device will refuse it
		{16, 4, 0},
	} {
		if got := a.take(c.bytes); got.buffer != c.buffer || got.offset != int64(c.offset) || got.bytes < c.bytes {
			t.Errorf("%d: %d bytes lie at %d in buffer %d, want %d in %d", i, c.bytes, got.offset, got.buffer, c.offset, c.buffer)
		}
	}
	if want := []int64{900, 1024, 1024, 5120, 256}; !slices.Equal(a.sizes, want) {
		t.Errorf("the buffers hold %v, want %v", a.sizes, want)
	}
}

// A plan in many small buffers computes what it does in one, takes what it says,
// and shares its arena with plans of other shapes.
func TestArenasOfSeveralBuffers(t *testing.T) {
	e := open(t)
	const n, c, side = 2, 6, 10
	build := func(o graph.CompileOptions) (plan *graph.Plan) {
		g := graph.New()
		x, seed := g.Input("x", n, c, side, side), g.Input("seed", n, c, side, side)
		h := x
		for _, name := range []string{"a", "b", "c"} {
			g.Block(name)
			h = g.GroupNorm(h, g.Param(name+"_gamma", c), g.Param(name+"_beta", c), graph.GroupNormAttrs{Groups: 2, Eps: 1e-5, SiLU: true})
			wide, back := g.Param(name+"_w", 4*c, c, 3, 3), g.Param(name+"_v", c, 4*c, 1, 1)
			wide.Storage, back.Storage = graph.F16, graph.F16
			h = g.Conv2D(g.Softplus(g.Conv2D(h, wide, nil, graph.Same(3))), back, g.Param(name+"_b", c), graph.Same(1))
			h = g.Mul(h, h)
		}
		dx := graph.Grad(g, []*graph.Node{h}, []*graph.Node{seed}, []*graph.Node{x})
		plan, err := graph.CompileWith(g, o, []*graph.Node{h}, dx)
		must(t, err)
		return plan
	}
	const tensor = n * c * side * side * 4
	whole, split := build(graph.CompileOptions{}), build(graph.CompileOptions{MaxBuffer: 4*tensor + 512})
	if len(split.Scratch) < 2 || len(split.Tape) < 2 {
		t.Fatalf("buffers of %v and %v bytes do not test several", split.Scratch, split.Tape)
	}
	run := func(plan *graph.Plan) (program graph.Program, got [][]float64) {
		params := map[*graph.Node]graph.Tensor{}
		for _, p := range plan.Params {
			data := slices.Clone(p.Data)
			if data == nil { // numbers follow the names, so that every plan gets the same
				for _, v := range random(p.Shape.Size(), uint64(p.Name[0])*256+uint64(p.Name[2])) {
					data = append(data, float32(v))
				}
			}
			var err error
			params[p], err = e.NewParam(data, p.Storage)
			must(t, err)
		}
		program, err := e.Compile(plan, params)
		must(t, err)
		tape, err := program.NewTape()
		must(t, err)
		if tape.Bytes() != plan.TapeBytes {
			t.Errorf("a tape of %d bytes, the plan says %d", tape.Bytes(), plan.TapeBytes)
		}
		defer tape.Release()
		for s, segment := range plan.Segments {
			out, err := e.NewVector(segment.Wanted[0].Shape.Size())
			must(t, err)
			feeds := []graph.Feed{{Node: segment.Inputs[0], From: upload64(t, e, random(tensor/4, uint64(7+s)))}}
			must(t, program.Run(background, tape, s, feeds, []graph.Fetch{{Node: segment.Wanted[0], To: out}}))
			got = append(got, download(t, e, out))
		}
		return program, got
	}
	programs := []graph.Program{}
	var want [][]float64
	for _, plans := range [][]*graph.Plan{{whole}, {whole, split}, {whole, split, build(graph.CompileOptions{MaxBuffer: 2 * tensor, MaxBinding: tensor, TapeBudget: 1})}} {
		program, got := run(plans[len(plans)-1])
		programs = append(programs, program)
		if want == nil {
			want = got
		}
		for s := range want {
			near(t, "several buffers", got[s], want[s], []float64{0, 0, 1e-4}[len(plans)-1])
		}
		if held, planned := e.Usage().Activations, e.ScratchBytes(plans...); held != planned {
			t.Errorf("the ledger counts %d bytes, planned for %d plans were %d", held, len(plans), planned)
		}
	}
	for _, p := range programs {
		p.Release()
	}
	if left := e.Usage().Activations; left != 0 {
		t.Errorf("%d bytes of activations are left of no program", left)
	}
}
