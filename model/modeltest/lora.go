package modeltest

import (
	"io/fs"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// LoRA runs the adapter of testdata/lora (model/testdata) on ex: the output and
// the gradients of every A and B where it is a branch, and the output where it
// is merged, against PEFT's. The fixture is made by tools/golden/lora.py.
func LoRA(t *testing.T, testdata fs.FS, ex graph.Executor, tolerance Tolerance) {
	files, err := fs.Sub(testdata, "unet2d-attention")
	if err != nil {
		t.Fatal(err)
	}
	network, err := model.LoadUNet2D(files)
	if err != nil {
		t.Fatal(err)
	}
	values, _, err := model.LoadSafetensors(files, "fixture.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	want, versions, err := model.LoadSafetensors(testdata, "lora/fixture.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	lora, err := model.LoadLoRA(testdata, "lora/peft", network.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("branch", func(t *testing.T) {
		output, grads, params := AdaptedUNet2D(t, network, lora, values, ex)
		check(t, "output", output, want["output"].Data, tolerance.Forward)
		if len(params) != len(want)-1 {
			t.Errorf("%d gradients, the fixture has %d", len(params), len(want)-1)
		}
		for i, p := range params {
			check(t, "gradient of "+p.Name, grads[i], want["grad."+p.Name].Data, tolerance.Backward)
		}
	})
	t.Run("merged", func(t *testing.T) {
		merged, err := lora.Merge(network.Weights)
		if err != nil {
			t.Fatal(err)
		}
		for _, module := range lora.Targets {
			merged[module+model.MergedWeight] = merged[module+".weight"]
		}
		check(t, "output", MergedUNet2D(t, network.Config, lora.LoRAConfig, merged, values, ex), want["output"].Data, tolerance.Forward)
	})
	if t.Failed() {
		t.Logf("fixture of %v", versions)
	}
}

// AdaptedUNet2D runs a network with an adapter as branches, forward and then
// back, on inputs by name (sample, timestep, class, seed): the output, and the
// gradient of every parameter of the adapter.
func AdaptedUNet2D(t *testing.T, network *model.UNet2D, lora *model.LoRA, values model.Weights, ex graph.Executor) (output []float64, grads [][]float64, params []model.Param) {
	params, err := lora.Params(network.Config)
	if err != nil {
		t.Fatal(err)
	}
	g := graph.New()
	out := adapted(g, network.Config, values, model.BuildOptions{LoRA: &lora.LoRAConfig})
	seed := g.Input("seed", out.Shape...)
	var wrt []*graph.Node
	for _, p := range params {
		wrt = append(wrt, g.Lookup(p.Name))
	}
	results := runSegments(t, ex, g, []model.Source{network.Weights, lora.Weights}, values,
		[]*graph.Node{out}, graph.Grad(g, []*graph.Node{out}, []*graph.Node{seed}, wrt))
	return results[0][0], results[1], params
}

// MergedUNet2D runs a network with an adapter merged: weights hold the merged
// ones under their own names.
func MergedUNet2D(t *testing.T, config model.UNet2DConfig, lora model.LoRAConfig, weights, values model.Weights, ex graph.Executor) []float64 {
	g := graph.New()
	out := adapted(g, config, values, model.BuildOptions{LoRA: &lora, Merged: true})
	return runSegments(t, ex, g, []model.Source{weights}, values, []*graph.Node{out})[0][0]
}

func runSegments(t *testing.T, ex graph.Executor, g *graph.Graph, weights []model.Source, values model.Weights, segments ...[]*graph.Node) [][][]float64 {
	r, err := newRunner(ex, g, weights, segments...)
	if err != nil {
		t.Fatal(err)
	}
	defer r.release()
	results := make([][][]float64, len(segments))
	for i := range segments {
		if results[i], err = r.run(i, values); err != nil {
			t.Fatal(err)
		}
	}
	return results
}

func adapted(g *graph.Graph, config model.UNet2DConfig, values model.Weights, o model.BuildOptions) *graph.Node {
	sample := g.Input("sample", values["sample"].Shape...)
	timestep := g.Input("timestep", values["timestep"].Shape...)
	return config.BuildWith(g, sample, timestep, config.ClassNode(g, "class", sample.Shape[0]), o)
}

func check(t *testing.T, what string, got []float64, want []float32, tolerance float64) {
	e := Errors{}
	if err := e.note(Forward, what, got, want, 0); err != nil {
		t.Fatal(err)
	}
	if relative := e[Forward].Worst; !(relative <= tolerance) {
		t.Errorf("%s: relative error %.3g, allowed %.3g", what, relative, tolerance)
	}
}
