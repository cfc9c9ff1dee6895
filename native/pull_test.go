package main

import (
	"context"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/native/hub/hubtest"
)

// hubOf serves a built-in model as some-one/avatars.
func hubOf(t *testing.T) *hubtest.Server {
	t.Helper()
	builtin, err := engine.OpenBuiltin("avatars-16-s")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{".gitattributes": []byte("*.safetensors filter=lfs\n"), "all-in-one.ckpt": make([]byte, 5000)}
	err = fs.WalkDir(builtin, ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files[path], err = fs.ReadFile(builtin, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HF_TOKEN", "")
	t.Setenv("HF_ENDPOINT", "http://127.0.0.1:1") // that nobody asks
	t.Setenv("SDO_MODELS", t.TempDir())
	s := hubtest.New(t, "some-one/avatars", files)
	t.Setenv("SDO_HUB", s.URL)
	return s
}

func TestPulledModelIsKnownByItsName(t *testing.T) {
	s := hubOf(t)
	code, stdout, stderr := invoke(t, "model", "pull", "some-one/avatars", "--json", "-q")
	if code != exitOK {
		t.Fatal(stderr)
	}
	var p map[string]any
	if err := json.Unmarshal([]byte(stdout), &p); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"name", "endpoint", "revision", "commit", "folder", "bytes", "fetched_bytes", "seconds", "files", "notes"} {
		if _, ok := p[key]; !ok {
			t.Errorf("no key %q in %s", key, stdout)
		}
	}
	dir := filepath.Join(os.Getenv("SDO_MODELS"), "some-one", "avatars")
	if p["folder"] != dir || p["endpoint"] != s.URL || p["commit"] != hubtest.Commit || p["bytes"] != p["fetched_bytes"] || p["bytes"] == 0.0 || stderr != "" {
		t.Errorf("standard output %s, standard error %q", stdout, stderr)
	}
	for _, left := range []string{".gitattributes", "all-in-one.ckpt"} {
		if _, err := os.Stat(filepath.Join(dir, left)); err == nil {
			t.Errorf("%s was taken", left)
		}
	}
	if code, stdout, stderr := invoke(t, "model", "inspect", "some-one/avatars", "--json"); code != exitOK || !strings.Contains(stdout, `"class": "UNet2DModel"`) {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	if code, _, stderr := invoke(t, "sample", "--model", "some-one/avatars", "--num-images", "1", "--steps", "1", "--device", "cpu", "--out", t.TempDir()); code != exitOK {
		t.Errorf("exit code %d: %s", code, stderr)
	}

	// Again: everything is there. Said to a person.
	code, stdout, stderr = invoke(t, "model", "pull", "some-one/avatars")
	if code != exitOK || !strings.HasPrefix(stdout, "nothing fetched, all ") || !strings.HasSuffix(stdout, "sdo model inspect some-one/avatars says what it is and what it needs\n") || !strings.Contains(stderr, "some-one/avatars at 0123456789ab: ") {
		t.Errorf("exit code %d: standard output %q, standard error %q", code, stdout, stderr)
	}
	// Elsewhere, and everything.
	to := filepath.Join(t.TempDir(), "here")
	code, stdout, stderr = invoke(t, "model", "pull", "some-one/avatars", "--all", "--to", to, "--revision", "v1.0", "--endpoint", s.URL)
	if _, err := os.Stat(filepath.Join(to, "all-in-one.ckpt")); code != exitOK || err != nil || !strings.Contains(stdout, "sdo model inspect "+to+" says") {
		t.Errorf("exit code %d: standard output %q, standard error %q, %v", code, stdout, stderr, err)
	}
}

func TestInterruptedPullGoesOn(t *testing.T) {
	s := hubOf(t)
	ctx, cancel := context.WithCancel(t.Context())
	file := ""
	for name := range s.Files {
		if strings.HasPrefix(name, "diffusion_pytorch_model") {
			file = name
		}
	}
	half := len(s.Files[file]) / 2
	s.Fault = func(w http.ResponseWriter, r *http.Request, name string) bool {
		if name != file {
			return false
		}
		w.Write(s.Files[file][:half])
		w.(http.Flusher).Flush()
		time.AfterFunc(200*time.Millisecond, cancel)
		<-r.Context().Done()
		return true
	}
	to := t.TempDir()
	code, stdout, stderr := invokeWith(ctx, "model", "pull", "some-one/avatars", "--to", to)
	if code != exitInterrupted || stdout != "" || !strings.Contains(stderr, "interrupted; "+to+" holds what has come, and the same command goes on") {
		t.Errorf("exit code %d: standard output %q, standard error %q", code, stdout, stderr)
	}
	s.Fault = nil
	if code, _, stderr := invoke(t, "model", "pull", "some-one/avatars", "--to", to); code != exitOK {
		t.Fatal(stderr)
	}
	if requests := s.Requests(file); len(requests) != 2 || requests[1].Header.Get("Range") == "" {
		t.Errorf("%d requests; the last has no range", len(requests))
	}
}

func TestPullsThatCannotBe(t *testing.T) {
	s := hubOf(t)
	taken := filepath.Join(t.TempDir(), "taken")
	if err := os.WriteFile(taken, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	status := func(code int) func(http.ResponseWriter, *http.Request, string) bool {
		return func(w http.ResponseWriter, r *http.Request, name string) bool {
			w.WriteHeader(code)
			return true
		}
	}
	for _, tt := range []struct {
		name  string
		fault func(http.ResponseWriter, *http.Request, string) bool
		args  []string
		code  int
		want  string
	}{
		{"no name", nil, nil, exitUsage, "sdo model pull takes one OWNER/NAME, got 0"},
		{"half a name", nil, []string{"avatars"}, exitUsage, `model "avatars": expected OWNER/NAME`},
		{"address", nil, []string{"some-one/avatars", "--endpoint", "hub"}, exitUsage, `address "hub" of the hub: expected https://host or http://host`},
		{"no such model", nil, []string{"some-one/else"}, exitUsage, "there is no such model"},
		{"no such variant", nil, []string{"some-one/avatars", "--variant", "fp8"}, exitUsage, `some-one/avatars: nothing in it has a variant "fp8"`},
		{"variant of all", nil, []string{"some-one/avatars", "--variant", "fp8", "--all"}, exitUsage, "--all takes every file"},
		{"no revision", nil, []string{"some-one/avatars", "--revision", ""}, exitUsage, "expected a branch, a tag or a commit"},
		{"forbidden", status(403), []string{"some-one/avatars"}, exitUsage, "accept its conditions on its page"},
		{"broken hub", status(501), []string{"some-one/avatars"}, exitFailure, "the server answers 501 Not Implemented"},
		{"pipeline of another kind", func(w http.ResponseWriter, r *http.Request, name string) bool {
			s.Files["model_index.json"] = []byte(`{"_class_name": "StableDiffusionXLPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}`)
			return false
		}, []string{"some-one/avatars"}, exitUsage, "Stable Diffusion XL is not supported yet, want one of StableDiffusionPipeline, LatentConsistencyModelPipeline, DDPMPipeline, DDIMPipeline; --all downloads it all the same"},
		{"no folder", nil, []string{"some-one/avatars", "--to", taken}, exitUsage, "not a directory; give another folder with --to"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			delete(s.Files, "model_index.json")
			s.Fault = tt.fault
			code, stdout, stderr := invoke(t, append([]string{"model", "pull", "-q"}, tt.args...)...)
			if code != tt.code || stdout != "" || !strings.Contains(stderr, tt.want) || !strings.HasPrefix(stderr, "sdo: ") || strings.Count(strings.TrimSpace(stderr), "\n") > 1 {
				t.Errorf("exit code %d, want %d; standard output %q, standard error %q, want %q in it", code, tt.code, stdout, stderr, tt.want)
			}
		})
	}
}
