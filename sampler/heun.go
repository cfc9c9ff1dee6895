package sampler

import "fmt"

// SolverHeun is Heun's method in sigma.
const SolverHeun Solver = "heun"

func init() {
	register(SolverHeun, rule{fill: withoutEta(Heun), predictions: withEDM, karras: true})
}

// Heun fills the table of Heun's second-order method on the probability flow,
// as diffusers' HeunDiscreteScheduler does (arXiv 2206.00364, algorithm 1,
// without churn). A step from sigma to sigma' is two rows: Euler's step, whose
// noise estimate is remembered, and the correction
//
//	next = state + (sigma' - sigma)/2 * (noise here - noise remembered)
//
// The step that ends without noise has no second row, since nothing can be
// asked there: n steps are 2n-1 network calls. final_sigmas_type does not
// apply.
func Heun(config Config, n int) (*Table, error) {
	config.FinalSigmasType = FinalSigmaZero
	g, err := config.eulerGrid(n)
	if err != nil {
		return nil, err
	}
	table := &Table{Prediction: config.PredictionType, Start: g.start}
	noiseAt := func(l Level) (state, output float64) {
		state, output, _ = mix{noise: 1}.in(l.state(), l.output(config.PredictionType))
		return state, output
	}
	for i, t := range g.timesteps {
		at, to := g.levels[i], g.levels[i+1]
		predict, err := renoise(t, at, to, config.PredictionType, 0)
		if err != nil {
			return nil, fmt.Errorf("heun: %w", err)
		}
		if i == n-1 {
			table.Steps = append(table.Steps, predict)
			break
		}
		predict.Memory.State, predict.Memory.Output = noiseAt(at)
		half := to.Signal * (g.sigmas[i+1] - g.sigmas[i]) / 2
		state, output := noiseAt(to)
		correct := Step{
			Timestep: g.timesteps[i+1], At: to, To: to,
			State: 1 + half*state, Output: half * output, Earlier: []float64{-half},
		}
		table.Steps = append(table.Steps, predict, correct)
	}
	return table, nil
}
