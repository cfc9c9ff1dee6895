package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/native/report"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

func (a *app) steer() *cobra.Command {
	out, restart := "", false
	cmd := &cobra.Command{
		Use:   "steer [RECIPE]",
		Short: "Steer pictures by a recipe, a file or one of the built-in ones",
		Long: `Steer pictures by a recipe, a YAML or JSON file or one of the built-in ones, whose
keys the flags override. Without a recipe, what the pictures are steered by is given
with --objective: a term's name, or the term as a recipe writes it,
'{term: clip_similarity, prompt: a red fox, weight: 2}'; a clip_similarity without a
prompt of its own is held to --prompt. Ctrl-C ends the run and saves the best so far;
after it, or anything worse, the same command continues the run; --restart begins
it anew.

Recipes: ` + strings.Join(recipes.List(), ", ") + `
Terms: ` + strings.Join(recipes.Terms, ", "),
		Example: `  sdo steer dark-glasses
  sdo steer happy-mood --num-images 8 --seed 5 --device cpu
  sdo recipes dark-glasses > mine.yaml && sdo steer mine.yaml
  sdo steer --model sd15 --prompt "a red fox" --clip clip-vit-base --objective clip_similarity --memory-budget 6GiB`,
		Args: optional("RECIPE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			plan, err := a.planFor(args, cmd)
			if err != nil {
				return err
			}
			if out == "" {
				if out, err = folderOf(plan.Recipe.Name); err != nil {
					return err
				}
			}
			a.sayNotes(plan)
			return a.steerInto(cmd.Context(), plan, out, restart)
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "output `FOLDER` (default out/NAME)")
	addObjective(cmd.Flags(), "steer")
	addRecipeFlags(cmd.Flags())
	addBudget(cmd.Flags())
	addRestart(cmd.Flags(), &restart)
	return cmd
}

// bareRecipe is a recipe of which flags say everything.
const bareRecipe = "version: 1\nname: steer\n"

// recipeOf reads the named recipe or, without a name, makes one of the flags on top
// of a bare one, for a command that is to do something by it.
func (a *app) recipeOf(args []string, flags *pflag.FlagSet, bare, do string) (*recipes.Recipe, fs.FS, error) {
	if len(args) == 1 {
		return findRecipe(args[0], flags)
	}
	if !flags.Changed("objective") {
		return nil, nil, usageError{fmt.Errorf("there is nothing to %s by; name a recipe, or give a term with --objective", do)}
	}
	list, err := overrides(flags)
	if err != nil {
		return nil, nil, err
	}
	r, err := recipes.Parse([]byte(bare), "the command line", append(a.promptDefaults(list), list...)...)
	return r, disk{}, badInput(err)
}

// addObjective registers the flag that says what a command does something by.
func addObjective(flags *pflag.FlagSet, do string) {
	flags.StringArray("objective", nil, fmt.Sprintf("`TERM` to %s by, in place of the recipe's; may be given several times", do))
}

// objective turns the terms of --objective into a recipe's list, under the prompt
// that flags say beside it.
func objective(flags *pflag.FlagSet, prompt string) (string, error) {
	terms, err := flags.GetStringArray("objective")
	if err != nil {
		return "", err
	}
	for i, term := range terms {
		if strings.HasPrefix(strings.TrimSpace(term), "{") {
			continue
		}
		terms[i] = "{term: " + quoted(term) + "}"
		if term == "clip_similarity" && prompt != "" {
			terms[i] = "{term: clip_similarity, prompt: " + quoted(prompt) + "}"
		}
	}
	return "[" + strings.Join(terms, ", ") + "]", nil
}

// planFor reads a recipe with the command's flags on top and plans it for its
// model; everything wrong with the input is found here.
func (a *app) planFor(args []string, cmd *cobra.Command) (*engine.Plan, error) {
	r, files, err := a.recipeOf(args, cmd.Flags(), bareRecipe, "steer")
	if err != nil {
		return nil, err
	}
	if _, tunes := r.Variables["parameters"]; tunes {
		return nil, usageError{fmt.Errorf("recipe %q: changes the model's parameters, which sdo steer would not keep; use sdo tune", r.Name)}
	}
	m, err := engine.LoadModel(r, openFolder)
	if err != nil {
		return nil, badInput(err)
	}
	o, err := planOptions(m, cmd.Flags())
	if err != nil {
		return nil, err
	}
	plan, err := engine.NewPlan(r, m, files, o)
	return plan, badInput(err)
}

// steerInto runs a plan and fills the output folder, also when it was
// interrupted or failed half way and there is something to save.
func (a *app) steerInto(ctx context.Context, plan *engine.Plan, out string, restart bool) error {
	r := plan.Recipe
	// Of latents, what is found and the seven vectors of a checkpoint.
	if err := report.Ready(out, (1+7)*4*int64(plan.Shape.Size())+8*int64(plan.Pictures().Size())); err != nil {
		return usageError{err}
	}
	keep, err := readSteering(out, r, restart)
	if err != nil {
		return usageError{err}
	}
	a.say("%s: %s, %d steps, up to %s", r.Name, noun(r.NumImages, "picture"), r.Sampler.NumInferenceSteps, noun(r.Updates, "update"))
	session, why, err := a.openSession(ctx, plan)
	if err != nil {
		return err
	}
	exec := session.Exec
	defer exec.Close()
	defer session.Close()
	plan = session.Plan
	exec.ResetPeak()

	pictures := plan.Pictures()
	run := &report.Run{
		Recipe: r, Device: exec.Device(), Why: why, Command: a.args, Program: program().Program, Started: time.Now(),
		Channels: pictures[1], Width: pictures[3], Height: pictures[2], PlannedBytes: plan.Memory(exec).Activations,
	}
	if plan.Model.Pipeline != nil {
		run.Latent = plan.Shape[1:]
	}
	if err := keep.discard(); err != nil {
		return err
	}
	done := 0
	if keep.resumes != nil {
		made := keep.resumes.Result.Updates
		a.say("continues after %s", noun(made, "update"))
		done = plan.Inversion() + made*plan.Calls()
	}
	bar := a.newDisplay(plan.Inversion()+(r.Updates+1)*plan.Calls(), "steps")
	bar.begin(done)
	show := bar.observe(plan.Inversion(), plan.Calls())
	var previewErr error
	running, over := keep.begin(ctx)
	defer over()
	run.Result, err = session.SteerFrom(running, keep.resumes, func(e sdo.Event) {
		show(e)
		if err := keepFrame(ctx, run, session, e, keep.resumes == nil); err != nil && previewErr == nil {
			previewErr = err
		}
		keep.observe(e)
	})
	bar.end()
	run.Seconds = keep.seconds()
	run.PeakBytes = exec.Usage().PeakActivations
	err = keep.ended(err, run.Result != nil && run.Result.Cancelled)
	if run.Result == nil {
		if errors.Is(err, context.Canceled) {
			goesOn := keep.goesOn()
			if goesOn == "" {
				goesOn = "; there is nothing to save"
			}
			a.say("interrupted before the first pictures%s", goesOn)
			return errInterrupted
		}
		return err
	}
	if run.Result.Samples == nil {
		if kept := report.Keep(out, run); kept != nil {
			return errors.Join(err, kept)
		}
		return fmt.Errorf("%w; what was found is in %s", err, filepath.Join(out, report.VariablesFile))
	}
	if err == nil && !run.Result.Cancelled {
		err = errors.Join(previewErr, keep.failed())
	}
	if err == nil {
		err = judge(context.WithoutCancel(ctx), session, run)
	}
	if err == nil && keep.resumes != nil {
		err = beginFilm(run)
	}
	if ended := a.finish(run, out, keep.goesOn()); err != nil || ended != nil {
		return errors.Join(err, ended)
	}
	return keep.remove()
}

// openSession makes a plan ready on the device that it runs on, and tells what the
// run takes there. Whoever gets it closes it and its executor.
func (a *app) openSession(ctx context.Context, plan *engine.Plan) (session *engine.Session, why string, err error) {
	exec, why, err := a.openDevice(ctx, callProbe(plan))
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			exec.Close()
		}
	}()
	if plan, err = plan.For(exec); err != nil {
		return nil, "", badInput(err)
	}
	memory := plan.Memory(exec)
	a.sayMemory(plan, exec, why, memory)
	if err := fits(exec, memory.Total()); err != nil {
		return nil, "", err
	}
	session, err = engine.NewSession(exec, plan)
	return session, why, err
}

// beginFilm puts what the first command of a continued run began with before the
// updates of this one.
func beginFilm(run *report.Run) error {
	if len(run.Updates) == 0 || run.Updates[0].At == 0 {
		return nil
	}
	first, err := run.Frame(0, run.Result.Before)
	run.Updates = append([]report.Frame{first}, run.Updates...)
	return err
}

// keepFrame keeps the pictures of every update, and of every step of a rollout
// before any, which first may be, unless looking at it takes longer than making
// it, for the film and the page. A run that was cancelled meanwhile keeps what it
// has.
func keepFrame(ctx context.Context, run *report.Run, session *engine.Session, e sdo.Event, first bool) error {
	update := e.Kind == sdo.EventUpdate && run.Films(e.Update)
	if !update && (e.Kind != sdo.EventStep || !first || len(run.Updates) > 0 || !session.Cheap()) {
		return nil
	}
	images, err := session.Look(ctx, e.State)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("preview: %w", err)
	}
	if update {
		frame, err := run.Frame(e.Update, images)
		if err == nil {
			run.Keep(frame)
		}
		return err
	}
	frame, err := run.Frame(e.Step, images)
	if err == nil {
		run.Steps = append(run.Steps, frame)
	}
	return err
}

// judge asks the classifier that took no part about the pictures before and
// after.
func judge(ctx context.Context, session *engine.Session, run *report.Run) error {
	before, err := session.Verdicts(ctx, run.Result.Before)
	if err != nil || before == nil {
		return err
	}
	after, err := session.Verdicts(ctx, run.Result.Samples)
	if err != nil {
		return err
	}
	run.Judge = &report.Judge{
		Label: session.JudgeLabel(), Before: before, After: after,
		Stopped: run.Recipe.Guards.EarlyStop == recipes.StopJudge,
	}
	return nil
}

// finish writes the folder, tells the result and says how the run ended, and how
// it goes on.
func (a *app) finish(run *report.Run, out, goesOn string) error {
	if _, err := report.Write(out, run); err != nil {
		return err
	}
	s := run.Summary()
	if a.json {
		if err := json.NewEncoder(a.stdout).Encode(s); err != nil {
			return err
		}
	} else {
		tell(a, run, s, out)
	}
	if s.Interrupted {
		a.say("interrupted; the best so far is saved%s", goesOn)
		return errInterrupted
	}
	return nil
}

func tell(a *app, run *report.Run, s report.Summary, out string) {
	line := func(key, format string, args ...any) {
		fmt.Fprintf(plainly{a.stdout}, "  %-10s%s\n", key, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(plainly{a.stdout}, "%s\n", s.Name)
	if s.JudgeAfter != nil {
		stopped := ""
		if run.Judge.Stopped {
			stopped = "; it decided when to stop, so this is no second opinion"
		}
		line("judge", "sees %s in %.0f %%, before in %.0f %%%s", s.JudgeLabel, 100**s.JudgeAfter, 100**s.JudgeBefore, stopped)
	}
	format := "%.4f, before %.4f"
	if s.LossBefore >= 1e6 {
		format = "%.4g, before %.4g"
	}
	line("loss", format, s.LossAfter, s.LossBefore)
	line("updates", "%.1f on average, at most %d", s.Updates, run.Result.Updates)
	line("drift", "%.3f rms, latent norm %.3f of noise", s.Drift, s.LatentNorm)
	if s.Drifted > 0 {
		where := ""
		if run.Latent != nil {
			where = " in latents"
		}
		line("guard", "%s left alone for moving further than %v%s", noun(s.Drifted, "picture"), run.Recipe.Guards.DriftLimit, where)
	}
	line("cost", "%s, %d network calls, %d backward, %s of activations (planned %s)", duration(s.Seconds),
		s.Counters.NetworkCalls, s.Counters.BackwardCalls, engine.Bytes(s.PeakBytes), engine.Bytes(s.PlannedBytes))
	line("look at", "%s", filepath.Join(out, "report.html"))
}

// sayNotes tells what was put in place of something, and which texts are longer
// than what reads them.
func (a *app) sayNotes(plan *engine.Plan) {
	for _, sentence := range append(a.notes, plan.Unread()...) {
		a.say("%s", sentence)
	}
	a.notes = nil
}

// folderOf is where a run leaves its files if nothing else is said: below out, by
// the recipe's name, which may be a stranger's.
func folderOf(name string) (string, error) {
	if !filepath.IsLocal(name) {
		return "", usageError{fmt.Errorf("recipe %q: name leads out of the folder out; give a folder with --out", name)}
	}
	return filepath.Join("out", name), nil
}

// sayMemory tells what a plan takes on a device, and what it computes twice to
// stay within a budget.
func (a *app) sayMemory(plan *engine.Plan, exec graph.Executor, why string, m engine.Memory) {
	a.say("on %s: %s; needs %s: %s weights, %s activations, %s states", describe(exec.Device()), why,
		engine.Bytes(m.Total()), engine.Bytes(m.Params), engine.Bytes(m.Activations), engine.Bytes(m.States))
	if again := plan.Recomputation(); len(again.Blocks) > 0 {
		a.say("to stay within %s, kept calls compute %s again, %.0f %% more work", engine.Bytes(plan.MemoryBudget), noun(len(again.Blocks), "block"), 100*again.Share)
	}
}

// slowToProbe is the size of weights beyond which loading a model twice takes
// longer than a probe could save.
const slowToProbe = 1 << 30

// callProbe times one network call of the plan's own model and batch; nil where
// the model is too large to try.
func callProbe(plan *engine.Plan) probe {
	if plan.Memory(nil).Params > slowToProbe {
		return nil
	}
	return func(ctx context.Context, exec graph.Executor) (float64, error) {
		r := plan.Recipe.Clone()
		r.Sampler.NumInferenceSteps, r.Objective, r.Updates, r.Start = 1, nil, 0, nil
		o := plan.PlanOptions
		o.MemoryBudget, o.Exec = 0, exec
		small, err := engine.NewPlan(r, plan.Model, nil, o)
		if err != nil {
			return 0, err
		}
		session, err := engine.NewSession(exec, small)
		if err != nil {
			return 0, err
		}
		defer session.Close()
		return engine.Fastest(700*time.Millisecond, func() error {
			_, err := session.Sample(ctx, nil)
			return err
		})
	}
}

func noun(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
