package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/native/report"
)

// tinyTuning is a tuning of seconds: what is tested here is the command line.
func tinyTuning(out string, args ...string) []string {
	return append([]string{"tune", "everyone-wears-glasses", "--device", "cpu", "--steps", "2", "--updates", "2", "--out", out,
		"--set", "tune.batch_size=1", "--set", "tune.eval_images=2", "--set", "tune.eval_every=2", "--set", "tune.checkpoint_every=2",
		"--set", "objective.0.copies=1", "--set", "variables.parameters.lora.rank=1"}, args...)
}

// tunedFolder is the folder of a finished tiny tuning.
func tunedFolder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tuned")
	if code, _, stderr := invoke(t, tinyTuning(dir, "-q")...); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	return dir
}

// tinyModel is a diffusers folder of another network.
func tinyModel(t *testing.T) string {
	t.Helper()
	unet, err := model.LoadUNet2D(os.DirFS("../model/testdata/unet2d-attention"))
	if err != nil {
		t.Fatal(err)
	}
	builtin, err := engine.OpenBuiltin("avatars-16-s")
	if err != nil {
		t.Fatal(err)
	}
	avatars, err := model.LoadUNet2D(builtin)
	if err != nil {
		t.Fatal(err)
	}
	unet.Scheduler = avatars.Scheduler
	dir := filepath.Join(t.TempDir(), "tiny")
	if err := unet.Save(dir, model.F32); err != nil {
		t.Fatal(err)
	}
	return dir
}

// results are the files that must not depend on how a tuning was interrupted.
var results = []string{"adapter_model.safetensors", "adapter_config.json", "lora_kohya.safetensors", "checkpoint.safetensors", "before-after.png", "curve.png", "recipe.yaml"}

func wantSameResults(t *testing.T, got, want string, names ...string) {
	t.Helper()
	for _, name := range names {
		a, err := os.ReadFile(filepath.Join(got, name))
		b, wantErr := os.ReadFile(filepath.Join(want, name))
		if err != nil || wantErr != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs: %v, %v", name, err, wantErr)
		}
	}
}

// logged reads log.jsonl without what depends on the clock.
func logged(t *testing.T, dir string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "log.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var l report.TuningLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		l.Seconds = 0
		plain, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(plain))
	}
	return lines
}

func TestTuneLeavesTheFolderAndEndsWithOneObject(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	code, stdout, stderr := invoke(t, tinyTuning(dir, "--json")...)
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var s report.TuningSummary
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatalf("standard output is not one object: %v\n%s", err, stdout)
	}
	if s.Updates != 2 || s.Update != 2 || s.JudgeAfter == nil || s.JudgeLabel != "glasses: dark" || len(s.Shift) != 10 || s.Bytes == 0 || s.Trained == 0 {
		t.Errorf("summary %s", stdout)
	}
	if s.PlannedBytes != s.PeakBytes {
		t.Errorf("planned %d bytes of activations, measured %d", s.PlannedBytes, s.PeakBytes)
	}
	for _, name := range append(results, "run.json") {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if lines := logged(t, dir); len(lines) != 3 || !strings.Contains(lines[0], `"held_out":{"update":0`) || !strings.Contains(lines[2], `"held_out":{"update":2`) {
		t.Errorf("log %q", lines)
	}
	// The same command again finds it done and leaves the same.
	again := filepath.Join(t.TempDir(), "again")
	if err := os.CopyFS(again, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := invoke(t, tinyTuning(again)...); code != exitOK || !strings.Contains(stderr, "continues after 2 updates") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	wantSameResults(t, again, dir, results...)
	// Its adapter is known and used under either name.
	for lora, naming := range map[string]string{dir: "peft", filepath.Join(dir, kohyaFile): "kohya"} {
		var i loraInspection
		if code, stdout, stderr := invoke(t, "model", "inspect", lora, "--json"); code != exitOK || json.Unmarshal([]byte(stdout), &i) != nil ||
			i.Naming != naming || i.Rank != 1 || *i.Alpha != 3 || i.Parameters != s.Trained || len(i.Modules) != 51 || i.Stored != "F16" {
			t.Errorf("inspect: exit code %d, %s%s", code, stdout, stderr)
		}
		if code, _, stderr := invoke(t, "sample", "--device", "cpu", "--num-images", "1", "--steps", "1", "-q", "--lora", lora, "--lora-scale", "0.5", "--out", t.TempDir()); code != exitOK {
			t.Errorf("exit code %d: %s", code, stderr)
		}
		if code, _, stderr := invoke(t, append([]string{"steer", "dark-glasses", "-q", "--lora", lora, "--out", t.TempDir()}, small...)...); code != exitOK {
			t.Errorf("exit code %d: %s", code, stderr)
		}
	}
}

// Updates may be added to a finished tuning; what comes of it is what the longer
// one would have come to.
func TestTuneGoesOnWithMoreUpdates(t *testing.T) {
	dir, whole := tunedFolder(t), filepath.Join(t.TempDir(), "whole")
	for _, out := range []string{dir, whole} {
		if code, _, stderr := invoke(t, tinyTuning(out, "-q", "--updates", "4")...); code != exitOK {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
	}
	wantSameResults(t, dir, whole, results...)
}

// --restart begins in a folder what another recipe has left there.
func TestTuneRestarts(t *testing.T) {
	dir, whole := tunedFolder(t), filepath.Join(t.TempDir(), "whole")
	if code, _, stderr := invoke(t, tinyTuning(dir, "-q", "--seed", "5")...); code != exitUsage || !strings.Contains(stderr, "or begin anew with --restart") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	for _, out := range []string{dir, whole} {
		if code, _, stderr := invoke(t, tinyTuning(out, "--seed", "5", "--restart")...); code != exitOK || strings.Contains(stderr, "continues") {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
	}
	wantSameResults(t, dir, whole, results...)
	if got, want := logged(t, dir), logged(t, whole); !slices.Equal(got, want) {
		t.Errorf("log of %d lines, want the same %d", len(got), len(want))
	}
}

// Parameters of the network itself are left as a model that opens.
func TestTuneOfSelectedParameters(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	recipe := filepath.Join(t.TempDir(), "select.yaml")
	text := `{version: 1, name: select, variables: {parameters: {select: ["conv_out.*"]}}, objective: [{term: total_variation}],
		sampler: {num_inference_steps: 2}, updates: 1, tune: {batch_size: 1, eval_images: 1}}`
	if err := os.WriteFile(recipe, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := invoke(t, "tune", recipe, "--device", "cpu", "-q", "--out", dir); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if code, _, stderr := invoke(t, "sample", "--device", "cpu", "--num-images", "1", "--steps", "1", "-q", "--model", filepath.Join(dir, tunedModel), "--out", t.TempDir()); code != exitOK {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// Ctrl-C saves a checkpoint, and the same command ends where a run that was never
// interrupted does.
func TestInterruptedTuneContinues(t *testing.T) {
	dir, whole := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "whole")
	tuning := func(out string, updates int) []string {
		return tinyTuning(out, "--updates", fmt.Sprint(updates), "--set", "tune.checkpoint_every=1000")
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, context.Canceled)
	defer cancel()
	code, stdout, stderr := invokeWith(ctx, tuning(dir, 10000)...)
	if code != exitInterrupted || stdout != "" || !strings.Contains(stderr, "interrupted") {
		t.Fatalf("exit code %d, standard output %q, standard error %q", code, stdout, stderr)
	}
	updates := 3
	if _, err := os.Stat(filepath.Join(dir, "log.jsonl")); err == nil { // else it was before the first look
		updates += len(logged(t, dir)) - 1
	}
	for _, out := range []string{dir, whole} {
		if code, _, stderr = invoke(t, tuning(out, updates)...); code != exitOK {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
	}
	wantSameResults(t, dir, whole, results...)
	if got, want := logged(t, dir), logged(t, whole); !slices.Equal(got, want) {
		t.Errorf("log of %d lines, want the same %d", len(got), len(want))
	}
}

// The program killed outright, at any moment, loses no more than the updates
// since its checkpoint.
func TestKilledTuneContinues(t *testing.T) {
	if os.Getenv("SDO_TEST_TUNE") != "" {
		os.Exit(run(t.Context(), tinyTuning(os.Getenv("SDO_TEST_TUNE"), "-q", "--updates", "12"), os.Stdout, os.Stderr))
	}
	whole, dir := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "run")
	args := func(out string) []string { return tinyTuning(out, "-q", "--updates", "12") }
	if code, _, stderr := invoke(t, args(whole)...); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, after := range []int{1, 4, 9} { // lines of the log, so once before any checkpoint
		victim := exec.Command(os.Args[0], "-test.run=^TestKilledTuneContinues$")
		victim.Env = append(os.Environ(), "SDO_TEST_TUNE="+dir)
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			text, _ := os.ReadFile(filepath.Join(dir, "log.jsonl"))
			if bytes.Count(text, []byte("\n")) >= after {
				break
			}
			if time.Now().After(deadline) {
				t.Error("the run makes no progress")
				break
			}
		}
		if err := victim.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := victim.Wait(); err == nil {
			t.Fatal("the run ended before it was killed")
		}
		if _, err := os.Stat(filepath.Join(dir, "run.json")); err == nil {
			t.Fatal("the run was complete before it was killed")
		}
	}
	if code, _, stderr := invoke(t, args(dir)...); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	wantSameResults(t, dir, whole, results...)
	if got, want := fmt.Sprint(logged(t, dir)), fmt.Sprint(logged(t, whole)); got != want {
		t.Errorf("log %s\nwant %s", got, want)
	}
}
