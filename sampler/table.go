package sampler

import (
	"fmt"
	"math"
	"slices"
)

// Step is one network call and what the solver makes of it: ask the network at
// Timestep, then
//
//	next = State*x + Output*output + sum_k Earlier[k]*m_{i-1-k} + Noise*z_i
//
// with output as the network gives it, whatever it predicts, z_i fresh standard
// normal noise, and m_j what call j left in memory. States are held as the
// network sees them, so a solver that scales its input has the scales in its
// coefficients. A solver with several calls a step has a row for each.
type Step struct {
	Timestep float64   // what the network is told, in its training units
	At, To   Level     // where the network is asked, where the step ends
	State    float64   // A_i
	Output   float64   // B_i
	Memory   Memory    // what later steps will want of this call
	Earlier  []float64 // weights of memories, latest first; at most i of them
	Noise    float64   // c_i
}

// Memory is what a call leaves for later steps, m = State*x + Output*output: an
// estimate of the clean sample or of the noise. The zero value leaves nothing.
type Memory struct{ State, Output float64 }

// Table is a solver on a schedule, noisiest step first. It is all that a
// rollout and its derivative need to know about either.
type Table struct {
	Prediction Prediction
	Start      float64 // the first state is Start*latent, the latent of unit deviation
	Steps      []Step
}

// Depth is how many memories the solver looks back on: 0 for one without.
func (t *Table) Depth() int {
	depth := 0
	for _, step := range t.Steps {
		depth = max(depth, len(step.Earlier))
	}
	return depth
}

// forget clears the memories that no step looks back on.
func (t *Table) forget() {
	read := make([]bool, len(t.Steps))
	for i, step := range t.Steps {
		for k := range step.Earlier {
			read[i-1-k] = true
		}
	}
	for i := range t.Steps {
		if !read[i] {
			t.Steps[i].Memory = Memory{}
		}
	}
}

// Stochastic reports whether any step adds fresh noise.
func (t *Table) Stochastic() bool {
	return slices.ContainsFunc(t.Steps, func(s Step) bool { return s.Noise != 0 })
}

// StartLevel is the level of the first state, as Signal*image + Noise*noise: how
// to make a state of an image with noise of unit deviation where a run shall
// begin with one (see From).
func (t *Table) StartLevel() Level {
	return t.Steps[0].At
}

// From is the tail of the table from step k on, the first being 0. Its latent is
// the state there, as the network sees it, so its Start is 1. It refuses a step
// that looks back on calls before the tail, as all of a multistep solver do but
// the first; Heun's calls can be the first where its steps begin.
func (t *Table) From(k int) (*Table, error) {
	if k < 0 || k >= len(t.Steps) {
		return nil, fmt.Errorf("sampler: the run cannot begin at step %d of %d, want 0 to %d", k, len(t.Steps), len(t.Steps)-1)
	}
	tail := &Table{Prediction: t.Prediction, Start: 1, Steps: t.Steps[k:]}
	for i, step := range tail.Steps {
		if len(step.Earlier) > i {
			return nil, fmt.Errorf("sampler: the run cannot begin at step %d, because step %d needs what the call before it remembered; begin at 0 or use a solver without a memory", k, k+i)
		}
	}
	return tail, nil
}

// FrozenStep rewrites a step in the frozen quantity f:
//
//	f    = FromState*x + FromOutput*output
//	next = State*x + Frozen*f + sum_k Earlier[k]*m_{i-1-k} + Noise*z_i
//	m_i  = MemoryState*x + MemoryFrozen*f
type FrozenStep struct {
	FromState, FromOutput     float64 // p_i, q_i
	State, Frozen             float64 // C_i, D_i
	MemoryState, MemoryFrozen float64
	Earlier                   []float64
	Noise                     float64
}

// Transport says how a final sample moves when the frozen quantities are held:
//
//	x_N = Carry*latent + sum_i Weights[i]*f_i + sum_i Noises[i]*z_i
//
// with Carry = P, Weights = w and Noises = n of docs/method.md, The surrogate.
type Transport struct {
	Freeze  Freeze
	Steps   []FrozenStep
	Carry   float64
	Weights []float64
	Noises  []float64
}

// Freeze rewrites the table in the frozen quantity and runs its scalar adjoint
// once. It fails where the quantity and the state do not determine the network
// output, as eps does not at a level without signal.
func (t *Table) Freeze(freeze Freeze) (*Transport, error) {
	n := len(t.Steps)
	transport := &Transport{Freeze: freeze, Steps: make([]FrozenStep, n), Weights: make([]float64, n), Noises: make([]float64, n)}
	for i, step := range t.Steps {
		if freeze == FreezeSolver { // nothing to rewrite, so nothing to round
			transport.Steps[i] = FrozenStep{
				FromOutput: 1, State: step.State, Frozen: step.Output,
				MemoryState: step.Memory.State, MemoryFrozen: step.Memory.Output,
				Earlier: step.Earlier, Noise: step.Noise,
			}
			continue
		}
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
			State:        addCancelling(step.State, step.Output*backState),
			Frozen:       step.Output * backFrozen,
			MemoryState:  addCancelling(step.Memory.State, step.Memory.Output*backState),
			MemoryFrozen: step.Memory.Output * backFrozen,
			Earlier:      step.Earlier, Noise: step.Noise,
		}
	}
	transport.runAdjoint(t.Start)
	return transport, nil
}

// runAdjoint fills carry, weights and noises: the derivatives of x_N by every
// input, found by walking the frozen steps backwards. A memory is read only by
// steps after the one that wrote it, so its adjoint is complete when the walk
// gets there.
func (t *Transport) runAdjoint(start float64) {
	adjoint, memories := 1.0, make([]float64, len(t.Steps))
	for i := len(t.Steps) - 1; i >= 0; i-- {
		step := t.Steps[i]
		for k, weight := range step.Earlier {
			memories[i-1-k] += weight * adjoint
		}
		t.Weights[i] = step.Frozen*adjoint + step.MemoryFrozen*memories[i]
		t.Noises[i] = step.Noise * adjoint
		adjoint = step.State*adjoint + step.MemoryState*memories[i]
	}
	t.Carry = start * adjoint
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
