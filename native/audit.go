package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/native/report"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// auditPictures is how many pictures an audit's batch holds unless a flag says
// otherwise; a recipe's own number is meant for looking at.
const auditPictures = "8"

func (a *app) audit() *cobra.Command {
	var (
		out     string
		batches int
		steps   []int
		choose  = engine.DefaultAudit()
	)
	cmd := &cobra.Command{
		Use:   "audit RECIPE",
		Short: "How far one-step gradients agree with full back-propagation on your model and loss",
		Long: `Compare the gradients of the recipe's loss by one-step methods with full
back-propagation's: cosine, relative norm and share of the wrong way. Of the
latents it is picture by picture, at the start and at every later state of the
rollout; of the condition picture by picture, of the parameters batch by batch,
for every call that may be the kept one and for the rules that choose it. At the
end it says which freeze and which calls the numbers speak for. Ctrl-C ends the
audit and keeps what is measured.`,
		Example: `  sdo audit dark-glasses
  sdo audit mine.yaml --variables latents,condition --steps 5,10,20 --batches 4
  sdo audit dark-glasses --variables parameters --actives importance,last`,
		Args: one("RECIPE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if batches < 1 {
				return usageError{fmt.Errorf("--batches is %d, want 1 or more", batches)}
			}
			if pictures := cmd.Flags().Lookup("num-images"); !pictures.Changed {
				if err := cmd.Flags().Set(pictures.Name, auditPictures); err != nil {
					return err
				}
			}
			u := &auditor{app: a, choose: choose, batches: batches}
			if err := u.plan(args[0], cmd, steps); err != nil {
				return err
			}
			if out == "" {
				var err error
				if out, err = folderOf(u.recipe.Name + "-audit"); err != nil {
					return err
				}
			}
			return u.auditInto(cmd.Context(), out)
		},
	}
	addRecipeFlags(cmd.Flags(), "seed", "num-images", "model", "guidance-scale", "prompt", "negative-prompt", "height", "width", "decoder", "dtype", "clip")
	addBudget(cmd.Flags())
	cmd.Flags().Lookup("num-images").Usage = "pictures in a batch (default " + auditPictures + ")"
	cmd.Flags().IntVar(&batches, "batches", 1, "batches of fresh pictures")
	cmd.Flags().IntSliceVar(&steps, "steps", nil, "numbers of sampler steps (default the recipe's)")
	cmd.Flags().StringSliceVar(&choose.Variables, "variables", nil, "latents, condition, parameters (default the recipe's; parameters it does not name are a LoRA of rank 4)")
	cmd.Flags().StringSliceVar(&choose.Methods, "methods", choose.Methods, "sdo; identity, of latents; draft-K, of condition and parameters")
	cmd.Flags().StringSliceVar(&choose.Actives, "actives", choose.Actives, "which calls sdo keeps for condition and parameters")
	cmd.Flags().StringSliceVar(&choose.Freezes, "freezes", choose.Freezes, "eps, v, x0 or solver")
	cmd.Flags().StringVarP(&out, "out", "o", "", "output `FOLDER` (default out/NAME-audit)")
	return cmd
}

// auditor is one invocation of audit.
type auditor struct {
	*app
	recipe  *recipes.Recipe     // with the audited variables
	plans   []*engine.AuditPlan // by number of steps
	choose  engine.AuditChoice
	batches int
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
	o, err := planOptions(m, cmd.Flags())
	if err != nil {
		return err
	}
	variables := u.choose.Variables
	if len(variables) == 0 {
		for _, v := range []sdo.Variable{sdo.Latents, sdo.Condition, sdo.Parameters} {
			if _, ok := r.Variables[string(v)]; ok {
				variables = append(variables, string(v))
			}
		}
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
		settings := u.choose.Settings(variables, n)
		if len(settings) == 0 {
			return usageError{errors.New("there is nothing to audit; give at least one of --variables, of --methods that they have, of --freezes and of --actives")}
		}
		plan, err := engine.NewAuditPlan(at, m, files, o, settings)
		if err != nil {
			return badInput(err)
		}
		u.plans = append(u.plans, plan)
	}
	named := r.Variables
	u.recipe = r.Clone()
	u.recipe.Variables = u.plans[0].Recipe.Variables
	if _, ok := named[string(sdo.Parameters)]; !ok && slices.Contains(variables, string(sdo.Parameters)) {
		of := "every linear layer and convolution"
		if m.Pipeline != nil {
			of = "the projections of attention"
		}
		u.say("%s names no parameters; audited is a new LoRA of rank %d of %s", r.Name, engine.DefaultLoRA().Rank, of)
	}
	return nil
}

// auditInto measures every plan and fills the output folder, also when it was
// interrupted and something is measured.
func (u *auditor) auditInto(ctx context.Context, out string) error {
	if err := report.Ready(out, 0); err != nil {
		return usageError{err}
	}
	r := u.recipe
	a := &report.Audit{Recipe: r, Command: u.args, Program: program().Program, Started: time.Now(), Batches: u.batches}
	exec, why, err := u.openDevice(ctx, callProbe(u.plans[0].Plan))
	if err != nil {
		return err
	}
	defer exec.Close()
	a.Device, a.Why = exec.Device(), why
	batches := "1 batch"
	if u.batches > 1 {
		batches = fmt.Sprintf("%d batches", u.batches)
	}
	for i, plan := range u.plans {
		if u.plans[i], err = plan.For(exec); err != nil {
			return badInput(err)
		}
	}
	largest := slices.MaxFunc(u.plans, func(a, b *engine.AuditPlan) int { return cmp.Compare(a.Memory(exec).Total(), b.Memory(exec).Total()) })
	memory := largest.Memory(exec)
	u.say("%s: %s of %s on %s: %s; needs %s, %s of it activations", r.Name, batches, noun(r.NumImages, "picture"), describe(a.Device), why,
		engine.Bytes(memory.Total()), engine.Bytes(memory.Activations))
	if err := fits(exec, memory.Total()); err != nil {
		return err
	}

	passes := 0 // a call forward, and two backward
	for _, plan := range u.plans {
		passes += 3 * plan.Calls() * u.batches
	}
	bar := u.newDisplay(passes, "passes")
	done := 0
	for _, plan := range u.plans {
		var measured []sdo.Comparison
		measured, err = u.measure(ctx, exec, plan, func(label string, n int) {
			done += n
			bar.set(done, label)
		})
		n := plan.Recipe.Sampler.NumInferenceSteps
		a.Rows = append(a.Rows, auditRows(measured, n, r.NumImages, a.Device.Name)...)
		a.Advice = append(a.Advice, auditAdvice(measured, n)...)
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
	files, err := report.WriteAudit(out, a)
	if err != nil {
		return err
	}
	if u.json {
		if err := u.printJSON(a.Rows); err != nil {
			return err
		}
	} else {
		printAudit(u.app, a)
		fmt.Fprintf(u.stdout, "%s in %s: %s\n", noun(len(a.Rows), "row"), duration(a.Seconds), filepath.Join(out, files[0]))
	}
	if a.Interrupted {
		u.say("interrupted; what is measured is saved")
		return errInterrupted
	}
	return nil
}

// measure audits all batches at one number of steps. What was measured before
// an error comes with it.
func (u *auditor) measure(ctx context.Context, exec graph.Executor, plan *engine.AuditPlan, advance func(label string, passes int)) ([]sdo.Comparison, error) {
	session, err := engine.NewSession(exec, plan.Plan)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	n := plan.Recipe.Sampler.NumInferenceSteps
	var all []sdo.Comparison
	for batch := range u.batches {
		label := fmt.Sprintf("%d steps, batch %d of %d", n, batch+1, u.batches)
		measured, err := session.Audit(ctx, batch*plan.Recipe.NumImages, plan.Settings, func(e sdo.Event) {
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

// auditRows reduces comparisons to rows; one without units has none.
func auditRows(measured []sdo.Comparison, steps, pictures int, device string) []report.AuditRow {
	var rows []report.AuditRow
	for _, c := range measured {
		s, ok := c.Summary()
		if !ok {
			continue
		}
		row := report.AuditRow{
			Variable: string(c.Variable), Steps: steps, Method: string(c.Method), Active: string(c.Active), Freeze: string(c.Freeze),
			CosineMean: s.CosineMean, CosineMin: s.CosineMin, RelativeNormMean: s.RelativeNormMean,
			NegativeShare: s.NegativeShare, Pictures: len(c.Units), LeftOut: c.LeftOut, Device: device,
		}
		if c.Step != sdo.AllCalls {
			row.StepIndex = &c.Step
		}
		switch c.Variable {
		case sdo.Latents:
			row.KeptOverIdentity = &s.KeptMean
		case sdo.Parameters:
			row.Batches = len(c.Units)
			row.Pictures, row.LeftOut = pictures*len(c.Units), pictures*c.LeftOut
		}
		rows = append(rows, row)
	}
	return rows
}

// auditAdvice is what the numbers speak for at each variable.
func auditAdvice(measured []sdo.Comparison, steps int) (all []report.AuditAdvice) {
	for _, v := range []sdo.Variable{sdo.Latents, sdo.Condition, sdo.Parameters} {
		if advice, ok := sdo.Advise(v, measured); ok {
			all = append(all, report.AuditAdvice{
				Variable: string(v), Steps: steps, Freeze: string(advice.Freeze), Active: string(advice.Active), Says: advice.String(),
			})
		}
	}
	return all
}

// printAudit prints what a reader looks at first: of the latents about six
// states of every number of steps, first and last included; of condition and
// parameters the rules, and one call each of about six; the files have all.
func printAudit(a *app, audit *report.Audit) {
	for i, section := range audit.Sections() {
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		fmt.Fprintln(a.stdout, section.Title())
		if section.Variable == string(sdo.Latents) {
			printLatents(a.stdout, section)
		} else {
			printRules(a.stdout, section)
		}
	}
	fmt.Fprintln(a.stdout)
	for _, advice := range audit.Advice {
		steps := noun(advice.Steps, "step")
		fmt.Fprintf(a.stdout, "With %s, %s\n", steps, advice.Says)
	}
}

// shown reports whether a table shows this step index of so many.
func shown(index, count int) bool {
	last := count - 1
	return index%max(1, (last+4)/5) == 0 || index == last
}

func printLatents(w io.Writer, section report.AuditSection) {
	fmt.Fprintf(w, "%5s  %5s  %-9s %-7s%8s%8s%9s%10s%15s%12s\n",
		"steps", "index", "method", "freeze", "cosine", "lowest", "norm", "negative", "kept/identity", "pictures")
	previous := -1
	for _, r := range section.Rows {
		index := *r.StepIndex
		if !shown(index, section.Calls()) {
			continue
		}
		if previous >= 0 && index != previous {
			fmt.Fprintln(w)
		}
		previous = index
		fmt.Fprintf(w, "%5d  %5d  %-9s %-7s%8.3f%8.3f%9.3g%8.0f %%%15.3g%12s\n",
			r.Steps, index, r.Method, r.Freeze, r.CosineMean, r.CosineMin, r.RelativeNormMean, 100*r.NegativeShare, *r.KeptOverIdentity, compared(r))
	}
}

// printRules prints the rules and then, of the first one that draws, some of the
// calls it may draw: other rules that draw differ there in the length alone.
func printRules(w io.Writer, section report.AuditSection) {
	head := func(first string) {
		fmt.Fprintf(w, "%5s  %-12s %-7s%8s%8s%9s%10s%12s\n", "steps", first, "freeze", "cosine", "lowest", "norm", "negative", section.Unit())
	}
	line := func(first string, r report.AuditRow) {
		fmt.Fprintf(w, "%5d  %-12s %-7s%8.3f%8.3f%9.3g%8.0f %%%12s\n",
			r.Steps, first, r.Freeze, r.CosineMean, r.CosineMin, r.RelativeNormMean, 100*r.NegativeShare, compared(r))
	}
	head("active")
	for _, r := range section.Rules() {
		line(r.Rule(), r)
	}
	draws := section.Draws()
	if len(draws) == 0 {
		return
	}
	fmt.Fprintln(w)
	head("call alone")
	for _, r := range draws {
		if shown(*r.StepIndex, section.Calls()) {
			line(fmt.Sprint(*r.StepIndex), r)
		}
	}
}

// compared says how many units a row is of.
func compared(r report.AuditRow) string {
	units, left := r.Pictures, r.LeftOut
	if r.Batches > 0 {
		units, left = r.Batches, left*r.Batches/r.Pictures
	}
	if left > 0 {
		return fmt.Sprintf("%d of %d", units, units+left)
	}
	return fmt.Sprint(units)
}
