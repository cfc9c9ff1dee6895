package sdo

import "context"

// identity copies the gradient at the sample to the latent, scaled by P: every
// call is frozen, the first too. It is the baseline that says what SDO's kept
// call is worth (docs/method.md, Methods in this project).
type identity struct{ *Chain }

func newIdentity(c *Chain) (rule, error) { return identity{c}, nil }

func (r identity) forward(ctx context.Context, i int, in Input, out Vector) error {
	return r.predict(ctx, i, in, out)
}

func (r identity) backward(_ context.Context, grad Vector) error {
	return r.problem.Space.Combine(grad, []float64{r.transport.Carry}, []Vector{r.seed})
}

func (r identity) release() {}
func (r identity) free()    {}
