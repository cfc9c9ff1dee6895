//go:build !js

package engine

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/model/modeltest"
)

// The network of Stable Diffusion 1.5 at its size, where there is a folder of it.
func TestFullSizeStableDiffusionOnWebGPU(t *testing.T) {
	folder, o := modeltest.FullSizeOptions(t)
	modeltest.FullSize(t, device(t), folder, o)
}

// The pipeline of that folder samples the pictures that diffusers sampled.
func TestFullSizePipeline(t *testing.T) {
	folder, _ := modeltest.FullSizeOptions(t)
	exec := cpu.New[float32](cpu.Options{})
	defer exec.Close()
	fullSizePipeline(t, exec, folder)
}

func TestFullSizePipelineOnWebGPU(t *testing.T) {
	folder, _ := modeltest.FullSizeOptions(t)
	fullSizePipeline(t, device(t), folder)
}

func fullSizePipeline(t *testing.T, exec graph.Executor, folder string) {
	golden, words, err := model.LoadSafetensors(os.DirFS(folder), "pipeline.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	s, err := NewSession(exec, foxPlan(t, PlanOptions{MaxBuffer: 256 << 20, MaxBinding: 128 << 20}, "model="+folder, "num_images=1", "height=256", "width=256",
		"sampler.num_inference_steps="+strconv.Itoa(len(golden["timesteps"].Data)),
		"prompt="+quote(words["prompt"]), "negative_prompt="+quote(words["negative"]), "guidance_scale="+words["guidance"]))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	planned := s.Memory(exec)
	if held := exec.Usage().Params; held != planned.Params {
		t.Errorf("parameters of %d bytes were planned, %d are held", planned.Params, held)
	}
	t.Logf("ready on %s in %v", exec.Device().Name, time.Since(start))
	start = time.Now()
	agreesWithDiffusers(t, s, golden, 1e-4)
	t.Logf("sampled in %v; %+v; planned %+v", time.Since(start), exec.Usage(), planned)
}
