package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/model"
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

func TestBadPipelineInput(t *testing.T) {
	for want, args := range map[string][]string{
		"there is nothing to steer by":                                      {"steer", "--prompt", "x"},
		"takes one RECIPE at most, got 2":                                   {"steer", "a", "b"},
		`--memory-budget: "6" is no size`:                                   slices.Concat([]string{"sample"}, tinyPipeline, []string{"--memory-budget", "6"}),
		"needs at least":                                                    slices.Concat([]string{"sample"}, tinyPipeline, []string{"--memory-budget", "100kB"}),
		"want a multiple of 4":                                              slices.Concat([]string{"sample"}, tinyPipeline, []string{"--height", "30"}),
		"makes pixels and takes no text":                                    {"sample", "--prompt", "x", "--guidance-scale", "2"},
		"--objective: objective.0.term: expected one of":                    slices.Concat([]string{"steer"}, tinyPipeline, []string{"--objective", "beauty"}),
		"clip: expected the folder of a CLIPModel for objective.0 (clip_si": slices.Concat([]string{"steer"}, tinyPipeline, []string{"--objective", "clip_similarity"}),
	} {
		code, _, stderr := invoke(t, append(args, "--device", "cpu", "--out", filepath.Join(t.TempDir(), "o"))...)
		if code != exitUsage || !strings.Contains(stderr, want) {
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
