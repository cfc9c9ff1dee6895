package sdo

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/sdo-go/sdo/sampler"
)

const (
	testRows = 3
	testCols = 4
)

var (
	allMethods      = []Method{MethodSDO, MethodFull, MethodFullCheckpoint, MethodIdentity}
	allFreezes      = []sampler.Freeze{sampler.FreezeEps, sampler.FreezeV, sampler.FreezeX0, sampler.FreezeSolver}
	betaPredictions = []sampler.Prediction{sampler.PredictEpsilon, sampler.PredictV, sampler.PredictSample}
	allPredictions  = append(betaPredictions[:3:3], sampler.PredictFlow, sampler.PredictEDM)
)

// schedule is latent diffusion's, at whose last step DDIM and the sigma solvers
// that can keep noise, so that every freeze has a gradient.
func schedule(prediction sampler.Prediction) sampler.Config {
	config := sampler.DefaultConfig()
	config.BetaSchedule, config.BetaStart, config.BetaEnd = sampler.ScheduleScaledLinear, 0.00085, 0.012
	config.ClipSample, config.SetAlphaToOne, config.StepsOffset = false, false, 1
	config.PredictionType, config.FinalSigmasType = prediction, sampler.FinalSigmaMin
	config.OriginalInferenceSteps, config.Shift = 100, 3
	if prediction == sampler.PredictEDM {
		config.SigmaMin, config.SigmaMax, config.SigmaData = 0.1, 20, 0.7
	}
	return config
}

// table is DDIM's.
func table(t testing.TB, prediction sampler.Prediction, steps int) *sampler.Table {
	t.Helper()
	return tables(t, prediction, steps)["ddim"]
}

// tables are every solver's that can ask such a network, by name, and one that
// asks more of the arithmetic than any of them. Those of Euler start elsewhere
// than at the latent itself.
func tables(t testing.TB, prediction sampler.Prediction, steps int) map[string]*sampler.Table {
	t.Helper()
	all := map[string]*sampler.Table{}
	add := func(name string, solver sampler.Solver, spacing sampler.Spacing, eta float64) {
		if !solver.Takes(prediction) {
			return
		}
		config := schedule(prediction)
		config.TimestepSpacing = spacing
		table, err := solver.Table(config, steps, eta)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = table
	}
	for _, solver := range sampler.Solvers {
		spacing := sampler.SpacingLeading
		if solver == sampler.SolverEuler {
			spacing = sampler.SpacingTrailing
		}
		add(string(solver), solver, spacing, 0)
	}
	add("ddim, eta 0.5", sampler.SolverDDIM, sampler.SpacingLeading, 0.5)
	base := sampler.SolverEuler
	if !base.Takes(prediction) {
		base = sampler.SolverFlowEuler
	}
	add("two memories and noise", base, sampler.SpacingTrailing, 0)
	deep := all["two memories and noise"]
	for i := range deep.Steps {
		step := &deep.Steps[i]
		step.Memory, step.Noise = sampler.Memory{State: 0.3, Output: -0.2}, 0.05
		step.Earlier = []float64{0.04, -0.03}[:min(i, 2)]
	}
	return all
}

// definedFreezes are the freezes that determine the output at every level: in the
// pure noise where a flow begins, the noise does not.
func definedFreezes(table *sampler.Table) []sampler.Freeze {
	if table.Steps[0].At.Signal == 0 {
		return slices.DeleteFunc(slices.Clone(allFreezes), func(f sampler.Freeze) bool { return f == sampler.FreezeEps })
	}
	return allFreezes
}

// freezesOf are those of them that leave a gradient: where the last step ends
// without noise the clean sample takes it all.
func freezesOf(table *sampler.Table) []sampler.Freeze {
	if table.Steps[len(table.Steps)-1].To.Noise != 0 {
		return definedFreezes(table)
	}
	return slices.DeleteFunc(slices.Clone(definedFreezes(table)), func(f sampler.Freeze) bool {
		return f == sampler.FreezeX0 || f == sampler.FreezeSolver && table.Prediction == sampler.PredictSample
	})
}

// problem wraps a network into a batch with a fixed start and a target.
func problem(table *sampler.Table, network rowNetwork) Problem {
	space := &slices64{}
	start, _ := space.NewVector(testRows * testCols)
	_ = space.Normal(start, 7, 0)
	return Problem{
		Space: space, Network: &analytic{rowNetwork: network, cols: testCols}, Table: table,
		Objective: &nearTarget{target: []float64{0.5, -0.3, 0.8, 0.1}},
		Rows:      testRows, Cols: testCols, Start: start, NoiseSeed: 11,
	}
}

// networks are the denoisers that the gradient tests run on, by name.
func networks(t *sampler.Table) map[string]rowNetwork {
	all := map[string]rowNetwork{"perceptron": newPerceptron(testCols, 6)}
	if t.Prediction == sampler.PredictEpsilon {
		all["mixture"] = newMixture(t, testCols, 3)
	}
	return all
}

// eachProblem runs a test over solvers, predictions, networks and steps.
func eachProblem(t *testing.T, steps []int, test func(*testing.T, Problem)) {
	for _, prediction := range allPredictions {
		for _, n := range steps {
			for solver, table := range tables(t, prediction, n) {
				for name, network := range networks(table) {
					t.Run(fmt.Sprintf("%s/%s/%s/%d", solver, prediction, name, n), func(t *testing.T) {
						test(t, problem(table, network))
					})
				}
			}
		}
	}
}

// setting is a method for latents, with another freeze where it holds anything.
func setting(method Method, freeze sampler.Freeze) Surrogate {
	s, err := method.Surrogate(Latents)
	if err != nil {
		panic(err)
	}
	if s.Active != ActiveAll {
		s.Freeze = freeze
	}
	return s
}

// gradient runs Gradient at Start and checks that nothing was leaked.
func gradient(t *testing.T, p Problem, method Method, freeze sampler.Freeze) []float64 {
	t.Helper()
	space := p.Space.(*slices64)
	before := space.live
	g, _, err := Gradient(context.Background(), p, setting(method, freeze), Values{Latents: p.Start}, 0, Latents)
	if err != nil {
		t.Fatal(err)
	}
	result := append([]float64(nil), numbers(g.Latents)...)
	p.FreeValues(g)
	if space.live != before {
		t.Fatalf("%s: %d vectors leaked", method, space.live-before)
	}
	if kept := analyticOf(p).kept; kept != 0 {
		t.Fatalf("%s: %d kept calls not released", method, kept)
	}
	return result
}

// differences is the gradient of f at x by central differences of fourth order.
func differences(x []float64, f func([]float64) float64) []float64 {
	const h = 3e-4
	g := make([]float64, len(x))
	for i := range x {
		at := append([]float64(nil), x...)
		moved := func(by float64) float64 {
			at[i] = x[i] + by
			return f(at)
		}
		g[i] = (8*(moved(h)-moved(-h)) - (moved(2*h) - moved(-2*h))) / (12 * h)
	}
	return g
}

// wantNear compares vectors relative to the wanted one's norm.
func wantNear(t *testing.T, what string, got, want []float64, tolerance float64) {
	t.Helper()
	wantWithin(t, what, got, want, tolerance, 0)
}

// wantDifferences is wantNear where the wanted vector came from differences of
// the problem's loss, which do not see all of a small gradient. Gradients that
// small are those of LCM after many steps: it replaces the noise in every one,
// and little of the latent is left.
func wantDifferences(t *testing.T, p Problem, what string, got, want []float64, tolerance float64) {
	t.Helper()
	wantWithin(t, what, got, want, tolerance, 1e-11*(1+totalLoss(p, tell(t, p).sample)))
}

func wantWithin(t *testing.T, what string, got, want []float64, tolerance, floor float64) {
	t.Helper()
	square := 0.0
	for i := range want {
		square += (got[i] - want[i]) * (got[i] - want[i])
	}
	norm := math.Sqrt(dot(want, want))
	if !(math.Sqrt(square) <= tolerance*norm+floor) {
		t.Errorf("%s: relative error %.2g, want at most %.0g\ngot  %.6v\nwant %.6v", what, math.Sqrt(square)/norm, tolerance, got, want)
	}
}

// story is one rollout written out: the state before and the output of each
// call, and the sample.
type story struct {
	states, outputs [][]float64
	sample          []float64
}

func tell(t *testing.T, p Problem) story {
	t.Helper()
	chain, err := NewChain(p, setting(MethodFull, sampler.FreezeEps), Latents)
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Free()
	var s story
	err = chain.rollout(context.Background(), Values{Latents: p.Start}, func(ctx context.Context, i int, in Input) error {
		err := chain.predict(ctx, i, in)
		s.states = append(s.states, append([]float64(nil), numbers(in.X)...))
		s.outputs = append(s.outputs, append([]float64(nil), numbers(chain.output)...))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.sample = append([]float64(nil), numbers(chain.Sample())...)
	return s
}

// ask returns the network's output at x, guided where the problem is.
func ask(p Problem, step int, x []float64) []float64 {
	space := p.Space.(*slices64)
	in := Input{X: &boxed{append(vector(nil), x...)}, Timestep: p.Table.Steps[step].Timestep, Cond: p.Cond}
	out := &boxed{make(vector, len(x))}
	_ = p.Network.Predict(context.Background(), in, out)
	if p.Cond != nil && p.Guidance != 0 {
		free := &boxed{make(vector, len(x))}
		in.Cond = nil
		_ = p.Network.Predict(context.Background(), in, free)
		_ = space.Combine(out, []float64{p.Guidance, 1 - p.Guidance}, []Vector{out, free})
	}
	return out.vector
}

// totalLoss is the sum of the losses of a sample.
func totalLoss(p Problem, sample []float64) float64 {
	losses, _ := p.Objective.Evaluate(context.Background(), &boxed{append(vector(nil), sample...)}, nil)
	sum := 0.0
	for _, loss := range losses {
		sum += loss
	}
	return sum
}

func transport(t *testing.T, p Problem, freeze sampler.Freeze) *sampler.Transport {
	t.Helper()
	transport, err := p.Table.Freeze(freeze)
	if err != nil {
		t.Fatal(err)
	}
	return transport
}

// surrogate is the x~_N of docs/method.md, The surrogate, with the first call live at x and the
// others' frozen quantities taken from the story.
func surrogate(p Problem, tr *sampler.Transport, s story, x []float64) []float64 {
	sample := make([]float64, len(x))
	begin := make([]float64, len(x))
	for i := range begin {
		begin[i] = p.Table.Start * x[i]
	}
	first, noises := ask(p, 0, begin), freshNoise(p)
	for i := range sample {
		frozen := tr.Steps[0].FromState*begin[i] + tr.Steps[0].FromOutput*first[i]
		sample[i] = tr.Carry*x[i] + tr.Weights[0]*frozen
		for k, n := range tr.Noises {
			sample[i] += n * noises[k][i]
		}
		for k := 1; k < len(tr.Steps); k++ {
			sample[i] += tr.Weights[k] * (tr.Steps[k].FromState*s.states[k][i] + tr.Steps[k].FromOutput*s.outputs[k][i])
		}
	}
	return sample
}

// freshNoise is what a stochastic sampler adds at each step.
func freshNoise(p Problem) [][]float64 {
	all := make([][]float64, len(p.Table.Steps))
	for i := range all {
		z := &boxed{make(vector, p.size())}
		_ = p.Space.Normal(z, p.NoiseSeed, noiseStream+uint32(i))
		all[i] = z.vector
	}
	return all
}

// Assertion 1 of docs/method.md, What the tests hold, for latents.
func TestSurrogateValueEqualsTheRollout(t *testing.T) {
	eachProblem(t, []int{1, 2, 10, 50}, func(t *testing.T, p Problem) {
		s := tell(t, p)
		for _, freeze := range definedFreezes(p.Table) {
			wantNear(t, string(freeze), surrogate(p, transport(t, p, freeze), s, numbers(p.Start)), s.sample, 1e-12)
		}
	})
}

// Assertion 3: with one step nothing is frozen.
func TestOneStepEqualsFull(t *testing.T) {
	eachProblem(t, []int{1}, func(t *testing.T, p Problem) {
		want := gradient(t, p, MethodFull, sampler.FreezeEps)
		for _, freeze := range freezesOf(p.Table) {
			wantNear(t, string(freeze), gradient(t, p, MethodSDO, freeze), want, 1e-12)
		}
	})
}

// Assertion 4: the gradient is the surrogate's own, by finite differences.
func TestGradientOfTheSurrogate(t *testing.T) {
	eachProblem(t, []int{2, 10, 50}, func(t *testing.T, p Problem) {
		s := tell(t, p)
		for _, freeze := range freezesOf(p.Table) {
			tr := transport(t, p, freeze)
			want := differences(numbers(p.Start), func(x []float64) float64 { return totalLoss(p, surrogate(p, tr, s, x)) })
			wantDifferences(t, p, string(freeze), gradient(t, p, MethodSDO, freeze), want, 1e-8)
		}
	})
}

// Assertion 6: the authors' rule, written the way a sampler writes it. Every noise
// prediction but the first is a constant, the sampler's arithmetic is live.
func TestAuthorsRule(t *testing.T) {
	check := func(t *testing.T, p Problem) {
		s := tell(t, p)
		noise := func(i int, x, output float64) float64 {
			at := p.Table.Steps[i].At
			switch p.Table.Prediction {
			case sampler.PredictV:
				return at.Signal*output + at.Noise*x
			case sampler.PredictSample:
				return (x - at.Signal*output) / at.Noise
			}
			return output
		}
		sample := func(start []float64) []float64 {
			x, first := append([]float64(nil), start...), ask(p, 0, start)
			for i, step := range p.Table.Steps {
				for j := range x {
					eps := noise(i, s.states[i][j], s.outputs[i][j])
					if i == 0 {
						eps = noise(0, x[j], first[j])
					}
					clean := (x[j] - step.At.Noise*eps) / step.At.Signal
					x[j] = step.To.Signal*clean + step.To.Noise*eps
				}
			}
			return x
		}
		want := differences(numbers(p.Start), func(x []float64) float64 { return totalLoss(p, sample(x)) })
		wantDifferences(t, p, "eps", gradient(t, p, MethodSDO, sampler.FreezeEps), want, 1e-8)
	}
	for _, prediction := range betaPredictions {
		for _, n := range []int{2, 10} {
			table := table(t, prediction, n)
			for name, network := range networks(table) {
				t.Run(fmt.Sprintf("%s/%s/%d", prediction, name, n), func(t *testing.T) { check(t, problem(table, network)) })
			}
		}
		t.Run("guided/"+string(prediction), func(t *testing.T) { check(t, guided(t, prediction, 10)) })
	}
}

// The same for every solver: its arithmetic is live, with what it remembers, its
// fresh noise and the scale of its start; the noise predictions of all calls but
// the first are constants, on a flow the velocities.
func TestSolverArithmeticIsLive(t *testing.T) {
	eachProblem(t, []int{1, 2, 10}, func(t *testing.T, p Problem) {
		s, fresh := tell(t, p), freshNoise(p)
		freeze := sampler.FreezeEps
		if p.Table.Prediction == sampler.PredictFlow {
			freeze = sampler.FreezeV
		}
		convert := func(i int, x, given float64, toNoise bool) float64 {
			at := p.Table.Steps[i].At
			switch {
			case p.Table.Prediction == sampler.PredictEDM && toNoise:
				return at.Noise*x - at.SigmaData*at.Signal*given
			case p.Table.Prediction == sampler.PredictEDM:
				return (at.Noise*x - given) / (at.SigmaData * at.Signal)
			case p.Table.Prediction == sampler.PredictV && toNoise:
				return at.Signal*given + at.Noise*x
			case p.Table.Prediction == sampler.PredictV:
				return (given - at.Noise*x) / at.Signal
			case p.Table.Prediction == sampler.PredictSample && toNoise:
				return (x - at.Signal*given) / at.Noise
			case p.Table.Prediction == sampler.PredictSample:
				return (x - at.Noise*given) / at.Signal
			}
			return given
		}
		sample := func(latent []float64) []float64 {
			x, memories := make([]float64, len(latent)), make([][]float64, len(p.Table.Steps))
			for j := range x {
				x[j] = p.Table.Start * latent[j]
			}
			first := ask(p, 0, x)
			for i, step := range p.Table.Steps {
				memories[i] = make([]float64, len(x))
				for j := range x {
					output := first[j]
					if i > 0 {
						output = convert(i, x[j], convert(i, s.states[i][j], s.outputs[i][j], true), false)
					}
					memories[i][j] = step.Memory.State*x[j] + step.Memory.Output*output
					x[j] = step.State*x[j] + step.Output*output + step.Noise*fresh[i][j]
					for k, weight := range step.Earlier {
						x[j] += weight * memories[i-1-k][j]
					}
				}
			}
			return x
		}
		wantNear(t, "sample", sample(numbers(p.Start)), s.sample, 1e-11)
		want := differences(numbers(p.Start), func(x []float64) float64 { return totalLoss(p, sample(x)) })
		wantDifferences(t, p, string(freeze), gradient(t, p, MethodSDO, freeze), want, 1e-8)
	})
}

// Fresh noise is drawn anew in every rollout and is the same: a stochastic
// sampler is a function of the latent. Another seed is another function.
func TestFreshNoiseIsFixedBySeed(t *testing.T) {
	p := problem(tables(t, sampler.PredictV, 6)["ddpm"], newPerceptron(testCols, 6))
	sample := func(c *Chain) []float64 {
		v, err := c.Rollout(context.Background(), Values{Latents: p.Start})
		if err != nil {
			t.Fatal(err)
		}
		return append([]float64(nil), numbers(v)...)
	}
	chain, err := NewChain(p, setting(MethodSDO, sampler.FreezeV), Latents)
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Free()
	once := sample(chain)
	wantNear(t, "again", sample(chain), once, 0)
	p.NoiseSeed++
	other, err := NewChain(p, setting(MethodSDO, sampler.FreezeV), Latents)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Free()
	for i, x := range sample(other) {
		if x == once[i] {
			t.Errorf("number %d does not depend on the noise seed", i)
		}
	}
}

// guided is a problem with a condition and guidance 2.5.
func guided(t *testing.T, prediction sampler.Prediction, steps int) Problem {
	p := problem(table(t, prediction, steps), newPerceptron(testCols, 6))
	p.Guidance = 2.5
	p.Cond, _ = p.Space.NewVector(testRows * 6)
	_ = p.Space.Normal(p.Cond, 8, 0)
	return p
}

// Assertion 7: full back-propagation is the sampler's own
// derivative, stored or checkpointed, guided or not.
func TestFullEqualsFiniteDifferences(t *testing.T) {
	check := func(t *testing.T, p Problem) {
		chain, err := NewChain(p, setting(MethodFull, sampler.FreezeEps), Latents)
		if err != nil {
			t.Fatal(err)
		}
		defer chain.Free()
		want := differences(numbers(p.Start), func(x []float64) float64 {
			sample, err := chain.Rollout(context.Background(), Values{Latents: &boxed{x}})
			if err != nil {
				t.Fatal(err)
			}
			return totalLoss(p, numbers(sample))
		})
		stored := gradient(t, p, MethodFull, sampler.FreezeEps)
		wantDifferences(t, p, "full", stored, want, 1e-7)
		wantNear(t, "full-checkpoint", gradient(t, p, MethodFullCheckpoint, sampler.FreezeEps), stored, 0)
	}
	eachProblem(t, []int{1, 5, 20}, check)
	t.Run("guided", func(t *testing.T) { check(t, guided(t, sampler.PredictV, 5)) })
}

// Assertion 8, first half: for o = m(t) M x the gradient is
// P g + w_0 (p_0 + q_0 m(t_0) M^T) g. The weight of the kept call carries no
// factor N, which for latents points the wrong way.
func TestLinearNetworkClosedForm(t *testing.T) {
	matrix := [][]float64{{.5, .2, 0, -.1}, {-.3, .4, .1, 0}, {0, .2, .6, .3}, {.1, 0, -.2, .3}}
	net := linear{matrix, func(timestep float64) float64 { return 0.5 + timestep/2000 }}
	for _, prediction := range allPredictions {
		for name, table := range tables(t, prediction, 10) {
			p := problem(table, net)
			sample := tell(t, p).sample
			for _, freeze := range freezesOf(table) {
				tr := transport(t, p, freeze)
				first, weight := tr.Steps[0], table.Start*tr.Weights[0]
				m := net.scale(p.Table.Steps[0].Timestep)
				want := make([]float64, len(sample))
				for i := range want {
					row, col := i/testCols*testCols, i%testCols
					residual := func(j int) float64 { return sample[row+j] - p.Objective.(*nearTarget).target[j] }
					want[i] = (tr.Carry + weight*first.FromState) * residual(col)
					for j := range testCols {
						want[i] += weight * first.FromOutput * m * matrix[j][col] * residual(j)
					}
				}
				wantNear(t, fmt.Sprintf("%s, %s network, %s frozen", name, prediction, freeze), gradient(t, p, MethodSDO, freeze), want, 1e-12)
			}
		}
	}
}

// Assertion 8, second half: for standard normal data the velocity is zero
// everywhere, so freezing it loses nothing, whatever the network predicts. (A
// flow's velocity is another one, and not zero there.)
func TestStandardNormalDataIsExactWithV(t *testing.T) {
	identityMatrix := [][]float64{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}}
	for _, prediction := range append(betaPredictions[:3:3], sampler.PredictEDM) {
		for name, table := range tables(t, prediction, 20) {
			factor := map[float64]float64{} // E[quantity | x] = factor * x
			for _, step := range table.Steps {
				factor[step.Timestep] = map[sampler.Prediction]float64{
					sampler.PredictEpsilon: step.At.Noise, sampler.PredictSample: step.At.Signal, sampler.PredictV: 0, sampler.PredictEDM: 0,
				}[prediction]
			}
			p := problem(table, linear{identityMatrix, func(timestep float64) float64 { return factor[timestep] }})
			want := gradient(t, p, MethodFull, sampler.FreezeV)
			wantNear(t, fmt.Sprintf("sdo, %s, %s", prediction, name), gradient(t, p, MethodSDO, sampler.FreezeV), want, 1e-12)
			wantNear(t, fmt.Sprintf("identity, %s, %s", prediction, name), gradient(t, p, MethodIdentity, sampler.FreezeV), want, 1e-12)
		}
	}
}

// The identity rule is P times the gradient at the sample, for every freeze.
func TestIdentityIsCarryTimesSeed(t *testing.T) {
	eachProblem(t, []int{1, 10}, func(t *testing.T, p Problem) {
		sample := tell(t, p).sample
		for _, freeze := range freezesOf(p.Table) {
			tr := transport(t, p, freeze)
			want := make([]float64, len(sample))
			for i := range want {
				want[i] = tr.Carry * (sample[i] - p.Objective.(*nearTarget).target[i%testCols])
			}
			wantNear(t, string(freeze), gradient(t, p, MethodIdentity, freeze), want, 1e-13)
		}
	})
}

// Assertion 9, in the units that no machine changes.
func TestCost(t *testing.T) {
	type cost struct {
		forward, kept, backward int
		peak                    int64 // in calls' activations
		vectors                 int
	}
	measure := func(method Method, p Problem) cost {
		t.Helper()
		space := p.Space.(*slices64)
		made := space.made
		chain, err := NewChain(p, setting(method, sampler.FreezeEps), Latents)
		if err != nil {
			t.Fatal(err)
		}
		grad, _ := space.NewVector(testRows * testCols)
		for range 2 { // the second update must cost what the first did
			if _, err := chain.Forward(context.Background(), Values{Latents: p.Start}, 0); err != nil {
				t.Fatal(err)
			}
			if err := chain.Backward(context.Background(), Values{Latents: grad}); err != nil {
				t.Fatal(err)
			}
		}
		c := chain.Counters()
		if c.KeptBytes != 0 {
			t.Errorf("%s: %d bytes still pinned", method, c.KeptBytes)
		}
		chain.Free()
		one := int64(8 * testRows * testCols)
		return cost{c.NetworkCalls / 2, c.KeptCalls / 2, c.BackwardCalls / 2, c.PeakKeptBytes / one, space.made - made}
	}
	for _, n := range []int{5, 100} {
		plain := problem(table(t, sampler.PredictV, n), newPerceptron(testCols, 6))
		branches := guided(t, sampler.PredictV, n)
		for method, want := range map[Method][2]cost{
			MethodSDO:            {{n, 1, 1, 1, 5}, {2 * n, 2, 2, 2, 7}},
			MethodIdentity:       {{n, 0, 0, 0, 5}, {2 * n, 0, 0, 0, 6}},
			MethodFull:           {{n, n, n, int64(n), 5}, {2 * n, 2 * n, 2 * n, int64(2 * n), 7}},
			MethodFullCheckpoint: {{2 * n, n, n, 1, 5 + n}, {4 * n, 2 * n, 2 * n, 2, 7 + n}},
		} {
			if got := measure(method, plain); got != want[0] {
				t.Errorf("%s, %d steps: %+v, want %+v", method, n, got, want[0])
			}
			if got := measure(method, branches); got != want[1] {
				t.Errorf("%s, %d guided steps: %+v, want %+v", method, n, got, want[1])
			}
		}
	}
}

// Assertion 9 for every solver: what SDO holds does not grow with the steps.
func TestMemoryIsFlatForEverySolver(t *testing.T) {
	for name := range tables(t, sampler.PredictV, 5) {
		var vectors []int
		for _, n := range []int{5, 100} {
			p := problem(tables(t, sampler.PredictV, n)[name], newPerceptron(testCols, 6))
			space := p.Space.(*slices64)
			made := space.made
			chain, err := NewChain(p, setting(MethodSDO, sampler.FreezeEps), Latents)
			if err != nil {
				t.Fatal(err)
			}
			vectors = append(vectors, space.made-made)
			if want := setting(MethodSDO, sampler.FreezeEps).Demand(p.Table, []Variable{Latents}).Vectors; space.made-made != want {
				t.Errorf("%s: %d vectors, announced %d", name, space.made-made, want)
			}
			if _, err := chain.Forward(context.Background(), Values{Latents: p.Start}, 0); err != nil {
				t.Fatal(err)
			}
			chain.Free()
			if c := chain.Counters(); c.KeptCalls != 1 || c.NetworkCalls != len(p.Table.Steps) || space.made-made != vectors[len(vectors)-1] {
				t.Errorf("%s, %d steps: %+v and %d vectors", name, n, c, space.made-made)
			}
		}
		if vectors[0] != vectors[1] {
			t.Errorf("%s: %d vectors for 5 steps, %d for 100", name, vectors[0], vectors[1])
		}
	}
}

// Guidance of 1, or none, or without a condition, asks once; guidance s asks
// for s*conditional + (1-s)*unconditional.
func TestGuidance(t *testing.T) {
	p := guided(t, sampler.PredictV, 1)
	conditional, free := p, p
	conditional.Guidance = 0
	free.Cond = nil
	step := p.Table.Steps[0]
	outputs := func(p Problem) []float64 { return tell(t, p).outputs[0] }
	want := make([]float64, testRows*testCols)
	for i := range want {
		want[i] = 2.5*outputs(conditional)[i] - 1.5*outputs(free)[i]
	}
	wantNear(t, "guided output", outputs(p), want, 1e-14)
	if step.Timestep == 0 {
		t.Fatal("the network must see a time")
	}
	for scale, calls := range map[float64]int{0: 1, 1: 1, 2.5: 2} {
		p.Guidance = scale
		net := analyticOf(p)
		before := net.calls
		gradient(t, p, MethodSDO, sampler.FreezeV)
		if net.calls-before != calls {
			t.Errorf("guidance %v made %d calls, want %d", scale, net.calls-before, calls)
		}
	}
}

func TestNewChainRefuses(t *testing.T) {
	good := problem(table(t, sampler.PredictV, 3), newPerceptron(testCols, 6))
	clean := sampler.DefaultConfig()
	clean.ClipSample = false
	cleanTable, err := sampler.DDIM(clean, 3, 0)
	if err != nil {
		t.Fatal(err)
	}
	type attempt struct {
		freeze sampler.Freeze
		change func(*Problem)
	}
	none := func(*Problem) {}
	for want, try := range map[string]attempt{
		`sdo: freeze is "noise", want eps, v, x0 or solver`: {"noise", none},
		"sdo: freeze x0 leaves the latents no gradient, because the sampler's last step leaves no noise; freeze eps or v": {
			sampler.FreezeX0, func(p *Problem) { p.Table = cleanTable }},
		"sdo: the sampler starts at 0 times the latent, want a number above 0": {
			sampler.FreezeV, func(p *Problem) { p.Table = &sampler.Table{Steps: p.Table.Steps} }},
		"sdo: the sampler has 0 steps, want at least 1":                 {sampler.FreezeV, func(p *Problem) { p.Table = &sampler.Table{} }},
		"sdo: the start has 12 numbers, 2 rows of 4 need 8":             {sampler.FreezeV, func(p *Problem) { p.Rows = 2 }},
		"sdo: a batch of 0 rows and 4 columns, want at least 1 of each": {sampler.FreezeV, func(p *Problem) { p.Rows = 0 }},
		"sdo: the guidance scale is NaN, want a finite number":          {sampler.FreezeV, func(p *Problem) { p.Guidance = math.NaN() }},
		"sdo: the problem has no network":                               {sampler.FreezeV, func(p *Problem) { p.Network = nil }},
		"sdo: the problem has no vector space":                          {sampler.FreezeV, func(p *Problem) { p.Space = nil }},
	} {
		p := good
		try.change(&p)
		_, err := NewChain(p, Surrogate{Freeze: try.freeze, Active: ActiveFirst}, Latents)
		wantError(t, err, want)
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("error is %v\nwant %s", err, want)
	}
}
