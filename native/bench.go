package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// memoryRow is one element of what `sdo bench memory --json` prints. Keys are
// stable.
type memoryRow struct {
	Method   string `json:"method"`
	Steps    int    `json:"steps"`
	Planned  int64  `json:"activation_bytes_planned"`
	Measured int64  `json:"activation_bytes_measured"`
	Device   string `json:"device"`
}

// updateRow is one element of what `sdo bench update --json` prints. Keys are
// stable.
type updateRow struct {
	Method        string  `json:"method"`
	Steps         int     `json:"steps"`
	NetworkCalls  int     `json:"network_calls"`
	BackwardCalls int     `json:"backward_calls"`
	Seconds       float64 `json:"seconds_median"`
	Theory        float64 `json:"theory_calls"` // cost in forward calls if a backward costs one
	Device        string  `json:"device"`
}

// bencher measures single updates of a recipe's problem.
type bencher struct {
	app    *app
	recipe *recipes.Recipe
	model  *engine.Model
	exec   graph.Executor
	why    string
}

func (a *app) bench() *cobra.Command {
	group := &cobra.Command{Use: "bench", Short: "Measure what an update costs, in bytes and seconds", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}

	memory := &cobra.Command{
		Use:   "memory [RECIPE]",
		Short: "Activation bytes of an update over the number of steps, planned and measured",
		Args:  optional("RECIPE"),
	}
	steps, images, methods := benchFlags(memory, []int{5, 10, 20, 50, 100}, 1, []string{"sdo", "full", "full-checkpoint", "identity"})
	memory.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withBencher(cmd.Context(), args, *images, *steps, *methods, func(b *bencher) error {
			rows, err := b.memory(cmd.Context(), *steps, *methods)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(rows)
			}
			printMemory(a, rows)
			return nil
		})
	}

	update := &cobra.Command{
		Use:   "update [RECIPE]",
		Short: "Network calls and wall time of an update, methods in turn, medians",
		Args:  optional("RECIPE"),
	}
	updateSteps, updateImages, updateMethods := benchFlags(update, []int{20}, 4, []string{"sdo", "full", "identity"})
	repeats := update.Flags().Int("repeats", 5, "updates timed of each")
	update.RunE = func(cmd *cobra.Command, args []string) error {
		if *repeats < 1 {
			return usageError{fmt.Errorf("--repeats is %d, want 1 or more", *repeats)}
		}
		return a.withBencher(cmd.Context(), args, *updateImages, *updateSteps, *updateMethods, func(b *bencher) error {
			rows, err := b.update(cmd.Context(), *updateSteps, *updateMethods, *repeats)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(rows)
			}
			printUpdate(a, rows)
			return nil
		})
	}
	group.AddCommand(memory, update, a.benchMethod())
	return group
}

func benchFlags(cmd *cobra.Command, steps []int, images int, methods []string) (*[]int, *int, *[]string) {
	return cmd.Flags().IntSlice("steps", steps, "numbers of sampler steps"),
		cmd.Flags().Int("num-images", images, "pictures at once"),
		cmd.Flags().StringSlice("methods", methods, "sdo, full, full-checkpoint, identity")
}

func (a *app) withBencher(ctx context.Context, args []string, images int, steps []int, methods []string, measure func(*bencher) error) error {
	name := "dark-glasses"
	if len(args) > 0 {
		name = args[0]
	}
	list := []recipes.Override{{Path: "num_images", Value: fmt.Sprint(images), From: "--num-images"}}
	r, err := recipes.Find(name, disk{}, list...)
	if err != nil {
		return badInput(err)
	}
	for _, n := range steps {
		for _, method := range methods {
			if _, err := recipes.Find(name, disk{}, append(list,
				recipes.Override{Path: "sampler.num_inference_steps", Value: fmt.Sprint(n), From: "--steps"},
				recipes.Override{Path: "method.name", Value: quoted(method), From: "--methods"})...); err != nil {
				return badInput(err)
			}
		}
	}
	b := &bencher{app: a, recipe: r}
	if b.model, err = engine.LoadModel(r, openFolder); err != nil {
		return badInput(err)
	}
	plan, err := b.plan("sdo", r.Sampler.NumInferenceSteps)
	if err != nil {
		return err
	}
	if b.exec, b.why, err = a.openDevice(ctx, callProbe(plan)); err != nil {
		return err
	}
	defer func() { b.exec.Close() }()
	a.say("%s, %s, on %s: %s", r.Name, noun(images, "picture"), describe(b.exec.Device()), b.why)
	return measure(b)
}

// plan is the recipe with another method and number of steps.
func (b *bencher) plan(method string, steps int) (*engine.Plan, error) {
	r := b.recipe.Clone()
	r.Method.Name, r.Sampler.NumInferenceSteps = method, steps
	if err := r.Validate(); err != nil {
		return nil, badInput(err)
	}
	plan, err := engine.NewPlan(r, b.model, disk{}, b.model.Options())
	return plan, badInput(err)
}

// trial is one update's worth of a method, ready to be repeated.
type trial struct {
	session *engine.Session
	chain   *sdo.Chain
	grad    graph.Tensor
}

func (b *bencher) trial(plan *engine.Plan) (*trial, error) {
	if err := fits(b.exec, plan.Memory(b.exec).Total()); err != nil {
		return nil, err
	}
	session, err := engine.NewSession(b.exec, plan)
	if err != nil {
		return nil, err
	}
	t := &trial{session: session}
	problem := session.Problem()
	surrogate, vary := plan.Surrogate()
	t.chain, err = sdo.NewChain(problem, surrogate, vary...)
	if err == nil {
		t.grad, err = b.exec.NewVector(problem.Rows * problem.Cols)
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// run makes one rollout and its gradient, and waits for both.
func (t *trial) run(ctx context.Context) error {
	if _, err := t.chain.Forward(ctx, sdo.Values{Latents: t.session.Problem().Start}, 0); err != nil {
		return err
	}
	if err := t.chain.Backward(ctx, sdo.Values{Latents: t.grad}); err != nil {
		return err
	}
	_, err := t.session.Exec.RowDots(ctx, t.grad, t.grad, 1)
	return err
}

func (t *trial) close() {
	if t.grad != nil {
		t.session.Exec.FreeVector(t.grad)
	}
	if t.chain != nil {
		t.chain.Free()
	}
	t.session.Close()
}

// renew opens the device again: an executor's arena only grows, and a method is
// not charged for what an earlier one needed.
func (b *bencher) renew(ctx context.Context) error {
	same := *b.app
	same.device = b.exec.Device().Kind
	exec, _, err := same.openDevice(ctx, nil)
	if err != nil {
		return err
	}
	b.exec.Close()
	b.exec = exec
	return nil
}

func (b *bencher) memory(ctx context.Context, steps []int, methods []string) ([]memoryRow, error) {
	var rows []memoryRow
	bar := b.app.newDisplay(len(steps)*len(methods), "measurements")
	defer bar.end()
	for _, n := range steps {
		for _, method := range methods {
			plan, err := b.plan(method, n)
			if err != nil {
				return nil, err
			}
			if err := b.renew(ctx); err != nil {
				return nil, err
			}
			t, err := b.trial(plan)
			if err != nil {
				return nil, err
			}
			b.exec.ResetPeak()
			err = t.run(ctx)
			measured := b.exec.Usage().PeakActivations
			t.close()
			if err != nil {
				return nil, err
			}
			rows = append(rows, memoryRow{method, n, plan.Memory(b.exec).Activations, measured, b.exec.Device().Name})
			bar.set(len(rows), fmt.Sprintf("%s, %d steps", method, n))
		}
	}
	return rows, nil
}

func (b *bencher) update(ctx context.Context, steps []int, methods []string, repeats int) ([]updateRow, error) {
	var rows []updateRow
	bar := b.app.newDisplay(len(steps)*len(methods)*(repeats+1), "updates")
	defer bar.end()
	done := 0
	for _, n := range steps {
		trials := make([]*trial, len(methods))
		defer func() {
			for _, t := range trials {
				if t != nil {
					t.close()
				}
			}
		}()
		seconds := make([][]float64, len(methods))
		first := len(rows)
		for repeat := range repeats + 1 {
			// Methods take turns, so that whatever else the machine does falls
			// on all of them. The first turn warms up and counts calls.
			for i, method := range methods {
				if repeat == 0 {
					plan, err := b.plan(method, n)
					if err != nil {
						return nil, err
					}
					if trials[i], err = b.trial(plan); err != nil {
						return nil, err
					}
				}
				start := time.Now()
				if err := trials[i].run(ctx); err != nil {
					return nil, err
				}
				took := time.Since(start).Seconds()
				if repeat == 0 {
					c := trials[i].chain.Counters()
					rows = append(rows, updateRow{Method: method, Steps: n, NetworkCalls: c.NetworkCalls,
						BackwardCalls: c.BackwardCalls, Theory: theory(method, trials[i].session.Calls()), Device: b.exec.Device().Name})
				} else {
					seconds[i] = append(seconds[i], took)
				}
				done++
				bar.set(done, fmt.Sprintf("%s, %d steps", method, n))
			}
		}
		for i := range methods {
			rows[first+i].Seconds = median(seconds[i])
		}
	}
	return rows, nil
}

// theory is the cost of one latent update in forward calls, a backward to the
// input counted as one more (docs/method.md): no weight gradients are taken.
// calls is how many a rollout makes.
func theory(method string, calls int) float64 {
	n := float64(calls)
	switch method {
	case "sdo":
		return n + 1
	case "full":
		return 2 * n
	case "full-checkpoint":
		return 3 * n
	}
	return n
}

func median(xs []float64) float64 {
	s := slices.Sorted(slices.Values(xs))
	n := len(s)
	if n == 0 {
		return math.NaN()
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}

func printMemory(a *app, rows []memoryRow) {
	fmt.Fprintf(a.stdout, "%-17s%7s%14s%14s\n", "method", "steps", "planned", "measured")
	for _, r := range rows {
		fmt.Fprintf(a.stdout, "%-17s%7d%14s%14s\n", r.Method, r.Steps, engine.Bytes(r.Planned), engine.Bytes(r.Measured))
	}
}

func printUpdate(a *app, rows []updateRow) {
	fmt.Fprintf(a.stdout, "%-17s%7s%10s%10s%12s%12s%10s\n", "method", "steps", "calls", "backward", "median", "against sdo", "in theory")
	for _, r := range rows {
		against, expected := "", ""
		for _, base := range rows {
			if base.Method == "sdo" && base.Steps == r.Steps {
				against = fmt.Sprintf("%.2f x", r.Seconds/base.Seconds)
				expected = fmt.Sprintf("%.2f x", r.Theory/base.Theory)
			}
		}
		fmt.Fprintf(a.stdout, "%-17s%7d%10d%10d%12s%12s%10s\n", r.Method, r.Steps, r.NetworkCalls, r.BackwardCalls, duration(r.Seconds), against, expected)
	}
}
