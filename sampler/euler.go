package sampler

import "fmt"

// SolverEuler is Euler's method in sigma.
const SolverEuler Solver = "euler"

func init() {
	register(SolverEuler, rule{fill: withoutEta(Euler), predictions: withEDM, karras: true})
}

// Euler fills the table of Euler's method on the probability flow,
// d(clean + sigma*noise)/d sigma = noise, as diffusers' EulerDiscreteScheduler
// and, for an EDM network, EDMEulerScheduler do without churn (arXiv 2206.00364,
// algorithm 2). Between two levels that is DDIM's step; what differs is the grid
// and the deviation of the start.
func Euler(config Config, n int) (*Table, error) {
	g, err := config.eulerGrid(n)
	if err != nil {
		return nil, err
	}
	table := &Table{Prediction: config.PredictionType, Start: g.start}
	for i, t := range g.timesteps {
		step, err := renoise(t, g.levels[i], g.levels[i+1], config.PredictionType, 0)
		if err != nil {
			return nil, fmt.Errorf("euler: %w", err)
		}
		table.Steps = append(table.Steps, step)
	}
	return table, nil
}
