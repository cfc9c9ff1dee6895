package sdo

import "context"

// full is true back-propagation with every call's graph alive. With the solver's
// own coefficients, lambda_i the gradient at state i and mu_i that at the memory
// of call i, which is sum_{j>i} Earlier_j[j-1-i] lambda_{j+1},
//
//	lambda_i = A_i lambda_{i+1} + M_i mu_i + J_i^T (B_i lambda_{i+1} + R_i mu_i)
//
// where the call left M_i x_i + R_i o_i; lambda_N is the seed and lambda_0 times
// Table.Start the gradient at the latent.
type full struct {
	*Chain
	kept []Kept // of calls 0..len-1
}

func newFull(c *Chain) (rule, error) { return &full{Chain: c}, nil }

func (f *full) forward(ctx context.Context, _ int, in Input, out Vector) error {
	kept, err := f.network.Keep(ctx, in, WrtX, out)
	if err == nil {
		f.kept = append(f.kept, kept)
	}
	return err
}

func (f *full) backward(ctx context.Context, grad Vector) error {
	return f.walk(ctx, func(i int, kept Kept) error { return f.adjointStep(ctx, i, kept, grad) })
}

// walk visits every call of the last rollout, last to first, and releases each.
func (f *full) walk(_ context.Context, visit func(i int, kept Kept) error) error {
	for i := len(f.kept) - 1; i >= 0; i-- {
		err := visit(i, f.kept[i])
		f.kept[i].Release()
		f.kept = f.kept[:i]
		if err != nil {
			return err
		}
	}
	return nil
}

// adjointStep sends the seed through step i, into grad where it is the first.
func (c *Chain) adjointStep(ctx context.Context, i int, kept Kept, grad Vector) error {
	space, steps := c.problem.Space, c.problem.Table.Steps
	step, done := steps[i], len(steps)-1-i
	if done == 0 {
		for _, m := range c.memories {
			if err := space.Combine(m, nil, nil); err != nil {
				return err
			}
		}
	}
	for k, weight := range step.Earlier {
		m := c.memory(i - 1 - k)
		if err := c.combine(m, 1, m, weight, c.seed); err != nil {
			return err
		}
	}
	coeffs, terms := []float64{step.State, step.Output}, []Vector{c.seed, c.product}
	atOutput := c.seed // without the factor Output, which a step alone can take last
	if c.remembers(i) {
		if err := c.combine(c.output, step.Output, c.seed, step.Memory.Output, c.memory(i)); err != nil {
			return err
		}
		atOutput = c.output
		coeffs, terms = []float64{step.State, 1, step.Memory.State}, append(terms, c.memory(i))
	}
	if err := c.pullBack(ctx, kept, atOutput, done, len(steps)); err != nil {
		return err
	}
	dst := c.seed
	if i == 0 {
		dst = grad
		for k := range coeffs {
			coeffs[k] *= c.problem.Table.Start
		}
	}
	if err := space.Combine(dst, coeffs, terms); err != nil {
		return err
	}
	if c.remembers(i) {
		return space.Combine(c.memory(i), nil, nil) // the slot of an earlier call from now on
	}
	return nil
}

func (f *full) release() {
	for _, kept := range f.kept {
		kept.Release()
	}
	f.kept = f.kept[:0]
}

func (f *full) free() {}
