package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/sdo"
)

// Activations of SDO are those of one step, however many there are; every call
// of every update is counted, both branches.
func TestPipelineCostsAreFlat(t *testing.T) {
	var flat int64
	for _, steps := range []int{2, 7} {
		exec := cpu.New[float32](cpu.Options{})
		s := foxSession(t, exec, fmt.Sprintf("sampler.num_inference_steps=%d", steps), "num_images=1", "updates=2")
		exec.ResetPeak()
		result, err := s.Steer(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		used := exec.Usage().PeakActivations
		if flat == 0 {
			flat = used
		}
		if used != flat || used != s.Memory(exec).Activations {
			t.Errorf("%d steps: %d bytes of activations, planned %d, %d with fewer steps", steps, used, s.Memory(exec).Activations, flat)
		}
		if want := 3 * 2 * steps; result.NetworkCalls != want || result.BackwardCalls != 2*2 {
			t.Errorf("%d steps: %d network calls and %d backward, want %d and 4", steps, result.NetworkCalls, result.BackwardCalls, want)
		}
	}
}

// A run of a pipeline goes on where it was cancelled, and ends in the same
// pictures to the last bit; the way back from a picture leads to its latent.
func TestPipelineGoesOn(t *testing.T) {
	for name, set := range map[string][]string{
		"noise":   nil,
		"picture": {"start={image: testdata/target.png, strength: 0.7}", "height=32", "width=48"},
	} {
		t.Run(name, func(t *testing.T) {
			begin := func() *Session { return foxSession(t, cpu.New[float32](cpu.Options{}), set...) }
			first := begin()
			want, err := first.Steer(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var state *sdo.RunState
			got, err := begin().Steer(ctx, func(e sdo.Event) {
				if e.Kind == sdo.EventUpdate && e.Update == 2 {
					if state, err = e.Save(ctx); err != nil {
						t.Error(err)
					}
					cancel()
				}
			})
			if err != nil || !got.Cancelled || len(got.Samples) != first.Pictures().Size() {
				t.Fatalf("cancelled run: %v, %d numbers of pictures", err, len(got.Samples))
			}
			if got, err = begin().SteerFrom(t.Context(), state, nil); err != nil {
				t.Fatal(err)
			}
			g, w := *got, *want
			g.Counters, w.Counters = sdo.Counters{}, sdo.Counters{}
			if !reflect.DeepEqual(g, w) {
				t.Errorf("the run ends elsewhere: losses %v, want %v", g.Losses, w.Losses)
			}
		})
	}
}

// A pipeline's LoRA is trained within what was planned, to the byte; what is
// written changes samples as the tuning did, read back and merged.
func TestPipelineTuning(t *testing.T) {
	const lora = "variables={parameters: {lora: {rank: 2, alpha: 4, targets: [to_q, to_k, to_v, to_out.0]}}}"
	for name, set := range map[string][]string{
		"lora":                  {lora},
		"lora of the attention": {"variables={parameters: {lora: {rank: 2, alpha: 4}}}"},
		"select":                {`variables={parameters: {select: ["conv_out.*", "**.attn2.to_k.*"]}}`},
		"kept":                  {lora, "tune.keep=1", "tune.accumulate=2", "tune.ema_decay=0.9", "guidance_scale=1", "-negative_prompt"},
	} {
		t.Run(name, func(t *testing.T) {
			r := fox(t, append([]string{"updates=3", "optimizer={name: adam, lr: 0.02}", "tune={batch_size: 2, eval_every: 3, eval_images: 3}", "guards={latent_norm: none, early_stop: false}", "method.name=sdo"}, set...)...)
			m, err := LoadModel(r, openDisk)
			if err != nil {
				t.Fatal(err)
			}
			p, err := NewTuningPlan(r, m, nil, m.Options())
			if err != nil {
				t.Fatal(err)
			}
			exec := cpu.New[float32](cpu.Options{})
			defer exec.Close()
			want := p.Memory(exec)
			tuning, err := NewTuning(t.Context(), exec, p, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tuning.Close()
			tuning.train(t)
			if got := exec.Usage(); got.Params != want.Params || got.PeakActivations != want.Activations || got.Vectors != want.States {
				t.Errorf("holds %+v, planned %+v", got, want)
			}
			tuned := tuning.finish(t)
			if lora := tuning.LoRA(tuned); name == "lora of the attention" && !reflect.DeepEqual(lora.Targets, []string{"to_q", "to_k", "to_v", "to_out.0"}) {
				t.Errorf("adapts %v", lora.Targets)
			}
			if n := 3 * p.Pictures().Size() / 2; len(tuned.Look.Images) != n || !(tuned.Look.Loss < tuning.Before().Loss) {
				t.Errorf("%d numbers of pictures, want %d; the loss went from %g to %g", len(tuned.Look.Images), n, tuning.Before().Loss, tuned.Look.Loss)
			}
			// What is written makes the same pictures.
			dir := t.TempDir()
			again := []string{"lora={path: " + dir + "}"}
			if adapter := tuning.LoRA(tuned); adapter != nil {
				err = adapter.SavePEFT(dir, model.F16)
			} else {
				again = []string{"model=" + dir}
				if err = os.CopyFS(dir, os.DirFS(tinyPipeline)); err == nil {
					err = tuning.Save(tuned, filepath.Join(dir, "unet"), model.F16)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if name == "kept" {
				again = append(again, "guidance_scale=1", "-negative_prompt")
			}
			s := foxSession(t, exec, again...)
			if err := exec.Write(t.Context(), s.start, noiseFrom(r.Seed, sdo.HeldOut, s.Shape)); err != nil {
				t.Fatal(err)
			}
			pictures, err := s.Sample(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if e := relative(pictures, tuned.Look.Images[:len(pictures)]); e > 1e-5 {
				t.Errorf("pictures made with what was written differ by %.2g", e)
			}
			if e := relative(pictures, tuning.Before().Images[:len(pictures)]); e < 1e-3 {
				t.Errorf("the tuning changes pictures by %.2g only", e)
			}
		})
	}
}

// What does not fit into a budget is computed again, to the same bits; what
// cannot fit is refused with what it takes at the least.
func TestMemoryBudget(t *testing.T) {
	steer := func(o PlanOptions) (*Plan, *sdo.Result) {
		t.Helper()
		p := foxPlan(t, o, "decoder=../model/testdata/taesd")
		exec := cpu.New[float32](cpu.Options{})
		defer exec.Close()
		p, err := p.For(exec)
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSession(exec, p)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		exec.ResetPeak()
		result, err := s.Steer(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if planned, used := p.Memory(exec).Activations, exec.Usage().PeakActivations; planned != used {
			t.Errorf("budget %d: %d bytes of activations planned, %d used", o.MemoryBudget, planned, used)
		}
		return p, result
	}
	free, want := steer(PlanOptions{})
	exec := cpu.New[float32](cpu.Options{}) // whose kernels need more than the plans
	defer exec.Close()
	whole := free.Memory(exec)
	if again := free.Recomputation(); again.Blocks != nil || again.Share != 0 {
		t.Errorf("without a budget %v is computed again", again)
	}
	least := whole.Total()
	refused := 0
	for share := 95; share > 5; share -= 5 {
		budget := whole.Total() * int64(share) / 100
		r := fox(t, "decoder=../model/testdata/taesd")
		m, err := LoadModel(r, openDisk)
		if err != nil {
			t.Fatal(err)
		}
		o := m.Options()
		o.MemoryBudget = budget
		free, err := NewPlan(r, m, nil, m.Options())
		if err != nil {
			t.Fatal(err)
		}
		free.MemoryBudget = budget // of which it knew nothing when it was made
		if _, err := NewSession(exec, free); err == nil {
			t.Errorf("%d %%: a plan of %d bytes runs under a budget of %d", share, whole.Total(), budget)
		}
		o.Exec = exec
		if _, err := NewPlan(r, m, nil, o); err != nil {
			refused++
			if want := "the memory budget is " + Bytes(budget); !strings.Contains(err.Error(), "needs at least") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%d %%: %v", share, err)
			}
			continue
		}
		o.Exec = nil // known later
		p, got := steer(o)
		if total := p.Memory(exec).Total(); total > budget {
			t.Errorf("%d bytes are planned under a budget of %d", total, budget)
		} else {
			least = min(least, total)
		}
		if again := p.Recomputation(); len(again.Blocks) == 0 || !(again.Share > 0 && again.Share < 1) {
			t.Errorf("%d %%: computes %v again", share, again)
		}
		if !reflect.DeepEqual(got.Losses, want.Losses) || !slices.Equal(got.Samples, want.Samples) {
			t.Errorf("%d %%: losses %v, want %v", share, got.Losses, want.Losses)
		}
	}
	if refused == 0 {
		t.Error("every budget is enough")
	}
	if least > whole.Total()*9/10 {
		t.Errorf("a budget saves no more than down to %d of %d bytes", least, whole.Total())
	}
}

// Recipes that do not fit the pipeline, or the pipeline them, are refused with
// one sentence.
func TestPipelineRefuses(t *testing.T) {
	for want, set := range map[string][]string{
		"height: 30, want a multiple of 4":                       {"height=30"},
		"takes no attributes":                                    {"-prompt", "-negative_prompt", "condition={mood: happy}"},
		`decoder "nowhere" does not exist; give the folder`:      {"decoder=nowhere"},
		"decoder ../model/testdata/clip":                         {"decoder=../model/testdata/clip"},
		"no classifier reads images of model":                    {"objective=[{term: attribute, attribute: mood, value: happy}]"},
		"start: ":                                                {"start={seed: 3, index: 4, strength: 0.5}"},
		"lora ../model/testdata/lora/peft":                       {"lora={path: ../model/testdata/lora/peft}"},
		"makes pixels and takes no text":                         {"model=avatars-16-s", "objective=[]", "updates=0"},
		"height and width: model avatars-16-s makes pictures of": {"model=avatars-16-s", "objective=[]", "updates=0", "-prompt", "-negative_prompt", "-guidance_scale", "height=24"},
	} {
		r := fox(t, set...)
		open := openDisk
		if r.Model == "avatars-16-s" {
			open = OpenBuiltin
		}
		m, err := LoadModel(r, open)
		if err == nil {
			_, err = NewPlan(r, m, os.DirFS("."), m.Options())
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// A network distilled with guidance is shown the scale and asked once a step.
func TestPipelineShownGuidance(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tinyPipeline)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "unet/config.json"))
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), `"time_cond_proj_dim": null`, `"time_cond_proj_dim": 6`, 1))
	config, err := model.ParseUNet2DConditionConfig(text)
	if err != nil || config.TimeCondProjDim == nil {
		t.Fatal(err)
	}
	params, err := config.Params()
	if err != nil {
		t.Fatal(err)
	}
	weights, err := filepath.Glob(filepath.Join(dir, "unet/*.safetensors"))
	if err != nil || len(weights) != 1 {
		t.Fatal(weights, err)
	}
	if err := model.SaveSafetensors(weights[0], model.Init(params, 3), model.F16, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "unet/config.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	steer := func(scale string) *sdo.Result {
		s := foxSession(t, cpu.New[float32](cpu.Options{}), "model="+dir, "updates=1", "sampler.name=lcm", "guidance_scale="+scale)
		result, err := s.Steer(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := 2 * s.Calls(); result.NetworkCalls != want || result.BackwardCalls != 1 {
			t.Errorf("%d network calls and %d backward, want %d and 1", result.NetworkCalls, result.BackwardCalls, want)
		}
		return result
	}
	if e := relative(steer("8").Before, steer("2").Before); e < 1e-4 {
		t.Errorf("another scale changes pictures by %.2g", e)
	}
	if _, err := LoadModel(fox(t, "model="+dir, "variables=[guidance_scale]"), openDisk); err == nil || !strings.Contains(err.Error(), "is shown the scale") {
		t.Errorf("a scale that varies: %v", err)
	}
}
