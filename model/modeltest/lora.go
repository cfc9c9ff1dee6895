package modeltest

import (
	"io/fs"
	"maps"
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
		compare(t, "output", output, float64s(want["output"].Data), tolerance.Forward)
		if len(params) != len(want)-1 {
			t.Errorf("%d gradients, the fixture has %d", len(params), len(want)-1)
		}
		for i, p := range params {
			compare(t, "gradient of "+p.Name, grads[i], float64s(want["grad."+p.Name].Data), tolerance.Backward)
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
		compare(t, "output", MergedUNet2D(t, network.Config, lora.LoRAConfig, merged, values, ex), float64s(want["output"].Data), tolerance.Forward)
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
	weights := maps.Clone(network.Weights)
	maps.Copy(weights, lora.Weights)
	run := newRunner(t, ex, g, weights, values, []*graph.Node{out}, graph.Grad(g, []*graph.Node{out}, []*graph.Node{seed}, wrt))
	return run(0)[0], run(1), params
}

// MergedUNet2D runs a network with an adapter merged: weights hold the merged
// ones under their own names.
func MergedUNet2D(t *testing.T, config model.UNet2DConfig, lora model.LoRAConfig, weights, values model.Weights, ex graph.Executor) []float64 {
	g := graph.New()
	out := adapted(g, config, values, model.BuildOptions{LoRA: &lora, Merged: true})
	return newRunner(t, ex, g, weights, values, []*graph.Node{out})(0)[0]
}

func adapted(g *graph.Graph, config model.UNet2DConfig, values model.Weights, o model.BuildOptions) *graph.Node {
	sample := g.Input("sample", values["sample"].Shape...)
	timestep := g.Input("timestep", values["timestep"].Shape...)
	return config.BuildWith(g, sample, timestep, config.ClassNode(g, "class", sample.Shape[0]), o)
}
