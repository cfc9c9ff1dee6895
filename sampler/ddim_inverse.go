package sampler

import (
	"fmt"
	"slices"
)

// Invert fills the table of DDIM inversion (arXiv 2010.02502, section 4.3), as
// diffusers' DDIMInverseScheduler does: from an image, the latent of the table,
// to a noise from which DDIM of the same config and n makes about that image
// again. It is DDIM walked backwards, deterministic, with the network asked at
// the state where a step begins and told the timestep where it ends, which is
// off by one step, so that the error falls with 1/n. The result is a state at
// the last step's To, where DDIM's table starts.
func Invert(config Config, n int) (*Table, error) {
	alphaBars, err := config.AlphaBars()
	if err != nil {
		return nil, err
	}
	timesteps, err := config.Timesteps(n)
	if err != nil {
		return nil, err
	}
	if config.TimestepSpacing == SpacingLinspace {
		return nil, fmt.Errorf("ddim inversion: timestep_spacing is linspace, whose steps do not join; use leading or trailing")
	}
	initial := LevelAt(1)
	if !config.SetAlphaToOne {
		initial = LevelAt(alphaBars[0])
	}
	table := &Table{Prediction: config.PredictionType, Start: 1}
	for _, t := range slices.Backward(timesteps) {
		at := initial
		if previous := t - config.NumTrainTimesteps/n; previous >= 0 {
			at = LevelAt(alphaBars[previous])
		}
		step, err := renoise(float64(t), at, LevelAt(alphaBars[t]), config.PredictionType, 0)
		if err != nil {
			return nil, fmt.Errorf("ddim inversion: %w, or set set_alpha_to_one to false", err)
		}
		table.Steps = append(table.Steps, step)
	}
	return table, nil
}
