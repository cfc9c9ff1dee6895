package engine

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
)

// dtype float16 holds the weights of float32 files as those of float16 files are
// held, in every network, and computes the same with them.
func TestDTypePacksEveryNetwork(t *testing.T) {
	dir := t.TempDir()
	single := map[string]string{"stable-diffusion": "", "clip": ""} // the same weights, in float32
	for name := range single {
		single[name] = filepath.Join(dir, name)
		if err := os.CopyFS(single[name], os.DirFS("../model/testdata/"+name)); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(single[name], "*/*.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range append(files, filepath.Join(single[name], "model.safetensors")) {
			weights, metadata, err := model.LoadSafetensors(os.DirFS(filepath.Dir(file)), filepath.Base(file))
			if os.IsNotExist(err) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := model.WriteSafetensors(&out, weights, model.F32, metadata); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	run := func(folder, clip string, overrides ...string) (params int64, losses [][]float64) {
		exec := cpu.New[float32](cpu.Options{})
		defer exec.Close()
		s := foxSession(t, exec, append([]string{"model=" + folder, "clip=" + clip, "updates=1",
			"objective=[{term: clip_similarity, prompt: a red apple}]"}, overrides...)...)
		defer s.Close()
		params = s.Memory(nil).Params // small ones are held wide on the CPU
		result, err := s.Steer(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return params, result.Losses
	}
	wantParams, want := run(tinyPipeline, "../model/testdata/clip")
	params, got := run(single["stable-diffusion"], single["clip"], "dtype=float16")
	if params != wantParams {
		t.Errorf("weights take %d bytes, those of float16 files %d", params, wantParams)
	}
	for u := range want {
		if !slices.Equal(got[u], want[u]) {
			t.Errorf("losses after %d updates are %v, with float16 files %v", u, got[u], want[u])
		}
	}
	if params, _ := run(single["stable-diffusion"], single["clip"], "dtype=auto"); params < wantParams*5/4 {
		t.Errorf("weights of float32 files take %d bytes, packed %d", params, wantParams)
	}
}
