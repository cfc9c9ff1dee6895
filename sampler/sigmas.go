package sampler

import (
	"fmt"
	"math"
	"sort"
)

// The solvers of Karras et al. (arXiv 2206.00364) think of a state as
// clean + sigma*noise and divide it by sqrt(1 + sigma^2) before they ask the
// network. A table holds the divided state throughout: it is what the network
// sees, it stays near unit size where sigma reaches 2e4 on a cosine schedule,
// and no step needs a scale of its own. A Level of sigma is therefore a
// variance-preserving one.
//
// Their own networks come with a preconditioning (equation 7): the network sees
// c_in*x = x/sqrt(sigma^2 + sigma_data^2), and its output F makes the clean
// sample c_skip*x + c_out*F. Were data and sigma counted in units of sigma_data,
// that would be the division above and F would be -v. So EDM needs levels of its
// own and no solver.

// minSignalPower stands for the vanished signal of rescale_betas_zero_snr, whose
// sigma would be infinite; diffusers puts the same number there.
const minSignalPower = 1.0 / (1 << 24)

// karrasRho bends Karras' levels towards low noise (arXiv 2206.00364, table 1).
const karrasRho = 7

// levelOfSigma returns the level with noise/signal = sigma where states of data
// of a deviation have variance 1: for deviation 1 the variance-preserving one.
func levelOfSigma(sigma, data float64) Level {
	norm := math.Hypot(data, sigma)
	return Level{Signal: 1 / norm, Noise: sigma / norm}
}

// grid is where a sigma solver asks: levels of noise and what the network is
// told at each, noisiest first.
type grid struct {
	sigmas    []float64 // noise/signal, one more than timesteps: the last is where the run ends
	levels    []Level   // of the states at the sigmas
	timesteps []float64
	start     float64 // Table.Start
}

// place sets the variance-preserving levels of the sigmas.
func (g *grid) place() {
	g.levels = make([]Level, len(g.sigmas))
	for i, sigma := range g.sigmas {
		g.levels[i] = levelOfSigma(sigma, 1)
	}
}

// edmGrid is the grid of diffusers' EDM schedulers: Karras' levels between the
// two sigmas of the config, of which the network is told ln(sigma)/4 (arXiv
// 2206.00364, table 1). The result is the undivided state.
func (c Config) edmGrid(n int) (grid, error) {
	if err := c.Validate(); err != nil {
		return grid{}, err
	}
	if n < 1 || n > maxTrainTimesteps {
		return grid{}, fmt.Errorf("sampler: %d inference steps, want 1 to %d", n, maxTrainTimesteps)
	}
	g := grid{sigmas: append(karras(c.SigmaMax, c.SigmaMin, n), 0)}
	if c.FinalSigmasType == FinalSigmaMin {
		g.sigmas[n] = c.SigmaMin
	}
	for _, sigma := range g.sigmas[:n] {
		level := levelOfSigma(sigma, c.SigmaData)
		level.SigmaData = c.SigmaData
		g.levels, g.timesteps = append(g.levels, level), append(g.timesteps, math.Log(sigma)/4)
	}
	g.levels = append(g.levels, Level{Signal: 1, Noise: g.sigmas[n]})
	// diffusers begins with the deviation of unit data and noise together,
	// whatever sigma_data is.
	g.start = math.Hypot(c.SigmaMax, 1) / math.Hypot(c.SigmaMax, c.SigmaData)
	return g, nil
}

// maxSigma bounds noise/signal, beyond which a state holds no signal worth
// dividing by. The cosine schedule reaches 2e4.
const maxSigma = 1e8

// trainingSigmas returns noise/signal at every training timestep, rising.
func (c Config) trainingSigmas() ([]float64, error) {
	alphaBars, err := c.AlphaBars()
	if err != nil {
		return nil, err
	}
	sigmas := make([]float64, len(alphaBars))
	for t, alphaBar := range alphaBars {
		if c.RescaleBetasZeroSNR {
			alphaBar = max(alphaBar, minSignalPower)
		}
		sigmas[t] = math.Sqrt((1 - alphaBar) / alphaBar)
		if before := sigmas[max(t-1, 0)]; !(sigmas[t] > 0 && sigmas[t] <= maxSigma) || t > 0 && sigmas[t] <= before {
			return nil, fmt.Errorf("sampler: noise/signal is %.3g at training timestep %d and %.3g before, want it to rise from above 0 to %v at most; use ddim", sigmas[t], t, before, maxSigma)
		}
	}
	return sigmas, nil
}

// eulerGrid is the grid of diffusers' EulerDiscreteScheduler: linspace does not
// round its timesteps, the sigmas between two training timesteps are
// interpolated, and Karras' levels run between the first and the last of them.
//
// The states are divided, the result is not. diffusers begins leading spacing
// with the network's unit deviation and the others with sigma alone, without
// the clean sample's share.
func (c Config) eulerGrid(n int) (grid, error) {
	if c.PredictionType == PredictEDM {
		return c.edmGrid(n)
	}
	training, err := c.trainingSigmas()
	if err != nil {
		return grid{}, err
	}
	whole, err := c.Timesteps(n)
	if err != nil {
		return grid{}, err
	}
	g := grid{sigmas: make([]float64, n+1), timesteps: make([]float64, n), start: 1}
	for i, t := range whole {
		g.timesteps[i] = float64(t)
	}
	if c.TimestepSpacing == SpacingLinspace {
		for i, t := range linspace(0, float64(c.NumTrainTimesteps-1), n) {
			g.timesteps[n-1-i] = t
		}
	}
	for i, t := range g.timesteps {
		g.sigmas[i] = between(training, t)
	}
	if c.UseKarrasSigmas {
		copy(g.sigmas, karras(g.sigmas[0], g.sigmas[n-1], n))
		for i := range g.timesteps {
			g.timesteps[i] = timestepOf(training, g.sigmas[i])
		}
	}
	g.sigmas[n] = c.finalSigma(training)
	g.place()
	g.levels[n] = Level{Signal: 1, Noise: g.sigmas[n]}
	if c.TimestepSpacing != SpacingLeading {
		g.start = g.levels[0].Noise
	}
	return g, nil
}

// multistepGrid is the grid of diffusers' DPMSolverMultistepScheduler and
// UniPCMultistepScheduler: one timestep more than asked for is spaced out and the
// cleanest left away, every timestep is whole, and Karras' levels run over the
// whole training schedule. whole is how their timesteps become so.
func (c Config) multistepGrid(n int, whole func(timestep float64) float64) (grid, error) {
	if c.PredictionType == PredictEDM {
		return c.edmGrid(n)
	}
	training, err := c.trainingSigmas()
	if err != nil {
		return grid{}, err
	}
	timesteps, err := c.Timesteps(n)
	if err != nil {
		return grid{}, err
	}
	last := c.NumTrainTimesteps - 1
	switch c.TimestepSpacing {
	case SpacingLinspace:
		for i, t := range linspace(0, float64(last), n+1)[1:] {
			timesteps[n-1-i] = int(math.RoundToEven(t))
		}
	case SpacingLeading:
		stride := c.NumTrainTimesteps / (n + 1)
		for i := range timesteps {
			timesteps[i] = (n-i)*stride + c.StepsOffset
		}
		if timesteps[0] > last {
			return grid{}, fmt.Errorf("sampler: steps_offset %d moves the first timestep to %d, beyond the last training timestep %d", c.StepsOffset, timesteps[0], last)
		}
	}
	g := grid{sigmas: make([]float64, n+1), timesteps: make([]float64, n), start: 1}
	for i, t := range timesteps {
		g.timesteps[i], g.sigmas[i] = float64(t), training[t]
	}
	if c.UseKarrasSigmas {
		copy(g.sigmas, karras(training[last], training[0], n))
		for i := range g.timesteps {
			g.timesteps[i] = whole(timestepOf(training, g.sigmas[i]))
		}
	}
	g.sigmas[n] = c.finalSigma(training)
	for i := range n - 1 {
		if g.sigmas[i] == g.sigmas[i+1] {
			return grid{}, fmt.Errorf("sampler: %d steps are too many for %d training timesteps: two of them fall on timestep %v", n, c.NumTrainTimesteps, g.timesteps[i])
		}
	}
	g.place()
	return g, nil
}

func (c Config) finalSigma(training []float64) float64 {
	if c.FinalSigmasType == FinalSigmaMin {
		return training[0]
	}
	return 0
}

// karras returns n levels from highest to lowest sigma, equally spaced in
// sigma^(1/rho) (arXiv 2206.00364, equation 5).
func karras(highest, lowest float64, n int) []float64 {
	sigmas := linspace(math.Pow(highest, 1./karrasRho), math.Pow(lowest, 1./karrasRho), n)
	for i, root := range sigmas {
		sigmas[i] = math.Pow(root, karrasRho)
	}
	return sigmas
}

// between interpolates the training sigmas at a timestep that may lie between
// two of them.
func between(training []float64, timestep float64) float64 {
	low := int(timestep)
	if low >= len(training)-1 {
		return training[len(training)-1]
	}
	share := timestep - float64(low)
	return training[low] + share*(training[low+1]-training[low])
}

// timestepOf is the timestep at which the training schedule has that sigma,
// interpolated in its logarithm.
func timestepOf(training []float64, sigma float64) float64 {
	if len(training) == 1 {
		return 0
	}
	above := sort.Search(len(training), func(t int) bool { return training[t] > sigma })
	low := min(max(above-1, 0), len(training)-2)
	bottom, top := math.Log(training[low]), math.Log(training[low+1])
	share := (math.Log(max(sigma, 1e-10)) - bottom) / (top - bottom)
	return float64(low) + min(max(share, 0), 1)
}
