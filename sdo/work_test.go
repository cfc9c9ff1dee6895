package sdo

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/sdo-go/sdo/sampler"
)

// looking is an objective that counts its looks. approve, where set, says of a
// look, counted from 1, whether every row is good enough.
type looking struct {
	Objective
	losses, gradients int
	approve           func(look int) bool
}

func (l *looking) Evaluate(ctx context.Context, x, grad Vector) ([]float64, error) {
	l.losses++
	if grad != nil {
		l.gradients++
	}
	return l.Objective.Evaluate(ctx, x, grad)
}

func (l *looking) Satisfied() []bool {
	return slices.Repeat([]bool{l.approve != nil && l.approve(l.losses)}, testRows)
}

// times is w made n times.
func (w Work) times(n int) Work {
	return Work{n * w.Calls, n * w.Kept, n * w.Backward, n * w.Losses, n * w.Gradients}
}

// whole is a run of these parts, of which the last rollout is only scored.
func whole(rollout, update Work, updates int) Work {
	scored := Work{Calls: rollout.Calls, Losses: rollout.Losses}
	return rollout.plus(update).times(updates).plus(scored)
}

// within reports whether no part of w is more than another's.
func (w Work) within(o Work) bool {
	return w.Calls <= o.Calls && w.Kept <= o.Kept && w.Backward <= o.Backward && w.Losses <= o.Losses && w.Gradients <= o.Gradients
}

// subsets are all choices of one or more of these variables.
func subsets(of []Variable) (all [][]Variable) {
	for bits := 1; bits < 1<<len(of); bits++ {
		var some []Variable
		for k, v := range of {
			if bits>>k&1 == 1 {
				some = append(some, v)
			}
		}
		all = append(all, some)
	}
	return all
}

// settingsOf is every method that is defined for these variables, with several
// numbers where its name takes one, and every other setting that makes sense.
func settingsOf(table *sampler.Table, vary []Variable) map[string]Surrogate {
	all := map[string]Surrogate{}
	add := func(name string, s Surrogate) {
		s.Seed = 3
		if _, err := s.Transport(table, vary); err == nil {
			all[name] = s
		}
	}
	for _, info := range Methods {
		for k := 1; k <= len(table.Steps); k++ {
			name := info.Method
			if n := len(name) - 1; name[n] == 'K' || name[n] == 'r' {
				name = Method(fmt.Sprint(name[:n], k))
			}
			if s, err := name.Surrogate(vary...); err == nil {
				add(string(name), s)
			}
		}
	}
	for _, s := range activeSets(sampler.FreezeV, 0, 0.3) {
		for _, jump := range []bool{false, true} {
			for _, recompute := range []bool{false, true} {
				if s.Jump, s.Recompute = jump, recompute; jump && s.Active.counted() {
					s.Calls = 1
				}
				add(fmt.Sprintf("%s, jump %t, recompute %t", s, jump, recompute), s)
			}
		}
	}
	for _, bridge := range []float64{0, 1} {
		add(fmt.Sprint("copies, bridge ", bridge), Surrogate{Freeze: sampler.FreezeV, Active: ActiveLast, Calls: 1, Renoised: 3, Bridge: bridge, Recompute: true})
	}
	for _, r := range []Refresh{{Calls: 2}, {Calls: 1, Every: 2, Carry: true}, {Tolerance: 1e-4}, {Calls: 1, Tolerance: 1, Batched: true}, {Calls: 2, Batched: true}} {
		for _, active := range []Active{ActiveFirst, ActiveNone} {
			add(fmt.Sprintf("%s, %+v", active, r), Surrogate{Freeze: sampler.FreezeV, Active: active, Refresh: r})
		}
	}
	return all
}

// drawn reports whether chance, or what a run finds, decides how many calls an
// update makes.
func (s Surrogate) drawn() bool {
	return !slices.Contains([]Active{ActiveNone, ActiveFirst, ActiveLast, ActiveAll}, s.Active) || s.Refresh.stale()
}

// workTables are samplers of every kind: of one call a step and two, with fresh
// noise at every step or only at later ones, with memories.
func workTables(t *testing.T) map[string]*sampler.Table {
	all := tables(t, sampler.PredictV, 4)
	late := *all["ddpm"]
	late.Steps = slices.Clone(late.Steps)
	late.Steps[0].Noise, late.Steps[1].Noise = 0, 0
	return map[string]*sampler.Table{
		"ddim": all["ddim"], "heun": all["heun"], "ddpm": all["ddpm"], "late noise": &late, "two memories and noise": all["two memories and noise"],
	}
}

// What a run is said to take is what it then makes, of calls and of looks at the
// objective, for every method and every other setting, over all choices of
// variables; at most, where draws or staleness decide. A run that goes on from a
// saved state makes a rollout more.
func TestWorkIsWhatRunsMake(t *testing.T) {
	const updates = 3
	runs := map[string]int{} // of each setting
	for solver, table := range workTables(t) {
		for _, vary := range subsets(available(steered(table))) {
			for name, s := range settingsOf(table, vary) {
				for _, guidance := range []float64{1, 2.5} {
					p := steered(table)
					looks := &looking{Objective: p.Objective}
					p.Network, p.Objective, p.Guidance = &batching{analytic: analyticOf(p)}, looks, guidance
					o := options(updates)
					o.Surrogate, o.NormGuard, o.Vary = s, NormNone, nil
					for _, v := range vary {
						o.Vary = append(o.Vary, Variation{v, Optimizer{Rule: SGD, LR: 1e-3}})
					}
					rollout, update := o.Work(table, guidance != 1 || slices.Contains(vary, GuidanceScale))
					check := func(what string, r *Result, err error, said Work) {
						t.Helper()
						if err != nil {
							t.Fatalf("%s, %s of %v, %s: %v", solver, name, vary, what, err)
						}
						made := Work{r.NetworkCalls, r.KeptCalls, r.BackwardCalls, looks.losses, looks.gradients}
						if !made.within(said) || !s.drawn() && made != said {
							t.Errorf("%s, %s of %v, guidance %v, %s: made %+v, said were %+v", solver, name, vary, guidance, what, made, said)
						}
					}
					said := whole(rollout, update, updates)
					var then looking
					result, err := Run(context.Background(), p, o, func(e Event) {
						if e.Kind == EventUpdate && e.Update == 1 {
							state, err := e.Save(context.Background())
							if err != nil {
								t.Fatal(err)
							}
							o.Resume, then = state, *looks
						}
					})
					check("whole", result, err, said)
					*looks = then
					result, err = Run(context.Background(), p, o, nil)
					check("in two parts", result, err, said.plus(rollout))
					runs[name]++
				}
			}
		}
	}
	for _, m := range []Method{MethodSDO, MethodFull, MethodFullCheckpoint, MethodIdentity, MethodJump, "draft-4", MethodDRaFTLV, "drtune-3", MethodReFL, MethodAlignProp, MethodLeapAlign, "flowbp-sparse-2", "stale-1"} {
		if runs[string(m)] == 0 {
			t.Errorf("%s was not run", m)
		}
	}
}

// What is said of a draw at most is what the largest draw makes.
func TestWorkOfDrawsIsReached(t *testing.T) {
	table := workTables(t)["ddim"]
	for _, vary := range [][]Variable{shared, {Condition}, {Parameters}, {Latents, Condition}} {
		for name, s := range settingsOf(table, vary) {
			if !s.drawn() || s.Refresh.stale() {
				continue
			}
			p := steered(table)
			o := options(60)
			o.Surrogate, o.NormGuard, o.Vary = s, NormNone, nil
			for _, v := range vary {
				o.Vary = append(o.Vary, Variation{v, Optimizer{Rule: SGD, LR: 1e-6}})
			}
			rollout, update := o.Work(table, true)
			var last Counters
			most := Work{}
			if _, err := Run(context.Background(), p, o, func(e Event) {
				if e.Kind == EventUpdate {
					most.Calls = max(most.Calls, e.Counters.NetworkCalls-last.NetworkCalls)
					most.Kept = max(most.Kept, e.Counters.KeptCalls-last.KeptCalls)
					most.Backward = max(most.Backward, e.Counters.BackwardCalls-last.BackwardCalls)
					last = e.Counters
				}
			}); err != nil {
				t.Fatal(err)
			}
			want := rollout.plus(update)
			want.Losses, want.Gradients = 0, 0
			if most != want {
				t.Errorf("%s of %v: an update made at most %+v, said were %+v", name, vary, most, want)
			}
		}
	}
}

// Stale losses that look good enough are looked at again before a run ends. Here
// every one does and none is, which is the most that a run can make: the first
// score alone is never stale.
func TestWorkOfStaleLossesLookedAtAgain(t *testing.T) {
	const updates = 5
	for _, guidance := range []float64{1, 2.5} {
		for _, refresh := range []Refresh{{Calls: 1}, {Calls: 2, Batched: true}, {Calls: 1, Tolerance: 1e-12}} {
			p := steered(table(t, sampler.PredictV, 6))
			looks := &looking{Objective: p.Objective, approve: func(look int) bool { return look%2 == 0 }}
			p.Network, p.Objective, p.Guidance = &batching{analytic: analyticOf(p)}, looks, guidance
			o := options(updates)
			o.EarlyStop = EarlyStopObjective
			o.Surrogate = Surrogate{Freeze: sampler.FreezeV, Active: ActiveFirst, Refresh: refresh}
			o.Vary = []Variation{{Latents, Optimizer{Rule: SGD, LR: 1e-3}}}
			rollout, update := o.Work(p.Table, guidance != 1)
			r := mustRun(t, p, o)
			made := Work{r.NetworkCalls, r.KeptCalls, r.BackwardCalls, looks.losses, looks.gradients}
			again := update
			again.Backward = 0
			if want := whole(rollout, update, updates).plus(again.times(-1)); made != want {
				t.Errorf("%+v, guidance %v: made %+v, want %+v", refresh, guidance, made, want)
			}
		}
	}
}
