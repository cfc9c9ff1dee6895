package sampler

import (
	"fmt"
	"math"
)

// SolverLCM is multistep sampling of a latent consistency model.
const SolverLCM Solver = "lcm"

func init() {
	register(SolverLCM, rule{fill: withoutEta(LCM), predictions: variancePreserving})
}

// lcmSigmaData is the sigma_data of the boundary scalings, which diffusers does
// not let a config choose.
const lcmSigmaData = 0.5

// LCM fills the table of multistep consistency sampling (arXiv 2310.04378,
// algorithm 3), as diffusers' LCMScheduler does: every call estimates the clean
// sample, and all of the noise at the next level is fresh,
//
//	clean' = c_out*clean + c_skip*state
//	next   = to.Signal*clean' + to.Noise*z
//
// where c_skip and c_out make clean' the state itself at timestep 0. The last
// step ends at clean'. The timesteps are n of the original_inference_steps that
// the model was distilled on; timestep_spacing does not apply.
func LCM(config Config, n int) (*Table, error) {
	alphaBars, err := config.AlphaBars()
	if err != nil {
		return nil, err
	}
	timesteps, err := config.lcmTimesteps(n)
	if err != nil {
		return nil, err
	}
	table := &Table{Prediction: config.PredictionType, Start: 1}
	for i, t := range timesteps {
		at, to := LevelAt(alphaBars[t]), LevelAt(1)
		if i+1 < n {
			to = LevelAt(alphaBars[timesteps[i+1]])
		}
		step, err := renoise(float64(t), at, LevelAt(1), config.PredictionType, 0)
		if err != nil {
			return nil, fmt.Errorf("lcm: %w", err)
		}
		scaled := float64(t) * config.TimestepScaling
		norm := math.Hypot(scaled, lcmSigmaData)
		skip, out := lcmSigmaData/norm*lcmSigmaData/norm, scaled/norm
		step.To, step.Noise = to, to.Noise
		step.State = to.Signal * (out*step.State + skip)
		step.Output = to.Signal * out * step.Output
		table.Steps = append(table.Steps, step)
	}
	return table, nil
}

// lcmTimesteps picks n of the timesteps of distillation, noisiest first.
func (c Config) lcmTimesteps(n int) ([]int, error) {
	original := c.OriginalInferenceSteps
	switch {
	case n < 1:
		return nil, fmt.Errorf("sampler: %d inference steps, want at least 1", n)
	case original < 1 || original > c.NumTrainTimesteps:
		return nil, fmt.Errorf("lcm: original_inference_steps is %d, want 1 to the %d of num_train_timesteps", original, c.NumTrainTimesteps)
	case n > original:
		return nil, fmt.Errorf("lcm: %d inference steps, but the model was distilled on %d (original_inference_steps)", n, original)
	case !(c.TimestepScaling >= 1/maxScale && c.TimestepScaling <= maxScale):
		return nil, fmt.Errorf("lcm: timestep_scaling is %v, want %v to %v", c.TimestepScaling, 1/maxScale, maxScale)
	}
	timesteps, stride := make([]int, n), c.NumTrainTimesteps/original
	for i := range timesteps {
		// numpy's linspace multiplies by the step, and floor sees its rounding.
		skipped := int(math.Floor(float64(i) * (float64(original) / float64(n))))
		timesteps[i] = (original-skipped)*stride - 1
	}
	return timesteps, nil
}
