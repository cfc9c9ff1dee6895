package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/gif"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/gpu"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// tinySteering is a run of few numbers whose every guard and moment counts.
func tinySteering(out string, updates int, args ...string) []string {
	return append([]string{"steer", "dark-glasses", "--device", "cpu", "--num-images", "1", "--steps", "2", "--updates", fmt.Sprint(updates),
		"--set", "guards.early_stop=false", "--set", "guards.whiteness=project", "--set", "objective.0.copies=1", "--out", out}, args...)
}

// steered is what a folder's run came to, without what depends on how often it was
// begun.
type steered struct {
	Summary struct {
		Interrupted bool
		Seconds     float64
		JudgeBefore float64 `json:"judge_before"`
		JudgeAfter  float64 `json:"judge_after"`
		LossBefore  float64 `json:"loss_before"`
		LossAfter   float64 `json:"loss_after"`
		Planned     int64   `json:"activation_bytes_planned"`
		Measured    int64   `json:"activation_bytes_measured"`
	}
	Result sdo.Result
	Drift  []float64
}

func steeredIn(t *testing.T, dir string) (s steered) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "run.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	s.Result.Counters = sdo.Counters{}
	return s
}

// savedUpdate is the update that a folder's checkpoint is of, -1 where there is
// none.
func savedUpdate(dir string) int {
	tensors, metadata, err := model.LoadSafetensors(os.DirFS(dir), checkpointFile)
	if err != nil {
		return -1
	}
	state, err := engine.ReadState(tensors, metadata)
	if err != nil {
		return -1
	}
	return state.Result.Updates
}

// spend makes a checkpoint one of a command that took so many seconds.
func spend(t *testing.T, dir string, seconds int) {
	t.Helper()
	tensors, metadata, err := model.LoadSafetensors(os.DirFS(dir), checkpointFile)
	if err != nil {
		t.Fatal(err)
	}
	metadata[metadataSeconds] = fmt.Sprint(seconds)
	if err := model.SaveSafetensors(filepath.Join(dir, checkpointFile), tensors, model.F32, metadata); err != nil {
		t.Fatal(err)
	}
}

// wantSameSteering compares folders of finished runs to the last bit. Of the film
// and the page only the end is the same.
func wantSameSteering(t *testing.T, got, want string) {
	t.Helper()
	wantSameResults(t, got, want, "variables.safetensors", "before.png", "after.png", "loss.png")
	g, w := steeredIn(t, got), steeredIn(t, want)
	g.Summary.Seconds, w.Summary.Seconds = 0, 0
	if !reflect.DeepEqual(g, w) || w.Summary.Planned != w.Summary.Measured {
		t.Errorf("the run ends in %+v, want %+v", g.Summary, w.Summary)
	}
	for _, dir := range []string{got, want} {
		wantNoCheckpoint(t, dir)
	}
}

func wantNoCheckpoint(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	for _, f := range files {
		if strings.Contains(f.Name(), "checkpoint") {
			t.Errorf("%s is left", f.Name())
		}
	}
}

// interruptedSteering leaves a run that was ended by Ctrl-C after some updates.
func interruptedSteering(t *testing.T, dir string, args ...string) (made int) {
	t.Helper()
	often := keepEvery
	keepEvery = 0
	defer func() { keepEvery = often }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil && savedUpdate(dir) < 1 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	code, _, stderr := invokeWith(ctx, tinySteering(dir, 10000, args...)...)
	if code != exitInterrupted {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	made = savedUpdate(dir)
	if want := fmt.Sprintf("interrupted; the best so far is saved; %s holds a checkpoint, and the same command continues after %s", dir, noun(made, "update")); made < 1 || !strings.Contains(stderr, want) {
		t.Fatalf("standard error %q, want %q in it", stderr, want)
	}
	if s := steeredIn(t, dir); !s.Summary.Interrupted || len(s.Result.Losses) != made+1 {
		t.Errorf("the folder tells of %d losses, interrupted %v; the checkpoint is of update %d", len(s.Result.Losses), s.Summary.Interrupted, made)
	}
	return made
}

// Ctrl-C saves a checkpoint, and the same command ends where a run that was never
// interrupted does; so for other variables and from a picture.
func TestInterruptedSteerContinues(t *testing.T) {
	for name, args := range map[string][]string{
		"latents":   nil,
		"variables": {"--variables", "[latents, noises, condition, guidance_scale]", "--set", "sampler.eta=0.7", "--set", "guards.drift_limit=9"},
		"picture":   {"--set", "start={seed: 7, index: 3, strength: 0.6}", "--set", "guards.whiteness=none", "--method", "full", "--steps", "4"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, whole := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "whole")
			updates := 3 + interruptedSteering(t, dir, args...)
			spend(t, dir, 1000)
			code, _, stderr := invoke(t, tinySteering(dir, updates, args...)...)
			if code != exitOK || !strings.Contains(stderr, fmt.Sprintf("continues after %s\n", noun(updates-3, "update"))) {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			if seconds := steeredIn(t, dir).Summary.Seconds; seconds < 1000 {
				t.Errorf("the run is said to have taken %v s, the first command alone took 1000", seconds)
			}
			if code, _, stderr := invoke(t, tinySteering(whole, updates, args...)...); code != exitOK {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			wantSameSteering(t, dir, whole)
			// Its film begins with the pictures before any update, which are not looked
			// at step by step again, and goes on where the command did.
			if frames := filmed(t, dir); frames != 5 {
				t.Errorf("the film has %d frames, want those of updates 0 and %d to %d", frames, updates-3, updates)
			}
			for folder, want := range map[string]bool{dir: false, whole: true} {
				page, err := os.ReadFile(filepath.Join(folder, "report.html"))
				if got := strings.Contains(string(page), "The first look, step by step"); err != nil || got != want {
					t.Errorf("%v; the page shows a first look: %v, want %v", err, got, want)
				}
			}
			// A finished folder is no reason to do anything else: it is made anew.
			if code, _, stderr := invoke(t, tinySteering(dir, 1, "--seed", "5")...); code != exitOK || strings.Contains(stderr, "continues") {
				t.Errorf("exit code %d: %s", code, stderr)
			}
			if s := steeredIn(t, dir); len(s.Result.Losses) != 2 {
				t.Errorf("%d losses after a run of one update", len(s.Result.Losses))
			}
		})
	}
}

// The program killed outright, at any moment, loses no more than the updates
// since its checkpoint.
func TestKilledSteerContinues(t *testing.T) {
	const updates = 30
	if dir := os.Getenv("SDO_TEST_STEER"); dir != "" {
		keepEvery = 0
		os.Exit(run(t.Context(), tinySteering(dir, updates, "-q"), os.Stdout, os.Stderr))
	}
	args := func(out string) []string {
		return tinySteering(out, updates, "-q")
	}
	dir, whole := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "whole")
	if code, _, stderr := invoke(t, args(whole)...); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	last := -1
	for range 2 {
		victim := exec.Command(os.Args[0], "-test.run=^TestKilledSteerContinues$")
		victim.Env = append(os.Environ(), "SDO_TEST_STEER="+dir)
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		made := last
		for deadline := time.Now().Add(time.Minute); made <= last; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(filepath.Join(dir, checkpointFile)); err == nil {
				made = savedUpdate(dir)
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
		last = made
	}
	if _, err := os.Stat(filepath.Join(dir, "run.json")); err == nil {
		t.Fatal("the run was complete before it was killed")
	}
	if code, _, stderr := invoke(t, args(dir)...); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	wantSameSteering(t, dir, whole)
}

// A checkpoint is taken for what it is: that of one recipe, whole. What is refused
// stays as it was.
func TestSteerRefusesWhatItCannotContinue(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	made := interruptedSteering(t, dir)
	path := filepath.Join(dir, checkpointFile)
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tensors, metadata, err := model.LoadSafetensors(os.DirFS(dir), checkpointFile)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(tensors model.Weights, metadata map[string]string)) func() {
		return func() {
			tensors, metadata := maps.Clone(tensors), maps.Clone(metadata)
			change(tensors, metadata)
			if err := model.SaveSafetensors(path, tensors, model.F32, metadata); err != nil {
				t.Fatal(err)
			}
		}
	}
	for want, c := range map[string]struct {
		spoil func()
		args  []string
	}{
		`belongs to another recipe than "dark-glasses", which differs in "seed: 5"; give another folder with --out, or begin anew with --restart`: {nil, tinySteering(dir, 10000, "--seed", "5")},
		fmt.Sprintf("has made %s, the recipe wants %d; give another folder", noun(made, "update"), made-1):                                        {nil, tinySteering(dir, made-1)},
		"begin anew with --restart": {func() {
			if err := os.WriteFile(path, sound[:len(sound)/2], 0o644); err != nil {
				t.Fatal(err)
			}
		}, nil},
		"is no checkpoint of a steering; give another folder": {with(func(_ model.Weights, m map[string]string) { delete(m, metadataRecipe) }), nil},
		"the saved run cannot be read":                        {with(func(_ model.Weights, m map[string]string) { delete(m, "state") }), nil},
		"the state to resume from has 0 numbers of exp_avg/latents, want 768; it belongs to another run; begin anew with --restart": {
			with(func(w model.Weights, _ map[string]string) { delete(w, "exp_avg/latents") }), nil},
		"began with another latent in row 0": {with(func(w model.Weights, _ map[string]string) { w["start"] = w["best_sample"] }), nil},
	} {
		if c.spoil != nil {
			c.spoil()
		}
		if c.args == nil {
			c.args = tinySteering(dir, 10000)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := invoke(t, append(c.args, "-q")...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("exit code %d, standard error %q, want %q in it", code, stderr, want)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
			t.Errorf("%s: the refused checkpoint is not as it was: %v", want, err)
		}
		if err := os.WriteFile(path, sound, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// --restart needs none of it: whatever the checkpoint is of, and whole or not.
	for _, text := range [][]byte{sound, sound[:len(sound)/2]} {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := invoke(t, tinySteering(dir, 1, "--seed", "5", "--restart")...)
		if code != exitOK || strings.Contains(stderr, "continues") || len(steeredIn(t, dir).Result.Losses) != 2 {
			t.Errorf("exit code %d: %s", code, stderr)
		}
		wantNoCheckpoint(t, dir)
	}
	if err := os.WriteFile(path, sound, 0o644); err != nil {
		t.Fatal(err)
	}
	// A continuation that is interrupted before it has made anything leaves it, too.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code, _, stderr := invokeWith(ctx, tinySteering(dir, 10000)...)
	if after, err := os.ReadFile(path); code != exitInterrupted || err != nil || string(after) != string(sound) ||
		!strings.Contains(stderr, fmt.Sprintf("the same command continues after %s", noun(made, "update"))) {
		t.Errorf("exit code %d, %v, standard error %q", code, err, stderr)
	}
}

// filmed is how many frames a folder's film has.
func filmed(t *testing.T, dir string) int {
	t.Helper()
	file, err := os.Open(filepath.Join(dir, "progress.gif"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	film, err := gif.DecodeAll(file)
	if err != nil {
		t.Fatal(err)
	}
	return len(film.Image)
}

// A run whose device is lost leaves the latest update that was read; what cannot be
// written is told and ends nothing.
func TestSteerKeepsWhatItCan(t *testing.T) {
	r, err := recipes.Find("dark-glasses", nil)
	if err != nil {
		t.Fatal(err)
	}
	begin := func(dir string) *steerKeeper {
		k, err := readSteering(dir, r, false)
		if err != nil {
			t.Fatal(err)
		}
		_, over := k.begin(t.Context())
		t.Cleanup(over)
		k.observe(sdo.Event{Kind: sdo.EventUpdate, Update: 2, Save: func(context.Context) (*sdo.RunState, error) {
			return &sdo.RunState{Result: sdo.Result{Updates: 2}}, nil
		}})
		return k
	}
	dir := t.TempDir()
	k := begin(dir)
	wantNoCheckpoint(t, dir) // a run of seconds writes none
	lost := fmt.Errorf("read: %w", gpu.ErrLost)
	if err := k.ended(lost, false); !errors.Is(err, gpu.ErrLost) || !strings.HasSuffix(err.Error(), "; "+dir+" holds a checkpoint, and the same command continues after 2 updates") {
		t.Error(err)
	}
	k.restart = true
	if says := k.goesOn(); says != "; "+dir+" holds a checkpoint, and the same command without --restart continues after 2 updates" {
		t.Errorf("says %q", says)
	}
	if k, err := readSteering(dir, r, false); err != nil || k.resumes == nil || k.resumes.Result.Updates != 2 {
		t.Errorf("the state of a lost device is not there: %v", err)
	}
	gone := filepath.Join(dir, "gone")
	if k = begin(gone); k.ended(nil, true) != nil || !strings.HasPrefix(k.goesOn(), "; its checkpoint could not be written: write ") || strings.Contains(k.goesOn(), "continues") {
		t.Errorf("says %q", k.goesOn())
	}
}

// The end of the command's context waits for the next update where the latest was
// not read back, and for nothing else.
func TestSteerEndsWithWhatIsRead(t *testing.T) {
	r, err := recipes.Find("dark-glasses", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	k, err := readSteering(t.TempDir(), r, false)
	if err != nil {
		t.Fatal(err)
	}
	running, over := k.begin(ctx)
	defer over()
	event := func(u int) sdo.Event {
		return sdo.Event{Kind: sdo.EventUpdate, Update: u, Save: func(context.Context) (*sdo.RunState, error) {
			return &sdo.RunState{Result: sdo.Result{Updates: u}}, nil
		}}
	}
	k.observe(event(0))
	k.observe(event(1)) // too soon to be read
	stop()
	for k.mu.Lock(); !k.stopping; k.mu.Lock() {
		k.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	k.mu.Unlock()
	if running.Err() != nil || k.saver.State.Result.Updates != 0 {
		t.Errorf("the run ends with update %d read of 1: %v", k.saver.State.Result.Updates, running.Err())
	}
	k.observe(event(2))
	if running.Err() == nil || k.saver.State.Result.Updates != 2 {
		t.Errorf("the run goes on with update %d read", k.saver.State.Result.Updates)
	}
}
