package sampler

import "fmt"

// SolverFlowEuler is Euler's method on a rectified flow.
const SolverFlowEuler Solver = "flow-euler"

func init() {
	register(SolverFlowEuler, rule{fill: withoutEta(FlowEuler), predictions: []Prediction{PredictFlow}})
}

// FlowEuler fills the table of Euler's method on a rectified flow (arXiv
// 2209.03003), next = state + (t' - t)*velocity, as diffusers'
// FlowMatchEulerDiscreteScheduler does with a static shift (arXiv 2403.03206,
// section 5.3.2). The times run from 1, where the state is the latent, and end
// at 0. The network is told t times num_train_timesteps.
//
// As there, the times run down to the shifted time of the first training
// timestep and are shifted again: a shift of 3 acts on the lowest twice.
func FlowEuler(config Config, n int) (*Table, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if n < 1 || n > maxTrainTimesteps {
		return nil, fmt.Errorf("sampler: %d inference steps, want 1 to %d", n, maxTrainTimesteps)
	}
	train := float64(config.NumTrainTimesteps)
	shifted := func(t float64) float64 { return config.Shift * t / (1 + (config.Shift-1)*t) }
	times := append(linspace(1, shifted(1/train), n), 0)
	for i, t := range times {
		times[i] = shifted(t)
	}
	table := &Table{Prediction: PredictFlow, Start: 1}
	for i, t := range times[:n] {
		at, to := Level{Signal: 1 - t, Noise: t}, Level{Signal: 1 - times[i+1], Noise: times[i+1]}
		step, err := renoise(t*train, at, to, PredictFlow, 0)
		if err != nil {
			return nil, fmt.Errorf("flow-euler: %w", err)
		}
		table.Steps = append(table.Steps, step)
	}
	return table, nil
}
