package sampler

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

var (
	predictions = variancePreserving
	freezes     = []Freeze{FreezeEps, FreezeV, FreezeX0, FreezeSolver}
)

// edm is the paper's own schedule with another deviation of the data than the
// tests' of 0.5.
func edm() Config {
	c := DefaultConfig()
	edmDefaults(&c)
	c.SigmaData = 0.7
	return c
}

func flow(shift float64) Config {
	c := unclipped(DefaultConfig())
	c.PredictionType, c.Shift = PredictFlow, shift
	return c
}

// stable is latent diffusion's schedule: the last level keeps some noise.
func stable() Config {
	c := unclipped(DefaultConfig())
	c.BetaSchedule, c.BetaStart, c.BetaEnd = ScheduleScaledLinear, 0.00085, 0.012
	c.SetAlphaToOne, c.StepsOffset = false, 1
	return c
}

func cosine() Config {
	c := unclipped(DefaultConfig())
	c.BetaSchedule = ScheduleCosine
	return c
}

// eachTable runs a test on both schedules, every prediction type and several
// numbers of steps, all of which divide the training timesteps.
func eachTable(t *testing.T, test func(*testing.T, *Table)) {
	for name, config := range map[string]Config{"stable": stable(), "cosine": cosine()} {
		for _, prediction := range predictions {
			for _, n := range []int{1, 2, 10, 50} {
				config.PredictionType = prediction
				table, err := DDIM(config, n, 0)
				if err != nil {
					t.Fatal(err)
				}
				t.Run(fmt.Sprintf("%s/%s/%d", name, prediction, n), func(t *testing.T) { test(t, table) })
			}
		}
	}
}

// eachSolver runs a test on every solver's tables: both schedules of betas, a
// flow and EDM, every prediction type and spacing, Karras' levels, both ends, few
// steps and many.
func eachSolver(t *testing.T, test func(*testing.T, *Table)) {
	configs := map[string]Config{"flow": flow(1), "flow shifted": flow(3), "edm": edm()}
	for name, schedule := range map[string]Config{"stable": stable(), "cosine": cosine()} {
		for _, prediction := range predictions {
			for _, spacing := range []Spacing{SpacingLeading, SpacingLinspace, SpacingTrailing} {
				config := schedule
				config.PredictionType, config.TimestepSpacing = prediction, spacing
				configs[fmt.Sprintf("%s/%s/%s", name, prediction, spacing)] = config
			}
		}
	}
	for name, config := range configs {
		for _, solver := range Solvers {
			if !solver.Takes(config.PredictionType) {
				continue
			}
			type variant struct {
				config Config
				eta    float64
			}
			variants := map[string]variant{"": {config, 0}}
			if solver.TakesEta() {
				variants["eta 0.4"], variants["eta 1"] = variant{config, 0.4}, variant{config, 1}
			}
			if solver.TakesKarras() {
				karras := config
				karras.UseKarrasSigmas, karras.FinalSigmasType = true, FinalSigmaMin
				variants["karras, sigma_min"] = variant{karras, 0}
			}
			for what, v := range variants {
				for _, n := range []int{1, 2, 7, 20} {
					t.Run(fmt.Sprintf("%s %s/%s/%d", solver, what, name, n), func(t *testing.T) {
						table, err := solver.Table(v.config, n, v.eta)
						if err != nil {
							t.Fatal(err)
						}
						test(t, table)
					})
				}
			}
		}
	}
}

// ofLCM tells whether eachSolver's table is LCM's, whose boundary scalings let a
// little of the state through and so keep neither mix nor variance exactly.
func ofLCM(t *testing.T) bool { return strings.Contains(t.Name(), "/lcm") }

// definedFreezes are the freezes that determine the output at every level. At
// the pure noise in which a flow begins, the noise says nothing.
func definedFreezes(table *Table) []Freeze {
	if table.Steps[0].At.Signal == 0 {
		return freezes[1:]
	}
	return freezes
}

// TestTransportEqualsClosedForms: the table of docs/method.md, The freeze, whatever
// the network itself predicts.
func TestTransportEqualsClosedForms(t *testing.T) {
	eachTable(t, func(t *testing.T, table *Table) {
		n := len(table.Steps)
		levels := []Level{table.Steps[0].At}
		for _, step := range table.Steps {
			levels = append(levels, step.To)
		}
		first, last := levels[0], levels[n]
		angle := func(i int) float64 { return math.Atan2(levels[i].Noise, levels[i].Signal) }
		sigma := func(i int) float64 { return levels[i].Noise / levels[i].Signal }
		product := func(from int) float64 {
			p := 1.0
			for j := from; j < n; j++ {
				p *= math.Cos(angle(j) - angle(j+1))
			}
			return p
		}
		carry := map[Freeze]float64{
			FreezeEps: last.Signal / first.Signal,
			FreezeX0:  last.Noise / first.Noise,
			FreezeV:   product(0),
		}
		weight := map[Freeze]func(i int) float64{
			FreezeEps: func(i int) float64 { return last.Signal * (sigma(i+1) - sigma(i)) },
			FreezeX0: func(i int) float64 {
				// last.Noise*(1/sigma(i+1) - 1/sigma(i)), which is 0*inf in
				// the last step where that ends fully clean.
				if last.Noise == 0 {
					if i == n-1 {
						return last.Signal
					}
					return 0
				}
				return last.Noise * (1/sigma(i+1) - 1/sigma(i))
			},
			FreezeV: func(i int) float64 { return -math.Sin(angle(i)-angle(i+1)) * product(i+1) },
		}
		for freeze := range carry {
			transport, err := table.Freeze(freeze)
			if err != nil {
				t.Fatal(err)
			}
			near(t, string(freeze)+" P", transport.Carry, carry[freeze], 1e-12)
			for i, w := range transport.Weights {
				near(t, fmt.Sprintf("%s w_%d", freeze, i), w, weight[freeze](i), 1e-12)
			}
		}
	})
}

// TestTransportRebuildsTheSample: for any network outputs and noise, the
// transport sum over frozen quantities is the sequential sampler's sample, also
// where neighbouring steps do not join (linspace, trailing).
func TestTransportRebuildsTheSample(t *testing.T) {
	eachSolver(t, func(t *testing.T, table *Table) {
		const latent = 0.7
		output := func(i int, x float64) float64 { return math.Sin(3*x + table.Steps[i].Timestep) }
		noise := func(i int) float64 { return math.Cos(1.7 * float64(i)) }
		states, sample := roll(table, latent, output, noise)
		for _, freeze := range definedFreezes(table) {
			transport, err := table.Freeze(freeze)
			if err != nil {
				t.Fatal(err)
			}
			terms := []float64{transport.Carry * latent}
			for i, x := range states {
				frozen := transport.Steps[i]
				terms = append(terms, transport.Weights[i]*(frozen.FromState*x+frozen.FromOutput*output(i, x)), transport.Noises[i]*noise(i))
			}
			rebuilt, largest := 0.0, 1.0
			for _, term := range terms {
				rebuilt, largest = rebuilt+term, max(largest, math.Abs(term))
			}
			near(t, string(freeze), rebuilt, sample, 1e-12*largest)
		}
	})
}

// TestFromContinuesTheRun: the tail from step k takes the state there to the same
// sample, with the whole table's weights. Only a run that looks back on earlier
// calls cannot begin in its middle.
func TestFromContinuesTheRun(t *testing.T) {
	eachSolver(t, func(t *testing.T, table *Table) {
		output := func(i int, x float64) float64 { return math.Sin(3*x + table.Steps[i].Timestep) }
		noise := func(i int) float64 { return math.Cos(1.7 * float64(i)) }
		states, sample := roll(table, 0.7, output, noise)
		whole, err := table.Freeze(FreezeSolver)
		if err != nil {
			t.Fatal(err)
		}
		for k := range table.Steps {
			tail, err := table.From(k)
			if err != nil && k > 0 && table.Depth() > 0 {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			_, again := roll(tail, states[k],
				func(i int, x float64) float64 { return output(k+i, x) }, func(i int) float64 { return noise(k + i) })
			near(t, fmt.Sprintf("sample from step %d", k), again, sample, 0)
			if got := tail.StartLevel(); got != table.Steps[k].At || tail.Start != 1 {
				t.Errorf("the tail from step %d starts at %v times %v, want %v", k, got, tail.Start, table.Steps[k].At)
			}
			transport, err := tail.Freeze(FreezeSolver)
			if err != nil {
				t.Fatal(err)
			}
			for i, w := range transport.Weights {
				near(t, fmt.Sprintf("w_%d from step %d", i, k), w, whole.Weights[k+i], 0)
			}
		}
	})
}

func TestFromRefuses(t *testing.T) {
	table, err := DPMpp2M(stable(), 6)
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range map[int]string{
		-1: "sampler: the run cannot begin at step -1 of 6, want 0 to 5",
		6:  "sampler: the run cannot begin at step 6 of 6, want 0 to 5",
		2:  "sampler: the run cannot begin at step 2, because step 2 needs what the call before it remembered; begin at 0 or use a solver without a memory",
	} {
		_, err := table.From(k)
		wantError(t, err, want)
	}
	heun, err := Heun(stable(), 4)
	if err != nil {
		t.Fatal(err)
	}
	for k := range heun.Steps {
		if _, err := heun.From(k); (err == nil) != (k%2 == 0) {
			t.Errorf("heun from call %d: %v; want its steps to begin at every second call", k, err)
		}
	}
}

// TestFreezeConversions: at every level the frozen quantity recovered from a
// known clean sample and noise is the one its name says.
func TestFreezeConversions(t *testing.T) {
	const clean, noise = 0.3, -1.1
	eachTable(t, func(t *testing.T, table *Table) {
		for freeze, want := range map[Freeze]func(Level) float64{
			FreezeEps: func(Level) float64 { return noise },
			FreezeX0:  func(Level) float64 { return clean },
			FreezeV:   func(l Level) float64 { return l.Signal*noise - l.Noise*clean },
		} {
			transport, err := table.Freeze(freeze)
			if err != nil {
				t.Fatal(err)
			}
			for i, step := range table.Steps {
				l := step.At
				x := l.Signal*clean + l.Noise*noise
				output := map[Prediction]float64{
					PredictEpsilon: noise, PredictSample: clean, PredictV: l.Signal*noise - l.Noise*clean,
				}[table.Prediction]
				f := transport.Steps[i].FromState*x + transport.Steps[i].FromOutput*output
				// Dividing by a signal of 5e-5 costs four digits.
				near(t, string(freeze), f, want(l), 1e-14/min(l.Signal, l.Noise))
				// A step with a perfect network lands on the same clean
				// sample and noise.
				near(t, "step", step.State*x+step.Output*output, step.To.Signal*clean+step.To.Noise*noise, 1e-14/l.Signal)
			}
		}
	})
}

// TestPerfectNetworkIsTransparent: where the network knows the clean sample and
// the noise, every step of a deterministic solver lands on their mix at the
// step's end, whatever it remembers.
func TestPerfectNetworkIsTransparent(t *testing.T) {
	const clean, noise = 0.3, -1.1
	at := func(m mix) float64 { return m.clean*clean + m.noise*noise }
	eachSolver(t, func(t *testing.T, table *Table) {
		if table.Stochastic() || ofLCM(t) {
			return
		}
		memories := make([]float64, len(table.Steps))
		for i, step := range table.Steps {
			x, output := at(step.At.state()), at(step.At.output(table.Prediction))
			next := step.State*x + step.Output*output
			size := 1 + math.Abs(step.Output) + math.Abs(step.State)
			for k, weight := range step.Earlier {
				next += weight * memories[i-1-k]
				made := table.Steps[i-1-k].Memory
				size += math.Abs(weight) * (math.Abs(made.State) + math.Abs(made.Output))
			}
			memories[i] = step.Memory.State*x + step.Memory.Output*output
			// What cancels may be as large as its parts are weighed.
			near(t, fmt.Sprintf("step %d", i), next, at(step.To.state()), 1e-13*size)
		}
	})
}

// TestFreshNoiseKeepsTheVariance: the noise that a stochastic step keeps and
// the noise it adds have the variance of the level it ends at.
func TestFreshNoiseKeepsTheVariance(t *testing.T) {
	eachSolver(t, func(t *testing.T, table *Table) {
		if ofLCM(t) {
			return
		}
		for i, step := range table.Steps {
			if step.Noise == 0 {
				continue
			}
			state, output := step.At.state(), step.At.output(table.Prediction)
			clean := step.State*state.clean + step.Output*output.clean
			kept := step.State*state.noise + step.Output*output.noise
			near(t, fmt.Sprintf("step %d, signal", i), clean, step.To.Signal, 1e-11)
			near(t, fmt.Sprintf("step %d, noise", i), math.Hypot(kept, step.Noise), step.To.Noise, 1e-11)
		}
	})
}

// TestStochasticClosedForms: with eps frozen and steps that join, P and w_i and
// n_i of docs/method.md, The freeze.
func TestStochasticClosedForms(t *testing.T) {
	for _, prediction := range predictions {
		for _, eta := range []float64{0.4, 1} {
			config := stable()
			config.PredictionType = prediction
			table, err := DDIM(config, 50, eta)
			if err != nil {
				t.Fatal(err)
			}
			transport, err := table.Freeze(FreezeEps)
			if err != nil {
				t.Fatal(err)
			}
			first, last := table.Steps[0].At, table.Steps[49].To
			near(t, "P", transport.Carry, last.Signal/first.Signal, 1e-12)
			for i, step := range table.Steps {
				at, to := step.At, step.To
				fresh := eta * math.Sqrt((1-to.AlphaBar())/(1-at.AlphaBar())*(1-at.AlphaBar()/to.AlphaBar()))
				b := math.Sqrt(1-to.AlphaBar()-fresh*fresh) - to.Signal*at.Noise/at.Signal
				near(t, fmt.Sprintf("w_%d", i), transport.Weights[i], last.Signal/to.Signal*b, 1e-12)
				near(t, fmt.Sprintf("n_%d", i), transport.Noises[i], last.Signal/to.Signal*fresh, 1e-12)
			}
		}
	}
}

// TestMultistepClosedForm: DPM-Solver++(2M) with the clean sample frozen, which
// is what it remembers.
func TestMultistepClosedForm(t *testing.T) {
	for _, prediction := range predictions {
		config := stable()
		config.PredictionType, config.FinalSigmasType = prediction, FinalSigmaMin
		for _, n := range []int{2, 14, 30} {
			table, err := DPMpp2M(config, n)
			if err != nil {
				t.Fatal(err)
			}
			transport, err := table.Freeze(FreezeX0)
			if err != nil {
				t.Fatal(err)
			}
			last := table.Steps[n-1].To
			lambda := func(l Level) float64 { return math.Log(l.Signal / l.Noise) }
			h := func(i int) float64 { return lambda(table.Steps[i].To) - lambda(table.Steps[i].At) }
			q := func(i int) float64 {
				return last.Noise * (math.Exp(lambda(table.Steps[i].To)) - math.Exp(lambda(table.Steps[i].At)))
			}
			second := func(i int) bool { return i > 0 && (i < n-1 || n >= 15) }
			near(t, "P", transport.Carry, last.Noise/table.Steps[0].At.Noise, 1e-12)
			for i := range table.Steps {
				w := q(i)
				if second(i) {
					w += q(i) * h(i) / (2 * h(i-1))
				}
				if i+1 < n && second(i+1) {
					w -= q(i+1) * h(i+1) / (2 * h(i))
				}
				near(t, fmt.Sprintf("%d steps, w_%d", n, i), transport.Weights[i], w, 1e-12)
			}
		}
	}
}

// TestSigmaSolversCarry: Euler's closed forms, eps and the clean sample frozen,
// in the state that is divided by sqrt(1 + sigma^2) until the last step.
func TestSigmaSolversCarry(t *testing.T) {
	config := stable()
	config.TimestepSpacing, config.UseKarrasSigmas, config.FinalSigmasType = SpacingTrailing, true, FinalSigmaMin
	table, err := Euler(config, 12)
	if err != nil {
		t.Fatal(err)
	}
	sigma := func(i int) float64 {
		if i == 12 {
			return table.Steps[11].To.Noise
		}
		return table.Steps[i].At.Noise / table.Steps[i].At.Signal
	}
	for freeze, want := range map[Freeze]struct {
		carry  float64
		weight func(i int) float64
	}{
		// A latent of unit deviation begins at sigma_0 times itself.
		FreezeEps: {sigma(0), func(i int) float64 { return sigma(i+1) - sigma(i) }},
		FreezeX0:  {sigma(12), func(i int) float64 { return sigma(12) * (1/sigma(i+1) - 1/sigma(i)) }},
	} {
		transport, err := table.Freeze(freeze)
		if err != nil {
			t.Fatal(err)
		}
		near(t, string(freeze)+" P", transport.Carry, want.carry, 1e-12)
		for i, w := range transport.Weights {
			near(t, fmt.Sprintf("%s w_%d", freeze, i), w, want.weight(i), 1e-12)
		}
	}
}

// gaussian answers for the optimal network of Gaussian data of deviation tau:
// the mean of what the network predicts at a level, given the state there.
func gaussian(table *Table, tau float64) func(l Level, x float64) float64 {
	return func(l Level, x float64) float64 {
		output, variance := l.output(table.Prediction), l.variance(tau)
		return (output.clean*l.Signal*tau*tau + output.noise*l.Noise) / variance * x
	}
}

// variance is that of the states at a level.
func (l Level) variance(tau float64) float64 {
	return l.Signal*l.Signal*tau*tau + l.Noise*l.Noise
}

// wantOrder: for Gaussian data the optimal network is linear and the end of the
// probability flow is known, so the error must fall by 2^order when the step
// halves.
func wantOrder(t *testing.T, order int, fill func(n int) (*Table, error)) {
	t.Helper()
	const tau = 0.5
	var previous float64
	for _, n := range []int{50, 100, 200} {
		table, err := fill(n)
		if err != nil {
			t.Fatal(err)
		}
		output := gaussian(table, tau)
		_, x := roll(table, 1, func(i int, x float64) float64 { return output(table.Steps[i].At, x) }, nil)
		first, last := table.Steps[0].At, table.Steps[len(table.Steps)-1].To
		exact := table.Start * math.Sqrt(last.variance(tau)/first.variance(tau))
		failure := math.Abs(x - exact)
		want := math.Pow(2, float64(order))
		if ratio := previous / failure; previous != 0 && (ratio < 0.85*want || ratio > 1.25*want) {
			t.Errorf("%d steps: the error fell by %.2f to %.2g, want %v", n, ratio, failure, want)
		}
		previous = failure
	}
}

// smooth is a schedule whose levels have no kink, so that orders show. It ends at
// sigma_min: the last step down to zero would be a long one in ln(sigma),
// whatever n.
func smooth() Config {
	c := stable()
	c.TimestepSpacing, c.UseKarrasSigmas, c.FinalSigmasType = SpacingLinspace, true, FinalSigmaMin
	return c
}

func TestOrderOfConvergence(t *testing.T) {
	clean := edm()
	clean.FinalSigmasType = FinalSigmaMin
	for name, config := range map[string]Config{"betas": smooth(), "edm": clean} {
		for solver, order := range map[Solver]int{SolverEuler: 1, SolverHeun: 2, SolverDPMpp2M: 2} {
			t.Run(string(solver)+"/"+name, func(t *testing.T) {
				wantOrder(t, order, func(n int) (*Table, error) {
					table, err := solver.Table(config, n+1, 0) // levels, n steps between them
					if err == nil && solver == SolverHeun {
						table.Steps = table.Steps[:2*n] // it would go on to zero
					}
					return table, err
				})
			})
		}
	}
	t.Run("ddim", func(t *testing.T) {
		wantOrder(t, 1, func(n int) (*Table, error) { return DDIM(stable(), n, 0) })
	})
	for _, shift := range []float64{1, 3} {
		t.Run(fmt.Sprintf("flow-euler/%v", shift), func(t *testing.T) {
			wantOrder(t, 1, func(n int) (*Table, error) { return FlowEuler(flow(shift), n) })
		})
	}
}

// TestStochasticSamplersConverge: with fresh noise the deviation of the samples
// of Gaussian data is what converges, to first order.
func TestStochasticSamplersConverge(t *testing.T) {
	const tau = 0.5
	for name, fill := range map[string]func(n int) (*Table, error){
		"ddim, eta 0.5": func(n int) (*Table, error) { return DDIM(stable(), n, 0.5) },
		"ddpm":          func(n int) (*Table, error) { return DDPM(stable(), n) },
	} {
		var previous float64
		for _, n := range []int{125, 250, 500} {
			table, err := fill(n)
			if err != nil {
				t.Fatal(err)
			}
			if name == "ddpm" {
				table.Steps = table.Steps[:n-1] // the last, to no noise, is long in ln(sigma) whatever n
			}
			first := table.Steps[0].At
			variance := first.AlphaBar()*tau*tau + first.Noise*first.Noise
			for _, step := range table.Steps {
				at := step.At
				gain := step.State + step.Output*at.Noise/(at.AlphaBar()*tau*tau+at.Noise*at.Noise)
				variance = gain*gain*variance + step.Noise*step.Noise
			}
			last := table.Steps[len(table.Steps)-1].To
			failure := math.Abs(variance - last.AlphaBar()*tau*tau - last.Noise*last.Noise)
			if ratio := previous / failure; previous != 0 && (ratio < 1.7 || ratio > 2.4) {
				t.Errorf("%s, %d steps: the error fell by %.2f, want 2", name, n, ratio)
			}
			previous = failure
		}
	}
}

// TestConsistencySamplesAreExact: a consistency model answers with the end of the
// flow, not with the mean of the clean samples. For Gaussian data LCM's samples
// then have the data's deviation whatever the number of steps, but for what the
// boundary scalings let through of a state.
func TestConsistencySamplesAreExact(t *testing.T) {
	const tau = 0.5
	for _, prediction := range predictions {
		config := stable()
		config.PredictionType = prediction
		for _, n := range []int{1, 2, 4, 8, 50} {
			table, err := LCM(config, n)
			if err != nil {
				t.Fatal(err)
			}
			variance := table.Steps[0].At.variance(tau)
			for i, step := range table.Steps {
				near(t, fmt.Sprintf("%d steps, variance at step %d", n, i), variance, step.At.variance(tau), 1e-4)
				// clean = tau/deviation * x, and noise is what x has besides.
				at, x := step.At, math.Sqrt(step.At.variance(tau))
				output := at.output(prediction)
				o := output.clean*tau + output.noise*(x-at.Signal*tau)/at.Noise
				gain := (step.State*x + step.Output*o) / x
				variance = gain*gain*variance + step.Noise*step.Noise
			}
			near(t, fmt.Sprintf("%d steps, variance of the samples", n), variance, tau*tau, 1e-4)
		}
	}
}

// TestLCMClosedForms: the formulas of docs/method.md, which leave the boundary
// scalings out, where these let almost nothing of a state through.
func TestLCMClosedForms(t *testing.T) {
	config := stable()
	config.TimestepScaling = maxScale
	for _, prediction := range predictions {
		config.PredictionType = prediction
		for _, n := range []int{1, 2, 8} {
			table, err := LCM(config, n)
			if err != nil {
				t.Fatal(err)
			}
			at := func(i int) Level {
				if i == n {
					return table.Steps[n-1].To
				}
				return table.Steps[i].At
			}
			sigma := func(i int) float64 { return at(i).Noise / at(i).Signal }
			product := func(from int) float64 {
				p := 1.0
				for j := from; j < n; j++ {
					p *= at(j).Signal * at(j+1).Signal
				}
				return p
			}
			for freeze, want := range map[Freeze]struct {
				carry         float64
				weight, noise func(i int) float64
			}{
				FreezeEps: {at(n).Signal / at(0).Signal,
					func(i int) float64 { return -at(n).Signal * sigma(i) },
					func(i int) float64 { return at(n).Signal * sigma(i+1) }},
				FreezeV: {product(0),
					func(i int) float64 { return -at(i+1).Signal * at(i).Noise * product(i+1) },
					func(i int) float64 { return at(i+1).Noise * product(i+1) }},
			} {
				transport, err := table.Freeze(freeze)
				if err != nil {
					t.Fatal(err)
				}
				near(t, string(freeze)+" P", transport.Carry, want.carry, 1e-11)
				for i := range n {
					near(t, fmt.Sprintf("%s w_%d", freeze, i), transport.Weights[i], want.weight(i), 1e-11)
					near(t, fmt.Sprintf("%s n_%d", freeze, i), transport.Noises[i], want.noise(i), 1e-11)
				}
			}
		}
	}
}

// TestEDMClosedForms: the rows of docs/method.md for Euler's method in sigma, of
// states that are not divided. The network, and freeze v up to its sign, is F.
func TestEDMClosedForms(t *testing.T) {
	config := edm()
	config.FinalSigmasType = FinalSigmaMin
	for _, n := range []int{1, 2, 18} {
		table, err := Euler(config, n)
		if err != nil {
			t.Fatal(err)
		}
		sigmas := append(karras(config.SigmaMax, config.SigmaMin, n), config.SigmaMin)
		data := config.SigmaData
		step := func(i int) float64 { return sigmas[i+1] - sigmas[i] }
		square := func(i int) float64 { return sigmas[i]*sigmas[i] + data*data }
		product := func(from int) float64 {
			p := 1.0
			for j := from; j < n; j++ {
				p *= 1 + step(j)*sigmas[j]/square(j)
			}
			return p
		}
		ofF := func(i int) float64 { return -step(i) * data / math.Sqrt(square(i)) * product(i+1) }
		last := sigmas[n]
		for freeze, want := range map[Freeze]struct {
			carry  float64
			weight func(i int) float64
		}{
			FreezeEps:    {1, step},
			FreezeX0:     {last / sigmas[0], func(i int) float64 { return last * (1/sigmas[i+1] - 1/sigmas[i]) }},
			FreezeSolver: {product(0), ofF},
			FreezeV:      {product(0), func(i int) float64 { return -ofF(i) }},
		} {
			transport, err := table.Freeze(freeze)
			if err != nil {
				t.Fatal(err)
			}
			// The latent of unit deviation is multiplied by sqrt(sigma_max^2+1).
			near(t, string(freeze)+" P", transport.Carry, want.carry*math.Hypot(config.SigmaMax, 1), 1e-12)
			for i, w := range transport.Weights {
				near(t, fmt.Sprintf("%s w_%d", freeze, i), w, want.weight(i), 1e-12)
			}
		}
	}
}

// TestEDMPreconditioning: the clean sample that a table makes of state and output
// is the paper's D = c_skip*x + c_out*F, the state its c_in*x (table 1).
func TestEDMPreconditioning(t *testing.T) {
	const clean, noise, output = 0.3, -1.1, 0.8
	config := edm()
	table, err := Euler(config, 5)
	if err != nil {
		t.Fatal(err)
	}
	data := config.SigmaData
	for i, sigma := range karras(config.SigmaMax, config.SigmaMin, 5) {
		step := table.Steps[i]
		x, norm := clean+sigma*noise, math.Hypot(sigma, data)
		near(t, "c_in*x", step.At.Signal*clean+step.At.Noise*noise, x/norm, 1e-14)
		d := data*data/(norm*norm)*x + sigma*data/norm*output
		ofState, ofOutput, _ := mix{clean: 1}.in(step.At.state(), step.At.output(PredictEDM))
		near(t, "D", ofState*x/norm+ofOutput*output, d, 1e-13)
		near(t, "c_noise", step.Timestep, math.Log(sigma)/4, 1e-14)
	}
}

// TestFlowClosedForms: the rows of docs/method.md for a rectified flow, with the
// last step, which forgets the state where the clean sample is frozen, left away.
func TestFlowClosedForms(t *testing.T) {
	for _, shift := range []float64{1, 3} {
		for _, n := range []int{1, 2, 28} {
			table, err := FlowEuler(flow(shift), n+1)
			if err != nil {
				t.Fatal(err)
			}
			table.Steps = table.Steps[:n]
			time := func(i int) float64 {
				if i == n {
					return table.Steps[n-1].To.Noise
				}
				return table.Steps[i].At.Noise
			}
			step := func(i int) float64 { return time(i+1) - time(i) }
			for freeze, want := range map[Freeze]struct {
				carry  float64
				weight func(i int) float64
			}{
				FreezeV:      {1, step},
				FreezeSolver: {1, step},
				FreezeX0:     {time(n) / time(0), func(i int) float64 { return time(n) * (1/time(i+1) - 1/time(i)) }},
			} {
				transport, err := table.Freeze(freeze)
				if err != nil {
					t.Fatal(err)
				}
				near(t, string(freeze)+" P", transport.Carry, want.carry, 1e-12)
				for i, w := range transport.Weights {
					near(t, fmt.Sprintf("%s w_%d", freeze, i), w, want.weight(i), 1e-12)
				}
			}
			_, err = table.Freeze(FreezeEps)
			wantError(t, err, "sampler: freeze eps is undefined at timestep 1000, where signal is 0 and noise 1; freeze v instead")
		}
	}
}

func TestSolversRefuse(t *testing.T) {
	with := func(change func(*Config)) Config {
		c := stable()
		change(&c)
		return c
	}
	plain := stable()
	karras := with(func(c *Config) { c.UseKarrasSigmas = true })
	edmWay := solversThat(func(s Solver) bool { return s.Takes(PredictEDM) })
	karrasWay := "; turn use_karras_sigmas off or use " + solversThat(Solver.TakesKarras)
	for want, try := range map[string]struct {
		solver Solver
		config Config
		n      int
		eta    float64
	}{
		fmt.Sprintf(`sampler: solver is "eular", want one of %v`, Solvers):                                                                                                      {"eular", plain, 5, 0},
		"sampler: euler takes no eta, got 0.5; leave it at 0 or use ddim":                                                                                                       {SolverEuler, plain, 5, 0.5},
		"sampler: ddim takes no Karras sigmas" + karrasWay:                                                                                                                      {SolverDDIM, karras, 5, 0},
		"sampler: ddpm takes no Karras sigmas" + karrasWay:                                                                                                                      {SolverDDPM, karras, 5, 0},
		"sampler: lcm takes no Karras sigmas" + karrasWay:                                                                                                                       {SolverLCM, karras, 5, 0},
		"sampler: flow-euler takes no Karras sigmas" + karrasWay:                                                                                                                {SolverFlowEuler, karras, 5, 0},
		"sampler: ddim asks networks that predict epsilon, v_prediction or sample, this one predicts flow_prediction; use flow-euler":                                           {SolverDDIM, flow(3), 5, 0},
		"sampler: euler asks networks that predict epsilon, v_prediction, sample or edm, this one predicts flow_prediction; use flow-euler":                                     {SolverEuler, flow(3), 5, 0},
		"sampler: flow-euler asks networks that predict flow_prediction, this one predicts epsilon; use " + solversThat(func(s Solver) bool { return s.Takes(PredictEpsilon) }): {SolverFlowEuler, plain, 5, 0},
		"sampler: lcm asks networks that predict epsilon, v_prediction or sample, this one predicts edm; use " + edmWay:                                                         {SolverLCM, edm(), 5, 0},
		"sampler: ddpm asks networks that predict epsilon, v_prediction or sample, this one predicts edm; use " + edmWay:                                                        {SolverDDPM, edm(), 5, 0},
		"sampler: flow-euler asks networks that predict flow_prediction, this one predicts edm; use " + edmWay:                                                                  {SolverFlowEuler, edm(), 5, 0},
		"sampler: lcm takes no eta, got 0.5; leave it at 0 or use ddim":                                                                                                         {SolverLCM, plain, 5, 0.5},
		"lcm: 51 inference steps, but the model was distilled on 50 (original_inference_steps)":                                                                                 {SolverLCM, plain, 51, 0},
		"lcm: original_inference_steps is 1001, want 1 to the 1000 of num_train_timesteps":                                                                                      {SolverLCM, with(func(c *Config) { c.OriginalInferenceSteps = 1001 }), 5, 0},
		"lcm: timestep_scaling is 0, want 1e-05 to 100000":                                                                                                                      {SolverLCM, with(func(c *Config) { c.TimestepScaling = 0 }), 5, 0},
		"sampler: 0 inference steps, want 1 to 1000000":                                                                                                                         {SolverFlowEuler, flow(3), 0, 0},
		"ddim: eta is 1.5, want a number from 0 to 1":                                                                                                                           {SolverDDIM, plain, 5, 1.5},
		`ddpm: variance_type is "fixed_large", but only fixed_small is supported`:                                                                                               {SolverDDPM, with(func(c *Config) { c.VarianceType = "fixed_large" }), 5, 0},
		"sampler: 1000 steps are too many for 1000 training timesteps: two of them fall on timestep 500":                                                                        {SolverDPMpp2M, with(func(c *Config) { c.TimestepSpacing = SpacingLinspace }), 1000, 0},
		"sampler: steps_offset 20 moves the first timestep to 1010, beyond the last training timestep 999":                                                                      {SolverDPMpp2M, with(func(c *Config) { c.StepsOffset = 20 }), 100, 0},
		"sampler: 1001 inference steps, but the schedule has only 1000 training timesteps":                                                                                      {SolverHeun, plain, 1001, 0},
		`scheduler config: final_sigmas_type is "max", want zero or sigma_min`:                                                                                                  {SolverDDIM, with(func(c *Config) { c.FinalSigmasType = "max" }), 5, 0},
	} {
		_, err := try.solver.Table(try.config, try.n, try.eta)
		wantError(t, err, want)
	}
}

func TestZeroTerminalSignal(t *testing.T) {
	config := stable()
	config.RescaleBetasZeroSNR, config.TimestepSpacing = true, SpacingTrailing
	alphaBars, err := config.AlphaBars()
	if err != nil {
		t.Fatal(err)
	}
	if last := alphaBars[len(alphaBars)-1]; last != 0 {
		t.Errorf("last alphaBar is %v, want 0", last)
	}
	_, err = DDIM(config, 10, 0)
	wantError(t, err, "ddim: prediction_type epsilon is undefined at timestep 999, where signal is 0 and noise 1; use v_prediction")

	config.PredictionType = PredictV
	table, err := DDIM(config, 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = table.Freeze(FreezeEps)
	wantError(t, err, "sampler: freeze eps is undefined at timestep 999, where signal is 0 and noise 1; freeze v instead")
	if _, err := table.Freeze(FreezeV); err != nil {
		t.Error(err)
	}
	_, err = table.Freeze("noise")
	wantError(t, err, `sampler: freeze is "noise", want eps, v, x0 or solver`)
}

// TestX0FreezeCollapses documents docs/method.md, The freeze: with a clean last step all
// weight falls on the last call.
func TestX0FreezeCollapses(t *testing.T) {
	for _, prediction := range predictions {
		config := cosine()
		config.PredictionType = prediction
		for n := 1; n <= 100; n++ {
			table, err := DDIM(config, n, 0)
			if err != nil {
				t.Fatal(err)
			}
			transport, err := table.Freeze(FreezeX0)
			if err != nil {
				t.Fatal(err)
			}
			last := transport.Weights[n-1]
			if transport.Carry != 0 || (n > 1 && transport.Weights[0] != 0) || math.Abs(last-1) > 1e-15 {
				t.Errorf("%s, %d steps: P = %v, first and last w %v and %v", prediction, n, transport.Carry, transport.Weights[0], last)
			}
		}
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}
