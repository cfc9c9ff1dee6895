package sdo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/sampler"
)

// steer is a mixture to be steered with ten steps.
func steer(t testing.TB) Problem {
	table := table(t, sampler.PredictEpsilon, 10)
	return problem(table, newMixture(table, testCols, 3))
}

func options(updates int) Options {
	o := DefaultOptions()
	o.Updates = updates
	return o
}

// mustRun runs and checks that every vector but Start came back.
func mustRun(t *testing.T, p Problem, o Options) *Result {
	t.Helper()
	result, err := Run(context.Background(), p, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantNothingLeft(t, p)
	return result
}

func wantNothingLeft(t *testing.T, p Problem) {
	t.Helper()
	if live := p.Space.(*slices64).live; live != 1 {
		t.Errorf("%d vectors alive after the run, want Start alone", live)
	}
	if kept := analyticOf(p).kept; kept != 0 {
		t.Errorf("%d kept calls not released", kept)
	}
}

// wantConsistent checks that a result's parts agree with each other: the best
// loss is the lowest seen, and the latents returned sample to the samples
// returned, which score it.
func wantConsistent(t *testing.T, p Problem, r *Result) {
	t.Helper()
	for row, best := range r.BestLoss {
		lowest := math.Inf(1)
		for _, losses := range r.Losses {
			lowest = min(lowest, losses[row])
		}
		if best != lowest || r.Losses[r.BestUpdate[row]][row] != best {
			t.Errorf("row %d: best loss %v after %d updates, lowest %v", row, best, r.BestUpdate[row], lowest)
		}
	}
	p.Objective = &nearTarget{target: p.Objective.(*nearTarget).target}
	analyticOf(p).before = nil
	p.Start = p.Space.(*slices64).of(r.Latents)
	again := mustSample(t, p)
	p.Space.FreeVector(p.Start)
	if !slices.Equal(again.Losses[0], r.BestLoss) || !slices.Equal(again.Before, r.Samples) {
		t.Errorf("the best latents score %v, the result says %v", again.Losses[0], r.BestLoss)
	}
}

// mustSample is a run of no updates.
func mustSample(t *testing.T, p Problem) *Result {
	t.Helper()
	result, err := Run(context.Background(), p, options(0), nil)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func sum(x []float64) float64 { return dot(x, slices.Repeat([]float64{1}, len(x))) }

// Every method steers, and pays what docs/method.md says.
func TestRunSteers(t *testing.T) {
	const updates, steps = 60, 10
	for method, want := range map[Method]Counters{
		MethodSDO:            {NetworkCalls: steps * (updates + 1), KeptCalls: updates, BackwardCalls: updates, PeakKeptBytes: 96},
		MethodIdentity:       {NetworkCalls: steps * (updates + 1)},
		MethodFull:           {NetworkCalls: steps * (updates + 1), KeptCalls: steps * updates, BackwardCalls: steps * updates, PeakKeptBytes: 96 * steps},
		MethodFullCheckpoint: {NetworkCalls: steps * (2*updates + 1), KeptCalls: steps * updates, BackwardCalls: steps * updates, PeakKeptBytes: 96},
	} {
		p, o := steer(t), options(updates)
		o.Surrogate, o.NormGuard = setting(method, sampler.FreezeEps), NormNone
		r := mustRun(t, p, o)
		if before, after := sum(r.Losses[0]), sum(r.BestLoss); after > before/4 {
			t.Errorf("%s: the loss went from %.3f to %.3f only", method, before, after)
		}
		if r.Counters != want {
			t.Errorf("%s: %+v, want %+v", method, r.Counters, want)
		}
		if r.Updates != updates || len(r.Losses) != updates+1 || r.Cancelled || slices.Contains(r.Stopped, true) {
			t.Errorf("%s: %d updates, %d losses, cancelled %v, stopped %v", method, r.Updates, len(r.Losses), r.Cancelled, r.Stopped)
		}
		wantConsistent(t, p, r)
	}
}

// The first update is one Adam step along the gradient; weights and signs of
// the loop are held by doing it by hand.
func TestFirstUpdateIsAdamAlongTheGradient(t *testing.T) {
	p, o := steer(t), options(1)
	o.NormGuard = NormNone
	adam := o.Vary[0].Optimizer
	g := gradient(t, p, MethodSDO, sampler.FreezeEps)
	want := slices.Clone(numbers(p.Start))
	for i := range want {
		want[i] -= adam.LR * g[i] / (math.Abs(g[i]) + adam.Eps)
	}
	var got []float64
	_, err := Run(context.Background(), captureLatent{p, &got}.problem(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantNear(t, "latent after one update", got, want, 1e-14)
}

// captureLatent watches a problem's network for the latest state of its first
// step.
type captureLatent struct {
	Problem
	latent *[]float64
}

func (c captureLatent) problem() Problem {
	p := c.Problem
	p.Network = capturing{p.Network, p.Table.Steps[0].Timestep, c.latent}
	return p
}

type capturing struct {
	Network
	first  float64
	latent *[]float64
}

func (c capturing) note(in Input) {
	if in.Timestep == c.first {
		*c.latent = slices.Clone(numbers(in.X))
	}
}

func (c capturing) Predict(ctx context.Context, in Input, out Vector) error {
	c.note(in)
	return c.Network.Predict(ctx, in, out)
}

func (c capturing) Keep(ctx context.Context, in Input, wrt Wrt, out Vector) (Kept, error) {
	c.note(in)
	return c.Network.Keep(ctx, in, wrt, out)
}

func TestRunIsDeterministic(t *testing.T) {
	o := options(15)
	first, second := mustRun(t, steer(t), o), mustRun(t, steer(t), o)
	if !reflect.DeepEqual(first, second) {
		t.Error("two runs of the same problem differ")
	}
}

// A learning rate that overshoots must not lose what was found on the way.
func TestBestIsKeptPerRow(t *testing.T) {
	p, o := steer(t), options(40)
	o.Vary[0].Optimizer.LR, o.NormGuard = 1.5, NormNone
	r := mustRun(t, p, o)
	wantConsistent(t, p, r)
	if slices.Equal(r.BestLoss, r.Losses[o.Updates]) || r.BestUpdate[0] == r.BestUpdate[1] && r.BestUpdate[1] == r.BestUpdate[2] {
		t.Fatalf("the run tests nothing: best updates %v", r.BestUpdate)
	}
}

// A stopped row keeps its latent to the last bit while others go on, and the
// run ends without a wasted backward when all have stopped.
func TestEarlyStop(t *testing.T) {
	// On the sphere that projection holds, not every loss can be reached.
	for guard, below := range map[NormGuard]float64{NormNone: 0.05, NormPenalty: 0.05, NormProject: 0.6} {
		t.Run(string(guard), func(t *testing.T) { testEarlyStop(t, guard, below) })
	}
	o := options(200)
	o.EarlyStop, o.StopBelow = EarlyStopObjective, 1e9
	r := mustRun(t, steer(t), o)
	if r.Updates != 0 || r.BackwardCalls != 0 || !slices.Equal(r.RowUpdates, []int{0, 0, 0}) {
		t.Errorf("satisfied from the start: %d updates, %d backward calls", r.Updates, r.BackwardCalls)
	}
}

func testEarlyStop(t *testing.T, guard NormGuard, below float64) {
	p, o := steer(t), options(200)
	o.EarlyStop, o.StopBelow, o.NormGuard = EarlyStopObjective, below, guard
	o.Vary[0].Optimizer.Rule, o.Vary[0].Optimizer.WeightDecay = AdamW, 0.01
	r := mustRun(t, p, o)
	wantConsistent(t, p, r)
	if slices.Contains(r.Stopped, false) || r.Updates != slices.Max(r.RowUpdates) || r.Updates == o.Updates {
		t.Fatalf("stopped %v after %v of %d updates", r.Stopped, r.RowUpdates, r.Updates)
	}
	if slices.Min(r.RowUpdates) == r.Updates {
		t.Fatalf("the run tests nothing: all rows stopped after %d updates", r.Updates)
	}
	for row, updates := range r.RowUpdates {
		if updates > 0 && r.Losses[updates-1][row] <= o.StopBelow {
			t.Errorf("row %d could have stopped before update %d", row, updates)
		}
		for u := updates; u <= r.Updates; u++ {
			if r.Losses[u][row] != r.BestLoss[row] || r.BestLoss[row] > o.StopBelow {
				t.Errorf("row %d moved after it stopped: loss %v after update %d, %v when stopped", row, r.Losses[u][row], u, r.BestLoss[row])
			}
		}
	}
	if r.BackwardCalls != r.Updates {
		t.Errorf("%d backward calls for %d updates", r.BackwardCalls, r.Updates)
	}
}

func TestProjectedNorm(t *testing.T) {
	p, o := steer(t), options(5)
	o.EarlyStop, o.StopBelow = EarlyStopObjective, 0.05 // projection must spare stopped rows
	var latent []float64
	r, err := Run(context.Background(), captureLatent{p, &latent}.problem(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	for row := range testRows {
		x := latent[row*testCols : (row+1)*testCols]
		if norm := math.Sqrt(dot(x, x)); !r.Stopped[row] && math.Abs(norm-2) > 1e-14 {
			t.Errorf("row %d: norm %v after projection, want sqrt(4)", row, norm)
		}
	}
	for row, norm := range r.LatentNorms {
		if r.BestUpdate[row] > 0 && math.Abs(norm-2) > 1e-14 {
			t.Errorf("row %d: reported norm %v", row, norm)
		}
	}
}

// The penalty's gradient is that of |x|^2/2 - (d-1) log|x|.
func TestPenaltyGradient(t *testing.T) {
	p := steer(t)
	chain, err := NewChain(p, setting(MethodIdentity, sampler.FreezeEps), Latents)
	if err != nil {
		t.Fatal(err)
	}
	r := &run{Problem: p, options: options(1), chain: chain}
	r.options.NormWeight = 0.3
	if err := r.prepare(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := p.Space.Combine(r.grads.Latents, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := r.penalise(context.Background()); err != nil {
		t.Fatal(err)
	}
	want := differences(numbers(p.Start), func(x []float64) float64 {
		total := 0.0
		for row := range testRows {
			square := dot(x[row*testCols:(row+1)*testCols], x[row*testCols:(row+1)*testCols])
			total += 0.3 * (square/2 - (testCols-1)*math.Log(square)/2)
		}
		return total
	})
	wantNear(t, "penalty", numbers(r.grads.Latents), want, 1e-9)

	o := options(30)
	o.NormGuard, o.NormWeight = NormPenalty, 10
	free := options(30)
	free.NormGuard = NormNone
	distance := func(o Options) (d float64) {
		for _, norm := range mustRun(t, steer(t), o).LatentNorms {
			d += math.Abs(norm - math.Sqrt(testCols-1))
		}
		return d
	}
	if with, without := distance(o), distance(free); with > without {
		t.Errorf("norms are %.3f from noise's with the penalty, %.3f without", with, without)
	}
}

// A cancelled run keeps the best so far and makes no further network call,
// whether the loop or the network notices.
func TestCancelKeepsTheBest(t *testing.T) {
	for _, method := range allMethods {
		for _, noticed := range []string{"loop", "network"} {
			p, o := steer(t), options(60)
			o.Surrogate = setting(method, sampler.FreezeEps)
			ctx, cancel := context.WithCancel(context.Background())
			net := analyticOf(p)
			const at = 57
			net.before = func(call int) error {
				if call == at {
					cancel()
				}
				if noticed == "network" {
					return ctx.Err()
				}
				return nil
			}
			r, err := Run(ctx, p, o, nil)
			if err != nil || !r.Cancelled || r.Updates == 0 || r.Updates == o.Updates {
				t.Fatalf("%s: %+v, %v", method, r, err)
			}
			if net.calls != at {
				t.Errorf("%s: %d network calls, cancelled in call %d", method, net.calls, at)
			}
			wantNothingLeft(t, p)
			wantConsistent(t, p, r)
		}
	}
}

func TestCancelBeforeTheFirstScore(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	p := steer(t)
	analyticOf(p).before = func(call int) error {
		if call == 4 {
			cancel()
		}
		return nil
	}
	r, err := Run(ctx, p, options(5), nil)
	if r != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", r, err)
	}
	wantError(t, err, "sdo: stopped before the first sample was scored: context canceled")
	wantNothingLeft(t, p)
}

func TestNumbersThatAreNotFinite(t *testing.T) {
	for bad, text := range map[float64]string{math.Inf(1): "+Inf", math.Inf(-1): "-Inf", math.NaN(): "NaN"} {
		p := steer(t)
		p.Objective.(*nearTarget).change = func(evaluation int, losses []float64) {
			if evaluation == 3 {
				losses[1] = bad
			}
		}
		r, err := Run(context.Background(), p, options(9), nil)
		wantError(t, err, "sdo: the loss of row 1 is "+text+" after update 3: the sample is finite, so the objective's own number is not; "+notFiniteAdvice)
		if r == nil || len(r.Losses) != 3 || r.Cancelled {
			t.Fatalf("best so far: %+v", r)
		}
		wantNothingLeft(t, p)
		wantConsistent(t, p, r)
	}

	p := steer(t)
	p.Objective.(*nearTarget).change = func(_ int, losses []float64) { losses[2] = math.NaN() }
	r, err := Run(context.Background(), p, options(9), nil)
	wantError(t, err, "sdo: the loss of row 2 is NaN before the first update: the sample is finite, so the objective's own number is not; "+notFiniteAdvice)
	if r != nil {
		t.Error("a result without a score")
	}

	p = steer(t)
	p.Network = poisoned{analyticOf(p)}
	r, err = Run(context.Background(), p, options(9), nil)
	wantError(t, err, "sdo: the latent of row 0 has norm NaN after update 1")
	if r == nil || len(r.Losses) != 1 {
		t.Errorf("best so far: %+v", r)
	}

	// An objective may hide what the network did.
	p = steer(t)
	p.Network = broken{p.Network.(*analytic)}
	p.Objective.(*nearTarget).change = func(_ int, losses []float64) { clear(losses) }
	r, err = Run(context.Background(), p, options(9), nil)
	wantError(t, err, "sdo: the sample of row 2 is not finite before the first update: the first tensor that is not finite is the network's output at step 1 of 10, timestep 901: in the middle; "+notFiniteAdvice)
	if r != nil {
		t.Error("a result without a score")
	}

	p = steer(t)
	clear(numbers(p.Start))
	_, err = Run(context.Background(), p, options(9), nil)
	wantError(t, err, "sdo: the latent of row 0 has norm 0 before the first update")
}

// broken gives NaN in its third row and knows where it comes from.
type broken struct{ *analytic }

func (b broken) Predict(ctx context.Context, in Input, out Vector) error {
	err := b.analytic.Predict(ctx, in, out)
	numbers(out)[2*b.cols] = math.NaN()
	return err
}

func (b broken) Keep(ctx context.Context, in Input, wrt Wrt, out Vector) (Kept, error) {
	kept, err := b.analytic.Keep(ctx, in, wrt, out)
	numbers(out)[2*b.cols] = math.NaN()
	return kept, err
}

func (broken) FirstBad(context.Context, Input) string { return "in the middle" }

// poisoned has a backward that gives NaN.
type poisoned struct{ *analytic }

func (p poisoned) Keep(ctx context.Context, in Input, wrt Wrt, out Vector) (Kept, error) {
	kept, err := p.analytic.Keep(ctx, in, wrt, out)
	return poisonedKept{kept}, err
}

type poisonedKept struct{ Kept }

func (poisonedKept) Backward(_ context.Context, _ Vector, into Gradients) error {
	for i := range numbers(into.X) {
		numbers(into.X)[i] = math.NaN()
	}
	return nil
}

// A device that fails in mid-run gives its error, the step and the best so far.
func TestNetworkFailure(t *testing.T) {
	lost := errors.New("device lost")
	for _, method := range allMethods {
		for _, at := range []int{3, 47} {
			p, o := steer(t), options(9)
			o.Surrogate = setting(method, sampler.FreezeEps)
			analyticOf(p).before = func(call int) error {
				if call == at {
					return lost
				}
				return nil
			}
			r, err := Run(context.Background(), p, o, nil)
			if !errors.Is(err, lost) || !strings.Contains(err.Error(), " of 10") {
				t.Errorf("%s: %v", method, err)
			}
			if (r != nil) != (at > 10) {
				t.Errorf("%s, failing call %d: result %+v", method, at, r)
			}
			wantNothingLeft(t, p)
			if r != nil {
				wantConsistent(t, p, r)
			}
		}
	}
}

func TestEvents(t *testing.T) {
	for method, want := range map[Method]string{
		MethodSDO:            "s1/3 s2/3 s3/3 u0 b1/1 s1/3 s2/3 s3/3 u1",
		MethodIdentity:       "s1/3 s2/3 s3/3 u0 s1/3 s2/3 s3/3 u1",
		MethodFull:           "s1/3 s2/3 s3/3 u0 b1/3 b2/3 b3/3 s1/3 s2/3 s3/3 u1",
		MethodFullCheckpoint: "s1/3 s2/3 s3/3 u0 b1/3 b2/3 b3/3 s1/3 s2/3 s3/3 u1",
	} {
		p := problem(table(t, sampler.PredictV, 3), newPerceptron(testCols, 6))
		o := options(1)
		o.Surrogate = setting(method, sampler.FreezeEps)
		var told []string
		var calls int
		r, err := Run(context.Background(), p, o, func(e Event) {
			switch e.Kind {
			case EventUpdate:
				told = append(told, fmt.Sprintf("u%d", e.Update))
				if len(e.Losses) != testRows || len(e.Best) != testRows || len(e.Stopped) != testRows || len(e.LatentNorms) != testRows {
					t.Errorf("update event %+v", e)
				}
				e.Losses[0], e.Best[0], e.Stopped[0], e.LatentNorms[0] = -1, -1, true, 0 // the observer's own
			default:
				told = append(told, fmt.Sprintf("%c%d/%d", e.Kind[0], e.Step, e.Steps))
			}
			if e.Kind != EventBackward && e.State.Len() != testRows*testCols {
				t.Errorf("%s event without its state", e.Kind)
			}
			if e.Updates != 1 || e.Counters.NetworkCalls < calls {
				t.Errorf("event %+v", e)
			}
			calls = e.Counters.NetworkCalls
			if _, err := json.Marshal(e); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(told, " "); got != want {
			t.Errorf("%s: events %s\nwant %s", method, got, want)
		}
		if r.Losses[0][0] < 0 || r.BestLoss[0] < 0 || r.Stopped[0] {
			t.Error("an observer can change the run")
		}
	}
}

func TestOptionsRefuse(t *testing.T) {
	for want, change := range map[string]func(*Options){
		`freeze is "", want eps, v, x0 or solver`:                                     func(o *Options) { o.Surrogate.Freeze = "" },
		`latent norm guard is "clip", want project, penalty or none`:                  func(o *Options) { o.NormGuard = "clip" },
		"-1 updates, want 0 or more":                                                  func(o *Options) { o.Updates = -1 },
		"latents: learning rate is 0, want a number above 0":                          func(o *Options) { o.Vary[0].Optimizer.LR = 0 },
		"latents: learning rate is NaN, want a number above 0":                        func(o *Options) { o.Vary[0].Optimizer.LR = math.NaN() },
		"latents: learning rate is +Inf, want a number above 0":                       func(o *Options) { o.Vary[0].Optimizer.LR = math.Inf(1) },
		"latents: betas are 0.9 and 1, want numbers from 0 up to but not including 1": func(o *Options) { o.Vary[0].Optimizer.Beta2 = 1 },
		"latents: eps is 0, want a number above 0":                                    func(o *Options) { o.Vary[0].Optimizer.Eps = 0 },
		"latents: weight decay is -1, want 0 or more":                                 func(o *Options) { o.Vary[0].Optimizer.WeightDecay = -1 },
		"norm penalty weight is 0, want a number above 0":                             func(o *Options) { o.NormGuard, o.NormWeight = NormPenalty, 0 },
		"early stop below a loss of NaN, want a finite number":                        func(o *Options) { o.EarlyStop, o.StopBelow = EarlyStopObjective, math.NaN() },
	} {
		o := DefaultOptions()
		change(&o)
		_, err := Run(context.Background(), steer(t), o, nil)
		wantError(t, err, "sdo: "+want)
	}
	p := steer(t)
	p.Start = nil
	_, err := Run(context.Background(), p, DefaultOptions(), nil)
	wantError(t, err, "sdo: the problem has no start latent")
	p = steer(t)
	p.Objective = nil
	_, err = Run(context.Background(), p, DefaultOptions(), nil)
	wantError(t, err, "sdo: the problem has no objective")
	_, _, err = Gradient(context.Background(), p, setting(MethodSDO, sampler.FreezeEps), Values{Latents: p.Start}, 0, Latents)
	wantError(t, err, "sdo: the problem has no objective")
}

// Between two backward calls a cancelled context is noticed too, and what the
// last score found is kept.
func TestCancelBetweenBackwardCalls(t *testing.T) {
	for _, method := range []Method{MethodFull, MethodFullCheckpoint} {
		ctx, cancel := context.WithCancel(context.Background())
		p, o := steer(t), options(5)
		o.Surrogate = setting(method, sampler.FreezeEps)
		r, err := Run(ctx, p, o, func(e Event) {
			if e.Kind == EventBackward && e.Update == 1 && e.Step == 3 {
				cancel()
			}
		})
		if err != nil || !r.Cancelled || r.Updates != 1 || len(r.Losses) != 2 || r.BackwardCalls != 13 {
			t.Errorf("%s: %+v, %v", method, r, err)
		}
		wantNothingLeft(t, p)
		wantConsistent(t, p, r)
	}
}

// A forward that fails lets go of what it had kept at once, of a guided call's
// first branch too: the memory may be what the next attempt lacks.
func TestFailedForwardReleases(t *testing.T) {
	for name, p := range map[string]Problem{"plain": steer(t), "guided": guided(t, sampler.PredictV, 10)} {
		for _, method := range allMethods {
			for at := 1; at <= 3; at++ {
				net := analyticOf(p)
				first := net.calls
				net.before = func(call int) error {
					if call == first+at {
						return errors.New("out of memory")
					}
					return nil
				}
				chain, err := NewChain(p, setting(method, sampler.FreezeV), Latents)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := chain.Forward(context.Background(), Values{Latents: p.Start}, 0); err == nil {
					t.Errorf("%s, %s: no error", name, method)
				}
				if net.kept != 0 || chain.Counters().KeptBytes != 0 {
					t.Errorf("%s, %s, failing call %d: %d calls still kept", name, method, at, net.kept)
				}
				chain.Free()
			}
		}
	}
}

// content is an objective that is satisfied with a row after a number of
// evaluations, however high its loss.
type content struct {
	Objective
	after []int
	seen  int
}

func (c *content) Evaluate(ctx context.Context, x, grad Vector) ([]float64, error) {
	c.seen++
	return c.Objective.Evaluate(ctx, x, grad)
}

func (c *content) Satisfied() []bool {
	satisfied := make([]bool, len(c.after))
	for row, n := range c.after {
		satisfied[row] = c.seen > n
	}
	return satisfied
}

// A Satisfier's word stops a row and makes its latent of that moment the
// result, even where an earlier one had a lower loss.
func TestSatisfierDecidesEarlyStop(t *testing.T) {
	p, o := steer(t), options(50)
	rising := p.Objective.(*nearTarget)
	rising.change = func(evaluation int, losses []float64) { losses[1] = float64(evaluation) }
	p.Objective = &content{Objective: rising, after: []int{2, 4, 7}}
	o.EarlyStop, o.StopBelow = EarlyStopObjective, 1e9 // the Satisfier is asked instead
	r := mustRun(t, p, o)
	if !slices.Equal(r.RowUpdates, []int{2, 4, 7}) || r.Updates != 7 {
		t.Errorf("rows took part in %v updates of %d, want 2, 4 and 7 of 7", r.RowUpdates, r.Updates)
	}
	if r.BestUpdate[1] != 4 || r.BestLoss[1] != r.Losses[4][1] {
		t.Errorf("row 1 was satisfied after update 4, its result is of update %d", r.BestUpdate[1])
	}
}
