package sampler

import (
	"fmt"
	"math"
	"slices"
)

// maxBeta caps the cosine schedule, whose last beta would be 1.
const maxBeta = 0.999

// AlphaBars returns the share of signal power left at every training timestep:
// alphaBar[t] = prod_{u<=t} (1 - beta[u]), in (0, 1], falling. With
// RescaleBetasZeroSNR the last one is exactly 0. It computes in float64 where
// diffusers uses float32; the relative difference stays below 1e-4.
func (c Config) AlphaBars() ([]float64, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if !slices.Contains(variancePreserving, c.PredictionType) {
		return nil, fmt.Errorf("scheduler config: a network that predicts %s has no schedule of betas", c.PredictionType)
	}
	alphaBars := make([]float64, c.NumTrainTimesteps)
	signal := 1.0
	for t, beta := range c.betas() {
		signal *= 1 - beta
		alphaBars[t] = signal
	}
	if c.RescaleBetasZeroSNR {
		rescaleZeroTerminalSNR(alphaBars)
	}
	return alphaBars, nil
}

func (c Config) betas() []float64 {
	steps := c.NumTrainTimesteps
	switch {
	case c.TrainedBetas != nil:
		return c.TrainedBetas
	case c.BetaSchedule == ScheduleLinear:
		return linspace(c.BetaStart, c.BetaEnd, steps)
	case c.BetaSchedule == ScheduleScaledLinear:
		// Latent diffusion's schedule: linear in the square root.
		betas := linspace(math.Sqrt(c.BetaStart), math.Sqrt(c.BetaEnd), steps)
		for t, root := range betas {
			betas[t] = root * root
		}
		return betas
	default:
		// Nichol and Dhariwal's cosine schedule, arXiv 2102.09672.
		betas := make([]float64, steps)
		for t := range betas {
			from, to := float64(t)/float64(steps), float64(t+1)/float64(steps)
			betas[t] = min(1-cosineAlphaBar(to)/cosineAlphaBar(from), maxBeta)
		}
		return betas
	}
}

// cosineAlphaBar is the continuous cosine schedule at a time in [0, 1].
func cosineAlphaBar(time float64) float64 {
	c := math.Cos((time + 0.008) / 1.008 * math.Pi / 2)
	return c * c
}

// rescaleZeroTerminalSNR shifts and scales sqrt(alphaBar) so that the last
// timestep is pure noise and the first is unchanged (arXiv 2305.08891,
// algorithm 1).
func rescaleZeroTerminalSNR(alphaBars []float64) {
	first := math.Sqrt(alphaBars[0])
	last := math.Sqrt(alphaBars[len(alphaBars)-1])
	if first == last {
		return // one timestep: nothing to shift
	}
	for t, alphaBar := range alphaBars {
		root := (math.Sqrt(alphaBar) - last) * first / (first - last)
		alphaBars[t] = root * root
	}
}

// linspace returns n equally spaced numbers from first to last, both included.
func linspace(first, last float64, n int) []float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = first
		if i > 0 {
			values[i] = first + float64(i)*((last-first)/float64(n-1))
		}
	}
	if n > 1 {
		values[n-1] = last
	}
	return values
}
