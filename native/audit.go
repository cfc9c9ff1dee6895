package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/native/report"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
)

// auditPictures is how many pictures an audit's batch holds unless a flag says
// otherwise; a recipe's own number is meant for looking at.
const auditPictures = "8"

func (a *app) audit() *cobra.Command {
	var (
		out              string
		batches          int
		steps            []int
		methods, freezes []string
	)
	cmd := &cobra.Command{
		Use:   "audit RECIPE",
		Short: "How far one-step gradients agree with full back-propagation on your model and loss",
		Long: `Compare the gradient of the recipe's loss by sdo and identity with full
back-propagation's, picture by picture, at the start latent and at every later
state of the rollout: cosine, relative norm, share of pictures that would be
sent the wrong way, and what the kept call adds. Ctrl-C ends the audit and keeps
what is measured.`,
		Example: `  sdo audit dark-glasses
  sdo audit mine.yaml --steps 5,10,20 --batches 4 --methods sdo --freezes v`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if batches < 1 {
				return usageError{fmt.Errorf("--batches is %d, want 1 or more", batches)}
			}
			if pictures := cmd.Flags().Lookup("num-images"); !pictures.Changed {
				if err := cmd.Flags().Set(pictures.Name, auditPictures); err != nil {
					return err
				}
			}
			u := &auditor{app: a, batches: batches}
			for _, method := range methods {
				for _, freeze := range freezes {
					s := sdo.Setting{Method: sdo.Method(method), Freeze: sampler.Freeze(freeze)}
					if !slices.Contains(u.settings, s) {
						u.settings = append(u.settings, s)
					}
				}
			}
			if len(u.settings) == 0 {
				return usageError{errors.New("there is nothing to audit; give at least one of --methods and of --freezes")}
			}
			if err := u.plan(args[0], cmd, steps); err != nil {
				return err
			}
			if out == "" {
				out = filepath.Join("out", u.recipe.Name+"-audit")
			}
			return u.auditInto(cmd.Context(), out)
		},
	}
	addRecipeFlags(cmd.Flags(), "seed", "num-images", "model", "guidance-scale")
	cmd.Flags().Lookup("num-images").Usage = "pictures in a batch (default " + auditPictures + ")"
	cmd.Flags().IntVar(&batches, "batches", 1, "batches of fresh pictures")
	cmd.Flags().IntSliceVar(&steps, "steps", nil, "numbers of sampler steps (default the recipe's)")
	cmd.Flags().StringSliceVar(&methods, "methods", []string{"sdo", "identity"}, "sdo, identity")
	cmd.Flags().StringSliceVar(&freezes, "freezes", []string{"eps", "v"}, "eps, v, x0 or solver")
	cmd.Flags().StringVarP(&out, "out", "o", "", "output folder (default out/NAME-audit)")
	return cmd
}

// auditor is one invocation of audit.
type auditor struct {
	*app
	recipe   *recipes.Recipe
	plans    []*engine.Plan // by number of steps
	settings []sdo.Setting
	batches  int
}

// plan reads the recipe and plans it at every number of steps; everything
// wrong with the input is found here.
func (u *auditor) plan(name string, cmd *cobra.Command, steps []int) error {
	r, files, err := findRecipe(name, cmd.Flags())
	if err != nil {
		return err
	}
	u.recipe = r
	m, err := engine.LoadModel(r, openFolder)
	if err != nil {
		return badInput(err)
	}
	if len(steps) == 0 {
		steps = []int{r.Sampler.NumInferenceSteps}
	}
	slices.Sort(steps)
	for _, n := range slices.Compact(steps) {
		at := r.Clone()
		at.Sampler.NumInferenceSteps = n
		if err := at.Validate(); err != nil {
			return badInput(err)
		}
		plan, err := engine.NewAuditPlan(at, m, files, m.Storage(), u.settings)
		if err != nil {
			return badInput(err)
		}
		u.plans = append(u.plans, plan)
	}
	return nil
}

// auditInto measures every plan and fills the output folder, also when it was
// interrupted and something is measured.
func (u *auditor) auditInto(ctx context.Context, out string) error {
	r := u.recipe
	a := &report.Audit{Recipe: r, Command: u.args, Program: program().Program, Started: time.Now(), Batches: u.batches}
	exec, why, err := u.openDevice(ctx, callProbe(u.plans[0]))
	if err != nil {
		return err
	}
	defer exec.Close()
	a.Device, a.Why = exec.Device(), why
	batches := "1 batch"
	if u.batches > 1 {
		batches = fmt.Sprintf("%d batches", u.batches)
	}
	u.say("%s: %s of %s on %s: %s", r.Name, batches, noun(r.NumImages, "picture"), describe(a.Device), why)

	passes := 0 // a call forward, and two backward
	for _, plan := range u.plans {
		passes += 3 * plan.Recipe.Sampler.NumInferenceSteps * u.batches
	}
	bar := u.newDisplay(passes, "passes")
	done := 0
	for _, plan := range u.plans {
		var measured []sdo.Comparison
		measured, err = u.measure(ctx, exec, plan, func(label string, n int) {
			done += n
			bar.set(done, label)
		})
		a.Rows = append(a.Rows, auditRows(measured, plan.Recipe.Sampler.NumInferenceSteps, a.Device.Name)...)
		if err != nil {
			break
		}
	}
	bar.end()
	a.Seconds = time.Since(a.Started).Seconds()
	a.Interrupted = ctx.Err() != nil
	switch {
	case a.Interrupted && len(a.Rows) == 0:
		u.say("interrupted before the first comparison; there is nothing to save")
		return errInterrupted
	case err != nil && !a.Interrupted:
		return err
	case len(a.Rows) == 0:
		return fmt.Errorf("recipe %q: all %s satisfy the objective from the start, so there is no gradient to compare; try another --seed or more --batches",
			r.Name, noun(r.NumImages*u.batches, "picture"))
	}
	if _, err := report.WriteAudit(out, a); err != nil {
		return err
	}
	if u.json {
		if err := u.printJSON(a.Rows); err != nil {
			return err
		}
	} else {
		printAudit(u.app, a)
		fmt.Fprintf(u.stdout, "%s in %s: %s\n", noun(len(a.Rows), "row"), duration(a.Seconds), filepath.Join(out, "audit.png"))
	}
	if a.Interrupted {
		u.say("interrupted; what is measured is saved")
		return errInterrupted
	}
	return nil
}

// measure audits all batches at one number of steps. What was measured before
// an error comes with it.
func (u *auditor) measure(ctx context.Context, exec graph.Executor, plan *engine.Plan, advance func(label string, passes int)) ([]sdo.Comparison, error) {
	session, err := engine.NewSession(exec, plan)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	n := plan.Recipe.Sampler.NumInferenceSteps
	var all []sdo.Comparison
	for batch := range u.batches {
		label := fmt.Sprintf("%d steps, batch %d of %d", n, batch+1, u.batches)
		measured, err := session.Audit(ctx, batch*plan.Recipe.NumImages, u.settings, func(e sdo.Event) {
			switch e.Kind {
			case sdo.EventStep:
				advance(label, 1)
			case sdo.EventBackward:
				advance(label, 2)
			}
		})
		if all == nil {
			all = measured
		} else {
			for i, c := range measured {
				all[i].Add(c)
			}
		}
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// auditRows reduces comparisons to rows; one without pictures has none.
func auditRows(measured []sdo.Comparison, steps int, device string) []report.AuditRow {
	var rows []report.AuditRow
	for _, c := range measured {
		s, ok := c.Summary()
		if !ok {
			continue
		}
		rows = append(rows, report.AuditRow{
			Steps: steps, StepIndex: c.Step, Method: string(c.Method), Freeze: string(c.Freeze),
			CosineMean: s.CosineMean, CosineMin: s.CosineMin, RelativeNormMean: s.RelativeNormMean,
			NegativeShare: s.NegativeShare, KeptOverIdentity: s.KeptMean,
			Pictures: len(c.Pictures), LeftOut: c.LeftOut, Device: device,
		})
	}
	return rows
}

// printAudit prints about six states of every number of steps, first and last
// included; the files have all.
func printAudit(a *app, audit *report.Audit) {
	fmt.Fprintf(a.stdout, "%5s  %5s  %-9s %-7s%8s%8s%9s%10s%15s%12s\n",
		"steps", "index", "method", "freeze", "cosine", "lowest", "norm", "negative", "kept/identity", "pictures")
	previous := -1
	for _, r := range audit.Rows {
		if last := r.Steps - 1; r.StepIndex%max(1, (last+4)/5) != 0 && r.StepIndex != last {
			continue
		}
		if previous >= 0 && r.StepIndex != previous {
			fmt.Fprintln(a.stdout)
		}
		previous = r.StepIndex
		pictures := fmt.Sprint(r.Pictures)
		if r.LeftOut > 0 {
			pictures = fmt.Sprintf("%d of %d", r.Pictures, r.Pictures+r.LeftOut)
		}
		fmt.Fprintf(a.stdout, "%5d  %5d  %-9s %-7s%8.3f%8.3f%9.3g%8.0f %%%15.3g%12s\n",
			r.Steps, r.StepIndex, r.Method, r.Freeze, r.CosineMean, r.CosineMin, r.RelativeNormMean, 100*r.NegativeShare, r.KeptOverIdentity, pictures)
	}
}
