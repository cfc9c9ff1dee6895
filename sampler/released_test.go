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
	stochastic := []byte(`{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++", "lambda_min_clipped": -Infinity}`)
	if got := StandIn(stochastic); got != `DPMSolverMultistepScheduler of "sde-dpmsolver++"` || SolverOf(stochastic) != "dpmpp-2m" {
		t.Errorf("the stochastic solver is taken for %q, in place of %q", SolverOf(stochastic), got)
	}
}
