package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/sdo-go/sdo/model"
)

// tiny has an example run on the pipeline and the CLIP of model/testdata, at a
// size that is none of its networks' own.
func tiny(args ...string) []string {
	const testdata = "../model/testdata/"
	return append(args, "--device", "cpu", "--json", "--set", "model="+testdata+"stable-diffusion", "--set", "decoder="+testdata+"taesd",
		"--set", "clip="+testdata+"clip", "--set", "height=64", "--set", "width=96", "--set", "sampler.num_inference_steps=4")
}

// The example for steering a Stable Diffusion folder by CLIP lowers its loss,
// within the memory that was planned.
func TestSteerAPipelineByCLIP(t *testing.T) {
	dir := t.TempDir()
	code, stdout, stderr := invoke(t, tiny("steer", "../recipes/examples/steer-by-clip.yaml", "--updates", "6", "--num-images", "2", "--out", dir)...)
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var s struct {
		Before   float64 `json:"loss_before"`
		After    float64 `json:"loss_after"`
		Planned  int64   `json:"activation_bytes_planned"`
		Measured int64   `json:"activation_bytes_measured"`
	}
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatal(err)
	}
	if !(s.After < s.Before) || s.Planned != s.Measured || s.Planned == 0 {
		t.Errorf("got %+v", s)
	}
	found, _, err := model.LoadSafetensors(os.DirFS(dir), "variables.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	for name, shape := range map[string][]int{"latents": {2, 4, 16, 24}, "samples": {2, 3, 64, 96}} {
		if got := found[name].Shape; len(got) != 4 || got[0] != shape[0] || got[1] != shape[1] || got[2] != shape[2] || got[3] != shape[3] {
			t.Errorf("%s have shape %v, want %v", name, got, shape)
		}
	}
}

// The example for tuning one leaves an adapter that is read again.
func TestTuneAPipelineByCLIP(t *testing.T) {
	dir := t.TempDir()
	args := tiny("tune", "../recipes/examples/tune-by-clip.yaml", "--updates", "3", "--out", dir)
	code, stdout, stderr := invoke(t, append(args, "--set", "tune.accumulate=2", "--set", "tune.eval_images=1", "--set", "tune.eval_every=3", "--set", "height=32", "--set", "width=32")...)
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var s struct {
		Trained int `json:"trained"`
		Updates int `json:"updates"`
	}
	if err := json.Unmarshal([]byte(stdout), &s); err != nil || s.Trained == 0 || s.Updates != 3 {
		t.Errorf("got %+v, %v", s, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "adapter_model.safetensors")); err != nil {
		t.Error(err)
	}
	code, _, stderr = invoke(t, "sample", "--device", "cpu", "--model", "../model/testdata/stable-diffusion", "--prompt", "a forest", "--steps", "2", "--lora", dir, "--out", t.TempDir())
	if code != exitOK {
		t.Errorf("sampling with the adapter: exit code %d: %s", code, stderr)
	}
}
