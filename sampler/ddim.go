package sampler

import (
	"fmt"
	"math"
)

// SolverDDIM is DDIM, with eta a share of fresh noise.
const SolverDDIM Solver = "ddim"

func init() {
	register(SolverDDIM, rule{fill: DDIM, predictions: variancePreserving, eta: true})
}

// DDIM fills the table of DDIM without clipping: recover clean sample and noise
// from state and output, then mix them again at the next level, where the share
// eta of the noise is fresh (arXiv 2010.02502, equations 12 and 16). Eta 0 is
// deterministic, eta 1 is DDPM's chain on these timesteps.
//
// As in diffusers, a step ends num_train_timesteps/n training timesteps below
// where it began, or at the final level. With leading spacing that is where
// the next step begins. With linspace, and with trailing where n does not
// divide num_train_timesteps, it can lie a little beside it; that mismatch is
// kept, so that samples equal diffusers'.
func DDIM(config Config, n int, eta float64) (*Table, error) {
	if !(eta >= 0 && eta <= 1) {
		return nil, fmt.Errorf("ddim: eta is %v, want a number from 0 to 1", eta)
	}
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
	table := &Table{Prediction: config.PredictionType, Start: 1, Steps: make([]Step, n)}
	for i, t := range timesteps {
		to := LevelAt(final)
		if previous := t - config.NumTrainTimesteps/n; previous >= 0 {
			to = LevelAt(alphaBars[previous])
		}
		table.Steps[i], err = renoise(float64(t), LevelAt(alphaBars[t]), to, config.PredictionType, eta)
		if err != nil {
			return nil, fmt.Errorf("ddim: %w", err)
		}
	}
	return table, nil
}

// renoise is the step from one level to another at which the share eta of the
// posterior's noise is fresh:
//
//	fresh = eta * to.Noise/at.Noise * sqrt(1 - at.AlphaBar/to.AlphaBar)
//	next  = to.Signal*clean + sqrt(to.Noise^2 - fresh^2)*noise + fresh*z
func renoise(timestep float64, at, to Level, p Prediction, eta float64) (Step, error) {
	share := 0.0
	if eta > 0 && at.Noise > 0 {
		share = eta / at.Noise * math.Sqrt(max(0, 1-at.AlphaBar()/to.AlphaBar()))
	}
	target := mix{clean: to.Signal, noise: to.Noise * math.Sqrt(max(0, 1-share*share))}
	state, output, ok := target.in(at.state(), at.output(p))
	if !ok {
		return Step{}, fmt.Errorf("prediction_type %s is undefined at timestep %v, where signal is %.3g and noise %.3g; use v_prediction",
			p, timestep, at.Signal, at.Noise)
	}
	return Step{Timestep: timestep, At: at, To: to, State: state, Output: output, Noise: share * to.Noise}, nil
}
