package sdo

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/sampler"
)

// gains is the network o_j = a_j x_j + b_j t/1000, trained in a and b.
type gains struct {
	params []Param
	was    []float64
	before func() error // of every call; may be nil
	spoil  bool         // the gradient of b is not a number
	kept   int
}

func newGains(space *slices64) *gains {
	g := &gains{}
	for k, name := range []string{"a", "b"} {
		values := make([]float64, testCols)
		for j := range values {
			values[j] = 0.3 + 0.1*float64(j) - 0.2*float64(k)
		}
		g.params, g.was = append(g.params, Param{name, space.of(values)}), append(g.was, values...)
	}
	return g
}

func (g *gains) Params() []Param               { return g.params }
func (g *gains) Changed(context.Context) error { return nil }

func (g *gains) Untuned(_ context.Context, do func() error) error {
	now := Problem{Network: g}
	before := parameters(now)
	setParameters(now, g.was)
	defer setParameters(now, before)
	return do()
}

func (g *gains) Predict(_ context.Context, in Input, out Vector) error {
	if g.before != nil {
		if err := g.before(); err != nil {
			return err
		}
	}
	a, b := numbers(g.params[0].Value), numbers(g.params[1].Value)
	for i, x := range numbers(in.X) {
		numbers(out)[i] = a[i%testCols]*x + b[i%testCols]*in.Timestep/1000
	}
	return nil
}

func (g *gains) Keep(ctx context.Context, in Input, _ Wrt, out Vector) (Kept, error) {
	g.kept++
	return &keptGains{g, slices.Clone(numbers(in.X)), in.Timestep}, g.Predict(ctx, in, out)
}

type keptGains struct {
	*gains
	x        []float64
	timestep float64
}

func (k *keptGains) Backward(_ context.Context, seed Vector, into Gradients) error {
	for _, p := range into.Params {
		clear(numbers(p))
	}
	for i, s := range numbers(seed) {
		if into.X != nil {
			numbers(into.X)[i] = s * numbers(k.params[0].Value)[i%testCols]
		}
		if into.Params != nil {
			numbers(into.Params[0])[i%testCols] += s * k.x[i]
			numbers(into.Params[1])[i%testCols] += s * k.timestep / 1000
		}
	}
	if k.spoil && into.Params != nil {
		numbers(into.Params[1])[0] = math.NaN()
	}
	return nil
}

func (k *keptGains) Bytes() int64 { return 8 }
func (k *keptGains) Release()     { k.kept-- }

// tuning is a problem of so many rows and a setting of it; every picture has a
// latent of its own.
func tuning(t *testing.T, solver string, method Method, rows int) (Problem, Tuning) {
	t.Helper()
	p := problem(tables(t, sampler.PredictEpsilon, 5)[solver], nil)
	p.Network, p.Rows, p.Start = newGains(p.Space.(*slices64)), rows, nil
	s, err := method.Surrogate(Parameters)
	if err != nil {
		t.Fatal(err)
	}
	o := Tuning{Surrogate: s, Optimizer: DefaultOptimizer(), Updates: 6, Accumulate: 1}
	o.Latents = func(_ context.Context, dst Vector, first int) error {
		for row := range dst.Len() / testCols {
			random := rand.New(rand.NewPCG(9, uint64(first+row)))
			for j := range testCols {
				numbers(dst)[row*testCols+j] = random.NormFloat64()
			}
		}
		return nil
	}
	return p, o
}

func tuner(t *testing.T, p Problem, o Tuning) *Tuner {
	t.Helper()
	space := p.Space.(*slices64)
	live := space.live
	tuner, err := NewTuner(p, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tuner.Free()
		if space.live != live {
			t.Errorf("%d vectors leaked", space.live-live)
		}
		if kept := p.Network.(*gains).kept; kept != 0 {
			t.Errorf("%d kept calls not released", kept)
		}
	})
	return tuner
}

func steps(t *testing.T, tuner *Tuner, n int) (losses []float64) {
	t.Helper()
	for range n {
		e, err := tuner.Step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, e.Losses...)
	}
	return losses
}

func parameters(p Problem) (all []float64) {
	for _, param := range p.Network.(Trainable).Params() {
		all = append(all, numbers(param.Value)...)
	}
	return all
}

func setParameters(p Problem, all []float64) {
	for _, param := range p.Network.(Trainable).Params() {
		n := copy(numbers(param.Value), all)
		all = all[n:]
	}
}

// One step of plain descent is the gradient of the mean loss, for a method that
// has the true one.
func TestTuningStepIsTheMeanGradient(t *testing.T) {
	for _, solver := range []string{"ddim", "ddpm", "dpmpp-2m"} {
		p, o := tuning(t, solver, MethodFull, 3)
		o.Optimizer, o.Accumulate = Optimizer{Rule: SGD, LR: 1}, 2
		tuner := tuner(t, p, o)
		before := parameters(p)
		want := differences(before, func(at []float64) float64 {
			setParameters(p, at)
			total := 0.0
			for _, first := range []int{0, 3} {
				losses, _, err := tuner.Evaluate(t.Context(), first)
				if err != nil {
					t.Fatal(err)
				}
				total += sum(losses) / 6
			}
			return total
		})
		setParameters(p, before)
		e, err := tuner.Step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		after := parameters(p)
		for i := range after {
			after[i] = before[i] - after[i]
		}
		wantNear(t, solver, after, want, 1e-8)
		wantNear(t, solver+": norm", []float64{e.GradNorm}, []float64{math.Sqrt(dot(want, want))}, 1e-8)
	}
}

// With pictures kept it is the gradient of the mean of loss and change.
func TestKeptPictures(t *testing.T) {
	for _, solver := range []string{"ddim", "ddpm"} {
		p, o := tuning(t, solver, MethodFull, 3)
		o.Optimizer, o.Keep = Optimizer{Rule: SGD, LR: 1}, 0.7
		tuner := tuner(t, p, o)
		_, sample, err := tuner.Evaluate(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		was := slices.Clone(numbers(sample))
		setParameters(p, []float64{0.5, 0.1, 0.2, -0.3, 0.4, 0.6, -0.1, 0.2})
		at := parameters(p)
		want := differences(at, func(at []float64) float64 {
			setParameters(p, at)
			losses, sample, err := tuner.Evaluate(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			total := sum(losses) / 3
			for i, x := range numbers(sample) {
				total += o.Keep * (x - was[i]) * (x - was[i]) / float64(len(was))
			}
			return total
		})
		setParameters(p, at)
		losses, _, _ := tuner.Evaluate(t.Context(), 0)
		e, err := tuner.Step(t.Context())
		if err != nil || !slices.Equal(e.Losses, losses) {
			t.Fatalf("losses %v, want the objective's %v: %v", e.Losses, losses, err)
		}
		got := parameters(p)
		for i := range got {
			got[i] = at[i] - got[i]
		}
		wantNear(t, solver, got, want, 1e-8)
	}
}

// How pictures are split into batches changes nothing.
func TestAccumulationEqualsABiggerBatch(t *testing.T) {
	run := func(rows, accumulate int) (losses, params []float64) {
		p, o := tuning(t, "ddim", MethodSDO, rows)
		o.Accumulate, o.MaxGradNorm, o.EMADecay = accumulate, 0.1, 0.5
		losses = steps(t, tuner(t, p, o), 4)
		return losses, parameters(p)
	}
	wantLosses, want := run(6, 1)
	for _, split := range [][2]int{{3, 2}, {2, 3}, {1, 6}} {
		losses, params := run(split[0], split[1])
		wantNear(t, "losses", losses, wantLosses, 1e-12)
		wantNear(t, "parameters", params, want, 1e-12)
	}
}

func TestTuningClipsTheMeansGradient(t *testing.T) {
	p, o := tuning(t, "ddim", MethodFull, 3)
	o.Optimizer, o.MaxGradNorm = Optimizer{Rule: SGD, LR: 1}, 0.01
	before := parameters(p)
	if e, err := tuner(t, p, o).Step(t.Context()); err != nil || e.GradNorm < 0.02 {
		t.Fatalf("gradient norm %v, want one to clip: %v", e.GradNorm, err)
	}
	after := parameters(p)
	for i := range after {
		after[i] -= before[i]
	}
	if norm := math.Sqrt(dot(after, after)); math.Abs(norm-0.01) > 1e-9 {
		t.Errorf("moved by %v, want the highest norm .01", norm)
	}
}

// A tuning that is stopped after any update and restored elsewhere ends in the
// same bits, whatever it draws.
func TestRestoredTuningEndsInTheSameBits(t *testing.T) {
	for _, c := range []struct {
		solver string
		method Method
		rule   OptimizerRule
		ema    float64
	}{
		{"ddim", MethodSDO, Adam, 0.9}, {"ddpm", MethodDRaFTLV, AdamW, 0}, {"ddpm", "drtune-2", SGD, 0.5}, {"heun", MethodAlignProp, Adam, 0},
	} {
		setting := func() (Problem, Tuning) {
			p, o := tuning(t, c.solver, c.method, 2)
			o.Optimizer.Rule, o.EMADecay, o.Accumulate = c.rule, c.ema, 2
			return p, o
		}
		p, o := setting()
		whole := tuner(t, p, o)
		wantLosses := steps(t, whole, 6)
		want, err := whole.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for stop := range 7 {
			p, o := setting()
			first := tuner(t, p, o)
			losses := steps(t, first, stop)
			state, err := first.State(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			steps(t, first, 1) // what a killed run did after its checkpoint is lost
			p, o = setting()
			second := tuner(t, p, o)
			if err := second.Restore(t.Context(), state); err != nil {
				t.Fatal(err)
			}
			losses = append(losses, steps(t, second, 6-stop)...)
			got, err := second.State(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(losses, wantLosses) || got.Update != 6 || !second.Done() {
				t.Errorf("%v: stopped after %d: losses %v, want %v", c, stop, losses, wantLosses)
			}
			for name, values := range want.Tensors {
				if !slices.Equal(got.Tensors[name], values) {
					t.Errorf("%v: stopped after %d: %s is %v, want %v", c, stop, name, got.Tensors[name], values)
				}
			}
		}
	}
}

func TestRestoreRefusesAnotherTuning(t *testing.T) {
	p, o := tuning(t, "ddim", MethodSDO, 2)
	plain := tuner(t, p, o)
	state, err := plain.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, o = tuning(t, "ddim", MethodSDO, 2)
	o.EMADecay = 0.9
	wantRefused(t, tuner(t, p, o).Restore(t.Context(), state), "0 numbers of ema/a, want 4; it belongs to another tuning")
	state.Tensors["ema/a"] = nil
	wantRefused(t, plain.Restore(t.Context(), state), "holds ema/a, which this tuning has not")
	state.Update = -1
	wantRefused(t, plain.Restore(t.Context(), state), "after -1 updates")
}

// The average follows the parameters, is what the network has while it is
// published, and leaves training alone.
func TestPublishedAverage(t *testing.T) {
	p, o := tuning(t, "ddim", MethodSDO, 2)
	o.EMADecay = 0.3
	averaged := tuner(t, p, o)
	average := parameters(p)
	for u := range 6 {
		steps(t, averaged, 1)
		now := parameters(p)
		decay := min(0.3, float64(u+1)/float64(u+10))
		for i := range average {
			average[i] = decay*average[i] + (1-decay)*now[i]
		}
		seen := []float64(nil)
		err := averaged.Published(t.Context(), func() error {
			seen = parameters(p)
			_, _, err := averaged.Evaluate(t.Context(), HeldOut)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		wantNear(t, "average", seen, average, 1e-14)
		if !slices.Equal(parameters(p), now) {
			t.Error("publishing changed the parameters")
		}
	}
	after := parameters(p)
	p, o = tuning(t, "ddim", MethodSDO, 2)
	steps(t, tuner(t, p, o), 6)
	if !slices.Equal(parameters(p), after) {
		t.Error("keeping an average changes the training")
	}
}

// Every picture begins at a latent of its own, and none at a held-out one; so
// does fresh noise.
func TestPicturesAreNeverRepeated(t *testing.T) {
	p, o := tuning(t, "ddpm", MethodSDO, 2)
	o.Accumulate = 3
	latents, seen := o.Latents, map[int]bool{}
	o.Latents = func(ctx context.Context, dst Vector, first int) error {
		for row := range 2 {
			if seen[first+row] || first >= HeldOut {
				t.Errorf("picture %d again", first+row)
			}
			seen[first+row] = true
		}
		return latents(ctx, dst, first)
	}
	tuner := tuner(t, p, o)
	steps(t, tuner, 6)
	if len(seen) != 36 {
		t.Errorf("%d pictures, want 36", len(seen))
	}
	tuner.tuning.Latents = latents
	o.Latents = latents
	_, _, _ = tuner.Evaluate(t.Context(), HeldOut)
	first := slices.Clone(numbers(tuner.chain.noise))
	_, _, _ = tuner.Evaluate(t.Context(), HeldOut+2)
	if slices.Equal(first, numbers(tuner.chain.noise)) {
		t.Error("two batches share their fresh noise")
	}
	_, _, _ = tuner.Evaluate(t.Context(), HeldOut)
	if !slices.Equal(first, numbers(tuner.chain.noise)) {
		t.Error("a batch's fresh noise is not always the same")
	}
}

// What is not finite stops the tuning before it reaches the parameters, and is
// named.
func TestTuningThatIsNotFinite(t *testing.T) {
	p, o := tuning(t, "ddim", MethodFull, 2)
	spoilt := tuner(t, p, o)
	p.Network.(*gains).spoil = true
	before := parameters(p)
	_, err := spoilt.Step(t.Context())
	wantRefused(t, err, "a gradient is not finite after 0 updates: the first such tensor is that of parameter b; lower the learning rate")
	if !slices.Equal(parameters(p), before) || spoilt.Update() != 0 {
		t.Error("the step was made all the same")
	}

	p, o = tuning(t, "ddim", MethodFull, 2)
	numbers(p.Network.(*gains).params[1].Value)[2] = math.Inf(1)
	_, err = tuner(t, p, o).Step(t.Context())
	wantRefused(t, err, "the loss of picture 0 is")
	wantRefused(t, err, "the first tensor that is not finite is parameter b")
}

// An update that the context ends is not made.
func TestCancelledUpdateIsNotMade(t *testing.T) {
	p, o := tuning(t, "ddim", MethodSDO, 2)
	o.Accumulate = 2
	tuner := tuner(t, p, o)
	steps(t, tuner, 1)
	before, _ := tuner.State(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	p.Network.(*gains).before = func() error {
		if calls++; calls == 7 { // of ten
			cancel()
		}
		return nil
	}
	if _, err := tuner.Step(ctx); err == nil || ctx.Err() == nil || err.Error() != ctx.Err().Error() {
		t.Fatalf("got %v, want %v", err, ctx.Err())
	}
	p.Network.(*gains).before = nil
	after, _ := tuner.State(t.Context())
	for name, values := range before.Tensors {
		if !slices.Equal(after.Tensors[name], values) || after.Update != before.Update {
			t.Errorf("%s changed", name)
		}
	}
}

func TestTuningEvents(t *testing.T) {
	p, o := tuning(t, "ddim", MethodSDO, 2)
	o.Accumulate = 2
	tuner := tuner(t, p, o)
	var kinds []string
	tuner.Observe(func(e Event) {
		kinds = append(kinds, string(e.Kind))
		if e.Updates != 6 || e.Kind == EventUpdate && (len(e.Losses) != 4 || !(e.GradNorm > 0) || e.Update != 1 || e.Counters.BackwardCalls != 2) {
			t.Errorf("event %+v", e)
		}
	})
	steps(t, tuner, 1)
	batch := strings.Repeat("step ", 5) + "backward "
	if got := strings.Join(kinds, " "); got != batch+batch+"update" {
		t.Errorf("events %s", got)
	}
}

func TestTuningRefuses(t *testing.T) {
	tests := []struct {
		want  string
		spoil func(*Problem, *Tuning)
	}{
		{"learning rate is -1", func(_ *Problem, o *Tuning) { o.Optimizer.LR = -1 }},
		{"-1 updates", func(_ *Problem, o *Tuning) { o.Updates = -1 }},
		{"0 batches to an update", func(_ *Problem, o *Tuning) { o.Accumulate = 0 }},
		{"need more than the 2^30 there are", func(_ *Problem, o *Tuning) { o.Updates, o.Accumulate = 1e6, 1e4 }},
		{"highest gradient norm is NaN", func(_ *Problem, o *Tuning) { o.MaxGradNorm = math.NaN() }},
		{"decay of the average is 1", func(_ *Problem, o *Tuning) { o.EMADecay = 1 }},
		{"weight of keeping pictures is -1", func(_ *Problem, o *Tuning) { o.Keep = -1 }},
		{"the method's loss is not at the sample", func(_ *Problem, o *Tuning) { o.Keep, o.Surrogate.Jump = 1, true }},
		{"cannot go back to what it was", func(p *Problem, o *Tuning) { o.Keep, p.Network = 1, struct{ Trainable }{p.Network.(*gains)} }},
		{"nothing says where the pictures", func(_ *Problem, o *Tuning) { o.Latents = nil }},
		{"no objective", func(p *Problem, _ *Tuning) { p.Objective = nil }},
		{"the network has none to train", func(p *Problem, _ *Tuning) {
			p.Network = &analytic{rowNetwork: newMixture(p.Table, testCols, 3), cols: testCols}
		}},
		{"active none keeps no call", func(_ *Problem, o *Tuning) { o.Surrogate.Active = ActiveNone }},
	}
	for _, tt := range tests {
		p, o := tuning(t, "ddim", MethodSDO, 2)
		tt.spoil(&p, &o)
		_, err := NewTuner(p, o)
		wantRefused(t, err, tt.want)
	}
}

func wantRefused(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v, want %q in it", err, want)
	}
}

// Copies counts what is allocated.
func TestTunerCopies(t *testing.T) {
	for _, method := range []Method{MethodSDO, MethodFull, MethodDRaFTLV, MethodReFL, "draft-1", "draft-3"} {
		for _, accumulate := range []int{1, 2} {
			for _, rule := range []OptimizerRule{SGD, Adam} {
				p, o := tuning(t, "ddim", method, 2)
				o.Accumulate, o.Optimizer.Rule, o.EMADecay = accumulate, rule, 0.5*float64(accumulate-1)
				if !o.Surrogate.Jump && o.Surrogate.Renoised == 0 {
					o.Keep = float64(accumulate - 1)
				}
				space := p.Space.(*slices64)
				before := space.live
				tuner := tuner(t, p, o)
				params := o.Copies(len(p.Table.Steps)) * 2
				batches := o.Vectors() + o.Surrogate.Demand(p.Table, []Variable{Parameters}).Vectors
				if got := space.live - before; got != params+batches {
					t.Errorf("%s, %d batches, %s: %d vectors, want %d of parameters and %d of pictures", method, accumulate, rule, got, params, batches)
				}
				steps(t, tuner, 1)
			}
		}
	}
}
