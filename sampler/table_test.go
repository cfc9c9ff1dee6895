package sampler

import (
	"fmt"
	"math"
	"testing"
)

var (
	predictions = []Prediction{PredictEpsilon, PredictV, PredictSample}
	freezes     = []Freeze{FreezeEps, FreezeV, FreezeX0, FreezeSolver}
)

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

// eachSolver runs a test on every solver's tables: both schedules, every
// prediction type and spacing, Karras' levels, both ends, few steps and many.
func eachSolver(t *testing.T, test func(*testing.T, *Table)) {
	for name, schedule := range map[string]Config{"stable": stable(), "cosine": cosine()} {
		for _, prediction := range predictions {
			for _, spacing := range []Spacing{SpacingLeading, SpacingLinspace, SpacingTrailing} {
				config := schedule
				config.PredictionType, config.TimestepSpacing = prediction, spacing
				for _, n := range []int{1, 2, 7, 20} {
					variants := map[string]func() (*Table, error){
						"ddim 0.4": func() (*Table, error) { return SolverDDIM.Table(config, n, 0.4) },
						"ddim 1":   func() (*Table, error) { return SolverDDIM.Table(config, n, 1) },
					}
					for _, solver := range Solvers {
						variants[string(solver)] = func() (*Table, error) { return solver.Table(config, n, 0) }
						if !solver.TakesKarras() {
							continue
						}
						variants[string(solver)+" karras, sigma_min"] = func() (*Table, error) {
							config := config
							config.UseKarrasSigmas, config.FinalSigmasType = true, FinalSigmaMin
							return solver.Table(config, n, 0)
						}
					}
					for variant, fill := range variants {
						t.Run(fmt.Sprintf("%s/%s/%s/%s/%d", variant, name, prediction, spacing, n), func(t *testing.T) {
							table, err := fill()
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
		for _, freeze := range freezes {
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
		if table.Stochastic() {
			return
		}
		memories := make([]float64, len(table.Steps))
		for i, step := range table.Steps {
			x, output := at(step.At.state()), at(step.At.output(table.Prediction))
			next := step.State*x + step.Output*output
			for k, weight := range step.Earlier {
				next += weight * memories[i-1-k]
			}
			memories[i] = step.Memory.State*x + step.Memory.Output*output
			// What cancels may be as large as the output is weighed.
			near(t, fmt.Sprintf("step %d", i), next, at(step.To.state()), 1e-13*(1+math.Abs(step.Output)+math.Abs(step.State)))
		}
	})
}

// TestFreshNoiseKeepsTheVariance: the noise that a stochastic step keeps and
// the noise it adds have the variance of the level it ends at.
func TestFreshNoiseKeepsTheVariance(t *testing.T) {
	eachSolver(t, func(t *testing.T, table *Table) {
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

// TestOrderOfConvergence: for Gaussian data of deviation tau the optimal
// network is linear and the end of the probability flow is known, so the error
// must fall by 2^order when the step halves. The final sigma is kept off zero:
// the last step down to it would be a long one in ln(sigma), whatever n.
func TestOrderOfConvergence(t *testing.T) {
	const tau = 0.5
	deviation := func(l Level) float64 { return math.Hypot(l.Signal*tau, l.Noise) }
	smooth := stable()
	smooth.TimestepSpacing, smooth.UseKarrasSigmas, smooth.FinalSigmasType = SpacingLinspace, true, FinalSigmaMin
	for solver, order := range map[Solver]int{SolverDDIM: 1, SolverEuler: 1, SolverHeun: 2, SolverDPMpp2M: 2} {
		var previous float64
		for _, n := range []int{50, 100, 200} {
			config, n := smooth, n+1 // levels, n steps between them
			if solver == SolverDDIM {
				config, n = stable(), n-1
			}
			table, err := solver.Table(config, n, 0)
			if err != nil {
				t.Fatal(err)
			}
			if solver == SolverHeun {
				table.Steps = table.Steps[:2*n-2] // it would go on to zero
			}
			_, x := roll(table, 1, func(i int, x float64) float64 {
				d := deviation(table.Steps[i].At)
				return table.Steps[i].At.Noise * x / (d * d)
			}, nil)
			exact := table.Start * deviation(table.Steps[len(table.Steps)-1].To) / deviation(table.Steps[0].At)
			failure := math.Abs(x - exact)
			want := math.Pow(2, float64(order))
			if ratio := previous / failure; previous != 0 && (ratio < 0.85*want || ratio > 1.25*want) {
				t.Errorf("%s, %d steps: the error fell by %.2f, want %v", solver, n, ratio, want)
			}
			previous = failure
		}
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

func TestSolversRefuse(t *testing.T) {
	with := func(change func(*Config)) Config {
		c := stable()
		change(&c)
		return c
	}
	plain := stable()
	karras := with(func(c *Config) { c.UseKarrasSigmas = true })
	for want, try := range map[string]struct {
		solver Solver
		config Config
		n      int
		eta    float64
	}{
		`sampler: solver is "unipc", want one of [ddim ddpm dpmpp-2m euler heun]`:                          {"unipc", plain, 5, 0},
		"sampler: euler takes no eta, got 0.5; leave it at 0 or use ddim":                                  {SolverEuler, plain, 5, 0.5},
		"sampler: ddpm takes no Karras sigmas; turn use_karras_sigmas off or use dpmpp-2m, euler or heun":  {SolverDDPM, karras, 5, 0},
		"ddim: eta is 1.5, want a number from 0 to 1":                                                      {SolverDDIM, plain, 5, 1.5},
		`ddpm: variance_type is "fixed_large", but only fixed_small is supported`:                          {SolverDDPM, with(func(c *Config) { c.VarianceType = "fixed_large" }), 5, 0},
		"dpmpp-2m: 1000 steps are too many for 1000 training timesteps: two of them fall on timestep 500":  {SolverDPMpp2M, with(func(c *Config) { c.TimestepSpacing = SpacingLinspace }), 1000, 0},
		"sampler: steps_offset 20 moves the first timestep to 1010, beyond the last training timestep 999": {SolverDPMpp2M, with(func(c *Config) { c.StepsOffset = 20 }), 100, 0},
		"sampler: 1001 inference steps, but the schedule has only 1000 training timesteps":                 {SolverHeun, plain, 1001, 0},
		`scheduler config: final_sigmas_type is "max", want zero or sigma_min`:                             {SolverDDIM, with(func(c *Config) { c.FinalSigmasType = "max" }), 5, 0},
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
