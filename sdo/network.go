// Package sdo steers a diffusion sampler by gradient: Shortcut Diffusion
// Optimisation, arXiv 2505.07477, as docs/method.md defines it, with true
// back-propagation and the identity rule beside it as baselines. It changes
// the start latent so that the final sample scores better.
//
// It is arithmetic on opaque vectors: it knows no device, no network and no
// file format, and cannot tell a GPU from a slice.
package sdo

import "context"

// Vector is a batch of numbers that lives on a device: a slice on the CPU, a
// buffer range on a GPU. The algorithm never looks inside.
//
// It is an alias of an interface literal on purpose: package graph declares
// the same alias under the name Tensor, so any graph executor is a Space as it
// stands and neither package imports the other.
type Vector = interface{ Len() int }

// Space is the arithmetic on vectors that a sampler and an optimiser need. All
// methods may only enqueue work; Read and RowDots wait for it.
type Space interface {
	NewVector(n int) (Vector, error)
	FreeVector(v Vector)
	Write(ctx context.Context, dst Vector, src []float64) error
	Read(ctx context.Context, src Vector) ([]float64, error)
	// Combine sets dst = sum_k coeffs[k]*xs[k]. dst may be one of xs. No terms
	// sets dst to zero.
	Combine(dst Vector, coeffs []float64, xs []Vector) error
	// RowDots splits x and y into equal rows and returns <x_r, y_r> of each.
	RowDots(ctx context.Context, x, y Vector, rows int) ([]float64, error)
	// ScaleRows multiplies row r of v by scales[r]; len(scales) equal rows.
	ScaleRows(v Vector, scales []float64) error
	// Adam makes one AdamW update in place (decoupled weight decay, bias
	// correction by step, counted from 1). Row r of p moves with lr[r];
	// len(lr) equal rows. m and v are the moments.
	Adam(p, m, v, grad Vector, lr []float64, beta1, beta2, eps, weightDecay float64, step int) error
	// Normal fills v with standard normal numbers from a counter-based
	// generator: the same numbers on every device.
	Normal(v Vector, seed uint64, stream uint32) error
}

// Input is one question to the denoiser: a batch of states, all at one time.
type Input struct {
	X        Vector  // rows x row length, row-major
	Timestep float64 // the time the network is told, in its training units
	Cond     Vector  // condition per row, nil for an unconditional call
}

// Network is one denoiser that can be differentiated a call at a time. Predict
// and Keep write into out, which the caller owns. Both are done with in.X when
// the caller's next vector operation runs, so that it may overwrite X.
type Network interface {
	// Predict evaluates the network and keeps nothing.
	Predict(ctx context.Context, in Input, out Vector) error
	// Keep evaluates the network and leaves alive until Release what the
	// gradients named by wrt need.
	Keep(ctx context.Context, in Input, wrt Wrt, out Vector) (Kept, error)
}

// Wrt names what a kept call can be differentiated with respect to.
type Wrt uint8

const (
	WrtX      Wrt = 1 << iota // the state
	WrtCond                   // the condition
	WrtParams                 // the network's trained parameters
)

// Gradients is where a backward pass writes. A nil field is not wanted.
type Gradients struct {
	X      Vector   // at Input.X
	Cond   Vector   // at Input.Cond
	Params []Vector // summed over rows, in the order of Trainable.Params
}

// Kept is one network call whose graph is still alive.
type Kept interface {
	// Backward sets each wanted gradient to its Jacobian's transpose times
	// seed, the gradient at the output. It may ask only for what Keep was told.
	// No gradient may alias seed.
	Backward(ctx context.Context, seed Vector, into Gradients) error
	Bytes() int64 // activations pinned by this call
	Release()
}

// Param is one trained tensor of a network. Its optimiser writes Value in place.
type Param struct {
	Name  string
	Value Vector
}

// Trainable is a Network some of whose parameters are variables.
type Trainable interface {
	Network
	// Params are the trained parameters, always in the same order.
	Params() []Param
	// Changed must follow a change of their values before the next call.
	Changed(ctx context.Context) error
}

// Batcher is a Network that can answer several calls as one wide one, as calls
// that do not wait for each other allow (docs/method.md, Stale refresh).
type Batcher interface {
	Network
	// PredictBatch is Predict of each input.
	PredictBatch(ctx context.Context, ins []Input, outs []Vector) error
}

// Objective is a differentiable metric on the final sample.
type Objective interface {
	// Evaluate returns one loss per row of x and, where grad is not nil,
	// writes the gradient of their sum at x into grad.
	Evaluate(ctx context.Context, x Vector, grad Vector) ([]float64, error)
}

// Satisfier is an Objective that can tell which rows of its last evaluation are
// good enough to be left alone. Early stop asks it where the objective is one,
// and compares the loss with Options.StopBelow otherwise.
type Satisfier interface {
	Satisfied() []bool
}

// Judge is a second opinion on samples that takes no part in any gradient.
type Judge interface {
	// Approve says which rows of x are what was asked for.
	Approve(ctx context.Context, x Vector) ([]bool, error)
}
