package cpu

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sdo-go/sdo/graph"
)

// randomNet is a network of random blocks: residual convolutions, attention,
// gated layers and joins with what an earlier block made. What it returns is
// wanted of a kept call: the output, and gradients at the input, at some of the
// weights and at what no block holds.
func randomNet(rng *rand.Rand) (g *graph.Graph, out *graph.Node, grads []*graph.Node) {
	g = graph.New()
	n, size := 1+rng.IntN(2), 2*(1+rng.IntN(3))
	channels := func() int { return 2 * (1 + rng.IntN(4)) }
	params := 0
	param := func(shape ...int) *graph.Node {
		params++
		return g.Param(fmt.Sprint("p", params), shape...)
	}
	conv := func(x *graph.Node, o, k int) *graph.Node {
		return g.Conv2D(x, param(o, x.Shape[1], k, k), param(o), graph.Same(k))
	}
	norm := func(x *graph.Node) *graph.Node {
		c := x.Shape[1]
		return g.GroupNorm(x, param(c), param(c), graph.GroupNormAttrs{Groups: 2, Eps: 1e-5, SiLU: rng.IntN(2) == 0})
	}
	x := g.Input("x", n, channels(), size, size)
	shared := g.SiLU(g.Input("shared", n, 8))
	wrt := []*graph.Node{x}
	first := x
	earlier := []*graph.Node{x}
	for b := range 3 + rng.IntN(5) {
		g.Block(fmt.Sprint("block ", b))
		c := x.Shape[1]
		switch rng.IntN(4) {
		case 0:
			h := conv(norm(x), c, 3)
			h = g.AddChannels(h, g.Linear(shared, param(c, 8), param(c)))
			x = g.Add(x, conv(norm(h), c, 3))
		case 1:
			tokens := g.Transpose(g.Reshape(norm(x), n, c, size*size))
			q, k, v := g.Linear(tokens, param(c, c), nil), g.Linear(tokens, param(c, c), nil), g.Linear(tokens, param(c, c), nil)
			h := g.Linear(g.Attention(q, k, v, 2), param(c, c), param(c))
			x = g.Add(x, g.Reshape(g.Transpose(h), x.Shape...))
		case 2:
			h := conv(x, 4*c, 1)
			x = conv(g.Mul(g.Slice(h, 1, 0, 2*c), g.SiLU(g.Slice(h, 1, 2*c, 4*c))), channels(), 1)
		case 3:
			joined := g.Concat(x, earlier[rng.IntN(len(earlier))], 1)
			x = g.SumPool2x(g.UpsampleNearest2x(conv(norm(joined), channels(), 3)))
		}
		if rng.IntN(3) == 0 { // an activation that two blocks and nobody's block read
			g.Block("")
			x = g.Softplus(x)
		}
		earlier = append(earlier, x)
	}
	if rng.IntN(2) == 0 {
		g.Block("")
	}
	out = norm(x)
	for _, p := range g.Params() {
		if rng.IntN(3) == 0 {
			wrt = append(wrt, p)
		}
	}
	grads = graph.Grad(g, []*graph.Node{out}, []*graph.Node{g.Input("seed", out.Shape...)}, append(wrt, first))
	for i := len(grads) - 1; i >= 0; i-- {
		if grads[i] == nil {
			grads = append(grads[:i], grads[i+1:]...)
		}
	}
	return g, out, grads
}

// keptCall runs both segments of a plan on an executor of its own and returns
// what it fetched, and the most activations its ledger saw.
func keptCall[T Float](t *testing.T, plan *graph.Plan) (got [][]float64, peak int64) {
	t.Helper()
	ctx := context.Background()
	e := New[T](Options{Workers: 2})
	defer e.Close()
	// Numbers follow the names, so that every plan of a graph gets the same.
	numbers := func(n *graph.Node) []float64 {
		seed := uint64(len(n.Name))
		for _, r := range n.Name {
			seed = seed*31 + uint64(r)
		}
		return normals(seed, n.Shape.Size())
	}
	params := map[*graph.Node]graph.Tensor{}
	for _, p := range plan.Params {
		data := make([]float32, p.Shape.Size())
		for i, v := range numbers(p) {
			data[i] = float32(v)
		}
		copy(data, p.Data)
		var err error
		if params[p], err = e.NewParam(data, p.Storage); err != nil {
			t.Fatal(err)
		}
	}
	program, err := e.Compile(plan, params)
	if err != nil {
		t.Fatal(err)
	}
	tape, err := program.NewTape()
	if err != nil {
		t.Fatal(err)
	}
	for s, segment := range plan.Segments {
		var feeds []graph.Feed
		for _, in := range segment.Inputs {
			feeds = append(feeds, graph.Feed{Node: in, From: upload(t, e, numbers(in))})
		}
		var fetches []graph.Fetch
		for _, w := range segment.Wanted {
			fetches = append(fetches, graph.Fetch{Node: w, To: upload(t, e, make([]float64, w.Shape.Size()))})
		}
		if err := program.Run(ctx, tape, s, feeds, fetches); err != nil {
			t.Fatal(err)
		}
		for _, f := range fetches {
			values, err := e.Read(ctx, f.To)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, values)
		}
	}
	if scratch := e.ScratchBytes(plan); e.Usage().Activations != scratch+tape.Bytes() {
		t.Errorf("the ledger counts %d bytes of activations, planned were %d and a tape of %d",
			e.Usage().Activations, scratch, tape.Bytes())
	}
	return got, e.Usage().PeakActivations
}

// Whatever a budget makes a plan compute again, the numbers are the same to the
// last bit, what it takes is what it says, and more memory never costs more.
func TestRecomputeChangesNoNumber(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 8
	}
	saving := 0
	for seed := range seeds {
		g, out, grads := randomNet(rand.New(rand.NewPCG(seed, 1)))
		nodes := len(g.Nodes)
		segments := [][]*graph.Node{{out}, grads}
		whole, err := graph.Compile(g, segments...)
		if err != nil {
			t.Fatal(err)
		}
		if len(whole.Recomputed) != 0 || whole.RecomputedMultiplyAdds != 0 {
			t.Errorf("without a budget a plan computes %v again", whole.Recomputed)
		}
		want, _ := keptCall[float32](t, whole)
		total := whole.TapeBytes + whole.ScratchBytes
		least, cost := total, int64(-1)
		for _, budget := range []int64{1, total / 2, total * 2 / 3, total * 3 / 4, total * 7 / 8, total * 19 / 20, total - 1, total, 2 * total} {
			plan, err := graph.CompileWith(g, graph.CompileOptions{TapeBudget: budget}, segments...)
			if err != nil {
				t.Fatal(err)
			}
			takes := plan.TapeBytes + plan.ScratchBytes
			if budget == 1 {
				least = takes
			}
			if takes > max(budget, least) {
				t.Errorf("seed %d: a plan takes %d bytes under a budget of %d, when %d are possible", seed, takes, budget, least)
			}
			if cost >= 0 && plan.RecomputedMultiplyAdds > cost {
				t.Errorf("seed %d: a budget of %d costs %d multiply-adds, a smaller one %d", seed, budget, plan.RecomputedMultiplyAdds, cost)
			}
			cost = plan.RecomputedMultiplyAdds
			if extra := plan.Segments[1].MultiplyAdds() - whole.Segments[1].MultiplyAdds(); extra != cost {
				t.Errorf("seed %d: the backward takes %d multiply-adds more, the plan says %d", seed, extra, cost)
			}
			if budget >= total && len(plan.Recomputed) > 0 {
				t.Errorf("seed %d: a plan that fits computes %v again", seed, plan.Recomputed)
			}
			if takes < total {
				saving++
			}
			got, _ := keptCall[float32](t, plan)
			for k := range want {
				for i := range want[k] {
					if got[k][i] != want[k][i] {
						t.Fatalf("seed %d, budget %d of %d: element %d of result %d is %g, kept whole it is %g",
							seed, budget, total, i, k, got[k][i], want[k][i])
					}
				}
			}
		}
		if len(g.Nodes) != nodes {
			t.Errorf("compiling added %d nodes to the graph", len(g.Nodes)-nodes)
		}
	}
	if saving < int(seeds)*3 {
		t.Errorf("only %d of the plans of %d networks save anything", saving, seeds)
	}
}
