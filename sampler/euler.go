package sampler

import "fmt"

// SolverEuler is Euler's method in sigma.
const SolverEuler Solver = "euler"

func init() {
	register(SolverEuler, rule{fill: withoutEta(Euler), predictions: variancePreserving, karras: true})
}

// Euler fills the table of Euler's method on the probability flow,
// d(clean + sigma*noise)/d sigma = noise, as diffusers' EulerDiscreteScheduler
// does without churn (arXiv 2206.00364, algorithm 2). Between two levels that
// is DDIM's step; what differs is the grid and the deviation of the start.
func Euler(config Config, n int) (*Table, error) {
	g, err := config.eulerGrid(n)
	if err != nil {
		return nil, err
	}
	table := &Table{Prediction: config.PredictionType, Start: g.start(config.TimestepSpacing), Steps: make([]Step, n)}
	for i, t := range g.timesteps {
		to := levelOfSigma(g.sigmas[i+1])
		if i == n-1 {
			// The run's result is the undivided state.
			to = Level{Signal: 1, Noise: g.sigmas[n]}
		}
		if table.Steps[i], err = renoise(t, levelOfSigma(g.sigmas[i]), to, config.PredictionType, 0); err != nil {
			return nil, fmt.Errorf("euler: %w", err)
		}
	}
	return table, nil
}
