package sampler

import (
	"encoding/json"
	"math"
	"os"
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
		table, err := DDIM(config, len(run.Timesteps))
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
