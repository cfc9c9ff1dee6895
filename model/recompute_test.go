package model_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/model/builtin"
)

// A kept call of the built-in network gives the same prediction and the same
// gradients, bit by bit, whatever its budget makes it compute again, and takes
// what the budget says.
func TestBuiltInNetworkUnderEveryBudget(t *testing.T) {
	files, err := builtin.Open("avatars-16-s")
	if err != nil {
		t.Fatal(err)
	}
	unet, err := model.LoadUNet2D(files)
	if err != nil {
		t.Fatal(err)
	}
	const n = 2
	var out *graph.Node
	var grads []*graph.Node
	g, err := graph.Build(func(g *graph.Graph) {
		sample, class := g.Input("sample", unet.Config.SampleShape(n)...), unet.Config.ConditionNode(g, "condition", n)
		out = unet.Config.BuildWith(g, sample, g.Input("timestep", n), class, model.BuildOptions{Storage: graph.F16})
		wrt := []*graph.Node{sample, class}
		for _, p := range g.Params() {
			if p.Storage == graph.F32 { // biases and norms, as a sample of the parameters
				wrt = append(wrt, p)
			}
		}
		grads = graph.Grad(g, []*graph.Node{out}, []*graph.Node{g.Input("seed", out.Shape...)}, wrt)
	})
	if err != nil {
		t.Fatal(err)
	}
	segments := [][]*graph.Node{{out}, grads}
	whole, err := graph.Compile(g, segments...)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := keptCall(t, whole, unet.Weights)
	total := whole.TapeBytes + whole.ScratchBytes
	var least int64
	for _, budget := range []int64{1, total / 2, total * 3 / 4, total - 1} {
		plan, err := graph.CompileWith(g, graph.CompileOptions{TapeBudget: budget, MaxBuffer: total / 5}, segments...)
		if err != nil {
			t.Fatal(err)
		}
		takes := plan.TapeBytes + plan.ScratchBytes
		if budget == 1 {
			least = takes
		}
		t.Logf("%d of %d bytes, %d blocks, %d multiply-adds", takes, total, len(plan.Recomputed), plan.RecomputedMultiplyAdds)
		if takes > max(budget, least) || takes >= total || len(plan.Recomputed) == 0 {
			t.Errorf("under a budget of %d the plan takes %d bytes of %d", budget, takes, total)
		}
		got, held := keptCall(t, plan, unet.Weights)
		if held != takes {
			t.Errorf("under a budget of %d the plan says %d bytes, %d are held", budget, takes, held)
		}
		for k := range want {
			if !slices.Equal(got[k], want[k]) {
				t.Fatalf("under a budget of %d result %d differs", budget, k)
			}
		}
	}
}

// keptCall runs both segments of a plan on inputs that follow from their names,
// and returns what was wanted and the plan's bytes of activations that were held.
func keptCall(t *testing.T, plan *graph.Plan, weights model.Source) (got [][]float64, held int64) {
	t.Helper()
	e := cpu.New[float32](cpu.Options{})
	defer e.Close()
	params, err := model.Upload(e, plan, weights)
	if err != nil {
		t.Fatal(err)
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
			v, err := e.NewVector(in.Shape.Size())
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Normal(v, uint64(len(in.Name)), uint32(in.Name[0])); err != nil {
				t.Fatal(err)
			}
			feeds = append(feeds, graph.Feed{Node: in, From: v})
		}
		var fetches []graph.Fetch
		for _, w := range segment.Wanted {
			v, err := e.NewVector(w.Shape.Size())
			if err != nil {
				t.Fatal(err)
			}
			fetches = append(fetches, graph.Fetch{Node: w, To: v})
		}
		if err := program.Run(t.Context(), tape, s, feeds, fetches); err != nil {
			t.Fatal(err)
		}
		for _, f := range fetches {
			values, err := e.Read(t.Context(), f.To)
			if err != nil {
				t.Fatal(fmt.Errorf("%v: %w", f.Node, err))
			}
			got = append(got, values)
		}
	}
	// Beside the plan's own bytes an arena has room for the kernels' work.
	return got, e.Usage().Activations - (e.ScratchBytes(plan) - plan.ScratchBytes)
}
