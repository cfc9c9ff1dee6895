package sdo

import (
	"context"
	"fmt"
)

// NotFiniteError is a run whose numbers are not finite, or no latent any more. It is the
// recipe's to mend, or the model's.
type NotFiniteError struct{ message string }

func (e *NotFiniteError) Error() string { return e.message }

func notFinite(format string, args ...any) error {
	return &NotFiniteError{fmt.Sprintf(format, args...)}
}

// firstBad retraces a run whose numbers are no longer finite and names the first
// tensor that is not, from the parameters over the variables to the states of
// the rollout. It costs a rollout.
func (r *run) firstBad(ctx context.Context) string {
	return r.chain.firstBad(ctx, r.values)
}

func (c *Chain) firstBad(ctx context.Context, at Values) string {
	bad := func(v Vector) bool {
		if v == nil {
			return false
		}
		squares, err := c.problem.Space.RowDots(ctx, v, v, 1)
		return err == nil && !finite(squares[0])
	}
	if trainable, ok := c.problem.Network.(Trainable); ok {
		for _, p := range trainable.Params() {
			if bad(p.Value) {
				return fmt.Sprintf("the first tensor that is not finite is parameter %s", p.Name)
			}
		}
	}
	n := len(c.problem.Table.Steps)
	for i, noise := range at.Noises {
		if bad(noise) {
			return fmt.Sprintf("the first tensor that is not finite is the noise of step %d of %d", i+1, n)
		}
	}
	for _, v := range []Variable{Latents, Condition, GuidanceScale} {
		if of, _ := at.of(v); bad(of[0]) {
			return fmt.Sprintf("the first tensor that is not finite is the %s", v)
		}
	}
	found := ""
	c.Release()
	err := c.rollout(ctx, at, func(ctx context.Context, i int, in Input) error {
		if bad(in.X) {
			found = fmt.Sprintf("the first tensor that is not finite is the state of step %d of %d", i+1, n)
			return fmt.Errorf("found")
		}
		if err := c.predict(ctx, i, in); err != nil {
			return err
		}
		if bad(c.output) {
			found = fmt.Sprintf("the first tensor that is not finite is the network's output at step %d of %d, timestep %v", i+1, n, in.Timestep)
			if explainer, ok := c.problem.Network.(Explainer); ok {
				if where := explainer.FirstBad(ctx, in); where != "" {
					found += ": " + where
				}
			}
			return fmt.Errorf("found")
		}
		return nil
	})
	switch {
	case found != "":
		return found
	case err != nil:
		return fmt.Sprintf("and the rollout could not be retraced: %v", err)
	case bad(c.state):
		return "the first tensor that is not finite is the sample"
	}
	return "the sample is finite, so the objective's own number is not"
}

// Explainer is a Network that can look inside a call.
type Explainer interface {
	// FirstBad names the first tensor inside the call that is not finite, empty
	// where there is none.
	FirstBad(ctx context.Context, in Input) string
}
