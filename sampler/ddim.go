package sampler

import "fmt"

// DDIM fills the table of deterministic DDIM (eta 0, no clipping) with n steps:
// recover clean sample and noise from state and output, then mix them again at
// the next level (arXiv 2010.02502, equation 12).
//
// As in diffusers, a step ends num_train_timesteps/n training timesteps below
// where it began, or at the final level. With leading spacing that is where
// the next step begins. With linspace, and with trailing where n does not
// divide num_train_timesteps, it can lie a little beside it; that mismatch is
// kept, so that samples equal diffusers'.
func DDIM(config Config, n int) (*Table, error) {
	alphaBars, err := config.AlphaBars()
	if err != nil {
		return nil, err
	}
	timesteps, err := config.Timesteps(n)
	if err != nil {
		return nil, err
	}
	final := 1.0
	if !config.SetAlphaToOne {
		final = alphaBars[0]
	}
	table := &Table{Prediction: config.PredictionType, Steps: make([]Step, n)}
	for i, t := range timesteps {
		at, to := LevelAt(alphaBars[t]), LevelAt(final)
		if previous := t - config.NumTrainTimesteps/n; previous >= 0 {
			to = LevelAt(alphaBars[previous])
		}
		state, output, ok := to.state().in(at.state(), at.output(config.PredictionType))
		if !ok {
			return nil, fmt.Errorf("ddim: prediction_type %s is undefined at timestep %d, where signal is %.3g and noise %.3g; use v_prediction",
				config.PredictionType, t, at.Signal, at.Noise)
		}
		table.Steps[i] = Step{Timestep: float64(t), At: at, To: to, State: state, Output: output}
	}
	return table, nil
}
