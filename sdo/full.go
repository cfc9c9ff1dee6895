package sdo

import "context"

// full is true back-propagation with every call's graph alive:
//
//	lambda_i = A_i lambda_{i+1} + B_i J_i^T lambda_{i+1}
//
// with the solver's own coefficients; lambda_N is the seed and lambda_0 the
// gradient at the latent.
type full struct {
	*Chain
	kept []Kept // of calls 0..len-1
}

func newFull(c *Chain) (rule, error) { return &full{Chain: c}, nil }

func (f *full) forward(ctx context.Context, _ int, in Input, out Vector) error {
	kept, err := f.network.Keep(ctx, in, out)
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
	steps := c.problem.Table.Steps
	if err := c.pullBack(ctx, kept, len(steps)-1-i, len(steps)); err != nil {
		return err
	}
	dst := c.seed
	if i == 0 {
		dst = grad
	}
	return c.combine(dst, steps[i].State, c.seed, steps[i].Output, c.product)
}

func (f *full) release() {
	for _, kept := range f.kept {
		kept.Release()
	}
	f.kept = f.kept[:0]
}

func (f *full) free() {}
