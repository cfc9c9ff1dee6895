package sampler

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"regexp"
	"testing"
)

// TestDDIMEqualsDiffusers holds schedules, spacings and step coefficients
// against diffusers' own. The fixture's schedule is in float32, hence the
// tolerance; regenerate it with tools/golden/ddim.py.
func TestDDIMEqualsDiffusers(t *testing.T) {
	data, err := os.ReadFile("testdata/ddim.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Runs []struct {
			Config    json.RawMessage
			Timesteps []int
			State     []float64
			Output    []float64
			AlphaBars []float64 `json:"alpha_bars"`
		}
		SpacingSums map[Spacing][]int `json:"spacing_sums"`
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Runs) == 0 || len(golden.SpacingSums) != 3 {
		t.Fatalf("fixture has %d runs and %d spacings", len(golden.Runs), len(golden.SpacingSums))
	}
	for _, run := range golden.Runs {
		config, err := ParseConfig(run.Config)
		if err != nil {
			t.Fatalf("%s: %v", run.Config, err)
		}
		table, err := DDIM(config, len(run.Timesteps), 0)
		if err != nil {
			t.Fatalf("%s: %v", run.Config, err)
		}
		for i, step := range table.Steps {
			if int(step.Timestep) != run.Timesteps[i] {
				t.Fatalf("%s: step %d asks at %v, diffusers at %d", run.Config, i, step.Timestep, run.Timesteps[i])
			}
			near(t, string(run.Config)+" alphaBar", step.At.AlphaBar(), run.AlphaBars[i], 2e-5)
			near(t, string(run.Config)+" state", step.State, run.State[i], 2e-5)
			near(t, string(run.Config)+" output", step.Output, run.Output[i], 2e-5)
		}
	}
	for spacing, sums := range golden.SpacingSums {
		config := unclipped(DefaultConfig())
		config.TimestepSpacing = spacing
		for i, want := range sums {
			timesteps, err := config.Timesteps(i + 1)
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			for k, timestep := range timesteps {
				got += (k + 1) * timestep
			}
			if got != want {
				t.Errorf("%s, %d steps: position-weighted sum of timesteps is %d, diffusers' %d", spacing, i+1, got, want)
			}
		}
	}
}

// near compares relative to the larger of 1 and the wanted number.
func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*max(1, math.Abs(want))) {
		t.Errorf("%s: %.17g, want %.17g (off by %.2g)", what, got, want, got-want)
	}
}

func unclipped(c Config) Config {
	c.ClipSample = false
	return c
}

// goldenRun is a run of one of diffusers' schedulers.
type goldenRun struct {
	Solver          Solver
	Eta             float64
	Config          json.RawMessage
	Steps           int
	Timesteps       []float64
	Inputs          []float64
	Sample, Carry   float64
	Weights, Noises []float64
}

// readSchedulers reads the fixture of tools/golden/schedulers.py. Schedules there
// are in float32, and so are the steps of some.
func readSchedulers(t *testing.T) (golden struct {
	Runs, Inversions []goldenRun
	Configs          []string
}) {
	t.Helper()
	data, err := os.ReadFile("testdata/schedulers.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	return golden
}

// TestSolversEqualDiffusers holds every solver's run against diffusers' own.
func TestSolversEqualDiffusers(t *testing.T) {
	seen := map[Solver]int{}
	for _, run := range readSchedulers(t).Runs {
		seen[run.Solver]++
		run.test(t, func(config Config) (*Table, error) { return run.Solver.Table(config, run.Steps, run.Eta) })
	}
	for _, solver := range Solvers {
		if seen[solver] < 7 {
			t.Errorf("%s has %d runs in the fixture, want 7 or more", solver, seen[solver])
		}
	}
}

func TestInversionEqualsDiffusers(t *testing.T) {
	runs := readSchedulers(t).Inversions
	if len(runs) < 7 {
		t.Errorf("the fixture has %d inversions, want 7 or more", len(runs))
	}
	for _, run := range runs {
		run.test(t, func(config Config) (*Table, error) { return Invert(config, run.Steps) })
	}
}

// test compares timesteps, what the network is shown at each, the sample, and
// the response of the sample to the latent, to each output and to each noise.
func (run goldenRun) test(t *testing.T, fill func(Config) (*Table, error)) {
	t.Run(fmt.Sprintf("%s/%v/%d/%s", run.Solver, run.Eta, run.Steps, run.Config), func(t *testing.T) {
		config, err := ParseConfig(run.Config)
		if err != nil {
			t.Fatal(err)
		}
		table, err := fill(config)
		if err != nil {
			t.Fatal(err)
		}
		transport, err := table.Freeze(FreezeSolver)
		if err != nil {
			t.Fatal(err)
		}
		if len(table.Steps) != len(run.Timesteps) {
			t.Fatalf("%d network calls, diffusers makes %d", len(table.Steps), len(run.Timesteps))
		}
		states, sample := roll(table, 0.7,
			func(i int, _ float64) float64 { return math.Sin(1.3*float64(i) + 0.5) },
			func(i int) float64 { return math.Cos(1.7 * float64(i)) })
		largest := math.Abs(run.Sample)
		for _, x := range run.Inputs {
			largest = max(largest, math.Abs(x))
		}
		for i, step := range table.Steps {
			near(t, fmt.Sprintf("timestep %d", i), step.Timestep, run.Timesteps[i], 1e-4)
			near(t, fmt.Sprintf("input %d", i), states[i]/largest, run.Inputs[i]/largest, 3e-5)
			near(t, fmt.Sprintf("w_%d", i), transport.Weights[i], run.Weights[i], 3e-5)
			near(t, fmt.Sprintf("n_%d", i), transport.Noises[i], run.Noises[i], 3e-5)
		}
		near(t, "sample", sample/largest, run.Sample/largest, 3e-5)
		near(t, "P", transport.Carry, run.Carry, 3e-5)
	})
}

// TestConfigDefaultsEqualDiffusers: the name of a class alone means what a file
// of that class says in full.
func TestConfigDefaultsEqualDiffusers(t *testing.T) {
	configs := readSchedulers(t).Configs
	if len(configs) < 10 {
		t.Errorf("the fixture has %d whole configs, want 10 or more", len(configs))
	}
	for _, whole := range configs {
		class := regexp.MustCompile(`"_class_name": "\w+"`).FindString(whole)
		full, err := ParseConfig([]byte(whole))
		if err != nil {
			t.Errorf("%v\n%s", err, whole)
			continue
		}
		short, err := ParseConfig([]byte("{" + class + "}"))
		if err != nil || !reflect.DeepEqual(full, short) {
			t.Errorf("%v\n%s says %+v\nits defaults are %+v", err, class, full, short)
		}
	}
}

// roll runs a table on scalars: output answers for the network at call i and
// the state there, noise gives z_i. It returns the states asked at and the
// sample.
func roll(table *Table, latent float64, output func(i int, x float64) float64, noise func(i int) float64) (states []float64, sample float64) {
	x, memories := table.Start*latent, make([]float64, len(table.Steps))
	for i, step := range table.Steps {
		states = append(states, x)
		o := output(i, x)
		memories[i] = step.Memory.State*x + step.Memory.Output*o
		x = step.State*x + step.Output*o
		if step.Noise != 0 {
			x += step.Noise * noise(i)
		}
		for k, weight := range step.Earlier {
			x += weight * memories[i-1-k]
		}
	}
	return states, x
}
