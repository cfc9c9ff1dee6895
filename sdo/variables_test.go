package sdo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/sdo-go/sdo/sampler"
)

// running is a run of a method over some variables of a stochastic sampler.
func running(t testing.TB, m Method, updates int, vary ...Variable) (Problem, Options) {
	p := steered(tables(t, sampler.PredictV, 5)["ddpm"])
	o := options(updates)
	o.Surrogate, o.NormGuard, o.Vary = named(t, m, vary...), NormNone, nil
	for _, v := range vary {
		o.Vary = append(o.Vary, Variation{v, Optimizer{Rule: Adam, LR: 0.02, Beta1: 0.9, Beta2: 0.9, Eps: 1e-8}})
	}
	return p, o
}

// pointOf copies the values of an event.
func pointOf(v Values, vary []Variable) point {
	at := point{}
	for _, name := range vary {
		at[name] = slices.Clone(flat(v, name))
	}
	return at
}

// The first update moves every variable along its own gradient.
func TestFirstUpdateOfEveryVariable(t *testing.T) {
	for _, m := range []Method{MethodSDO, MethodFull, MethodFullCheckpoint} {
		p, o := running(t, m, 1, Variables...)
		at := begin(t, p)
		grads, _, _ := gradients(t, p, o.Surrogate, 0, at, Variables...)
		var after point
		if _, err := Run(context.Background(), p, o, func(e Event) {
			if e.Kind == EventUpdate && e.Update == 1 {
				after = pointOf(e.Values, Variables)
			}
		}); err != nil {
			t.Fatal(err)
		}
		for k, v := range Variables {
			want := slices.Clone(at[v])
			for i := range want {
				want[i] = byHand(o.Vary[k].Optimizer, want[i], grads[v][i])
			}
			wantNear(t, fmt.Sprintf("%s: %s after one update", m, v), after[v], want, 1e-13)
		}
		wantNothingLeft(t, p)
	}
}

// A result's values sample to its samples, which score its best losses, for each
// variable alone and for all together.
func TestResultOfEveryVariable(t *testing.T) {
	for _, vary := range [][]Variable{{Latents}, {Noises}, {Condition}, {GuidanceScale}, {Latents, Noises, Condition, GuidanceScale}} {
		p, o := running(t, MethodSDO, 25, vary...)
		for k := range o.Vary {
			o.Vary[k].Optimizer.LR = 1 // overshoots, so that the best is not the last
		}
		start := begin(t, p)
		r := mustRun(t, p, o)
		if slices.Equal(r.BestUpdate, []int{0, 0, 0}) || slices.Equal(r.BestUpdate, []int{25, 25, 25}) {
			t.Errorf("%v: the run tests nothing: best updates %v", vary, r.BestUpdate)
		}
		at := point{Latents: r.Latents, Noises: start[Noises], Condition: start[Condition], GuidanceScale: start[GuidanceScale]}
		found := map[Variable][]float64{Noises: slices.Concat(r.Noises...), Condition: r.Condition, GuidanceScale: r.GuidanceScale}
		for v, x := range found {
			if (x != nil) != slices.Contains(vary, v) {
				t.Errorf("%v: the result has %s: %v", vary, v, x != nil)
			}
			if x != nil {
				at[v] = x
			}
		}
		if (slices.Equal(r.Latents, start[Latents])) != !slices.Contains(vary, Latents) {
			t.Errorf("%v: the latents moved, or did not", vary)
		}
		c, err := NewChain(p, o.Surrogate)
		if err != nil {
			t.Fatal(err)
		}
		losses, err := c.Evaluate(context.Background(), valuesAt(p, at))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(losses, r.BestLoss) || !slices.Equal(numbers(c.Sample()), r.Samples) {
			t.Errorf("%v: the values found score %v, the result says %v", vary, losses, r.BestLoss)
		}
		c.Free()
	}
}

// Parameters have one best for all rows: that of the lowest mean loss. The
// network is left with it, and told.
func TestParametersAreLeftAtTheirBest(t *testing.T) {
	for _, vary := range [][]Variable{{Parameters}, {Latents, Parameters}} {
		p, o := running(t, MethodSDO, 30, vary...)
		o.Vary[len(vary)-1].Optimizer.LR = 0.2
		var seen []point
		r, err := Run(context.Background(), p, o, func(e Event) {
			if e.Kind == EventUpdate {
				seen = append(seen, pointOf(e.Values, vary))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		wantNothingLeft(t, p)
		best := 0
		for u, losses := range r.Losses {
			if mean(losses) < mean(r.Losses[best]) {
				best = u
			}
		}
		if best == 0 || best == 30 {
			t.Errorf("%v: the run tests nothing: the best is of update %d", vary, best)
		}
		if !slices.Equal(r.BestUpdate, []int{best, best, best}) || !slices.Equal(r.BestLoss, r.Losses[best]) {
			t.Errorf("%v: best of updates %v, want %d", vary, r.BestUpdate, best)
		}
		net := analyticOf(p)
		now := slices.Concat(numbers(net.params[0].Value), numbers(net.params[1].Value))
		if !slices.Equal(now, seen[best][Parameters]) || net.changed != 31 {
			t.Errorf("%v: the network is not left at update %d, or was told %d times of 31 changes", vary, best, net.changed)
		}
		p.Start = &boxed{r.Latents}
		if again := tell(t, p).sample; !slices.Equal(again, r.Samples) {
			t.Errorf("%v: the network left samples to something else", vary)
		}
	}
}

// No row is left alone while others still pull at the parameters.
func TestEarlyStopOfParametersIsJoint(t *testing.T) {
	p, o := running(t, MethodSDO, 50, Parameters)
	p.Objective = &content{Objective: p.Objective, after: []int{2, 7, 4}}
	o.EarlyStop = EarlyStopObjective
	r := mustRun(t, p, o)
	if r.Updates != 7 || !slices.Equal(r.RowUpdates, []int{7, 7, 7}) || !slices.Equal(r.BestUpdate, []int{7, 7, 7}) || slices.Contains(r.Stopped, false) {
		t.Errorf("%d updates, rows %v, best %v, stopped %v; want 7", r.Updates, r.RowUpdates, r.BestUpdate, r.Stopped)
	}
}

// approving approves of each row from some look on.
type approving struct {
	from []int
	seen int
	err  error
}

func (a *approving) Approve(context.Context, Vector) ([]bool, error) {
	a.seen++
	approved := make([]bool, len(a.from))
	for row, n := range a.from {
		approved[row] = a.seen > n
	}
	return approved, a.err
}

func TestJudgeDecidesEarlyStop(t *testing.T) {
	p, o := steer(t), options(50)
	o.EarlyStop = EarlyStopJudge
	_, err := Run(context.Background(), p, o, nil)
	wantError(t, err, "sdo: early stop asks a judge and the problem has none; name one, or let the objective stop")

	p.Judge = &approving{from: []int{3, 1, 6}}
	r := mustRun(t, p, o)
	if !slices.Equal(r.RowUpdates, []int{3, 1, 6}) || !slices.Equal(r.BestUpdate, []int{3, 1, 6}) || r.Updates != 6 {
		t.Errorf("rows took part in %v updates, best %v; want 3, 1 and 6", r.RowUpdates, r.BestUpdate)
	}
	p.Judge = &approving{from: []int{3, 1, 6}, err: errors.New("no opinion")}
	_, err = Run(context.Background(), p, o, nil)
	wantError(t, err, "sdo: judge: no opinion")
	wantNothingLeft(t, p)
}

// A row whose sample has moved too far stops, and what had not drifted is its
// result.
func TestDriftLimit(t *testing.T) {
	p, o := steer(t), options(60)
	o.NormGuard = NormNone
	far := func(p Problem, r *Result, sample []float64) []float64 {
		distances := make([]float64, p.Rows)
		for row := range distances {
			square := 0.0
			for j := row * p.Cols; j < (row+1)*p.Cols; j++ {
				square += (sample[j] - r.Before[j]) * (sample[j] - r.Before[j])
			}
			distances[row] = math.Sqrt(square / float64(p.Cols))
		}
		return distances
	}
	free := mustRun(t, p, o)
	distances := far(p, free, free.Samples)
	slices.Sort(distances)
	o.DriftLimit = (distances[1] + distances[2]) / 2 // one row goes further when it may
	p = steer(t)
	drifting := map[int][]float64{}
	r, err := Run(context.Background(), p, o, func(e Event) {
		if e.Kind == EventUpdate {
			drifting[e.Update] = slices.Clone(numbers(e.State))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	wantNothingLeft(t, p)
	wantConsistent := 0
	for row, drifted := range r.Drifted {
		if drifted {
			wantConsistent++
		}
		// The row stops at the first sample beyond the limit.
		first := -1
		for u := 0; u <= r.Updates && first < 0; u++ {
			if far(p, r, drifting[u])[row] > o.DriftLimit {
				first = u
			}
		}
		if drifted != (first >= 0) || drifted && r.RowUpdates[row] != first || r.Stopped[row] != drifted {
			t.Errorf("row %d: drifted %v, stopped %v after %d updates; beyond the limit at %d", row, drifted, r.Stopped[row], r.RowUpdates[row], first)
		}
		if far(p, r, r.Samples)[row] > o.DriftLimit || r.BestUpdate[row] == first {
			t.Errorf("row %d: the result has drifted", row)
		}
	}
	if wantConsistent == 0 || wantConsistent == p.Rows {
		t.Errorf("the run tests nothing: %v drifted", r.Drifted)
	}

	// Where the parameters vary, one row that drifts ends the run.
	p, o = running(t, MethodSDO, 60, Parameters)
	o.DriftLimit = 0.05
	r = mustRun(t, p, o)
	if r.Updates == 60 || slices.Contains(r.Stopped, false) || !slices.Contains(r.Drifted, true) || r.BestUpdate[0] == r.Updates {
		t.Errorf("%d updates, stopped %v, drifted %v, best %v", r.Updates, r.Stopped, r.Drifted, r.BestUpdate)
	}
	if slices.Max(far(p, r, r.Samples)) > o.DriftLimit {
		t.Error("the result has drifted")
	}
}

// Only what a sample scores anew counts: for the best, for early stop, and for
// the end of the run.
func TestStaleRunsReportFreshLosses(t *testing.T) {
	for _, refresh := range []Refresh{{Calls: 1, Every: 7}, {Calls: 1}, {Tolerance: 0.05, Every: 4}} {
		p, o := steer(t), options(30)
		o.Surrogate = Surrogate{Freeze: sampler.FreezeV, Active: ActiveFirst, Refresh: refresh}
		r := mustRun(t, p, o)
		for u, stale := range r.Stale {
			if want := u > 0 && u < 30 && (refresh.Every == 0 || u%refresh.Every != 0); stale != want {
				t.Errorf("%+v: the losses of update %d are stale: %v", refresh, u, stale)
			}
		}
		for row, best := range r.BestLoss {
			lowest := math.Inf(1)
			for u, losses := range r.Losses {
				if !r.Stale[u] {
					lowest = min(lowest, losses[row])
				}
			}
			if best != lowest || r.Stale[r.BestUpdate[row]] || r.Losses[r.BestUpdate[row]][row] != best {
				t.Errorf("%+v, row %d: best loss %v of update %d, lowest fresh one %v", refresh, row, best, r.BestUpdate[row], lowest)
			}
		}
		wantSampled(t, p, r)

		p, o.EarlyStop, o.StopBelow, o.Updates = steer(t), EarlyStopObjective, 0.7, 300
		r = mustRun(t, p, o)
		if slices.Contains(r.Stopped, false) || r.Stale[r.Updates] || r.Updates == 300 {
			t.Errorf("%+v: stopped %v after %d updates, by stale losses: %v", refresh, r.Stopped, r.Updates, r.Stale[r.Updates])
		}
		for row, updates := range r.BestUpdate {
			if r.Stale[updates] || r.BestLoss[row] > o.StopBelow || r.BestLoss[row] != r.Losses[updates][row] {
				t.Errorf("%+v, row %d stopped at update %d with loss %v", refresh, row, updates, r.BestLoss[row])
			}
		}
		if len(r.Stale) != len(r.Losses) || len(r.Losses) != r.Updates+1 {
			t.Errorf("%+v: %d losses, %d of them marked, for %d updates", refresh, len(r.Losses), len(r.Stale), r.Updates)
		}
		wantSampled(t, p, r)
	}
}

// wantSampled checks that the latents of a result sample to its samples and
// losses.
func wantSampled(t *testing.T, p Problem, r *Result) {
	t.Helper()
	p.Start = &boxed{r.Latents}
	again := mustSample(t, p)
	if !slices.Equal(again.Losses[0], r.BestLoss) || !slices.Equal(again.Before, r.Samples) {
		t.Errorf("the best latents score %v, the result says %v", again.Losses[0], r.BestLoss)
	}
}

// Cancelled in any network call of its updates, a run of any method makes no
// further one, keeps its best and leaves nothing behind.
func TestCancelledRunsOfEveryMethod(t *testing.T) {
	for _, m := range []Method{MethodSDO, MethodFull, MethodFullCheckpoint, MethodIdentity, MethodJump, "stale-2",
		"draft-2", MethodDRaFTLV, "drtune-2", MethodReFL, MethodAlignProp, MethodLeapAlign, "flowbp-sparse-2"} {
		vary := []Variable{Latents}
		if _, err := m.Surrogate(vary...); err != nil {
			vary = shared
		}
		for at := 11; at < 60; at += 3 {
			p, o := running(t, m, 40, vary...)
			ctx, cancel := context.WithCancel(context.Background())
			net := analyticOf(p)
			net.before = func(call int) error {
				if call == at {
					cancel()
				}
				return nil
			}
			r, err := Run(ctx, p, o, nil)
			if err != nil || !r.Cancelled || r.Updates == 40 {
				t.Fatalf("%s, cancelled in call %d: %+v, %v", m, at, r, err)
			}
			// Guidance asks its second branch before anyone looks.
			if net.calls > at+1 {
				t.Errorf("%s: %d network calls, cancelled in call %d", m, net.calls, at)
			}
			wantNothingLeft(t, p)
			if r.BestLoss[0] > r.Losses[0][0] {
				t.Errorf("%s: the best is worse than the first", m)
			}
		}
	}
}

// What is first not finite is named: a parameter, then a variable, then a tensor
// of the rollout. (The network's output and the objective are in
// TestNumbersThatAreNotFinite.)
func TestFirstBadTensorIsNamed(t *testing.T) {
	for want, spoil := range map[string]func(p Problem, r *run){
		"parameter weight 1":           func(p Problem, _ *run) { numbers(analyticOf(p).Params()[1].Value)[3] = math.NaN() },
		"the latents":                  func(_ Problem, r *run) { numbers(r.values.Latents)[5] = math.Inf(1) },
		"the noise of step 3 of 5":     func(_ Problem, r *run) { numbers(r.values.Noises[2])[0] = math.NaN() },
		"the condition":                func(_ Problem, r *run) { numbers(r.values.Condition)[7] = math.Inf(-1) },
		"the guidance_scale":           func(_ Problem, r *run) { numbers(r.values.GuidanceScale)[1] = math.NaN() },
		"the state of step 3 of 5":     func(p Problem, _ *run) { p.Table.Steps[1].State = math.NaN() },
		"the sample":                   func(p Problem, _ *run) { p.Table.Steps[4].Output = math.Inf(1) },
		"the network's output at step": func(p Problem, _ *run) { analyticOf(p).rowNetwork.(perceptron).time[0] = math.NaN() },
	} {
		p, o := running(t, MethodSDO, 3, Variables...)
		c, err := NewChain(p, o.Surrogate, Variables...)
		if err != nil {
			t.Fatal(err)
		}
		r := &run{Problem: p, options: o, chain: c, joint: true}
		if err := r.prepare(context.Background()); err != nil {
			t.Fatal(err)
		}
		spoil(p, r)
		got := r.firstBad(context.Background())
		want = "the first tensor that is not finite is " + want
		if len(got) < len(want) || got[:len(want)] != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		r.free()
		c.Free()
		wantNothingLeft(t, p)
	}

	// A run that is driven there says so, and leaves the best parameters.
	p, o := running(t, MethodSDO, 9, Parameters)
	o.Vary[0].Optimizer = Optimizer{Rule: SGD, LR: 1e200}
	r, err := Run(context.Background(), p, o, nil)
	if err == nil || r == nil || len(r.Losses) == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, param := range analyticOf(p).params {
		for _, x := range numbers(param.Value) {
			if !(math.Abs(x) < 10) {
				t.Fatalf("the network is left with %s at %v", param.Name, x)
			}
		}
	}
	wantNothingLeft(t, p)
}

// Where guidance varies it begins at the problem's scale, and where there is
// none, at 1: what the network says of the condition.
func TestGuidanceBegins(t *testing.T) {
	for guidance, want := range map[float64]float64{0: 1, 1: 1, 2.5: 2.5, -1: -1} {
		p := steered(table(t, sampler.PredictV, 3))
		p.Guidance = guidance
		plain := tell(t, p).sample
		v, err := p.StartValues(context.Background(), GuidanceScale)
		if err != nil {
			t.Fatal(err)
		}
		c, err := NewChain(p, Surrogate{Freeze: sampler.FreezeV, Active: ActiveFirst}, GuidanceScale)
		if err != nil {
			t.Fatal(err)
		}
		for what, at := range map[string]Values{"begun": {Latents: p.Start, GuidanceScale: v.GuidanceScale}, "its own": {Latents: p.Start}} {
			// Scales of another rollout must not stay.
			if _, err := c.Rollout(context.Background(), Values{Latents: p.Start, GuidanceScale: &boxed{vector{7, 8, 9}}}); err != nil {
				t.Fatal(err)
			}
			sample, err := c.Rollout(context.Background(), at)
			if err != nil {
				t.Fatal(err)
			}
			wantNear(t, fmt.Sprintf("guidance %v, %s", guidance, what), numbers(sample), plain, 1e-13)
		}
		if !slices.Equal(numbers(v.GuidanceScale), []float64{want, want, want}) {
			t.Errorf("guidance %v begins at %v", guidance, numbers(v.GuidanceScale))
		}
		p.FreeValues(v)
		c.Free()
	}
}
