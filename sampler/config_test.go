package sampler

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
)

func TestParseConfig(t *testing.T) {
	config, err := ParseConfig([]byte(`{"_class_name": "DDIMScheduler", "_diffusers_version": "0.42.1",
		"beta_schedule": "squaredcos_cap_v2", "clip_sample": false, "prediction_type": "v_prediction",
		"trained_betas": null, "variance_type": "fixed_small"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := unclipped(DefaultConfig())
	want.BetaSchedule, want.PredictionType = ScheduleCosine, PredictV
	if !reflect.DeepEqual(config, want) {
		t.Errorf("parsed %+v, want %+v", config, want)
	}
	written, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseConfig(written)
	if err != nil || !reflect.DeepEqual(again, config) {
		t.Errorf("written and read back: %+v, %v", again, err)
	}
}

// TestParseConfigOfOtherNetworks: the class says what a file means, and a config
// that is written and read back means the same without it.
func TestParseConfigOfOtherNetworks(t *testing.T) {
	flow3 := flow(3)
	playground := DefaultConfig()
	edmDefaults(&playground)
	playground.SigmaMax = 120
	stable := unclipped(DefaultConfig())
	stable.BetaSchedule, stable.BetaStart, stable.BetaEnd = ScheduleScaledLinear, 0.00085, 0.012
	stable.SetAlphaToOne, stable.StepsOffset = false, 1
	turbo := unclipped(DefaultConfig())
	turbo.TimestepSpacing = SpacingTrailing
	for in, want := range map[string]Config{
		`{"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}`:                                                           flow3,
		`{"_class_name": "EDMDPMSolverMultistepScheduler", "prediction_type": "epsilon", "sigma_max": 120.0, "rho": 7.0}`:                                         playground,
		`{"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "skip_prk_steps": true, "steps_offset": 1}`: stable,
		`{"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"}`:                                                                      turbo,
	} {
		config, err := ParseConfig([]byte(in))
		if err != nil || !reflect.DeepEqual(config, want) {
			t.Errorf("%s\nparsed as %+v, %v", in, config, err)
		}
		written, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseConfig(written)
		if err != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("%s\nwritten and read back: %+v, %v", in, again, err)
		}
	}
}

func TestParseConfigRefuses(t *testing.T) {
	for in, want := range map[string]string{
		`{"beta_shedule": "linear"}`:      `scheduler config: unknown key "beta_shedule"`,
		`{"predict_epsilon": false}`:      "scheduler config: predict_epsilon is false, but only true is supported",
		`{"steps_offset": "one"}`:         "scheduler config: steps_offset is a string, want int",
		`[1]`:                             "scheduler config: a JSON array stands where an object should",
		`{"num_train_timesteps": 1000.5}`: "scheduler config: num_train_timesteps is a number 1000.5, want int",
		`{"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": true}`:      "scheduler config: use_dynamic_shifting is true, but only false is supported",
		`{"_class_name": "EDMEulerScheduler", "prediction_type": "v_prediction"}`:               `scheduler config: prediction_type of EDMEulerScheduler is "v_prediction", but only "epsilon" is supported`,
		`{"_class_name": "IPNDMScheduler", "num_train_timesteps": 1000, "trained_betas": null}`: `scheduler config: "IPNDMScheduler" is not a sampler whose noise schedule is known here; if the network was trained on a schedule of betas, write them into a config of DDIMScheduler`,
	} {
		_, err := ParseConfig([]byte(in))
		wantError(t, err, want)
	}
}

func TestValidateRefuses(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"num_train_timesteps is 0, want 1 to 1000000":                                                 func(c *Config) { c.NumTrainTimesteps = 0 },
		"num_train_timesteps is 2000000, want 1 to 1000000":                                           func(c *Config) { c.NumTrainTimesteps = 2_000_000 },
		"clip_sample is true, but steering needs an unclipped sampler; set it to false":               func(c *Config) { c.ClipSample = true },
		"thresholding is true, but steering needs an unclipped sampler; set it to false":              func(c *Config) { c.Thresholding = true },
		"steps_offset is -1, want 0 or more":                                                          func(c *Config) { c.StepsOffset = -1 },
		`prediction_type is "flow", want epsilon, v_prediction, sample, flow_prediction or edm`:       func(c *Config) { c.PredictionType = "flow" },
		"shift is 0, want 1e-05 to 100000":                                                            func(c *Config) { c.PredictionType, c.Shift = PredictFlow, 0 },
		"sigma_min is 80 and sigma_max 80, want 1e-05 <= sigma_min < sigma_max <= 100000":             func(c *Config) { edmDefaults(c); c.SigmaMin = 80 },
		"sigma_data is -1, want 1e-05 to 100000":                                                      func(c *Config) { edmDefaults(c); c.SigmaData = -1 },
		"sigma_min, sigma_max or sigma_data is set, but only EDM networks have their own noise range": func(c *Config) { c.SigmaMax = 14 },
		`timestep_spacing is "karras", want leading, linspace or trailing`:                            func(c *Config) { c.TimestepSpacing = "karras" },
		`beta_schedule is "sigmoid", want linear, scaled_linear or squaredcos_cap_v2`:                 func(c *Config) { c.BetaSchedule = "sigmoid" },
		"beta_start is 0.0001 and beta_end 2, want 0 < beta_start <= beta_end < 1":                    func(c *Config) { c.BetaEnd = 2 },
		"trained_betas has 1 values, num_train_timesteps is 1000":                                     func(c *Config) { c.TrainedBetas = []float64{.1} },
		"trained_betas[0] is 1, want a number between 0 and 1":                                        func(c *Config) { c.TrainedBetas, c.NumTrainTimesteps = []float64{1}, 1 },
	} {
		config := unclipped(DefaultConfig())
		if err := config.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&config)
		wantError(t, config.Validate(), "scheduler config: "+want)
	}
}

func TestTimestepsRefuses(t *testing.T) {
	config := unclipped(DefaultConfig())
	for n, want := range map[int]string{
		0:       "sampler: 0 inference steps, want at least 1",
		-3:      "sampler: -3 inference steps, want at least 1",
		1 << 40: "sampler: 1099511627776 inference steps, but the schedule has only 1000 training timesteps",
	} {
		_, err := DDIM(config, n, 0)
		wantError(t, err, want)
	}
	config.StepsOffset = 1
	_, err := DDIM(config, 1000, 0)
	wantError(t, err, "sampler: steps_offset 1 moves the first timestep to 1000, beyond the last training timestep 999")
}

// FuzzParseConfig: whatever the bytes, parsing and building a table end in a
// table of finite numbers or in an error.
func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"clip_sample": false, "beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 10}`), 3)
	f.Add([]byte(`{"clip_sample": false, "rescale_betas_zero_snr": true, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}`), 7)
	f.Add([]byte(`{"clip_sample": false, "trained_betas": [0.5, 1e-300], "num_train_timesteps": 2}`), 2)
	f.Add([]byte(`{"clip_sample": false, "beta_start": 0.9, "beta_end": 0.999}`), 1000)
	f.Add([]byte(`{"beta_start": null, "": 1}`), 0)
	f.Add([]byte(`{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 1e-300}`), 4)
	f.Add([]byte(`{"_class_name": "EDMEulerScheduler", "sigma_max": 1e300, "sigma_data": 1e-300}`), 4)
	f.Add([]byte(`{"_class_name": "LCMScheduler", "timestep_scaling": 1e300, "original_inference_steps": 3}`), 2)
	f.Add([]byte(`{"clip_sample": false, "final_sigmas_type": "sigma_min", "trained_betas": [1e-300, 0.5, 0.5], "num_train_timesteps": 3}`), 2)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		config, err := ParseConfig(data)
		if err != nil || config.NumTrainTimesteps > 10_000 || n > 10_000 {
			return
		}
		fills := []func() (*Table, error){func() (*Table, error) { return Invert(config, n) }}
		for _, solver := range Solvers {
			fills = append(fills, func() (*Table, error) { return solver.Table(config, n, 0) })
		}
		for _, fill := range fills {
			table, err := fill()
			if err != nil {
				continue
			}
			for i, step := range table.Steps {
				all := append([]float64{step.Timestep, step.State, step.Output, step.Memory.State, step.Memory.Output, step.Noise}, step.Earlier...)
				for _, x := range all {
					if x-x != 0 {
						t.Fatalf("step %d of %s: %+v", i, data, step)
					}
				}
			}
		}
	})
}

// Every class whose defaults are known has a solver, which exists.
func TestSolverOf(t *testing.T) {
	for class := range classDefaults {
		if solver := SolverOf([]byte(`{"_class_name": "` + class + `", "lambda_min_clipped": -Infinity}`)); !slices.Contains(Solvers, solver) {
			t.Errorf("%s has the solver %q", class, solver)
		}
	}
	for text, want := range map[string]Solver{`{"_class_name": "LCMScheduler"}`: "lcm", `{"_class_name": "VQDiffusionScheduler"}`: "", `{`: ""} {
		if got := SolverOf([]byte(text)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
