package sampler

import (
	"fmt"
	"math"
)

// Timesteps returns the training timesteps at which a run of n steps asks the
// network, noisiest first, as diffusers' set_timesteps does: halves round to
// even, steps_offset moves the leading spacing only.
func (c Config) Timesteps(n int) ([]int, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	train := c.NumTrainTimesteps
	if n < 1 {
		return nil, fmt.Errorf("sampler: %d inference steps, want at least 1", n)
	}
	if n > train {
		return nil, fmt.Errorf("sampler: %d inference steps, but the schedule has only %d training timesteps", n, train)
	}
	timesteps := make([]int, n)
	switch c.TimestepSpacing {
	case SpacingLeading:
		stride := train / n
		for i := range timesteps {
			timesteps[i] = (n-1-i)*stride + c.StepsOffset
		}
	case SpacingLinspace:
		for i, t := range linspace(0, float64(train-1), n) {
			timesteps[n-1-i] = int(math.RoundToEven(t))
		}
	case SpacingTrailing:
		// numpy's arange steps by the rounded difference of its first two
		// values; halves would round the other way without it. Where that
		// gives diffusers an extra timestep of -1 (61 steps of 1000 is the
		// first case), this keeps to n.
		from := float64(train)
		stride := from - (from - from/float64(n))
		for i := range timesteps {
			timesteps[i] = int(math.RoundToEven(from-float64(i)*stride)) - 1
		}
	}
	if first := timesteps[0]; first >= train {
		return nil, fmt.Errorf("sampler: steps_offset %d moves the first timestep to %d, beyond the last training timestep %d", c.StepsOffset, first, train-1)
	}
	return timesteps, nil
}
