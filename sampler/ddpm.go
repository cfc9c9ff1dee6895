package sampler

import "fmt"

// SolverDDPM is ancestral sampling.
const SolverDDPM Solver = "ddpm"

func init() {
	register(SolverDDPM, rule{fill: withoutEta(DDPM), predictions: variancePreserving})
}

// DDPM fills the table of ancestral sampling with the posterior's own variance,
// fixed_small in diffusers (arXiv 2006.11239, equations 6 and 7). Every step
// ends where the next begins, the last one at the clean sample.
func DDPM(config Config, n int) (*Table, error) {
	if config.VarianceType != varianceFixedSmall {
		return nil, fmt.Errorf("ddpm: variance_type is %q, but only fixed_small is supported", config.VarianceType)
	}
	alphaBars, err := config.AlphaBars()
	if err != nil {
		return nil, err
	}
	timesteps, err := config.Timesteps(n)
	if err != nil {
		return nil, err
	}
	table := &Table{Prediction: config.PredictionType, Start: 1, Steps: make([]Step, n)}
	for i, t := range timesteps {
		to := LevelAt(1)
		if i+1 < n {
			to = LevelAt(alphaBars[timesteps[i+1]])
		}
		table.Steps[i], err = renoise(float64(t), LevelAt(alphaBars[t]), to, config.PredictionType, 1)
		if err != nil {
			return nil, fmt.Errorf("ddpm: %w", err)
		}
	}
	return table, nil
}
