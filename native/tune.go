package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/native/report"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// Names of the files in the folder of a tuning, beside what report.WriteTuning
// and checkpoints write. An adapter is PEFT's folder and kohya-ss' file.
const (
	tuneLog    = "log.jsonl"
	tuneRecipe = "recipe.yaml"
	kohyaFile  = "lora_kohya.safetensors"
	peftFile   = "adapter_model.safetensors"
	tunedModel = "model" // a diffusers folder, where the network's own parameters were trained
)

// bareTuning is a recipe of which flags say everything but the adapter that is
// trained. Pictures are few, for who brings a model of a billion numbers.
const bareTuning = `version: 1
name: tune
variables: {parameters: {lora: {rank: 4, alpha: 4}}}
optimizer: {lr: 0.0005, max_grad_norm: 1}
guards: {latent_norm: none, early_stop: false}
tune: {batch_size: 1, accumulate: 4, eval_images: 4}
`

func (a *app) tune() *cobra.Command {
	out, restart := "", false
	cmd := &cobra.Command{
		Use:   "tune [RECIPE]",
		Short: "Train a model's parameters towards a recipe's objective, as a LoRA or its own",
		Long: `Train a model's parameters so that all its pictures do what the objective of a recipe
asks for, a YAML or JSON file or one of the built-in ones. Without a recipe, what is
asked for is given with --objective, as to sdo steer, and a LoRA of rank 4 is trained
on four pictures an update, one at a time. Every update is made on fresh noise. The
run logs and checkpoints into its folder; after Ctrl-C, or anything worse, the same
command continues it; --restart begins it anew. What it leaves is used with
sdo sample --lora FOLDER.

Recipes: ` + strings.Join(recipes.Tunings(), ", "),
		Example: `  sdo tune everyone-wears-glasses
  sdo sample --lora out/everyone-wears-glasses --lora-scale 0.7
  sdo tune blue-palette --updates 80 --set tune.batch_size=16
  sdo tune my-tuning.yaml --model sd15 --decoder taesd --memory-budget 8GiB
  sdo tune --model sd15 --prompt "a red fox" --clip clip-vit-base --objective aesthetic`,
		Args: optional("RECIPE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, files, err := a.recipeOf(args, cmd.Flags(), bareTuning, "tune")
			if err != nil {
				return err
			}
			m, err := engine.LoadModel(r, openFolder)
			if err != nil {
				return badInput(err)
			}
			o, err := planOptions(m, cmd.Flags())
			if err != nil {
				return err
			}
			plan, err := engine.NewTuningPlan(r, m, files, o)
			if err != nil {
				return badInput(err)
			}
			if out == "" {
				if out, err = folderOf(r.Name); err != nil {
					return err
				}
			}
			a.sayNotes(plan.Plan)
			t := &tuneRun{app: a, recipe: r, plan: plan, out: out, restart: restart}
			return t.run(cmd.Context())
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "`FOLDER` of the run (default out/NAME)")
	addObjective(cmd.Flags(), "tune")
	addRecipeFlags(cmd.Flags(), "updates", "steps", "seed", "model", "guidance-scale", "lr", "method", "freeze", "active", "bridge",
		"prompt", "negative-prompt", "height", "width", "decoder", "dtype", "clip")
	addBudget(cmd.Flags())
	addRestart(cmd.Flags(), &restart)
	return cmd
}

// tuneRun is one command's part of a tuning in a folder.
type tuneRun struct {
	*app
	recipe  *recipes.Recipe
	plan    *engine.TuningPlan
	out     string
	restart bool // whatever the folder holds

	exec   graph.Executor
	why    string
	tuning *engine.Tuning
	log    *os.File
	lines  []report.TuningLine // of the log
	spent  float64             // seconds of the commands before
	start  time.Time           // of this one's updates
}

func (t *tuneRun) path(name string) string { return filepath.Join(t.out, name) }

func (t *tuneRun) run(ctx context.Context) error {
	if err := report.Ready(t.out, 4*4*int64(t.plan.Trained())); err != nil { // values, two moments and what is published
		return usageError{err}
	}
	tensors, metadata, err := readCheckpoint(t.out, "tuning", t.recipe, t.restart)
	if err != nil {
		return usageError{err}
	}
	if t.exec, t.why, err = t.openDevice(ctx, callProbe(t.plan.Plan)); err != nil {
		return err
	}
	defer t.exec.Close()
	if t.plan, err = t.plan.For(t.exec); err != nil {
		return badInput(err)
	}
	memory := t.plan.Memory(t.exec)
	r := t.recipe
	t.say("%s: %s of %d fresh pictures, %d steps, %d numbers to train", r.Name, noun(r.Updates, "update"),
		r.Tune.BatchSize*r.Tune.Accumulate, r.Sampler.NumInferenceSteps, t.plan.Trained())
	t.sayMemory(t.plan.Plan, t.exec, t.why, memory)
	if err := fits(t.exec, memory.Total()); err != nil {
		return err
	}
	bar, observe := t.lookDisplay("first look")
	t.tuning, err = engine.NewTuning(ctx, t.exec, t.plan, observe)
	bar.end()
	if err != nil {
		if interrupted(ctx, err) {
			t.say("interrupted before the first update; there is nothing to save")
			return errInterrupted
		}
		return err
	}
	defer t.tuning.Close()
	t.exec.ResetPeak()
	if tensors != nil {
		if err := t.tuning.Restore(ctx, tensors, metadata); err != nil {
			return usageError{fmt.Errorf("%s: %w; begin anew with --restart", t.path(checkpointFile), err)}
		}
		t.say("continues after %s", noun(t.tuning.Update(), "update"))
	}
	if t.restart {
		if err := discardCheckpoint(t.out); err != nil {
			return err
		}
	}
	if err := t.openLog(); err != nil {
		return err
	}
	defer t.log.Close()
	if err := writeText(t.path(tuneRecipe), r.Canonical()); err != nil {
		return err
	}
	t.start = time.Now()
	if len(t.lines) == 0 {
		if err := t.write(report.TuningLine{HeldOut: t.look(t.tuning.Before())}); err != nil {
			return err
		}
	}
	if err := t.train(ctx); err != nil {
		return err
	}
	// A finished training is written down whatever comes.
	return t.finish(context.WithoutCancel(ctx))
}

// train makes the updates that are left. A cancelled context saves a checkpoint.
func (t *tuneRun) train(ctx context.Context) error {
	r := t.recipe
	work := func(from, to int) (steps int) { // of the updates from, from+1, ... up to to
		for u := from + 1; u <= to; u++ {
			if steps += t.plan.UpdateSteps(); t.plan.Looked(u) {
				steps += t.plan.LookSteps()
			}
		}
		return steps
	}
	begun := t.tuning.Update()
	bar := t.newDisplay(max(1, work(begun, r.Updates)), "steps")
	defer bar.end()
	looking := false
	t.tuning.Observe(func(e sdo.Event) {
		switch e.Kind {
		case sdo.EventUpdate:
			looking = true
		case sdo.EventStep:
			bar.set(min(bar.done+1, bar.total), t.label(e, looking))
		}
	})
	for !t.tuning.Done() {
		looking = false
		e, look, err := t.tuning.Step(ctx)
		if interrupted(ctx, err) {
			if err := t.save(ctx); err != nil {
				return err
			}
			bar.end()
			t.say("interrupted after %s; %s holds a checkpoint, and %s continues from it", noun(t.tuning.Update(), "update"), t.out, toContinue(t.restart))
			return errInterrupted
		}
		if err != nil {
			return err
		}
		line := report.TuningLine{Update: e.Update, Loss: mean(e.Losses), GradNorm: e.GradNorm}
		if look != nil {
			line.HeldOut = t.look(look)
		}
		if err := t.write(line); err != nil {
			return err
		}
		bar.set(work(begun, e.Update), t.label(e, false))
		if e.Update%r.Tune.CheckpointEvery == 0 || t.tuning.Done() {
			if err := t.save(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// lookDisplay shows a look at the held-out pictures by itself.
func (t *tuneRun) lookDisplay(name string) (*display, sdo.Observer) {
	bar := t.newDisplay(t.plan.LookSteps(), "steps")
	return bar, func(e sdo.Event) {
		if e.Kind == sdo.EventStep {
			bar.set(min(bar.done+1, bar.total), fmt.Sprintf("%s, step %*d/%d", name, len(fmt.Sprint(e.Steps)), e.Step, e.Steps))
		}
	}
}

// interrupted reports whether an error is no more than the end of the context.
func interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, ctx.Err())
}

// label says where the tuning stands: what is made, the loss of the latest update
// and what the latest look saw.
func (t *tuneRun) label(e sdo.Event, looking bool) string {
	update := e.Update
	if e.Kind == sdo.EventStep && !looking {
		update++ // the one that is being made
	}
	s := fmt.Sprintf("update %*d/%d", len(fmt.Sprint(t.recipe.Updates)), update, t.recipe.Updates)
	if looking {
		s = "look after " + s
	}
	if e.Kind == sdo.EventStep {
		s += fmt.Sprintf(", step %*d/%d", len(fmt.Sprint(e.Steps)), e.Step, e.Steps)
	}
	if latest := t.lines[len(t.lines)-1]; latest.Update > 0 {
		s += fmt.Sprintf(", loss %.4f", latest.Loss)
	}
	for _, line := range slices.Backward(t.lines) {
		if look := line.HeldOut; look != nil {
			if look.Judge != nil {
				s += fmt.Sprintf(", judge %.0f %%", 100**look.Judge)
			}
			return s + fmt.Sprintf(", drift %.2f", look.Drift)
		}
	}
	return s
}

// look is an evaluation as the log and the report hold it.
func (t *tuneRun) look(e *engine.Evaluation) *report.Look {
	l := &report.Look{Update: e.Update, Loss: e.Loss, Drift: e.Drift, Approved: e.Approved, Images: e.Images}
	if e.Approved != nil {
		share := e.Success()
		l.Judge = &share
	}
	for _, a := range e.Attributes {
		l.Attributes = append(l.Attributes, report.Shares{Attribute: a.Name, Values: a.Values, Shares: a.Shares, Shift: a.Shift})
	}
	return l
}

func (t *tuneRun) seconds() float64 { return t.spent + time.Since(t.start).Seconds() }

// write appends a line to the log.
func (t *tuneRun) write(line report.TuningLine) error {
	line.Seconds, line.Device = t.seconds(), t.exec.Device().Name
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	t.lines = append(t.lines, line)
	_, err = t.log.Write(append(text, '\n'))
	return err
}

// openLog reads the lines of the updates that the checkpoint has, drops those
// after it, which will be made again, and opens the log for the next.
func (t *tuneRun) openLog() error {
	var kept bytes.Buffer
	if old, err := os.Open(t.path(tuneLog)); err == nil && t.tuning.Update() > 0 {
		lines := bufio.NewScanner(old)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var line report.TuningLine
			if json.Unmarshal(lines.Bytes(), &line) != nil || line.Update > t.tuning.Update() {
				break
			}
			kept.Write(append(lines.Bytes(), '\n'))
			t.lines, t.spent = append(t.lines, line), line.Seconds
		}
		old.Close()
	}
	if err := writeText(t.path(tuneLog), kept.Bytes()); err != nil {
		return err
	}
	var err error
	t.log, err = os.OpenFile(t.path(tuneLog), os.O_APPEND|os.O_WRONLY, 0o644)
	return err
}

// save replaces the checkpoint in one move: a run that is killed at any moment
// leaves the one before or this one.
func (t *tuneRun) save(ctx context.Context) error {
	tensors, metadata, err := t.tuning.Checkpoint(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	metadata[metadataRecipe] = string(t.recipe.Canonical())
	if err := model.SaveSafetensors(t.path(checkpointFile), tensors, model.F32, metadata); err != nil {
		return fmt.Errorf("checkpoint after %s: %w; what was there before is as it was, and %s continues", noun(t.tuning.Update(), "update"), err, toContinue(t.restart))
	}
	return nil
}

// finish writes what the tuning has come to, and tells.
func (t *tuneRun) finish(ctx context.Context) error {
	dtype := model.F16 // what an adapter is commonly published as
	lora := t.plan.Training.LoRA != nil
	if !lora {
		dtype = t.plan.Model.Stored
	}
	bar, observe := t.lookDisplay("last look")
	t.tuning.Observe(observe)
	tuned, err := t.tuning.Finish(ctx, dtype)
	bar.end()
	if err != nil {
		return err
	}
	size, file := int64(0), t.out
	if lora {
		adapter := t.tuning.LoRA(tuned)
		if err := adapter.SavePEFT(t.out, dtype); err != nil {
			return err
		}
		if err := adapter.SaveKohya(t.path(kohyaFile), dtype); err != nil {
			return err
		}
		file = t.path(peftFile)
	} else {
		if err := t.tuning.Save(tuned, t.path(tunedModel), dtype); err != nil {
			return err
		}
		file = t.path(tunedModel)
	}
	if info, err := os.Stat(file); err == nil && !info.IsDir() {
		size = info.Size()
	}
	pictures := t.plan.Pictures()
	run := &report.Tuning{
		Recipe: t.recipe, Device: t.exec.Device(), Why: t.why, Command: t.args, Program: program().Program, Started: t.start, Seconds: t.seconds(),
		Channels: pictures[1], Width: pictures[3], Height: pictures[2],
		JudgeLabel: t.tuning.JudgeLabel(), Log: t.lines, Before: t.look(t.tuning.Before()), After: t.look(tuned.Look),
		Stopped: string(t.tuning.Stopped()), Updates: t.tuning.Update(), Trained: t.plan.Trained(), File: file, Bytes: size,
		PlannedBytes: t.plan.Memory(t.exec).Activations, PeakBytes: t.exec.Usage().PeakActivations, Counters: t.tuning.Counters(),
	}
	if _, err := report.WriteTuning(t.out, run); err != nil {
		return err
	}
	if t.json {
		return json.NewEncoder(t.stdout).Encode(run.Summary())
	}
	t.tellTuned(run)
	return nil
}

func (t *tuneRun) tellTuned(run *report.Tuning) {
	line := func(key, format string, args ...any) {
		fmt.Fprintf(plainly{t.stdout}, "  %-10s%s\n", key, fmt.Sprintf(format, args...))
	}
	s := run.Summary()
	fmt.Fprintf(plainly{t.stdout}, "%s\n", s.Name)
	if s.JudgeAfter != nil {
		line("judge", "sees %s in %.0f %% of %d held-out pictures, before in %.0f %%", s.JudgeLabel, 100**s.JudgeAfter, t.recipe.Tune.EvalImages, 100**s.JudgeBefore)
	}
	line("loss", "%.4f, before %.4f", s.LossAfter, s.LossBefore)
	line("drift", "%.3f rms", s.Drift)
	var shifts []string
	for _, a := range run.After.Attributes {
		shifts = append(shifts, fmt.Sprintf("%s %.2f", a.Attribute, a.Shift))
	}
	if len(shifts) > 0 {
		line("shifts", "%s", strings.Join(shifts, ", "))
	}
	switch s.Stopped {
	case "":
		line("updates", "%d", s.Updates)
	case string(engine.StoppedDrift):
		line("updates", "%d, then the drift was above the limit of %g; kept is update %d", s.Updates, t.recipe.Guards.DriftLimit, s.Update)
	default:
		line("updates", "%d of %d, stopped early by the %s", s.Updates, t.recipe.Updates, s.Stopped)
	}
	line("cost", "%s, %s of activations (planned %s)", duration(s.Seconds), engine.Bytes(s.PeakBytes), engine.Bytes(s.PlannedBytes))
	if s.Bytes > 0 {
		line("trained", "%d numbers, %s: %s", s.Trained, engine.Bytes(s.Bytes), s.File)
	} else {
		line("trained", "%d numbers: %s", s.Trained, s.File)
	}
	line("look at", "%s", t.path("before-after.png"))
}

func writeText(path string, text []byte) error {
	return model.WriteFileAtomic(path, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}
