package sdo

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// Result is what a run found. Rows count from 0; matrices are row-major, Rows x
// Cols. Latents, Noises, Condition and GuidanceScale are what BestLoss was seen
// at; those that did not vary are the problem's own or nil.
type Result struct {
	Latents       []float64   `json:"-"`
	Noises        [][]float64 `json:"-"` // by step; nil unless they varied
	Condition     []float64   `json:"-"` // nil unless it varied
	GuidanceScale []float64   `json:"guidance_scale,omitempty"`
	Samples       []float64   `json:"-"` // what they sample to
	Before        []float64   `json:"-"` // what the run began with samples to

	Losses      [][]float64 `json:"losses"`          // Losses[u][row] after u updates
	Stale       []bool      `json:"stale,omitempty"` // of Losses: partly from earlier updates' outputs; nil where none is
	BestLoss    []float64   `json:"best_loss"`       // lowest loss per row, or the loss at which it was stopped as good enough
	BestUpdate  []int       `json:"best_update"`     // updates made when it was seen
	RowUpdates  []int       `json:"row_updates"`     // updates the row took part in
	Stopped     []bool      `json:"stopped"`         // left alone: good enough, or drifted
	Drifted     []bool      `json:"drifted"`         // left alone for drift
	LatentNorms []float64   `json:"latent_norms"`    // of Latents; noise has about sqrt(Cols)
	Updates     int         `json:"updates"`         // updates made
	Cancelled   bool        `json:"cancelled"`       // the context ended the run
	Counters
}

// Run optimises what Options.Vary names. After update u it samples, scores and,
// if another update follows, differentiates; so U updates make U+1 rollouts and
// U backward passes.
//
// Rows are independent: each has its own best. Where the parameters vary, which
// all rows share, the best is that of the batch, by mean loss, and the network
// is left with the best parameters.
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
	case o.EarlyStop == EarlyStopJudge && p.Judge == nil:
		return nil, fmt.Errorf("sdo: early stop asks a judge and the problem has none; name one, or let the objective stop")
	}
	chain, err := NewChain(p, o.Surrogate, o.Variables()...)
	if err != nil {
		return nil, err
	}
	defer chain.Free()
	r := &run{Problem: p, options: o, chain: chain, observe: observe, joint: slices.Contains(o.Variables(), Parameters)}
	chain.Observe(r.relay)
	defer r.free()
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	if o.Resume != nil {
		if err := r.restore(ctx, o.Resume); err != nil {
			return nil, err
		}
	}
	return r.finish(ctx, r.loop(ctx))
}

// run is one optimisation in progress.
type run struct {
	Problem
	options Options
	chain   *Chain
	observe Observer
	joint   bool // the rows share what varies

	values, grads, best Values
	descent             *descent
	bestSample, before  Vector
	scratch             Vector
	norms, startNorms   []float64 // of the latents' rows, now and at the start
	paused              []bool    // rows that stale losses call good enough: they wait for fresh ones
	result              Result
}

// prepare allocates what the run holds: RunVectors of the batch's size for
// latents alone.
func (r *run) prepare(ctx context.Context) (err error) {
	vary := r.options.Variables()
	if r.values, err = r.StartValues(ctx, vary...); err != nil {
		return err
	}
	if r.values.Latents == nil {
		r.values.Latents = r.Start
	}
	if r.grads, err = r.NewValues(vary...); err != nil {
		return err
	}
	if r.best, err = r.NewValues(vary...); err != nil {
		return err
	}
	if r.descent, err = newDescent(r.Space, r.Rows, r.options.MaxGradNorm, r.options.Vary, r.values, r.grads); err != nil {
		return err
	}
	mine := []*Vector{&r.bestSample, &r.scratch}
	if r.options.DriftLimit > 0 {
		mine = append(mine, &r.before)
	}
	if err := r.chain.allocate(mine...); err != nil {
		return err
	}
	r.paused = make([]bool, r.Rows)
	r.result = Result{
		BestLoss:   slices.Repeat([]float64{math.Inf(1)}, r.Rows),
		BestUpdate: make([]int, r.Rows),
		RowUpdates: make([]int, r.Rows),
		Stopped:    make([]bool, r.Rows),
		Drifted:    make([]bool, r.Rows),
	}
	err = r.measure(ctx)
	r.startNorms = slices.Clone(r.norms)
	return err
}

func (r *run) free() {
	own := r.values.perRow()
	if own.Latents == r.Start {
		own.Latents = nil
	}
	r.FreeValues(own)
	r.FreeValues(r.grads)
	r.FreeValues(r.best)
	if r.descent != nil {
		r.descent.free()
	}
	freeVectors(r.Space, r.bestSample, r.scratch, r.before)
}

func (r *run) loop(ctx context.Context) error {
	for {
		last := r.result.Updates == r.options.Updates
		losses, fresh, err := r.score(ctx, last)
		if err != nil {
			return err
		}
		if err := r.record(ctx, losses, fresh); err != nil {
			return err
		}
		if !fresh && r.seemsDone() {
			r.chain.Refresh() // and look again before anything is reported
			if losses, fresh, err = r.score(ctx, last); err != nil {
				return err
			}
			if err := r.record(ctx, losses, fresh); err != nil {
				return err
			}
		}
		if last || !slices.Contains(r.result.Stopped, false) {
			return nil
		}
		if !r.options.Surrogate.faithful() {
			if _, err := r.chain.Forward(ctx, r.values, r.result.Updates); err != nil {
				return err
			}
		}
		if err := r.update(ctx); err != nil {
			return err
		}
	}
}

// score makes the sample and its losses, with the graph of the next update
// where that is the same rollout.
func (r *run) score(ctx context.Context, last bool) (losses []float64, fresh bool, err error) {
	if last || !r.options.Surrogate.faithful() {
		losses, err = r.chain.Evaluate(ctx, r.values)
		return losses, true, err
	}
	losses, err = r.chain.Forward(ctx, r.values, r.result.Updates)
	return losses, r.chain.Fresh(), err
}

// seemsDone reports whether stale losses say that early stop would end the run.
func (r *run) seemsDone() bool {
	for row, paused := range r.paused {
		if !paused && !r.result.Stopped[row] {
			return false
		}
	}
	return true
}

const notFiniteAdvice = "lower the learning rate or a term's weight, or see whether the model's own numbers are too large"

// record takes in the losses after the latest update: keeps what is better,
// stops what is good enough or has drifted, tells the observer. Losses that are
// not the sample's own only go on record.
func (r *run) record(ctx context.Context, losses []float64, fresh bool) error {
	result := &r.result
	for row, loss := range losses {
		if !finite(loss) {
			return notFinite("sdo: the loss of row %d is %v %s: %s; %s", row, loss, r.when(), r.firstBad(ctx), notFiniteAdvice)
		}
	}
	// A loss can be finite where its sample is not: max(0, NaN) is 0 on a GPU.
	squares, err := r.Space.RowDots(ctx, r.chain.Sample(), r.chain.Sample(), r.Rows)
	if err != nil {
		return fmt.Errorf("sdo: size of the samples: %w", err)
	}
	for row, square := range squares {
		if !finite(square) {
			return notFinite("sdo: the sample of row %d is not finite %s: %s; %s", row, r.when(), r.firstBad(ctx), notFiniteAdvice)
		}
	}
	if result.Updates == 0 {
		before, err := r.Space.Read(ctx, r.chain.Sample())
		if err != nil {
			return fmt.Errorf("sdo: reading the first samples: %w", err)
		}
		result.Before = before
		if r.before != nil {
			if err := r.copy(r.before, r.chain.Sample()); err != nil {
				return err
			}
		}
	}
	if fresh {
		clear(r.paused)
		if err := r.keepBetter(ctx, losses); err != nil {
			return err
		}
	} else if r.options.EarlyStop == EarlyStopObjective {
		copy(r.paused, r.satisfied(losses))
	}
	// In place of what was on record, if this is another look at the same update.
	result.Losses = append(result.Losses[:result.Updates], slices.Clone(losses))
	if r.options.Surrogate.Refresh.stale() {
		result.Stale = append(result.Stale[:result.Updates], !fresh)
	}
	if r.observe != nil {
		told := false
		r.relay(Event{
			Kind: EventUpdate, State: r.chain.Sample(), Values: r.values, Counters: r.chain.Counters(), Stale: !fresh,
			Losses: slices.Clone(losses), Best: slices.Clone(result.BestLoss),
			Stopped: slices.Clone(result.Stopped), LatentNorms: slices.Clone(r.norms),
			Save: func(ctx context.Context) (*RunState, error) {
				if told {
					return nil, fmt.Errorf("sdo: a run is saved while its observer is told of an update; call Save before the observer returns")
				}
				return r.save(ctx)
			},
		})
		told = true
	}
	return nil
}

// keepBetter keeps the rows that are better than before and stops those that are
// done.
func (r *run) keepBetter(ctx context.Context, losses []float64) error {
	result := &r.result
	drifted, err := r.driftedRows(ctx)
	if err != nil {
		return err
	}
	// What early stop settles on is the row's result, even where an earlier
	// latent had a lower sum that satisfied less.
	satisfied, err := r.approved(ctx, losses)
	if err != nil {
		return err
	}
	better := make([]bool, r.Rows)
	for row, loss := range losses {
		better[row] = loss < result.BestLoss[row]
		if satisfied != nil && !result.Stopped[row] {
			better[row] = better[row] || satisfied[row]
		}
		better[row] = better[row] && !drifted[row]
	}
	if r.joint {
		all := result.Updates == 0 || mean(losses) < mean(result.BestLoss)
		if satisfied != nil {
			done := !slices.Contains(satisfied, false)
			all = all || done
			satisfied = slices.Repeat([]bool{done}, r.Rows)
		}
		better = slices.Repeat([]bool{all && !slices.Contains(drifted, true)}, r.Rows)
	}
	if err := r.keepRows(better); err != nil {
		return err
	}
	for row, loss := range losses {
		if better[row] {
			result.BestLoss[row], result.BestUpdate[row] = loss, result.Updates
		}
		if drifted[row] && !result.Stopped[row] {
			result.Stopped[row], result.Drifted[row] = true, true
		}
		if satisfied != nil && satisfied[row] {
			result.Stopped[row] = true
		}
	}
	if r.joint && slices.Contains(result.Drifted, true) {
		result.Stopped = slices.Repeat([]bool{true}, r.Rows)
	}
	return nil
}

// approved says which rows early stop leaves alone from now on; nil where it is
// off.
func (r *run) approved(ctx context.Context, losses []float64) ([]bool, error) {
	switch r.options.EarlyStop {
	case EarlyStopObjective:
		return r.satisfied(losses), nil
	case EarlyStopJudge:
		approved, err := r.Judge.Approve(ctx, r.chain.Sample())
		if err != nil {
			return nil, fmt.Errorf("sdo: judge: %w", err)
		}
		return approved, nil
	}
	return nil, nil
}

// satisfied asks the objective.
func (r *run) satisfied(losses []float64) []bool {
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

// keepRows copies the values and samples of the rows that want it into the best.
// The gradients serve as scratch: the next backward overwrites them.
func (r *run) keepRows(want []bool) error {
	if !slices.Contains(want, true) {
		return nil
	}
	for _, v := range r.options.Vary {
		best, shared := r.best.of(v.Variable)
		values, _ := r.values.of(v.Variable)
		spare, _ := r.grads.of(v.Variable)
		for k := range best {
			if shared {
				if err := r.copy(best[k], values[k]); err != nil {
					return err
				}
			} else if err := r.mergeRows(best[k], values[k], spare[k], want); err != nil {
				return err
			}
		}
	}
	return r.mergeRows(r.bestSample, r.chain.Sample(), r.scratch, want)
}

// mergeRows copies the wanted rows of src into dst. Rows move by masks, since a
// space has no notion of a part of a vector.
func (r *run) mergeRows(dst, src, spare Vector, want []bool) error {
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
	if err := r.copy(spare, src); err != nil {
		return err
	}
	if err := r.Space.ScaleRows(spare, taken); err != nil {
		return err
	}
	if err := r.Space.ScaleRows(dst, left); err != nil {
		return err
	}
	return r.Space.Combine(dst, []float64{1, 1}, []Vector{dst, spare})
}

// update differentiates the last forward and moves the rows that are not
// stopped.
func (r *run) update(ctx context.Context) error {
	if err := r.chain.Backward(ctx, r.grads); err != nil {
		return err
	}
	if r.options.NormGuard == NormPenalty {
		if err := r.penalise(ctx); err != nil {
			return err
		}
	}
	moving := make([]bool, r.Rows)
	for row, stopped := range r.result.Stopped {
		moving[row] = !stopped && !r.paused[row]
	}
	if err := r.descent.step(ctx, r.result.Updates+1, moving); err != nil {
		return err
	}
	r.result.Updates++
	for row := range moving {
		if moving[row] {
			r.result.RowUpdates[row]++
		}
	}
	if r.joint {
		if err := r.Network.(Trainable).Changed(ctx); err != nil {
			return fmt.Errorf("sdo: the network's new parameters: %w", err)
		}
	}
	return r.guard(ctx, moving)
}

// when says at which point of the run something was found.
func (r *run) when() string {
	if r.result.Updates == 0 {
		return "before the first update"
	}
	return fmt.Sprintf("after update %d", r.result.Updates)
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}
