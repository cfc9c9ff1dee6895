package sampler

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Noise schedules of released checkpoints are read as they are, sampled with what
// is said, and refused by the name of their class.
func TestReleasedSchedules(t *testing.T) {
	for name, want := range map[string]struct{ solver, standIn, refusal string }{
		"stable-diffusion-v1-4":     {"ddim", "PNDMScheduler", ""},
		"stable-diffusion-v1-5":     {"ddim", "PNDMScheduler", ""},
		"stable-diffusion-2":        {"ddim", "", ""},
		"stable-diffusion-2-1-base": {"ddim", "PNDMScheduler", ""},
		"sd-turbo":                  {"euler", "", ""},
		"lcm-dreamshaper-v7":        {"lcm", "", ""},
		"tiny-sd":                   {"dpmpp-2m", "", ""},
		"realistic":                 {"euler", "EulerAncestralDiscreteScheduler", ""},
		"anything":                  {"dpmpp-2m", "DEISMultistepScheduler", ""},
		"unipc":                     {"unipc", "", ""},
		"ddpm-cifar10-32":           {"ddim", "DDPMScheduler", ""},
		"ddpm-celebahq-256":         {"ddim", "DDPMScheduler", ""},
		"ncsnpp-church-256":         {"", "", `scheduler config: "ScoreSdeVeScheduler" is not a sampler whose noise schedule is known here`},
	} {
		text, err := os.ReadFile(filepath.Join("../model/testdata/released", name+".scheduler.json"))
		if err != nil {
			t.Fatal(err)
		}
		config, err := ParseConfig(text)
		config.ClipSample = false // as every use does
		if err == nil {
			err = config.Validate()
		}
		if want.refusal == "" && err != nil || want.refusal != "" && (err == nil || !strings.HasPrefix(err.Error(), want.refusal)) {
			t.Errorf("%s: %v, want %q", name, err, want.refusal)
			continue
		}
		solver, standIn := SolverOf(text), StandIn(text)
		if string(solver) != want.solver || standIn != want.standIn {
			t.Errorf("%s is sampled with %q in place of %q, want %q and %q", name, solver, standIn, want.solver, want.standIn)
		}
		if solver == "" {
			continue
		}
		if _, err := solver.Table(config, 4, 0); err != nil {
			t.Errorf("%s with %s: %v", name, solver, err)
		}
	}
}

// A class of diffusers is several solvers, of which one is here: the others are
// told, and so is what else differs, unless the key is a sibling's that the class
// does not read.
func TestStandIn(t *testing.T) {
	for text, want := range map[string]struct{ solver, standIn string }{
		`{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++", "lambda_min_clipped": -Infinity}`:               {"dpmpp-2m", `DPMSolverMultistepScheduler with algorithm_type "sde-dpmsolver++"`},
		`{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "deis", "solver_type": "logrho", "lambda_min_clipped": -Infinity}`: {"dpmpp-2m", ""},
		`{"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3, "solver_type": "bh2"}`:                                            {"dpmpp-2m", "DPMSolverMultistepScheduler with solver_order 3"},
		`{"_class_name": "DPMSolverMultistepScheduler", "solver_type": "heun"}`:                                                              {"dpmpp-2m", `DPMSolverMultistepScheduler with solver_type "heun"`},
		`{"_class_name": "DPMSolverMultistepScheduler", "use_lu_lambdas": true}`:                                                             {"dpmpp-2m", "DPMSolverMultistepScheduler with use_lu_lambdas true"},
		`{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -5.1}`:                                                         {"dpmpp-2m", "DPMSolverMultistepScheduler with lambda_min_clipped -5.1"},
		`{"_class_name": "UniPCMultistepScheduler", "solver_order": 3}`:                                                                      {"unipc", "UniPCMultistepScheduler with solver_order 3"},
		`{"_class_name": "UniPCMultistepScheduler", "solver_type": "bh1"}`:                                                                   {"unipc", `UniPCMultistepScheduler with solver_type "bh1"`},
		`{"_class_name": "UniPCMultistepScheduler", "solver_type": "midpoint", "disable_corrector": [  ]}`:                                   {"unipc", ""},
		`{"_class_name": "UniPCMultistepScheduler", "disable_corrector": [0, 1]}`:                                                            {"unipc", "UniPCMultistepScheduler with disable_corrector [0,1]"},
		`{"_class_name": "EulerDiscreteScheduler", "solver_order": 3, "solver_type": "heun", "algorithm_type": "sde-dpmsolver++"}`:           {"euler", ""},
		`{"_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": true}`:                                                                 {"euler", "EulerDiscreteScheduler with use_beta_sigmas true"},
		`{"_class_name": "EDMEulerScheduler", "sigma_schedule": "exponential"}`:                                                              {"euler", `EDMEulerScheduler with sigma_schedule "exponential"`},
		`{"_class_name": "DPMSolverSinglestepScheduler", "solver_order": 2, "lower_order_final": false}`:                                     {"dpmpp-2m", "DPMSolverSinglestepScheduler"},
		`{"_class_name": "DPMSolverSDEScheduler", "noise_sampler_seed": null}`:                                                               {"heun", "DPMSolverSDEScheduler"},
		`{"_class_name": "DDIMParallelScheduler"}`:                                                                                           {"ddim", ""},
		`{"_class_name": "DDPMParallelScheduler"}`:                                                                                           {"ddim", "DDPMParallelScheduler"},
		`{"_class_name": "DDIMScheduler", "timesteps": 1000, "tensor_format": "pt", "timestep_values": null, "predict_epsilon": true}`:       {"ddim", ""},
	} {
		data := []byte(text)
		if solver, standIn := SolverOf(data), StandIn(data); string(solver) != want.solver || standIn != want.standIn {
			t.Errorf("%s is sampled with %q in place of %q, want %q and %q", text, solver, standIn, want.solver, want.standIn)
		}
		config, err := ParseConfig(data)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		config.ClipSample = false
		if _, err := SolverOf(data).Table(config, 5, 0); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
