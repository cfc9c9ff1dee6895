package sdo

import (
	"context"
	"fmt"
)

// checkpointed is full with the graphs forgotten: it stores the N states of
// the rollout and makes each call again, kept, on the way back. Twice the
// calls, one call's activations.
type checkpointed struct {
	*Chain
	states []Vector // x_0 .. x_{N-1}
}

func newCheckpointed(c *Chain) (rule, error) {
	r := &checkpointed{Chain: c, states: make([]Vector, len(c.problem.Table.Steps))}
	for i := range r.states {
		if err := c.allocate(&r.states[i]); err != nil {
			r.free()
			return nil, err
		}
	}
	return r, nil
}

func (r *checkpointed) forward(ctx context.Context, i int, in Input, out Vector) error {
	if err := r.problem.Space.Combine(r.states[i], []float64{1}, []Vector{in.X}); err != nil {
		return err
	}
	return r.network.Predict(ctx, in, out)
}

func (r *checkpointed) backward(ctx context.Context, grad Vector) error {
	return r.walk(ctx, func(i int, kept Kept) error { return r.adjointStep(ctx, i, kept, grad) })
}

// walk makes every call of the last rollout again, last to first, and releases
// each.
func (r *checkpointed) walk(ctx context.Context, visit func(i int, kept Kept) error) error {
	for i := len(r.states) - 1; i >= 0; i-- {
		if err := ctx.Err(); err != nil {
			return err
		}
		kept, err := r.network.Keep(ctx, r.input(i, r.states[i]), WrtX, r.output)
		if err != nil {
			return fmt.Errorf("sdo: step %d of %d again: %w", i+1, len(r.states), err)
		}
		err = visit(i, kept)
		kept.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *checkpointed) release() {}

func (r *checkpointed) free() { freeVectors(r.problem.Space, r.states...) }
