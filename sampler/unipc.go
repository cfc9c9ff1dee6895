package sampler

import (
	"fmt"
	"math"
)

// SolverUniPC is UniPC of order 2.
const SolverUniPC Solver = "unipc"

func init() {
	register(SolverUniPC, rule{fill: withoutEta(UniPC), predictions: withEDM, karras: true})
}

// UniPC fills the table of the unified predictor-corrector (arXiv 2302.04867,
// algorithms 1 and 2) of order 2 in its B2(h) form, as diffusers'
// UniPCMultistepScheduler does. A call is made at a predicted state, and what it
// answers corrects that state before the next is predicted from it, so the
// order of accuracy is 3. With m_i the clean sample estimated by call i, h the
// step in ln(signal/noise), h_{i-1} the one before and B = e^-h - 1, the step
// from i to i+1 is
//
//	corrected = predicted + correction by m_i, m_{i-1} and m_{i-2}
//	next      = noise_{i+1}/noise_i*corrected - signal_{i+1}*B*(m_i + h/(2*h_{i-1})*(m_i - m_{i-1}))
//
// The correction only adds estimates to the predicted state, so both are one row
// of a table, which looks back on two calls.
//
// The first step has one estimate and is of first order, corrector included; so
// is the last one, which nothing corrects, where lower_order_final is set or it
// ends without noise.
func UniPC(config Config, n int) (*Table, error) {
	g, err := config.multistepGrid(n, math.RoundToEven)
	if err != nil {
		return nil, err
	}
	table := &Table{Prediction: config.PredictionType, Start: g.start}
	step := func(i int) float64 { return math.Log(g.sigmas[i] / g.sigmas[i+1]) } // h of step i
	for i, t := range g.timesteps {
		at, to := g.levels[i], g.levels[i+1]
		row, err := renoise(t, at, to, config.PredictionType, 0)
		if err != nil {
			return nil, fmt.Errorf("unipc: %w", err)
		}
		row.Memory.State, row.Memory.Output, _ = mix{clean: 1}.in(at.state(), at.output(config.PredictionType))
		var weights [3]float64 // of m_i, m_{i-1} and m_{i-2}
		if i > 0 && to.Noise > 0 {
			kept := to.Noise / at.Noise
			for k, weight := range correction(i, at.Signal, step) {
				weights[k] += kept * weight
			}
			if i < n-1 || !config.LowerOrderFinal {
				slope := to.Signal * math.Expm1(-step(i)) * step(i) / (2 * step(i-1))
				weights[0] -= slope
				weights[1] += slope
			}
			row.Earlier = weights[1 : min(i, 2)+1]
		}
		row.State += weights[0] * row.Memory.State
		row.Output += weights[0] * row.Memory.Output
		table.Steps = append(table.Steps, row)
	}
	table.forget()
	return table, nil
}

// correction weighs the estimates of calls i, i-1 and i-2 in what the corrector
// adds to the state predicted for call i: of order 1 for the second call, of
// order 2 from there on. Its coefficients solve the paper's conditions R*rho = b;
// the half that the predictor gave the older estimates is taken off.
func correction(i int, signal float64, step func(int) float64) (weights [3]float64) {
	h := step(i - 1)
	b := math.Expm1(-h)
	rho, older := 0.5, 0.0
	if i > 1 {
		r := -step(i-2) / h
		first := -b/h - 1
		second := -first/h - 0.5
		ofOlder := (first - 2*second) / (b * (1 - r))
		rho, older = first/b-ofOlder, (ofOlder-0.5)/r
	}
	scale := -signal * b
	return [3]float64{scale * rho, -scale * (rho + older), scale * older}
}
