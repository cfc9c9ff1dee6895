// Package modeltest compares networks on any executor with what PyTorch and
// diffusers computed on the same weights. It is used by tests only.
package modeltest

import (
	"context"
	"io/fs"
	"math"
	"slices"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// Tolerance bounds the relative error in the Euclidean norm of the output and
// of every gradient.
type Tolerance struct{ Forward, Backward float64 }

// UNet2D runs every unet2d-* folder of testdata (model/testdata) on ex with the
// weights stored as told: the output, the gradient of the sample and of a class vector, and the gradients of
// all parameters, as a kept call makes them, forward first and backward later.
// The fixtures are made by tools/golden/unet2d.py.
func UNet2D(t *testing.T, testdata fs.FS, ex graph.Executor, storage graph.Storage, tolerance Tolerance) {
	folders, err := fs.Glob(testdata, "unet2d-*")
	if err != nil || len(folders) == 0 {
		t.Fatalf("no fixtures, make them with tools/golden/unet2d.py (%v)", err)
	}
	for _, folder := range folders {
		t.Run(folder, func(t *testing.T) {
			fsys, err := fs.Sub(testdata, folder)
			if err != nil {
				t.Fatal(err)
			}
			network, err := model.LoadUNet2D(fsys)
			if err != nil {
				t.Fatal(err)
			}
			fixture, versions, err := model.LoadSafetensors(fsys, "fixture.safetensors")
			if err != nil {
				t.Fatal(err)
			}
			compareUNet2D(t, network, fixture, ex, storage, tolerance)
			if t.Failed() {
				t.Logf("fixture of %v", versions)
			}
		})
	}
}

func compareUNet2D(t *testing.T, network *model.UNet2D, fixture model.Weights, ex graph.Executor, storage graph.Storage, tolerance Tolerance) {
	g := graph.New()
	sample := g.Input("sample", fixture["sample"].Shape...)
	timestep := g.Input("timestep", fixture["timestep"].Shape...)
	seed := g.Input("seed", fixture["seed"].Shape...)
	class := network.Config.ClassNode(g, "class", sample.Shape[0])
	output := network.Config.Build(g, sample, timestep, class, storage)
	params := g.Params()
	wrt := append([]*graph.Node{sample}, params...)
	if network.Config.ClassInput() == model.ClassVector {
		wrt = append(wrt, class)
	}
	grads := graph.Grad(g, []*graph.Node{output}, []*graph.Node{seed}, wrt)

	run := newRunner(t, ex, g, network.Weights, fixture, []*graph.Node{output}, grads)
	compare(t, "output", run(0)[0], float64s(fixture["output"].Data), tolerance.Forward)
	values := run(1)
	compare(t, "gradient of the sample", values[0], float64s(fixture["grad_sample"].Data), tolerance.Backward)
	if len(values) > len(params)+1 {
		compare(t, "gradient of the class", values[len(params)+1], float64s(fixture["grad_class"].Data), tolerance.Backward)
	}
	compareParams(t, params, values[1:len(params)+1], fixture, tolerance.Backward)
}

// newRunner compiles segments of a graph and returns what runs one: it feeds
// the inputs by name from values and returns what the segment was asked for.
func newRunner(t *testing.T, ex graph.Executor, g *graph.Graph, weights, values model.Weights, segments ...[]*graph.Node) func(segment int) [][]float64 {
	plan, err := graph.Compile(g, segments...)
	if err != nil {
		t.Fatal(err)
	}
	tensors, err := model.Upload(ex, plan, weights)
	if err != nil {
		t.Fatal(err)
	}
	program, err := ex.Compile(plan, tensors)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		program.Release()
		for _, param := range tensors {
			ex.FreeVector(param)
		}
	})
	tape, err := program.NewTape()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tape.Release)

	return func(segment int) [][]float64 {
		ctx := context.Background()
		var feeds []graph.Feed
		for _, in := range plan.Segments[segment].Inputs {
			v := vector(t, ex, in.Shape.Size())
			defer ex.FreeVector(v)
			if err := ex.Write(ctx, v, float64s(values[in.Name].Data)); err != nil {
				t.Fatal(err)
			}
			feeds = append(feeds, graph.Feed{Node: in, From: v})
		}
		wanted := segments[segment]
		fetches := make([]graph.Fetch, len(wanted))
		for i, n := range wanted {
			fetches[i] = graph.Fetch{Node: n, To: vector(t, ex, n.Shape.Size())}
			defer ex.FreeVector(fetches[i].To)
		}
		if err := program.Run(ctx, tape, segment, feeds, fetches); err != nil {
			t.Fatal(err)
		}
		results := make([][]float64, len(wanted))
		for i := range fetches {
			if results[i], err = ex.Read(ctx, fetches[i].To); err != nil {
				t.Fatal(err)
			}
		}
		return results
	}
}

// compareParams compares some gradients element by element, and all by norm and
// sum. A gradient that is zero in exact arithmetic (attention does not feel a
// bias of its keys) is measured against the largest one.
func compareParams(t *testing.T, params []*graph.Node, grads [][]float64, fixture model.Weights, tolerance float64) {
	byName := map[string][]float64{}
	var names []string
	for i, p := range params {
		byName[p.Name] = grads[i]
		names = append(names, p.Name)
	}
	slices.Sort(names)
	want := float64s(fixture["grad_norms"].Data)
	if len(want) != 2*len(names) {
		t.Fatalf("fixture has gradients of %d parameters, the network %d", len(want)/2, len(names))
	}
	largest := slices.Max(want)
	for i, name := range names {
		norm, sum := 0.0, 0.0
		for _, v := range byName[name] {
			norm += v * v
			sum += v
		}
		norm = math.Sqrt(norm)
		size := math.Sqrt(float64(len(byName[name])))
		allowed := tolerance * (want[2*i] + 1e-3*largest)
		if math.Abs(norm-want[2*i]) > allowed || math.Abs(sum-want[2*i+1]) > allowed*size {
			t.Errorf("gradient of %s: norm %g and sum %g, want %g and %g", name, norm, sum, want[2*i], want[2*i+1])
		}
		if full, ok := fixture["grad."+name]; ok && want[2*i] > 1e-3*largest {
			compare(t, "gradient of "+name, byName[name], float64s(full.Data), tolerance)
		}
	}
}

func compare(t *testing.T, what string, got, want []float64, tolerance float64) {
	if len(got) != len(want) {
		t.Errorf("%s: %d numbers, want %d", what, len(got), len(want))
		return
	}
	distance, norm := 0.0, 0.0
	for i := range want {
		distance += (got[i] - want[i]) * (got[i] - want[i])
		norm += want[i] * want[i]
	}
	if relative := math.Sqrt(distance / norm); !(relative <= tolerance) {
		t.Errorf("%s: relative error %.3g, allowed %.3g", what, relative, tolerance)
	}
}

func vector(t *testing.T, ex graph.Executor, n int) graph.Tensor {
	v, err := ex.NewVector(n)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func float64s(xs []float32) []float64 {
	ys := make([]float64, len(xs))
	for i, x := range xs {
		ys[i] = float64(x)
	}
	return ys
}
