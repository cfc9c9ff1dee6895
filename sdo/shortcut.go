package sdo

import "context"

// shortcut is SDO for a latent z (docs/method.md, The rule). With the frozen
// quantity f_i = p_i x_i + q_i o_i held in all calls but the first, and the
// first state x_0 = S z,
//
//	x_N = P z + w_0 f_0(x_0) + constant
//	grad = P g + S w_0 (p_0 g + q_0 J_0^T g)
//
// where g is the gradient at x_N and J_0 the Jacobian of the first call. The
// weight of a call is never multiplied by N: for latents that points the wrong
// way in most draws.
type shortcut struct {
	*Chain
	kept Kept
}

func newShortcut(c *Chain) (rule, error) { return &shortcut{Chain: c}, nil }

func (s *shortcut) forward(ctx context.Context, i int, in Input, out Vector) (err error) {
	if i > 0 {
		return s.network.Predict(ctx, in, out)
	}
	s.kept, err = s.network.Keep(ctx, in, WrtX, out)
	return err
}

func (s *shortcut) backward(ctx context.Context, grad Vector) error {
	if err := s.pullBack(ctx, s.kept, s.seed, 0, 1); err != nil {
		return err
	}
	first, weight := s.transport.Steps[0], s.problem.Table.Start*s.transport.Weights[0]
	return s.combine(grad, s.transport.Carry+weight*first.FromState, s.seed, weight*first.FromOutput, s.product)
}

func (s *shortcut) release() {
	if s.kept != nil {
		s.kept.Release()
		s.kept = nil
	}
}

func (s *shortcut) free() {}
