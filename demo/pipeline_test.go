package demo_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sdo-go/sdo/engine/enginetest"
	"github.com/sdo-go/sdo/recipes"
)

// bring keeps a folder of model/testdata under its own name.
func (p *page) bring(name string, told ...string) {
	p.Helper()
	folder := filepath.Join(p.TempDir(), name)
	if err := os.CopyFS(folder, os.DirFS(filepath.Join("../model/testdata", name))); err != nil {
		p.Fatal(err)
	}
	p.click("tab-models")
	p.upload("model-folder", folder)
	for _, words := range told {
		p.waitText("model-inspected", words)
	}
	p.screenshots("models-found-" + name)
	p.click("model-keep")
}

// A Stable Diffusion pipeline of random weights is brought with a CLIP and a
// small decoder, steered by words, and gives the losses of a native run.
func TestSteerAPipeline(t *testing.T) {
	p := openPage(t, options{patience: 4 * time.Minute})
	p.ready()
	p.bring("clip", "CLIPModel", "24 × 24")
	p.waitText("model-list", "clip yours in use")
	p.bring("taesd", "AutoencoderTiny")
	p.waitText("model-list", "taesd yours in use")
	p.bring("stable-diffusion", "32 × 32", "text_encoder CLIPTextModel", "unet UNet2DConditionModel", "vae AutoencoderKL", "Memory for 1 picture at once")
	p.wait("stage-title") // the model is used at once
	p.click("tab-models")
	p.waitText("model-list", "stable-diffusion yours in use")
	p.screenshots("models-pipeline")

	p.click("tab-steer")
	p.panel("goal")
	p.set("prompt", "a forest in winter")
	p.set("goal-prompt", "snow")
	p.size(1, 3, 2)
	r := p.waitRecipe("what was brought", func(r *recipes.Recipe) bool {
		return r.Prompt == "a forest in winter" && r.CLIP == "clip" && r.Decoder == "taesd" && len(r.Objective) == 1 && r.Objective[0].Prompt == "snow"
	})
	p.panel("goal")
	p.screenshots("steer-prompt")
	p.steer()
	p.waitText("counters", "2 of 2")
	p.screenshots("steer-pipeline")
	want, _ := enginetest.Run(t, r, enginetest.Latents{Root: ".."}.Open)
	shown := p.chart("loss-chart", 1)
	for update, losses := range want.Losses {
		if d := shown[update] - losses[0]; d > 0.01*losses[0] || -d > 0.01*losses[0] {
			t.Errorf("the loss of update %d is %g, natively %g", update, shown[update], losses[0])
		}
	}

	for _, set := range [][]string{nil, {"decoder=\"\"", "height=24", "width=40", "variables=[latents, condition]"}} {
		latents := enginetest.Latents{Root: "..", Example: "steer-by-clip.yaml", Set: set}
		r := latents.Recipe(t)
		want, _ := enginetest.Run(t, r, latents.Open)
		got := request[steered](p, "steer", map[string]any{"recipe": r})
		worst := enginetest.Apart(got.Losses, want.Losses)
		if worst > tolerance {
			t.Errorf("%v: losses %v, natively %v", set, got.Losses, want.Losses)
		}
		if got.Counters != want.Counters || got.Peak != got.Planned || got.Peak == 0 {
			t.Errorf("%v: calls %+v, natively %+v; %d bytes of activations, planned %d", set, got.Counters, want.Counters, got.Peak, got.Planned)
		}
		if last := want.Losses[len(want.Losses)-1][0]; last >= want.Losses[0][0] {
			t.Errorf("%v: losses %v do not fall", set, want.Losses)
		}
		t.Logf("%v: losses %v, worst %.1e", set, got.Losses, worst)
	}
}
