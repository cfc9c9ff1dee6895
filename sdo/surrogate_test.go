package sdo

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/sampler"
)

// This file holds the surrogate against its definition for all variables: the
// ten assertions of docs/method.md, What the tests hold. Those on latents alone
// are in gradient_test.go.

// steered is a problem with all variables: a condition, guidance 2.5 and weights
// to train.
func steered(table *sampler.Table) Problem {
	p := problem(table, newPerceptron(testCols, 6))
	p.Guidance = 2.5
	p.Cond = &boxed{make(vector, testRows*6)}
	_ = p.Space.Normal(p.Cond, 8, 0)
	return p
}

// point is a value of every variable, its vectors one after the other.
type point map[Variable][]float64

func flat(v Values, name Variable) (all []float64) {
	of, _ := v.of(name)
	for _, x := range of {
		all = append(all, numbers(x)...)
	}
	return all
}

// begin is where a problem's variables begin.
func begin(t testing.TB, p Problem) point {
	t.Helper()
	v, err := p.StartValues(context.Background(), available(p)...)
	if err != nil {
		t.Fatal(err)
	}
	at := point{}
	for _, name := range available(p) {
		at[name] = slices.Clone(flat(v, name))
	}
	v.Parameters = nil
	p.FreeValues(v)
	return at
}

// available are the variables that a problem has.
func available(p Problem) (vary []Variable) {
	for _, v := range Variables {
		has := true
		switch v {
		case Noises:
			has = p.Table.Stochastic()
		case Condition, GuidanceScale:
			has = p.Cond != nil
		}
		if has {
			vary = append(vary, v)
		}
	}
	return vary
}

// moved is the point a distance along a direction of one variable.
func (at point) moved(v Variable, direction []float64, by float64) point {
	to := point{}
	for name, x := range at {
		to[name] = x
	}
	to[v] = slices.Clone(at[v])
	for i, d := range direction {
		to[v][i] += by * d
	}
	return to
}

// direction is a random one of unit length.
func direction(n int, seed uint64) []float64 {
	random, d := rand.New(rand.NewPCG(seed, 9)), make([]float64, n)
	for i := range d {
		d[i] = random.NormFloat64()
	}
	norm := math.Sqrt(dot(d, d))
	for i := range d {
		d[i] /= norm
	}
	return d
}

// answer is what the guided network says at a point, and what each branch does.
func answer(p Problem, i int, x []float64, at point) []float64 {
	net := analyticOf(p)
	from := 0
	for _, param := range net.Params() {
		from += copy(numbers(param.Value), at[Parameters][from:])
	}
	if from > 0 {
		_ = net.Changed(context.Background())
	}
	in := Input{X: &boxed{x}, Timestep: p.Table.Steps[i].Timestep}
	if p.Cond != nil {
		in.Cond = &boxed{at[Condition]}
	}
	out := &boxed{make(vector, len(x))}
	_ = net.Predict(context.Background(), in, out)
	if p.Cond == nil {
		return out.vector
	}
	in.Cond = nil
	free := &boxed{make(vector, len(x))}
	_ = net.Predict(context.Background(), in, free)
	for j := range out.vector {
		s := at[GuidanceScale][j/p.Cols]
		out.vector[j] = s*out.vector[j] + (1-s)*free.vector[j]
	}
	return out.vector
}

// definition is the surrogate of docs/method.md written as a sampler: the held
// states and frozen quantities of one rollout, and the calls that are live.
type definition struct {
	Problem
	Surrogate
	steps  []sampler.FrozenStep
	live   map[int]float64 // 1/pi of the active calls
	states [][]float64
	frozen [][]float64
}

func define(t testing.TB, p Problem, s Surrogate, active []int, at point) *definition {
	t.Helper()
	transport, err := p.Table.Freeze(s.Freeze)
	if err != nil {
		t.Fatal(err)
	}
	d := &definition{Problem: p, Surrogate: s, steps: transport.Steps, live: map[int]float64{}}
	total := 0.0
	for i, step := range d.steps {
		total += math.Abs(transport.Weights[i] * step.FromOutput)
	}
	n := float64(len(d.steps))
	for _, i := range active {
		d.live[i] = 1
		switch s.Active {
		case ActiveUniform:
			d.live[i] = n / float64(s.Calls)
		case ActiveCycle:
			d.live[i] = n
		case ActiveImportance:
			d.live[i] = total / math.Abs(transport.Weights[i]*d.steps[i].FromOutput)
		}
	}
	d.walk(at, func(i int, x []float64) []float64 {
		f := d.quantity(i, x, x, at)
		d.states, d.frozen = append(d.states, x), append(d.frozen, f)
		return f
	})
	return d
}

// quantity is f_i of a state and the network's answer at another.
func (d *definition) quantity(i int, x, asked []float64, at point) []float64 {
	f := answer(d.Problem, i, asked, at)
	for j := range f {
		f[j] = d.steps[i].FromState*x[j] + d.steps[i].FromOutput*f[j]
	}
	return f
}

// walk is the solver with frozen quantities from elsewhere.
func (d *definition) walk(at point, quantity func(i int, x []float64) []float64) []float64 {
	x, noises := make([]float64, d.size()), at[Noises]
	for j := range x {
		x[j] = d.Table.Start * at[Latents][j]
	}
	memories := make([][]float64, len(d.steps))
	for i, step := range d.steps {
		f, next := quantity(i, x), make([]float64, len(x))
		memories[i] = make([]float64, len(x))
		for j := range x {
			memories[i][j] = step.MemoryState*x[j] + step.MemoryFrozen*f[j]
			next[j] = step.State*x[j] + step.Frozen*f[j]
			if step.Noise != 0 {
				next[j] += step.Noise * noises[j]
			}
			for k, weight := range step.Earlier {
				next[j] += weight * memories[i-1-k][j]
			}
		}
		if step.Noise != 0 {
			noises = noises[len(x):]
		}
		x = next
	}
	return x
}

// sample is the surrogate's at a point that differs from where it was defined in
// one variable.
func (d *definition) sample(v Variable, at point) []float64 {
	return d.walk(at, func(i int, x []float64) []float64 {
		weight := d.live[i]
		switch {
		case d.Bridge > 0: // all gradients pass the active calls
		case v == GuidanceScale: // linear in the scale, so no call needs to be kept
			weight = 1
		case v == Latents && i == 0 && d.Active != ActiveNone:
			weight = 1 // the start is reached by the first call alone
		case v == Latents || v == Noises:
			weight = 0
		}
		f := slices.Clone(d.frozen[i])
		if weight == 0 {
			return f
		}
		asked := slices.Clone(d.states[i])
		for j := range asked {
			share := d.Bridge
			if i == 0 {
				share = 1
			}
			asked[j] += share * (x[j] - asked[j])
		}
		for j, q := range d.quantity(i, asked, asked, at) {
			f[j] += weight * (q - d.frozen[i][j])
		}
		return f
	})
}

// slope is the derivative of f along a direction of a variable, at the point.
func slope(at point, v Variable, along []float64, f func(point) float64) float64 {
	const h = 3e-4
	moved := func(by float64) float64 { return f(at.moved(v, along, by)) }
	return (8*(moved(h)-moved(-h)) - (moved(2*h) - moved(-2*h))) / (12 * h)
}

// wantSlope holds a gradient against a derivative along a random direction.
func wantSlope(t *testing.T, what string, p Problem, at point, v Variable, got []float64, tolerance float64, f func(point) float64) {
	t.Helper()
	along := direction(len(at[v]), uint64(len(what)))
	want, have := slope(at, v, along, f), dot(got, along)
	if !(math.Abs(want-have) <= tolerance*math.Sqrt(dot(got, got))+2e-11*(1+f(at))) {
		t.Errorf("%s: slope along %s is %.12g, want %.12g", what, v, have, want)
	}
}

// gradients runs a chain at a point and checks that nothing was leaked.
func gradients(t testing.TB, p Problem, s Surrogate, update int, at point, vary ...Variable) (grads point, losses []float64, active []int) {
	t.Helper()
	space, net := p.Space.(*slices64), analyticOf(p)
	live := space.live
	c, err := NewChain(p, s, vary...)
	if err != nil {
		t.Fatal(err)
	}
	values := valuesAt(p, at)
	if !slices.Contains(vary, GuidanceScale) && c.guided == nil {
		values.GuidanceScale = nil
	}
	if losses, err = c.Forward(context.Background(), values, update); err != nil {
		t.Fatal(err)
	}
	for _, call := range c.active {
		if call.weight != 0 || s.Active == ActiveFirst {
			active = append(active, call.index)
		}
	}
	into, err := p.NewValues(vary...)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Backward(context.Background(), into); err != nil {
		t.Fatal(err)
	}
	grads = point{}
	for _, v := range vary {
		grads[v] = slices.Clone(flat(into, v))
	}
	p.FreeValues(into)
	c.Free()
	if space.live != live || net.kept != 0 {
		t.Fatalf("%d vectors and %d kept calls leaked", space.live-live, net.kept)
	}
	return grads, losses, active
}

// valuesAt is the point as a chain takes it. The parameters are written to the
// network.
func valuesAt(p Problem, at point) Values {
	v := Values{Latents: &boxed{at[Latents]}}
	if p.Table.Stochastic() {
		v.Noises = make([]Vector, len(p.Table.Steps))
		from := 0
		for i, step := range p.Table.Steps {
			if step.Noise != 0 {
				v.Noises[i] = &boxed{at[Noises][from : from+p.size()]}
				from += p.size()
			}
		}
	}
	if p.Cond != nil {
		v.Condition, v.GuidanceScale = &boxed{at[Condition]}, &boxed{at[GuidanceScale]}
	}
	return v
}

// analyticOf is the network behind a problem.
func analyticOf(p Problem) *analytic {
	switch net := p.Network.(type) {
	case *batching:
		return net.analytic
	default:
		return net.(*analytic)
	}
}

// activeSets are settings with every choice of calls and these bridges.
func activeSets(freeze sampler.Freeze, bridges ...float64) (all []Surrogate) {
	for _, active := range Actives {
		calls := 0
		if active.counted() {
			calls = 2
		}
		for _, bridge := range bridges {
			if active == ActiveNone && bridge > 0 {
				continue // nothing to bridge
			}
			all = append(all, Surrogate{Freeze: freeze, Active: active, Calls: calls, Bridge: bridge, Seed: 3})
		}
	}
	return all
}

func (s Surrogate) String() string {
	return strings.Join([]string{string(s.Active), strconv.Itoa(s.Calls), string(s.Freeze), "bridge", fmt.Sprint(s.Bridge)}, " ")
}

// reached are the variables that a setting has gradients for: all, but that a
// latent's path passes no call whose weight carries a factor N, and that nothing
// but a kept call sees condition and parameters.
func reached(s Surrogate, p Problem) []Variable {
	return slices.DeleteFunc(available(p), func(v Variable) bool {
		switch v {
		case Latents, Noises:
			return s.Active.unbiased() && s.Bridge > 0
		case Condition, Parameters:
			return s.Active == ActiveNone
		}
		return false
	})
}

// eachSteered runs a test on a problem with all variables for every solver that
// fits.
func eachSteered(t *testing.T, steps int, test func(*testing.T, Problem)) {
	for _, prediction := range allPredictions {
		for solver, table := range tables(t, prediction, steps) {
			if prediction == sampler.PredictSample && solver != "ddim" {
				continue // its conversions are linear like the others'
			}
			t.Run(fmt.Sprintf("%s/%s", solver, prediction), func(t *testing.T) { test(t, steered(table)) })
		}
	}
}

// Assertions 1 and 4: whatever is frozen, active and bridged, the value is the
// rollout's and the gradients are the surrogate's own, by differences with all
// else held.
func TestSurrogateOfAllVariables(t *testing.T) {
	eachSteered(t, 3, func(t *testing.T, p Problem) {
		at := begin(t, p)
		rollout := tell(t, p).sample
		for _, freeze := range definedFreezes(p.Table) {
			for _, s := range activeSets(freeze, 0, 0.3, 1) {
				vary := reached(s, p)
				got, losses, active := gradients(t, p, s, 1, at, vary...)
				d := define(t, p, s, active, at)
				if value := totalLoss(p, rollout); math.Abs(sum(losses)-value) > 1e-12*value {
					t.Errorf("%v: the loss is %v, the rollout's %v", s, sum(losses), value)
				}
				for _, v := range vary {
					wantNear(t, fmt.Sprintf("%v: value by %s", s, v), d.sample(v, at), rollout, 1e-11)
					wantSlope(t, s.String(), p, at, v, got[v], 1e-8, func(to point) float64 { return totalLoss(p, d.sample(v, to)) })
				}
			}
		}
		answer(p, 0, make([]float64, p.size()), at) // leaves the weights as they were
	})
}

// A variable's gradient does not depend on what else varies.
func TestVariablesDoNotDisturbEachOther(t *testing.T) {
	for _, table := range []*sampler.Table{tables(t, sampler.PredictV, 4)["ddpm"], tables(t, sampler.PredictFlow, 4)["flow-euler"]} {
		p := steered(table)
		at := begin(t, p)
		for _, s := range append(activeSets(sampler.FreezeV, 0, 0.3), Surrogate{Freeze: sampler.FreezeSolver, Active: ActiveFirst, Jump: true}) {
			vary := reached(s, p)
			if s.Jump {
				vary = slices.DeleteFunc(vary, func(v Variable) bool { return v == Noises })
			}
			together, _, _ := gradients(t, p, s, 0, at, vary...)
			for _, v := range vary {
				if s.Validate(table, []Variable{v}) != nil {
					continue // kept calls that this variable alone has no use for
				}
				alone, _, _ := gradients(t, p, s, 0, at, v)
				wantNear(t, fmt.Sprintf("%v, %s alone", s, v), alone[v], together[v], 1e-14)
			}
		}
	}
}

// full is back-propagation.
var full = Surrogate{Freeze: sampler.FreezeSolver, Active: ActiveAll, Bridge: 1}

// Assertion 3: with one call nothing is held, whatever is frozen.
func TestOneCallEqualsFullForAllVariables(t *testing.T) {
	eachSteered(t, 1, func(t *testing.T, p Problem) {
		if len(p.Table.Steps) != 1 {
			t.Fatalf("%d calls in one step", len(p.Table.Steps))
		}
		at := begin(t, p)
		want, _, _ := gradients(t, p, full, 0, at, available(p)...)
		for _, freeze := range definedFreezes(p.Table) {
			for _, s := range activeSets(freeze, 0, 1) {
				if s.Calls > 0 {
					s.Calls = 1
				}
				if s.Active == ActiveNone {
					continue
				}
				vary := reached(s, p)
				got, _, _ := gradients(t, p, s, 0, at, vary...)
				for _, v := range vary {
					wantNear(t, fmt.Sprintf("%v: %s", s, v), got[v], want[v], 1e-11)
				}
			}
		}
	})
}

// Assertion 5: the mean over the draws, each with its probability, is the
// gradient with all calls active, to rounding. The draws are enumerated.
func TestDrawsAreUnbiased(t *testing.T) {
	const n = 5
	p := steered(tables(t, sampler.PredictV, n)["dpmpp-2m"])
	at, vary := begin(t, p), []Variable{Condition, Parameters}
	for _, freeze := range allFreezes {
		all := Surrogate{Freeze: freeze, Active: ActiveAll}
		want, _, _ := gradients(t, p, all, 0, at, vary...)
		tr := transport(t, p, freeze)
		total := 0.0
		for i, step := range tr.Steps {
			total += math.Abs(tr.Weights[i] * step.FromOutput)
		}
		for _, s := range []Surrogate{
			{Freeze: freeze, Active: ActiveUniform, Calls: 1},
			{Freeze: freeze, Active: ActiveUniform, Calls: 2},
			{Freeze: freeze, Active: ActiveUniform, Calls: n},
			{Freeze: freeze, Active: ActiveImportance},
			{Freeze: freeze, Active: ActiveCycle},
		} {
			mean, seen, whole := point{}, map[string]bool{}, 0.0
			for _, v := range vary {
				mean[v] = make([]float64, len(want[v]))
			}
			for update := 0; whole < 1-1e-12; update++ {
				if update == 3000 {
					t.Fatalf("%v: the draws seen have probability %v", s, whole)
				}
				calls := drawn(t, p, s, update)
				if seen[fmt.Sprint(calls)] {
					continue
				}
				seen[fmt.Sprint(calls)] = true
				probability := map[Active]float64{ActiveUniform: 1 / choose(n, s.Calls), ActiveCycle: 1.0 / n}[s.Active]
				if s.Active == ActiveImportance {
					probability = math.Abs(tr.Weights[calls[0]]*tr.Steps[calls[0]].FromOutput) / total
				}
				whole += probability
				got, _, active := gradients(t, p, s, update, at, vary...)
				if !slices.Equal(active, calls) {
					t.Fatalf("%v: update %d drew %v, then %v", s, update, calls, active)
				}
				for _, v := range vary {
					for j, g := range got[v] {
						mean[v][j] += probability * g
					}
				}
			}
			for _, v := range vary {
				wantNear(t, fmt.Sprintf("%v: mean of %s", s, v), mean[v], want[v], 1e-12)
			}
		}
	}
}

func choose(n, k int) float64 {
	c := 1.0
	for i := range k {
		c *= float64(n-i) / float64(i+1)
	}
	return c
}

// drawn are the calls active at an update.
func drawn(t testing.TB, p Problem, s Surrogate, update int) (calls []int) {
	t.Helper()
	c, err := NewChain(p, s, Parameters)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Free()
	for _, a := range c.draw(update) {
		calls = append(calls, a.index)
	}
	return calls
}

// The draws come with the probabilities they are weighted by, and as the lists
// of Active say: 20000 of each against what is expected, four deviations wide.
func TestDraws(t *testing.T) {
	const n, draws = 7, 20000
	p := steered(table(t, sampler.PredictV, n))
	uniformly := func(p float64) []float64 { return slices.Repeat([]float64{p}, n) }
	tail := make([]float64, n)
	for i := range tail {
		tail[i] = float64(i+1) / n
	}
	importance := make([]float64, n)
	tr, total := transport(t, p, sampler.FreezeEps), 0.0
	for i, step := range tr.Steps {
		importance[i] = math.Abs(tr.Weights[i] * step.FromOutput)
		total += importance[i]
	}
	for i := range importance {
		importance[i] /= total
	}
	for _, test := range []struct {
		Surrogate
		want  []float64 // share of draws that have each call
		sizes []int     // lowest and highest
	}{
		{Surrogate{Active: ActiveFirst}, []float64{1, 0, 0, 0, 0, 0, 0}, []int{1, 1}},
		{Surrogate{Active: ActiveLast, Calls: 3}, []float64{0, 0, 0, 0, 1, 1, 1}, []int{3, 3}},
		{Surrogate{Active: ActiveAll}, uniformly(1), []int{n, n}},
		{Surrogate{Active: ActiveUniform, Calls: 1}, uniformly(1. / n), []int{1, 1}},
		{Surrogate{Active: ActiveUniform, Calls: 3}, uniformly(3. / n), []int{3, 3}},
		{Surrogate{Active: ActiveImportance}, importance, []int{1, 1}},
		{Surrogate{Active: ActiveCycle}, uniformly(1. / n), []int{1, 1}},
		{Surrogate{Active: ActiveSpaced, Calls: 3}, uniformly(3. / n), []int{3, 3}},
		{Surrogate{Active: ActiveTail}, tail, []int{1, n}},
		{Surrogate{Active: ActiveLate, Calls: 3}, []float64{0, 0, 0, 0, 1. / 3, 1. / 3, 1. / 3}, []int{1, 1}},
		{Surrogate{Active: ActiveLate, Calls: 10}, uniformly(1. / n), []int{1, 1}}, // of fewer calls than that: of all
	} {
		test.Freeze = sampler.FreezeEps
		c, err := NewChain(p, test.Surrogate, Parameters)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Free()
		share, sizes := make([]float64, n), []int{n, 0}
		for update := range draws {
			calls := c.draw(update)
			sizes = []int{min(sizes[0], len(calls)), max(sizes[1], len(calls))}
			for k, call := range calls {
				share[call.index] += 1. / draws
				if k > 0 && call.index <= calls[k-1].index {
					t.Fatalf("%v: calls %v are not rising", test.Surrogate, calls)
				}
				if test.Active == ActiveSpaced && k > 0 && call.index-calls[k-1].index != 2 && call.index-calls[k-1].index != 3 {
					t.Fatalf("%v: %v are not equally spaced", test.Surrogate, calls)
				}
				if test.Active == ActiveCycle && call.index != update%n {
					t.Fatalf("update %d of the cycle has call %d", update, call.index)
				}
			}
		}
		for i, got := range share {
			if deviation := math.Sqrt(test.want[i] * (1 - test.want[i]) / draws); math.Abs(got-test.want[i]) > 4*deviation+1e-9 {
				t.Errorf("%v: call %d is in %.4f of the draws, want %.4f", test.Surrogate, i, got, test.want[i])
			}
		}
		if !slices.Equal(sizes, test.sizes) {
			t.Errorf("%v: %v calls, want %v", test.Surrogate, sizes, test.sizes)
		}
	}
}

// Assertion 7, first half: bridged whole with every call active, the surrogate
// is back-propagation, whatever is frozen: the sampler's own derivative.
func TestBridgedWholeEqualsFiniteDifferences(t *testing.T) {
	eachSteered(t, 4, func(t *testing.T, p Problem) {
		at := begin(t, p)
		// A scale of its own for every row.
		at[GuidanceScale] = []float64{2.5, 0.4, -1}
		value := func(to point) float64 {
			answer(p, 0, make([]float64, p.size()), to) // takes the parameters in
			c, err := NewChain(p, full, GuidanceScale)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Free()
			sample, err := c.Rollout(context.Background(), valuesAt(p, to))
			if err != nil {
				t.Fatal(err)
			}
			return totalLoss(p, numbers(sample))
		}
		want, _, _ := gradients(t, p, full, 0, at, available(p)...)
		for _, v := range available(p) {
			wantSlope(t, "full", p, at, v, want[v], 1e-8, value)
		}
		answer(p, 0, make([]float64, p.size()), at)
		for _, freeze := range definedFreezes(p.Table) {
			for _, recompute := range []bool{false, true} {
				s := full
				s.Freeze, s.Recompute = freeze, recompute
				got, _, _ := gradients(t, p, s, 0, at, available(p)...)
				for _, v := range available(p) {
					wantNear(t, fmt.Sprintf("%v, recomputed %v: %s", s, recompute, v), got[v], want[v], 1e-10)
				}
			}
		}
	})
}

// Assertion 7, second half: the last call active is DRaFT-1 (arXiv 2309.17400),
// written out: the rollout without gradients but for the last step.
func TestActiveLastIsDRaFT1(t *testing.T) {
	eachSteered(t, 4, func(t *testing.T, p Problem) {
		at, s := begin(t, p), tell(t, p)
		last := len(s.states) - 1
		step := p.Table.Steps[last]
		sample := func(to point) []float64 {
			x, now := slices.Clone(s.sample), answer(p, last, s.states[last], to)
			for j := range x {
				x[j] += step.Output * (now[j] - s.outputs[last][j])
			}
			return x
		}
		for _, freeze := range definedFreezes(p.Table) {
			for _, bridge := range []float64{0, 1} { // there is nothing to bridge
				got, _, _ := gradients(t, p, Surrogate{Freeze: freeze, Active: ActiveLast, Calls: 1, Bridge: bridge}, 0, at, Parameters, Condition)
				for v, g := range got {
					wantSlope(t, "draft-1 with "+string(freeze), p, at, v, g, 1e-8, func(to point) float64 { return totalLoss(p, sample(to)) })
				}
			}
		}
		answer(p, 0, make([]float64, p.size()), at)
	})
}

// Assertion 8 for parameters: for o = m(t) M x the gradient at M is
// sum_i w_i q_i m(t_i) g x_i^T.
func TestLinearNetworkClosedFormOfParameters(t *testing.T) {
	matrix := [][]float64{{.5, .2, 0, -.1}, {-.3, .4, .1, 0}, {0, .2, .6, .3}, {.1, 0, -.2, .3}}
	net := linear{matrix, func(timestep float64) float64 { return 0.5 + timestep/2000 }}
	for _, prediction := range allPredictions {
		for name, table := range tables(t, prediction, 6) {
			p := problem(table, net)
			s := tell(t, p)
			for _, freeze := range definedFreezes(table) {
				tr, want := transport(t, p, freeze), make([]float64, testCols*testCols)
				for i, step := range tr.Steps {
					factor := tr.Weights[i] * step.FromOutput * net.scale(table.Steps[i].Timestep)
					for row := range testRows {
						for j := range testCols {
							for k := range testCols {
								residual := s.sample[row*testCols+j] - p.Objective.(*nearTarget).target[j]
								want[j*testCols+k] += factor * residual * s.states[i][row*testCols+k]
							}
						}
					}
				}
				got, _, _ := gradients(t, p, Surrogate{Freeze: freeze, Active: ActiveAll}, 0, begin(t, p), Parameters)
				wantNear(t, fmt.Sprintf("%s, %s network, %s frozen", name, prediction, freeze), got[Parameters], want, 1e-12)
			}
		}
	}
}
