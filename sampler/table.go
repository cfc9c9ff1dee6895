package sampler

import (
	"fmt"
	"math"
)

// Step is one step of a solver: ask the network at Timestep, then
//
//	next = State*x + Output*output
//
// with output as the network gives it, whatever it predicts. Solvers with a
// memory will add weights for earlier outputs here; the adjoint in Freeze is
// then the only other place to change.
type Step struct {
	Timestep float64 // what the network is told, in its training units
	At, To   Level   // where the network is asked, where the step ends
	State    float64 // A_i
	Output   float64 // B_i
}

// Table is a solver on a schedule, noisiest step first. It is all that a
// rollout and its derivative need to know about either.
type Table struct {
	Prediction Prediction
	Steps      []Step
}

// FrozenStep rewrites a step in the frozen quantity f:
//
//	f    = FromState*x + FromOutput*output
//	next = State*x + Frozen*f
type FrozenStep struct {
	FromState, FromOutput float64 // p_i, q_i
	State, Frozen         float64 // C_i, D_i
}

// Transport says how a final sample moves when the frozen quantities are held:
//
//	x_N = Carry*x_0 + sum_i Weights[i]*f_i
//
// with Carry = P and Weights = w of docs/method.md, The rule.
type Transport struct {
	Freeze  Freeze
	Steps   []FrozenStep
	Carry   float64
	Weights []float64
}

// Freeze rewrites the table in the frozen quantity and runs its scalar adjoint
// once. It fails where the quantity and the state do not determine the network
// output, as eps does not at a level without signal.
func (t *Table) Freeze(freeze Freeze) (*Transport, error) {
	transport := &Transport{Freeze: freeze, Steps: make([]FrozenStep, len(t.Steps)), Weights: make([]float64, len(t.Steps))}
	for i, step := range t.Steps {
		frozen, err := step.At.frozen(freeze, t.Prediction)
		if err != nil {
			return nil, fmt.Errorf("sampler: %w", err)
		}
		state, output := step.At.state(), step.At.output(t.Prediction)
		fromState, fromOutput, solvable := frozen.in(state, output)
		// The inverse, output = backState*x + backFrozen*f.
		backState, backFrozen, invertible := output.in(state, frozen)
		if !solvable || !invertible {
			return nil, fmt.Errorf("sampler: freeze %s is undefined at timestep %v, where signal is %.3g and noise %.3g; freeze v instead",
				freeze, step.Timestep, step.At.Signal, step.At.Noise)
		}
		transport.Steps[i] = FrozenStep{
			FromState: fromState, FromOutput: fromOutput,
			State:  addCancelling(step.State, step.Output*backState),
			Frozen: step.Output * backFrozen,
		}
	}
	adjoint := 1.0
	for i := len(transport.Steps) - 1; i >= 0; i-- {
		step := transport.Steps[i]
		transport.Weights[i] = adjoint * step.Frozen
		adjoint *= step.State
	}
	transport.Carry = adjoint
	return transport, nil
}

// addCancelling adds, and gives exactly 0 where only rounding is left of the
// sum: a clean last step forgets its state when x0 is frozen, and a caller must
// be able to see that.
func addCancelling(a, b float64) float64 {
	if sum := a + b; math.Abs(sum) > 4e-16*(math.Abs(a)+math.Abs(b)) {
		return sum
	}
	return 0
}
