package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/native/report"
	"github.com/sdo-go/sdo/recipes"
)

// tinyPipeline are the flags that name the pipeline of tools/golden/tiny_pipeline.py.
var tinyPipeline = []string{"--device", "cpu", "--model", "../model/testdata/stable-diffusion", "--prompt", "a red apple"}

// A prompt makes a picture of the size that was asked for, within a budget that
// is told beforehand.
func TestSampleOfAPipeline(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	code, _, stderr := invoke(t, slices.Concat([]string{"sample"}, tinyPipeline,
		[]string{"--steps", "2", "--height", "24", "--width", "40", "--negative-prompt", "blurry", "--memory-budget", "20 MiB", "--out", dir})...)
	if code != exitOK || !strings.Contains(stderr, "weights, ") || !strings.Contains(stderr, "activations") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if told := "the model's sampler is PNDMScheduler, which is not one of those here; ddim stands in for it"; !strings.Contains(stderr, told) {
		t.Errorf("%q is not told: %s", told, stderr)
	}
	tensors, _, err := model.LoadSafetensors(os.DirFS(dir), "samples.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	if shape := tensors["samples"].Shape; !slices.Equal(shape, []int{1, 3, 24, 40}) {
		t.Errorf("samples are %v, want one of 24x40", shape)
	}
	recipe, err := os.ReadFile(filepath.Join(dir, "recipe.yaml"))
	if err != nil || !strings.Contains(string(recipe), "guidance_scale: 7.5") || !strings.Contains(string(recipe), "name: ddim") {
		t.Errorf("%v: the recipe is\n%s", err, recipe)
	}
}

// A picture that no device is sure to hold in one piece is the device's shortage
// and not a mistake in what was asked, found before anything is computed.
func TestPicturesTooLargeForADevice(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	code, _, stderr := invoke(t, slices.Concat([]string{"sample"}, tinyPipeline,
		[]string{"-q", "--height", "4096", "--width", "4096", "--decoder", "../model/testdata/taesd", "--out", dir})...)
	if code != exitDevice || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "too large for the device") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s was made", dir)
	}
}

// What a recipe would say can be said on the command line; the folder holds
// pictures and the latents they were made from.
func TestSteerAPipelineWithoutARecipe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	code, stdout, stderr := invoke(t, slices.Concat([]string{"steer", "--json"}, tinyPipeline,
		[]string{"--steps", "2", "--updates", "2", "--clip", "../model/testdata/clip", "--decoder", "../model/testdata/taesd", "--out", dir,
			"--objective", "clip_similarity", "--objective", "{term: total_variation, weight: 0.1}"})...)
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var summary map[string]any
	if err := json.Unmarshal([]byte(stdout), &summary); err != nil {
		t.Fatal(err)
	}
	if summary["activation_bytes_planned"] != summary["activation_bytes_measured"] {
		t.Errorf("planned %v bytes of activations, measured %v", summary["activation_bytes_planned"], summary["activation_bytes_measured"])
	}
	tensors, _, err := model.LoadSafetensors(os.DirFS(dir), "variables.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	if got := tensors["latents"].Shape; !slices.Equal(got, []int{1, 4, 8, 8}) {
		t.Errorf("latents are %v", got)
	}
	if got := tensors["samples"].Shape; !slices.Equal(got, []int{1, 3, 32, 32}) {
		t.Errorf("samples are %v", got)
	}
}

// An adapter, too, is trained by a term alone, and then used.
func TestTuneAPipelineWithoutARecipe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	flags := []string{"--height", "16", "--width", "16", "--steps", "2"}
	code, stdout, stderr := invoke(t, slices.Concat([]string{"tune", "--json"}, tinyPipeline, flags,
		[]string{"--updates", "1", "--clip", "../model/testdata/clip", "--objective", "clip_similarity", "--out", dir})...)
	var s report.TuningSummary
	if code != exitOK || json.Unmarshal([]byte(stdout), &s) != nil {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	if s.Update != 1 || s.Trained == 0 || s.PlannedBytes != s.PeakBytes {
		t.Errorf("summary %s", stdout)
	}
	written, err := os.ReadFile(filepath.Join(dir, tuneRecipe))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"name: tune\n", "prompt: a red apple\n", "rank: 4\n", "accumulate: 4\n"} {
		if !strings.Contains(string(written), want) {
			t.Errorf("the recipe lacks %q:\n%s", want, written)
		}
	}
	if code, _, stderr := invoke(t, slices.Concat([]string{"sample", "-q", "--lora", dir, "--out", t.TempDir()}, tinyPipeline, flags)...); code != exitOK {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// What a prompt is sampled with does not depend on whether a flag or --set says
// the prompt and the model, nor does what clip_similarity is held to.
func TestPromptInAFlagOrInSet(t *testing.T) {
	const folder = "../model/testdata/stable-diffusion"
	for name, command := range map[string][]string{
		"sample": {"sample", "--steps", "2"},
		"steer":  {"steer", "--steps", "2", "--updates", "1", "--clip", "../model/testdata/clip", "--objective", "clip_similarity"},
	} {
		var want string
		for _, said := range [][]string{
			{"--model", folder, "--prompt", "a red apple"},
			{"--model", folder, "--set", "prompt=a red apple"},
			{"--set", "model=" + folder, "--prompt", "a red apple"},
			{"--set", "model=" + folder, "--set", "prompt='a red apple'"},
			{"--model", "avatars-16-s", "--set", "model=" + folder, "--prompt", "a pear", "--set", "prompt=a red apple"},
		} {
			dir := t.TempDir()
			code, _, stderr := invoke(t, slices.Concat(command, said, []string{"--device", "cpu", "--out", dir})...)
			if code != exitOK {
				t.Fatalf("%v: exit code %d: %s", said, code, stderr)
			}
			got := sampledWith(t, dir)
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%s %v is sampled with\n%s\nwant\n%s", name, said, got, want)
			}
		}
		for _, key := range []string{"num_images: 1\n", "guidance_scale: 7.5\n", "name: ddim\n", "timestep_spacing: leading\n", "prompt: a red apple\n"} {
			if !strings.Contains(want, key) {
				t.Errorf("%s is sampled with\n%s\nwant %q", name, want, key)
			}
		}
	}
}

// sampledWith is the recipe that a folder's run was made by.
func sampledWith(t *testing.T, dir string) string {
	t.Helper()
	if text, err := os.ReadFile(filepath.Join(dir, "recipe.yaml")); err == nil {
		return string(text)
	}
	text, err := os.ReadFile(filepath.Join(dir, "run.json"))
	if err != nil {
		t.Fatal(err)
	}
	var run struct{ Recipe json.RawMessage }
	if err := json.Unmarshal(text, &run); err != nil {
		t.Fatal(err)
	}
	r, err := recipes.Parse(run.Recipe, "run.json")
	if err != nil {
		t.Fatal(err)
	}
	return string(r.Canonical())
}

// A prompt is sampled with the solver, the timesteps and the noise levels of the
// folder's scheduler, as its pipeline's class does.
func TestPromptTakesTheFoldersSampler(t *testing.T) {
	for name, c := range map[string]struct {
		class, scheduler string
		args, want       []string
		told             string
	}{
		"Karras": {"StableDiffusionPipeline", `{"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": true, "lambda_min_clipped": -Infinity, "prediction_type": "v_prediction"}`,
			nil, []string{"name: dpmpp-2m", "timestep_spacing: linspace", "use_karras_sigmas: true"}, ""},
		"another solver": {"StableDiffusionPipeline", `{"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": true, "prediction_type": "v_prediction"}`,
			[]string{"--set", "sampler.name=ddim"}, []string{"name: ddim", "timestep_spacing: linspace", "use_karras_sigmas: false"}, ""},
		"turbo": {"StableDiffusionPipeline", `{"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing", "prediction_type": "v_prediction"}`,
			[]string{"--steps", "1"}, []string{"name: euler", "timestep_spacing: trailing", "num_inference_steps: 1"}, ""},
		"ancestral": {"StableDiffusionPipeline", `{"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "leading", "prediction_type": "v_prediction"}`,
			nil, []string{"name: euler", "timestep_spacing: leading"}, "sampler is EulerAncestralDiscreteScheduler, which is not one of those here; euler stands in for it"},
		"clipping": {"StableDiffusionPipeline", `{"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}`,
			nil, []string{"name: ddim", "timestep_spacing: leading"}, "here nothing is clipped"},
		"consistency": {"LatentConsistencyModelPipeline", `{"_class_name": "LCMScheduler", "prediction_type": "v_prediction"}`,
			nil, []string{"name: lcm", "num_inference_steps: 4", "guidance_scale: 8.5"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			folder, dir := t.TempDir(), t.TempDir()
			index, err := os.ReadFile("../model/testdata/stable-diffusion/model_index.json")
			if err != nil {
				t.Fatal(err)
			}
			for _, err := range []error{
				os.CopyFS(folder, os.DirFS("../model/testdata/stable-diffusion")),
				os.WriteFile(filepath.Join(folder, "scheduler/scheduler_config.json"), []byte(c.scheduler), 0o644),
				os.WriteFile(filepath.Join(folder, "model_index.json"), bytes.Replace(index, []byte("StableDiffusionPipeline"), []byte(c.class), 1), 0o644),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			code, _, stderr := invoke(t, append([]string{"sample", "--device", "cpu", "--model", folder, "--prompt", "x", "--out", dir}, c.args...)...)
			if code != exitOK {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			got := sampledWith(t, dir)
			for _, want := range c.want {
				if !strings.Contains(got, want+"\n") {
					t.Errorf("sampled with\n%s\nwant %s", got, want)
				}
			}
			if strings.Contains(stderr, "the model's sampler") != (c.told != "") || !strings.Contains(stderr, c.told) {
				t.Errorf("told %q, want %q", stderr, c.told)
			}
		})
	}
}

// An empty prompt is none; one that is longer than the text encoder reads is told.
func TestPromptsOfOddLength(t *testing.T) {
	model := []string{"sample", "--device", "cpu", "--model", "../model/testdata/stable-diffusion", "--steps", "2", "--out", filepath.Join(t.TempDir(), "o")}
	code, _, stderr := invoke(t, append(model, "--prompt", "")...)
	if code != exitOK || strings.Contains(stderr, "reads the first") {
		t.Errorf("without words: exit code %d: %s", code, stderr)
	}
	code, _, stderr = invoke(t, append(model, "--prompt", strings.Repeat("a ", 80), "--negative-prompt", "blurry")...)
	if code != exitOK || !strings.Contains(stderr, "prompt: has 80 tokens, of which the text encoder reads the first 75\n") || strings.Contains(stderr, "negative") {
		t.Errorf("80 words: exit code %d: %s", code, stderr)
	}
}

func TestBadPipelineInput(t *testing.T) {
	for want, args := range map[string][]string{
		"there is nothing to steer by":                                      {"steer", "--prompt", "x"},
		"there is nothing to tune by; name a recipe, or give a term with":   {"tune", "--prompt", "x"},
		"takes one RECIPE at most, got 2":                                   {"steer", "a", "b"},
		`its network is of class "UNet2DConditionModel"`:                    {"sample", "--model", "../model/testdata/stable-diffusion/unet"},
		`decoder "nowhere" does not exist; give the folder that holds it`:   slices.Concat([]string{"sample"}, tinyPipeline, []string{"--decoder", "nowhere"}),
		`--memory-budget: "" is no size`:                                    slices.Concat([]string{"sample"}, tinyPipeline, []string{"--memory-budget", ""}),
		"prompt: expected text, got a list of 1":                            slices.Concat([]string{"sample"}, tinyPipeline, []string{"--set", "prompt=[1]"}),
		"prompt: expected at most 2000 bytes, got 3000":                     slices.Concat([]string{"sample"}, tinyPipeline, []string{"--prompt", strings.Repeat("apple ", 500)}),
		`--memory-budget: "6" is no size`:                                   slices.Concat([]string{"sample"}, tinyPipeline, []string{"--memory-budget", "6"}),
		"needs at least":                                                    slices.Concat([]string{"sample"}, tinyPipeline, []string{"--memory-budget", "100kB"}),
		"want a multiple of 4":                                              slices.Concat([]string{"sample"}, tinyPipeline, []string{"--height", "30"}),
		"makes pixels and takes no text":                                    {"sample", "--prompt", "x", "--guidance-scale", "2"},
		"--objective: objective.0.term: expected one of":                    slices.Concat([]string{"steer"}, tinyPipeline, []string{"--objective", "beauty"}),
		"clip: expected the folder of a CLIPModel for objective.0 (clip_si": slices.Concat([]string{"steer"}, tinyPipeline, []string{"--objective", "clip_similarity"}),
	} {
		code, _, stderr := invoke(t, append(args, "--device", "cpu", "--out", filepath.Join(t.TempDir(), "o"))...)
		if code != exitUsage || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1+strings.Count(stderr, "\nRun sdo ") {
			t.Errorf("%v: exit code %d, %q, want %d and %q", args, code, stderr, exitUsage, want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{"6GiB": 6 << 30, "800MB": 800e6, "1.5 gb": 1.5e9, "12B": 12, "3": 0, "GiB": 0, "-1GiB": 0, "1e3MB": 0, "0.1B": 0, "9999999999TiB": 0, "1.2.3MB": 0, "": 0} {
		if got, err := parseBytes(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %d, %v, want %d", text, got, err, want)
		}
	}
}

// A model that takes a prompt makes one picture unless told otherwise, with words
// or without.
func TestPipelineMakesOnePicture(t *testing.T) {
	model := []string{"--quiet", "--json", "--device", "cpu", "--model", "../model/testdata/stable-diffusion", "--steps", "2"}
	for want, set := range map[string][]string{
		`"images":1,`: {"--seed", "3"},
		`"images":2,`: {"--num-images", "2"},
	} {
		code, out, stderr := invoke(t, append(append([]string{"sample", "--out", t.TempDir()}, model...), set...)...)
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("sample %v: exit %d, %s%s, want %s", set, code, out, stderr, want)
		}
	}
}

// A recipe's name, which may be a stranger's, leads to no folder but one below out.
func TestNameLeadsOutOfTheFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"../x", "/x", "a/../../x"} {
		code, _, stderr := invoke(t, "steer", "dark-glasses", "--device", "cpu", "--updates", "0", "--steps", "1", "--num-images", "1", "--set", "name="+name)
		if code != exitUsage || !strings.Contains(stderr, "name leads out of the folder out; give a folder with --out") {
			t.Errorf("%s: exit code %d: %s", name, code, stderr)
		}
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("%v, %v is left", err, left)
	}
}

// A pipeline's tuning that is interrupted between its looks ends, by the same
// command, in the same bytes as one that nothing interrupted.
func TestInterruptedTuneOfAPipelineContinues(t *testing.T) {
	dir, whole := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "whole")
	tuning := func(out string) []string {
		return append(tiny("tune", "../recipes/examples/tune-by-clip.yaml", "--updates", "5", "--out", out), "-q", "--set", "height=32", "--set", "width=32",
			"--set", "tune.accumulate=2", "--set", "tune.eval_images=1", "--set", "tune.eval_every=2", "--set", "tune.checkpoint_every=1000")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
			if text, _ := os.ReadFile(filepath.Join(dir, "log.jsonl")); bytes.Count(text, []byte("\n")) >= 3 {
				cancel()
			}
		}
	}()
	code, stdout, stderr := invokeWith(ctx, tuning(dir)...)
	if code != exitInterrupted || stdout != "" {
		t.Fatalf("exit code %d, standard output %q: %s", code, stdout, stderr)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v, %v is left half written", err, left)
	}
	for _, out := range []string{dir, whole} {
		if code, _, stderr := invoke(t, tuning(out)...); code != exitOK {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
	}
	wantSameResults(t, dir, whole, results...)
	if got, want := logged(t, dir), logged(t, whole); !slices.Equal(got, want) {
		t.Errorf("log\n%s\nwant\n%s", got, want)
	}
}
