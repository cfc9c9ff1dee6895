package sdo

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// Result is what a run found. Rows count from 0; matrices are row-major, Rows x
// Cols.
type Result struct {
	Latents []float64 `json:"-"` // per row, the best latent: see BestLoss
	Samples []float64 `json:"-"` // what those latents sample to
	Before  []float64 `json:"-"` // what Problem.Start samples to

	Losses      [][]float64 `json:"losses"`       // Losses[u][row] after u updates
	BestLoss    []float64   `json:"best_loss"`    // lowest loss per row, or the loss at which a Satisfier stopped it
	BestUpdate  []int       `json:"best_update"`  // updates made when it was seen
	RowUpdates  []int       `json:"row_updates"`  // updates the row took part in
	Stopped     []bool      `json:"stopped"`      // frozen by early stop
	LatentNorms []float64   `json:"latent_norms"` // of Latents; noise has about sqrt(Cols)
	Updates     int         `json:"updates"`      // updates made
	Cancelled   bool        `json:"cancelled"`    // the context ended the run
	Counters
}

// Run optimises the start latents. After update u it samples, scores and, if
// another update follows, differentiates; so U updates make U+1 rollouts and U
// backward passes.
//
// A cancelled context ends the run between two network calls: Run returns the
// best so far with Cancelled set and no error, or the context's error where
// nothing has been scored yet. Any other failure after the first score (a loss
// or a latent that is not a finite number, a lost device) returns both the
// best so far, as long as it can be read, and the error.
func Run(ctx context.Context, p Problem, o Options, observe Observer) (*Result, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	switch {
	case p.Start == nil:
		return nil, fmt.Errorf("sdo: the problem has no start latent")
	case p.Objective == nil:
		return nil, fmt.Errorf("sdo: the problem has no objective")
	}
	chain, err := NewChain(p, o.Method, o.Freeze)
	if err != nil {
		return nil, err
	}
	defer chain.Free()
	r := &run{Problem: p, options: o, chain: chain, observe: observe}
	chain.Observe(r.relay)
	defer r.free()
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	return r.finish(ctx, r.loop(ctx))
}

// run is one optimisation in progress.
type run struct {
	Problem
	options Options
	chain   *Chain
	observe Observer

	latent, grad, firstMoment, secondMoment Vector
	best, bestSample, scratch               Vector
	norms                                   []float64 // of the latent's rows
	lr                                      []float64 // per row, 0 once stopped
	result                                  Result
}

func (r *run) prepare(ctx context.Context) error {
	err := r.chain.allocate(&r.latent, &r.grad, &r.firstMoment, &r.secondMoment, &r.best, &r.bestSample, &r.scratch)
	if err != nil {
		return err
	}
	if err := r.copy(r.latent, r.Start); err != nil {
		return err
	}
	for _, moment := range []Vector{r.firstMoment, r.secondMoment} {
		if err := r.Space.Combine(moment, nil, nil); err != nil {
			return err
		}
	}
	r.lr = slices.Repeat([]float64{r.options.LR}, r.Rows)
	r.result = Result{
		BestLoss:   slices.Repeat([]float64{math.Inf(1)}, r.Rows),
		BestUpdate: make([]int, r.Rows),
		RowUpdates: make([]int, r.Rows),
		Stopped:    make([]bool, r.Rows),
	}
	return r.measure(ctx)
}

func (r *run) free() {
	freeVectors(r.Space, r.latent, r.grad, r.firstMoment, r.secondMoment, r.best, r.bestSample, r.scratch)
}

func (r *run) loop(ctx context.Context) error {
	for {
		last := r.result.Updates == r.options.Updates
		score := r.chain.Forward
		if last {
			score = r.chain.Evaluate
		}
		losses, err := score(ctx, r.latent)
		if err != nil {
			return err
		}
		if err := r.record(ctx, losses); err != nil {
			return err
		}
		if last || !slices.Contains(r.result.Stopped, false) {
			return nil
		}
		if err := r.update(ctx); err != nil {
			return err
		}
	}
}

const notFiniteAdvice = "lower the learning rate or a term's weight, or see whether the model's own numbers are too large"

// record takes in the losses after the latest update: keeps what is better,
// stops what is good enough, tells the observer.
func (r *run) record(ctx context.Context, losses []float64) error {
	result := &r.result
	for row, loss := range losses {
		if !finite(loss) {
			return fmt.Errorf("sdo: the loss of row %d is %v %s; %s", row, loss, r.when(), notFiniteAdvice)
		}
	}
	if result.Updates == 0 {
		before, err := r.Space.Read(ctx, r.chain.Sample())
		if err != nil {
			return fmt.Errorf("sdo: reading the first samples: %w", err)
		}
		result.Before = before
	}
	// What early stop settles on is the row's result, even where an earlier
	// latent had a lower sum that satisfied less.
	satisfied := r.satisfied(losses)
	better := make([]bool, r.Rows)
	for row, loss := range losses {
		better[row] = loss < result.BestLoss[row]
		if satisfied != nil && !result.Stopped[row] {
			better[row] = better[row] || satisfied[row]
		}
	}
	if err := r.keepRows(r.best, r.latent, better); err != nil {
		return err
	}
	if err := r.keepRows(r.bestSample, r.chain.Sample(), better); err != nil {
		return err
	}
	for row, loss := range losses {
		if better[row] {
			result.BestLoss[row], result.BestUpdate[row] = loss, result.Updates
		}
	}
	for row, enough := range satisfied {
		if enough {
			result.Stopped[row], r.lr[row] = true, 0
		}
	}
	result.Losses = append(result.Losses, slices.Clone(losses))
	if r.observe != nil {
		r.relay(Event{
			Kind: EventUpdate, State: r.chain.Sample(), Counters: r.chain.Counters(),
			Losses: slices.Clone(losses), Best: slices.Clone(result.BestLoss),
			Stopped: slices.Clone(result.Stopped), LatentNorms: slices.Clone(r.norms),
		})
	}
	return nil
}

// satisfied says which rows early stop leaves alone from now on.
func (r *run) satisfied(losses []float64) []bool {
	if !r.options.EarlyStop {
		return nil
	}
	if objective, ok := r.Objective.(Satisfier); ok {
		return objective.Satisfied()
	}
	satisfied := make([]bool, len(losses))
	for row, loss := range losses {
		satisfied[row] = loss <= r.options.StopBelow
	}
	return satisfied
}

// relay completes an event of the chain with where the run stands.
func (r *run) relay(e Event) {
	if r.observe != nil {
		e.Update, e.Updates = r.result.Updates, r.options.Updates
		r.observe(e)
	}
}

// keepRows copies the rows of src that want it into dst. Rows move by masks,
// since a space has no notion of a part of a vector.
func (r *run) keepRows(dst, src Vector, want []bool) error {
	if !slices.Contains(want, true) {
		return nil
	}
	if !slices.Contains(want, false) {
		return r.copy(dst, src)
	}
	taken, left := make([]float64, r.Rows), make([]float64, r.Rows)
	for row, wanted := range want {
		if wanted {
			taken[row] = 1
		} else {
			left[row] = 1
		}
	}
	if err := r.copy(r.scratch, src); err != nil {
		return err
	}
	if err := r.Space.ScaleRows(r.scratch, taken); err != nil {
		return err
	}
	if err := r.Space.ScaleRows(dst, left); err != nil {
		return err
	}
	return r.Space.Combine(dst, []float64{1, 1}, []Vector{dst, r.scratch})
}

func (r *run) copy(dst, src Vector) error {
	return r.Space.Combine(dst, []float64{1}, []Vector{src})
}

// update differentiates the last forward and moves the rows that are not
// stopped.
func (r *run) update(ctx context.Context) error {
	o := r.options
	if err := r.chain.Backward(ctx, r.grad); err != nil {
		return err
	}
	if o.NormGuard == NormPenalty {
		if err := r.penalise(); err != nil {
			return err
		}
	}
	err := r.Space.Adam(r.latent, r.firstMoment, r.secondMoment, r.grad, r.lr,
		o.Beta1, o.Beta2, o.Eps, o.WeightDecay, r.result.Updates+1)
	if err != nil {
		return fmt.Errorf("sdo: adam: %w", err)
	}
	r.result.Updates++
	for row, stopped := range r.result.Stopped {
		if !stopped {
			r.result.RowUpdates[row]++
		}
	}
	if err := r.measure(ctx); err != nil {
		return err
	}
	if o.NormGuard == NormProject {
		return r.project()
	}
	return nil
}

// when says at which point of the run something was found.
func (r *run) when() string {
	if r.result.Updates == 0 {
		return "before the first update"
	}
	return fmt.Sprintf("after update %d", r.result.Updates)
}
