package sampler

import (
	"fmt"
	"math"
)

// SolverDPMpp2M is DPM-Solver++(2M).
const SolverDPMpp2M Solver = "dpmpp-2m"

func init() {
	register(SolverDPMpp2M, rule{fill: withoutEta(DPMpp2M), predictions: withEDM, karras: true})
}

// DPMpp2M fills the table of DPM-Solver++(2M) in its midpoint form (arXiv
// 2211.01095, algorithm 2), as diffusers' DPMSolverMultistepScheduler and, for an
// EDM network, EDMDPMSolverMultistepScheduler do. With lambda = ln(signal/noise),
// h the step in it and h0 the one before,
//
//	next = to.Noise/at.Noise * state + to.Signal*(1 - e^-h) * D
//	D    = clean + h/(2*h0) * (clean - clean of the call before)
//
// The first step has no call before it and is of first order; so is the last
// where it ends without noise, or where lower_order_final is set and there are
// fewer than 15 steps.
func DPMpp2M(config Config, n int) (*Table, error) {
	// diffusers cuts off the timesteps of Karras' levels on a cosine schedule,
	// where float32 can turn a whole one into the one below.
	whole := math.RoundToEven
	if config.BetaSchedule == ScheduleCosine {
		whole = math.Floor
	}
	g, err := config.multistepGrid(n, whole)
	if err != nil {
		return nil, err
	}
	table := &Table{Prediction: config.PredictionType, Start: g.start}
	for i, t := range g.timesteps {
		at, to := g.levels[i], g.levels[i+1]
		step, err := renoise(t, at, to, config.PredictionType, 0)
		if err != nil {
			return nil, fmt.Errorf("dpmpp-2m: %w", err)
		}
		step.Memory.State, step.Memory.Output, _ = mix{clean: 1}.in(at.state(), at.output(config.PredictionType))
		last := i == n-1
		if lowOrder := i == 0 || last && (g.sigmas[n] == 0 || config.LowerOrderFinal && n < 15); !lowOrder {
			h, before := math.Log(g.sigmas[i]/g.sigmas[i+1]), math.Log(g.sigmas[i-1]/g.sigmas[i])
			slope := to.Signal * (1 - g.sigmas[i+1]/g.sigmas[i]) * h / (2 * before)
			step.State += slope * step.Memory.State
			step.Output += slope * step.Memory.Output
			step.Earlier = []float64{-slope}
		}
		table.Steps = append(table.Steps, step)
	}
	table.forget()
	return table, nil
}
