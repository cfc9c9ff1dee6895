package engine

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
)

// diffusersCase is a call of one of diffusers' pipelines, as
// tools/golden/pipelines.py records it.
type diffusersCase struct {
	Pipeline, Scheduler, Prompt, Negative string
	Guidance                              float64
	Steps, Height, Width, Images          int
	Shown                                 bool
}

// diffusersCases are what diffusers' pipelines were asked and what they answered.
func diffusersCases(t *testing.T) (map[string]diffusersCase, model.Weights) {
	t.Helper()
	golden, metadata, err := model.LoadSafetensors(os.DirFS(tinyPipeline), "pipelines.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	var cases map[string]diffusersCase
	if err := json.Unmarshal([]byte(metadata["cases"]), &cases); err != nil || len(cases) == 0 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	return cases, golden
}

// as is the tiny pipeline's folder with the case's scheduler and class, and a
// guidance embedding where the case has one.
func (c diffusersCase) as(t *testing.T, golden model.Weights) string {
	t.Helper()
	dir := t.TempDir()
	for _, err := range []error{
		os.CopyFS(dir, os.DirFS(tinyPipeline)),
		os.WriteFile(filepath.Join(dir, "scheduler/scheduler_config.json"), []byte(c.Scheduler), 0o644),
		replaceIn(filepath.Join(dir, "model_index.json"), "StableDiffusionPipeline", c.Pipeline),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if !c.Shown {
		return dir
	}
	weights, _, err := model.LoadSafetensors(os.DirFS(dir), "unet/diffusion_pytorch_model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	added := golden["cond_proj"]
	weights["time_embedding.cond_proj.weight"] = added
	for _, err := range []error{
		model.SaveSafetensors(filepath.Join(dir, "unet/diffusion_pytorch_model.safetensors"), weights, model.F16, nil),
		replaceIn(filepath.Join(dir, "unet/config.json"), `"time_cond_proj_dim": null`, fmt.Sprintf(`"time_cond_proj_dim": %d`, added.Shape[1])),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func replaceIn(path, old, with string) error {
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.Replace(string(text), old, with, 1)), 0o644)
	}
	return err
}

// session is the case on a device, as a recipe with the words of the folder's own
// scheduler, about to begin from the case's noise.
func (c diffusersCase) session(t *testing.T, exec graph.Executor, name string, golden model.Weights) *Session {
	t.Helper()
	scheduler, err := sampler.ParseConfig([]byte(c.Scheduler))
	if err != nil {
		t.Fatal(err)
	}
	negative := "negative_prompt=" + quote(c.Negative)
	if c.Negative == "" {
		negative = "-negative_prompt"
	}
	s := foxSession(t, exec, "model="+c.as(t, golden), "method.freeze=v", "prompt="+quote(c.Prompt), negative,
		fmt.Sprintf("guidance_scale=%g", c.Guidance), fmt.Sprintf("height=%d", c.Height), fmt.Sprintf("width=%d", c.Width), fmt.Sprintf("num_images=%d", c.Images),
		"sampler.name="+string(sampler.SolverOf([]byte(c.Scheduler))), fmt.Sprintf("sampler.num_inference_steps=%d", c.Steps),
		"sampler.timestep_spacing="+string(scheduler.TimestepSpacing), fmt.Sprintf("sampler.use_karras_sigmas=%v", scheduler.UseKarrasSigmas))
	if err := exec.Write(t.Context(), s.start, float64s(golden[name+".noise"].Data)); err != nil {
		t.Fatal(err)
	}
	return s
}

// sample walks the sampler from the case's noise, with the case's fresh noise at
// each step that adds some, to latents and pictures.
func (c diffusersCase) sample(t *testing.T, s *Session, name string, golden model.Weights) (latents, pictures []float64) {
	t.Helper()
	at := sdo.Values{Latents: s.start}
	fresh := float64s(golden[name+".noises"].Data)
	for _, step := range s.table.Steps {
		var noise graph.Tensor
		if step.Noise != 0 {
			if len(fresh) < s.Shape.Size() {
				t.Fatal("more fresh noise is asked for than diffusers took")
			}
			var err error
			if noise, err = s.vectors.new(s.Shape.Size()); err == nil {
				err = s.Exec.Write(t.Context(), noise, fresh[:s.Shape.Size()])
			}
			if err != nil {
				t.Fatal(err)
			}
			fresh = fresh[s.Shape.Size():]
		}
		at.Noises = append(at.Noises, noise)
	}
	if len(fresh) > 0 {
		t.Errorf("%d numbers of diffusers' fresh noise are left over", len(fresh))
	}
	chain, err := sdo.NewChain(s.Problem(), sdo.Surrogate{})
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Free()
	sampled, err := chain.Rollout(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	if latents, err = s.Exec.Read(t.Context(), sampled); err != nil {
		t.Fatal(err)
	}
	if pictures, err = s.viewer.decode(t.Context(), latents); err != nil {
		t.Fatal(err)
	}
	return latents, pictures
}

// What a folder makes under the schedulers that released folders name, of either
// prediction, at other sizes, several at once, with guidance away from nothing or
// from words, mixed or shown, is what diffusers' pipelines make of it.
func TestDiffusersPipelines(t *testing.T) {
	cases, golden := diffusersCases(t)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := c.session(t, cpu.New[float64](cpu.Options{}), name, golden)
			for i, step := range s.table.Steps {
				want := golden[name+".timesteps"].Data
				if len(want) != len(s.table.Steps) || relative([]float64{step.Timestep + 1}, []float64{float64(want[i]) + 1}) > 1e-5 {
					t.Errorf("call %d is at timestep %v, diffusers' are at %v", i, step.Timestep, want)
				}
			}
			latents, pictures := c.sample(t, s, name, golden)
			e := relative(latents, float64s(golden[name+".latents"].Data))
			if t.Logf("latents differ by %.2g", e); !(e <= 1e-4) {
				t.Errorf("latents differ by %.2g", e)
			}
			if want, kept := golden[name+".image"]; kept {
				if e := relative(pictures, float64s(want.Data)); !(e <= 1e-4) {
					t.Errorf("pictures differ by %.2g", e)
				}
			}
		})
	}
}
