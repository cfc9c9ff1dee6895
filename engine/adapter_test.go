package engine

import (
	"io/fs"
	"os"
	"testing"

	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
)

// An adapter of a pipeline is merged into the unet and the text encoder, at the
// recipe's scale, and the layers it changes are held in single precision.
func TestAdapterOfAPipeline(t *testing.T) {
	r := recipes.Defaults()
	r.Name, r.Model, r.Updates, r.Prompt = "adapted", "stable-diffusion", 0, "a cat"
	r.LoRA = &recipes.Adapter{Path: "lora-names/kohya.safetensors", Scale: 0.5}
	testdata := os.DirFS("../model/testdata")
	open := func(name string) (fs.FS, error) { return fs.Sub(testdata, name) }
	adapted, err := LoadNetworks(&r, open)
	if err != nil {
		t.Fatal(err)
	}
	r.LoRA = nil
	plain, err := LoadNetworks(&r, open)
	if err != nil {
		t.Fatal(err)
	}
	deltas, _, err := model.LoadSafetensors(testdata, "lora-names/deltas.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	for part, sources := range map[string][2]model.Source{
		"unet":         {adapted.weights, plain.weights},
		"text_encoder": {adapted.Pipeline.Text.Weights, plain.Pipeline.Text.Weights},
	} {
		changed := 0
		for _, name := range sources[1].Names() {
			got, err := sources[0].Read(name)
			if err != nil {
				t.Fatal(err)
			}
			want, err := sources[1].Read(name)
			if err != nil {
				t.Fatal(err)
			}
			info, _ := sources[0].Info(name)
			module := name[:max(0, len(name)-len(".weight"))]
			delta, adapts := deltas["kohya.safetensors/"+part+"/"+module]
			if module+".weight" != name {
				adapts = false
			}
			if adapts {
				changed++
			}
			if adapts != adapted.single[name] || adapts != (info.DType == model.F32) {
				t.Errorf("%s: adapted %v, held in single precision %v, told as %s", name, adapts, adapted.single[name], info.DType)
			}
			for i, v := range want.Data {
				if adapts {
					v += 0.5 * delta.Data[i]
				}
				if d := got.Data[i] - v; d > 1e-5 || d < -1e-5 {
					t.Errorf("%s: element %d is %g, want %g", name, i, got.Data[i], v)
					break
				}
			}
		}
		if changed == 0 {
			t.Errorf("%s: no layer is adapted", part)
		}
	}
	if len(plain.single) != 0 {
		t.Errorf("without an adapter %d weights are held in single precision", len(plain.single))
	}
}
