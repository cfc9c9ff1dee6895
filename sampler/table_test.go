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
				table, err := DDIM(config, n)
				if err != nil {
					t.Fatal(err)
				}
				t.Run(fmt.Sprintf("%s/%s/%d", name, prediction, n), func(t *testing.T) { test(t, table) })
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

// TestTransportRebuildsTheSample: for any network outputs, the transport sum
// over frozen quantities is the sequential sampler's sample, also where
// neighbouring steps do not join (linspace, trailing).
func TestTransportRebuildsTheSample(t *testing.T) {
	check := func(t *testing.T, table *Table) {
		for _, freeze := range freezes {
			transport, err := table.Freeze(freeze)
			if err != nil {
				t.Fatal(err)
			}
			start := 0.7
			x, rebuilt := start, transport.Carry*start
			for i, step := range table.Steps {
				output := math.Sin(3*x + step.Timestep)
				frozen := transport.Steps[i]
				rebuilt += transport.Weights[i] * (frozen.FromState*x + frozen.FromOutput*output)
				x = step.State*x + step.Output*output
			}
			near(t, string(freeze), rebuilt, x, 1e-10*max(1, math.Abs(transport.Carry)))
		}
	}
	eachTable(t, check)
	for _, spacing := range []Spacing{SpacingLinspace, SpacingTrailing} {
		config := stable()
		config.TimestepSpacing = spacing
		table, err := DDIM(config, 7)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(string(spacing), func(t *testing.T) { check(t, table) })
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

// TestDDIMConvergesToFirstOrder: for Gaussian data of deviation tau the
// optimal network is linear and the probability-flow end point is known, so
// the error must halve with the step.
func TestDDIMConvergesToFirstOrder(t *testing.T) {
	const tau = 0.5
	deviation := func(l Level) float64 { return math.Hypot(l.Signal*tau, l.Noise) }
	var previous float64
	for _, n := range []int{50, 100, 200} {
		table, err := DDIM(stable(), n)
		if err != nil {
			t.Fatal(err)
		}
		x := 1.0
		for _, step := range table.Steps {
			d := deviation(step.At)
			x = step.State*x + step.Output*step.At.Noise*x/(d*d)
		}
		exact := deviation(table.Steps[n-1].To) / deviation(table.Steps[0].At)
		failure := math.Abs(x - exact)
		if ratio := previous / failure; previous != 0 && (ratio < 1.8 || ratio > 2.2) {
			t.Errorf("%d steps: the error fell by %.2f, want 2", n, ratio)
		}
		previous = failure
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
	_, err = DDIM(config, 10)
	wantError(t, err, "ddim: prediction_type epsilon is undefined at timestep 999, where signal is 0 and noise 1; use v_prediction")

	config.PredictionType = PredictV
	table, err := DDIM(config, 10)
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
			table, err := DDIM(config, n)
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
