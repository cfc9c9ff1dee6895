package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/model/modeltest"
)

// A merged network gives what PyTorch gives with the adapter beside it.
func TestMergedModelIsTheAdaptedOne(t *testing.T) {
	exec := cpu.New[float64](cpu.Options{})
	defer exec.Close()
	fixtures, err := modeltest.Fixtures(os.DirFS(testdata))
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, f := range fixtures {
		dir := filepath.Join(testdata, f.Name)
		if f.LoRA == nil || !strings.HasPrefix(f.Architecture, "UNet2D") {
			continue
		}
		tried++
		to := filepath.Join(t.TempDir(), "merged")
		code, stdout, stderr := invoke(t, "model", "merge", dir, "--lora", filepath.Join(dir, "lora"), "--to", to, "--json", "-q")
		if code != exitOK {
			t.Errorf("%s: exit code %d: %s", f.Name, code, stderr)
			continue
		}
		var m mergedModel
		if err := json.Unmarshal([]byte(stdout), &m); err != nil || m.Layers != len(f.LoRA.Weights)/2 || m.Folder != to || m.Bytes == 0 {
			t.Errorf("%s: %+v: %v", f.Name, m, err)
		}
		stored, tolerance := model.F32, 1e-5
		if f.Architecture == "UNet2DModel" {
			unet, err := model.LoadUNet2D(os.DirFS(to))
			if err != nil {
				t.Error(err)
				continue
			}
			f.Weights, stored = unet.Weights, unet.Stored
		} else {
			unet, err := model.LoadUNet2DCondition(os.DirFS(to), ".")
			if err != nil {
				t.Error(err)
				continue
			}
			f.Weights, stored = unet.Weights, unet.Stored
		}
		if stored == model.F16 {
			tolerance = 2e-3 // of rounding what the adapter adds
		}
		if i := inspected(t, dir); i.Stored != string(stored) {
			t.Errorf("%s was stored as %s, the merged model is as %s", f.Name, i.Stored, stored)
		}
		values := model.Weights{"output": f.Values["lora.output"]}
		for name, value := range f.Values {
			if !strings.HasPrefix(name, "grad_") && !strings.HasPrefix(name, "lora.") && name != "output" {
				values[name] = value
			}
		}
		f.LoRA, f.Values = nil, values
		e, err := modeltest.Compare(exec, f, graph.F32)
		if err != nil {
			t.Errorf("%s: %v", f.Name, err)
			continue
		}
		if got := e[modeltest.Forward].Relative; !(got <= tolerance) {
			t.Errorf("%s merged is %g from PyTorch's adapted output, allowed %g", f.Name, got, tolerance)
		}
	}
	if tried < 3 {
		t.Errorf("only %d fixtures have adapters", tried)
	}
}

func TestMergeKeepsTheRestOfAPipeline(t *testing.T) {
	folder, to := filepath.Join(testdata, "stable-diffusion"), filepath.Join(t.TempDir(), "made", "merged")
	pipeline, err := model.LoadPipeline(os.DirFS(folder))
	if err != nil {
		t.Fatal(err)
	}
	lora, err := model.NewLoRA(model.LoRAConfig{Rank: 2, Alpha: 3, Targets: []string{"**to_q", "**conv1"}}, pipeline.UNet.Config, 7)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range lora.Weights {
		for i := range w.Data {
			w.Data[i] = 0.02 * float32(i%7-3)
		}
	}
	adapter := filepath.Join(t.TempDir(), "adapter.safetensors")
	if err := lora.SaveKohya(adapter, model.F32); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := invoke(t, "model", "merge", folder, "--lora", adapter, "--lora-scale", "0.5", "--to", to); code != exitOK || !strings.Contains(stdout, " layers merged, ") {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	merged, err := model.LoadPipeline(os.DirFS(to))
	if err != nil {
		t.Fatal(err)
	}
	// The plain loops of package model are the other way to merge.
	own, err := model.Collect(pipeline.UNet.Weights)
	if err != nil {
		t.Fatal(err)
	}
	lora.LoRAConfig = lora.Strengthened(0.5)
	want, err := lora.Merge(own)
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for name, w := range want {
		got, err := merged.UNet.Weights.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		stored := model.AsStored(w.Data, graph.F16)
		for i := range stored {
			// Sums in another order may round to the neighbouring half.
			if d := math.Abs(float64(got.Data[i] - stored[i])); d > 1e-3*math.Abs(float64(stored[i]))+1e-7 {
				t.Fatalf("%s: element %d is %g, want %g", name, i, got.Data[i], stored[i])
			}
		}
		if !slices.Equal(got.Data, own[name].Data) {
			changed++
		}
	}
	if changed != len(lora.Weights)/2 {
		t.Errorf("%d tensors changed, the adapter has %d layers", changed, len(lora.Weights)/2)
	}
	// Everything else is as it was.
	err = fs.WalkDir(os.DirFS(folder), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		before, _ := os.ReadFile(filepath.Join(folder, name))
		after, err := os.ReadFile(filepath.Join(to, name))
		if same := slices.Equal(before, after); same == strings.HasPrefix(name, "unet/diffusion") {
			t.Errorf("%s is the same: %v", name, same)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Of a pipeline put together by links the copy holds what they lead to, and is
// merged with an adapter that was pulled.
func TestMergeFollowsLinks(t *testing.T) {
	whole, err := filepath.Abs(filepath.Join(testdata, "stable-diffusion"))
	if err != nil {
		t.Fatal(err)
	}
	dir, to := filepath.Join(t.TempDir(), "linked"), filepath.Join(t.TempDir(), "merged")
	t.Setenv("SDO_MODELS", t.TempDir())
	kept := filepath.Join(os.Getenv("SDO_MODELS"), "some-one")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Mkdir(kept, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"model_index.json", "scheduler", "text_encoder", "tokenizer", "unet", "vae"} {
		if err := os.Symlink(filepath.Join(whole, name), filepath.Join(dir, name)); err != nil {
			t.Skip(err) // not every system lets everybody make links
		}
	}
	pipeline, err := model.LoadPipeline(os.DirFS(whole))
	if err != nil {
		t.Fatal(err)
	}
	lora, err := model.NewLoRA(model.LoRAConfig{Rank: 1, Alpha: 1, Targets: []string{"**.to_q"}}, pipeline.UNet.Config, 3)
	if err == nil {
		err = lora.SavePEFT(filepath.Join(kept, "adapter"), model.F32)
	}
	if err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := invoke(t, "model", "inspect", "some-one/adapter"); code != exitOK {
		t.Error(stderr)
	}
	merge := []string{"model", "merge", dir, "--lora", "some-one/adapter", "-q", "--to"}
	if code, _, stderr := invoke(t, append(merge, to)...); code != exitOK {
		t.Fatal(stderr)
	}
	if info, err := os.Lstat(filepath.Join(to, "vae")); err != nil || !info.IsDir() {
		t.Errorf("vae is %v, %v", info, err)
	}
	if code, _, stderr := invoke(t, "sample", "--model", to, "--device", "cpu", "--steps", "1", "--prompt", "a fox", "--out", t.TempDir()); code != exitOK {
		t.Error(stderr)
	}
	if code, _, stderr := invoke(t, "sample", "--model", dir, "--lora", "some-one/adapter", "--device", "cpu", "--steps", "1", "--prompt", "a fox", "--out", t.TempDir()); code != exitOK {
		t.Error(stderr)
	}
	if err := os.Symlink(dir, filepath.Join(dir, "again")); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := invoke(t, append(merge, to+"2")...); code == exitOK || !strings.Contains(stderr, "again: links to a folder that it is in; remove the link") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestMergesThatCannotBe(t *testing.T) {
	folder := filepath.Join(testdata, "unet2d-condition-sd1")
	lora := filepath.Join(folder, "lora")
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"no adapter", []string{folder, "--to", "x"}, "needs an adapter, --lora"},
		{"no folder to write", []string{folder, "--lora", lora}, "a folder to write, --to"},
		{"a folder that is there", []string{folder, "--lora", lora, "--to", t.TempDir()}, "is there already"},
		{"a folder that cannot be made", []string{folder, "--lora", lora, "--to", filepath.Join("merge_test.go", "x")}, "x cannot be made: not a directory; give another folder with --to"},
		{"no model", []string{"nowhere", "--lora", lora, "--to", "x"}, `model "nowhere" does not exist`},
		{"adapter of another network", []string{"avatars-16-s", "--lora", lora, "--to", "x"}, "lora " + lora},
		{"model without a denoiser", []string{filepath.Join(testdata, "taesd"), "--lora", lora, "--to", "x"}, "holds no denoiser"},
		{"adapter that is none", []string{folder, "--lora", "merge_test.go", "--to", "x"}, "lora merge_test.go"},
	} {
		parent := t.TempDir()
		args := slices.Clone(tt.args)
		for i := range args {
			if args[i] == "x" {
				args[i] = filepath.Join(parent, "x")
			}
		}
		code, stdout, stderr := invoke(t, append([]string{"model", "merge", "-q"}, args...)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, tt.want) || strings.Count(strings.TrimSpace(stderr), "\n") > 0 {
			t.Errorf("%s: exit code %d, standard error %q, want %q", tt.name, code, stderr, tt.want)
		}
		if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", tt.name, left, err)
		}
	}
	// Ctrl-C leaves nothing.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	parent := t.TempDir()
	if code, _, _ := invokeWith(ctx, "model", "merge", folder, "--lora", lora, "--to", filepath.Join(parent, "x")); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	if left, err := os.ReadDir(parent); !errors.Is(err, nil) || len(left) > 0 {
		t.Errorf("left %v", left)
	}
}
