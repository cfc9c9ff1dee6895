package sdo

import (
	"context"
	"fmt"
	"slices"
)

// revive returns an active call with its graph alive, made again where only its
// input was stored.
func (c *Chain) revive(ctx context.Context, call *activeCall) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if call.kept != nil || call.state == nil {
		return nil
	}
	var err error
	if call.kept, err = c.network.Keep(ctx, c.input(call.index, call.state), c.wrt, c.output); err != nil {
		return fmt.Errorf("sdo: step %d of %d again: %w", call.index+1, len(c.problem.Table.Steps), err)
	}
	return nil
}

// pullBack differentiates a kept call for the seed in c.output and releases it.
// c.product becomes the gradient at its input where x asks for it; what the
// call gives to condition and parameters is added to into.
func (c *Chain) pullBack(ctx context.Context, call *activeCall, x bool, into Values) error {
	defer call.release()
	var wanted Gradients
	if x {
		wanted.X = c.product
	}
	first := !c.added
	if call.weight != 0 {
		c.added = true
		wanted.Cond, wanted.Params = into.Condition, into.Parameters
		if !first {
			wanted.Cond, wanted.Params = c.partial.Condition, c.partial.Parameters
		}
	}
	if wanted.X == nil && wanted.Cond == nil && len(wanted.Params) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := call.kept.Backward(ctx, c.output, wanted); err != nil {
		return fmt.Errorf("sdo: backward of step %d of %d: %w", call.index+1, len(c.problem.Table.Steps), err)
	}
	done := 0
	for _, other := range c.active {
		if other.index >= call.index {
			done++
		}
	}
	c.notify(Event{Kind: EventBackward, Step: done, Steps: len(c.active)})
	if first || call.weight == 0 {
		return nil
	}
	return c.problem.add(Values{Condition: into.Condition, Parameters: into.Parameters}, wanted)
}

// add adds one call's gradients to the sum.
func (p Problem) add(sum Values, part Gradients) error {
	plus := func(dst, x Vector) error {
		return p.Space.Combine(dst, []float64{1, 1}, []Vector{dst, x})
	}
	if sum.Condition != nil {
		if err := plus(sum.Condition, part.Cond); err != nil {
			return err
		}
	}
	for k, dst := range sum.Parameters {
		if err := plus(dst, part.Params[k]); err != nil {
			return err
		}
	}
	return nil
}

// backwardFrozen is the gradient where no path leads from one call to another:
// every variable sees the seed g times a scalar of the transport, so that the
// seed never changes.
//
//	latents   Start w_0 (p_0 g + q_0 J_0^T g) + P g
//	noises    n_i g
//	condition sum_{i in S} (do_i/dc)^T (w_i q_i/pi_i) g, and so parameters
//	scale     sum_i w_i q_i <conditional_i - unconditional_i, g>, of all calls:
//	          it needs no backward
func (c *Chain) backwardFrozen(ctx context.Context, into Values) error {
	t, space := c.transport, c.problem.Space
	coeffs, terms := []float64{t.Carry}, []Vector{c.seed}
	for k := len(c.active) - 1; k >= 0; k-- {
		call := &c.active[k]
		if c.wrt == 0 {
			break
		}
		step, scale := t.Steps[call.index], call.scale()
		if err := c.revive(ctx, call); err != nil {
			return err
		}
		if err := space.Combine(c.output, []float64{scale * t.Weights[call.index] * step.FromOutput}, []Vector{c.seed}); err != nil {
			return err
		}
		latent := call.index == 0 && into.Latents != nil
		if err := c.pullBack(ctx, call, latent, into); err != nil {
			return err
		}
		if latent {
			start := c.problem.Table.Start
			coeffs[0] += start * t.Weights[0] * step.FromState
			coeffs, terms = append(coeffs, start/scale), append(terms, c.product)
		}
	}
	if into.Latents != nil {
		if err := space.Combine(into.Latents, coeffs, terms); err != nil {
			return err
		}
	}
	for i, noise := range into.Noises {
		if noise != nil {
			if err := space.Combine(noise, []float64{t.Noises[i]}, []Vector{c.seed}); err != nil {
				return err
			}
		}
	}
	return c.scaleGradient(ctx, into)
}

// scaleGradient writes the gradient at the guidance scales from what was added
// up on the way.
func (c *Chain) scaleGradient(ctx context.Context, into Values) error {
	if into.GuidanceScale == nil {
		return nil
	}
	dots, err := c.problem.Space.RowDots(ctx, c.towards, c.seed, c.problem.Rows)
	if err != nil {
		return fmt.Errorf("sdo: gradient of the guidance scale: %w", err)
	}
	return c.problem.Space.Write(ctx, into.GuidanceScale, dots)
}

// backwardChained is the gradient where the path between active calls is live.
// lambda_i, the gradient at state i, and mu_i, that at the memory of call i,
// obey, with every coefficient that of the frozen step,
//
//	phi_i    = D_i lambda_{i+1} + N_i mu_i                      at f_i
//	lambda_i = C_i lambda_{i+1} + M_i mu_i + beta_i (p_i phi_i + q_i J_i^T phi_i)
//
// where call i left M_i x_i + N_i f_i, mu_i is sum_{j>i} Earlier_j[j-1-i]
// lambda_{j+1}, and beta_i is bridge/pi_i for active calls, 0 for others and 1
// for the first, whose input is the latent. With every call active and bridge 1
// that is back-propagation, whatever is frozen.
func (c *Chain) backwardChained(ctx context.Context, into Values) error {
	space, start := c.problem.Space, c.problem.Table.Start
	scales := make([]float64, c.problem.Rows) // gradient at the guidance scales
	for _, m := range c.memories {
		if err := space.Combine(m, nil, nil); err != nil {
			return err
		}
	}
	for i := len(c.transport.Steps) - 1; i >= 0 && c.upstream(i, into); i-- {
		step := c.transport.Steps[i]
		for k, weight := range step.Earlier {
			m := c.memory(i - 1 - k)
			if err := c.combine(m, 1, m, weight, c.seed); err != nil {
				return err
			}
		}
		if into.Noises != nil && into.Noises[i] != nil {
			if err := space.Combine(into.Noises[i], []float64{step.Noise}, []Vector{c.seed}); err != nil {
				return err
			}
		}
		coeffs, terms := []float64{step.State}, []Vector{c.seed}
		frozen := []float64{step.Frozen}
		if c.remembers(i) {
			coeffs, terms = append(coeffs, step.MemoryState), append(terms, c.memory(i))
			frozen = append(frozen, step.MemoryFrozen)
		}
		if call := c.activeAt(i); call != nil {
			through := c.upstream(i-1, into) || i == 0 && into.Latents != nil
			product, err := c.throughCall(ctx, call, frozen, terms, through, scales, into)
			if err != nil {
				return err
			}
			if through {
				live := c.surrogate.Bridge * call.weight
				if i == 0 {
					live = 1
				}
				for k := range frozen {
					coeffs[k] += live * step.FromState * frozen[k]
				}
				coeffs, terms = append(coeffs, live*product), append(terms, c.product)
			}
		}
		dst := c.seed
		if i == 0 {
			if dst = into.Latents; dst == nil {
				break
			}
			for k := range coeffs {
				coeffs[k] *= start
			}
		}
		if err := space.Combine(dst, coeffs, terms); err != nil {
			return err
		}
		if c.visit.state != nil {
			if err := c.visit.state(ctx, i, dst); err != nil {
				return err
			}
		}
		if c.remembers(i) { // the slot of an earlier call from now on
			if err := space.Combine(c.memory(i), nil, nil); err != nil {
				return err
			}
		}
	}
	if into.GuidanceScale != nil {
		return space.Write(ctx, into.GuidanceScale, scales)
	}
	return nil
}

// throughCall differentiates one active call, phi being the frozen coefficients
// of terms. It returns the factor that makes c.product the gradient that passes
// the network, q_i J_i^T phi_i.
func (c *Chain) throughCall(ctx context.Context, call *activeCall, frozen []float64, terms []Vector, x bool, scales []float64, into Values) (float64, error) {
	if err := c.revive(ctx, call); err != nil {
		return 0, err
	}
	if c.visit.call != nil {
		if err := c.visit.call(ctx, call); err != nil {
			return 0, err
		}
	}
	seed := make([]float64, len(frozen))
	for k := range frozen {
		seed[k] = call.scale() * c.transport.Steps[call.index].FromOutput * frozen[k]
	}
	if err := c.problem.Space.Combine(c.output, seed, terms); err != nil {
		return 0, err
	}
	if into.GuidanceScale != nil {
		dots, err := c.problem.Space.RowDots(ctx, call.difference, c.output, c.problem.Rows)
		if err != nil {
			return 0, fmt.Errorf("sdo: gradient of the guidance scale: %w", err)
		}
		for row := range dots {
			scales[row] += dots[row]
		}
	}
	return 1 / call.scale(), c.pullBack(ctx, call, x, into)
}

// visitor is shown back-propagation at work.
type visitor struct {
	call  func(ctx context.Context, call *activeCall) error       // before it is differentiated
	state func(ctx context.Context, i int, gradient Vector) error // once the gradient at state i is there
}

// upstream reports whether anything at step i or before it has a gradient.
func (c *Chain) upstream(i int, into Values) bool {
	if i < 0 {
		return false
	}
	if into.Latents != nil || into.Noises != nil && slices.ContainsFunc(into.Noises[:i+1], func(v Vector) bool { return v != nil }) {
		return true
	}
	return slices.ContainsFunc(c.active, func(a activeCall) bool { return a.index <= i })
}

// backwardJump is the gradient at the clean sample that the active call k
// estimates, p_k x_k + q_k o_k, with the way to x_k held.
func (c *Chain) backwardJump(ctx context.Context, into Values) error {
	call := &c.active[0]
	clean, space := c.estimate.Steps[call.index], c.problem.Space
	if c.wrt != 0 {
		if err := c.revive(ctx, call); err != nil {
			return err
		}
		if err := space.Combine(c.output, []float64{clean.FromOutput}, []Vector{c.seed}); err != nil {
			return err
		}
		if err := c.pullBack(ctx, call, into.Latents != nil, into); err != nil {
			return err
		}
	}
	if into.Latents != nil {
		start := c.problem.Table.Start
		if err := c.combine(into.Latents, start*clean.FromState, c.seed, start, c.product); err != nil {
			return err
		}
	}
	return c.scaleGradient(ctx, into)
}

// backwardRenoised is DRaFT-LV's gradient (arXiv 2309.17400, section 4.3): the
// sample, held, is noised again to the level of the last call, the call made,
// and the loss taken at the clean sample it estimates, on average over copies.
func (c *Chain) backwardRenoised(ctx context.Context, into Values) error {
	space, last := c.problem.Space, len(c.problem.Table.Steps)-1
	clean, at := c.estimate.Steps[last], c.problem.Table.Steps[last].At
	noisy, call := c.stored[0], &c.active[0]
	for copy := range c.surrogate.Renoised {
		if err := ctx.Err(); err != nil {
			return err
		}
		stream := uint32(c.update*c.surrogate.Renoised + copy)
		if err := space.Normal(c.noise, c.surrogate.Seed, renoiseStream+stream); err != nil {
			return err
		}
		if err := c.combine(noisy, at.Signal, c.state, at.Noise, c.noise); err != nil {
			return err
		}
		var err error
		if call.kept, err = c.network.Keep(ctx, c.input(last, noisy), c.wrt, c.output); err != nil {
			return fmt.Errorf("sdo: re-noised copy %d: %w", copy+1, err)
		}
		if err := c.combine(noisy, clean.FromState, noisy, clean.FromOutput, c.output); err != nil {
			return err
		}
		if _, err := c.score(ctx, noisy, c.seed); err != nil {
			return err
		}
		weight := clean.FromOutput / float64(c.surrogate.Renoised)
		if err := space.Combine(c.output, []float64{weight}, []Vector{c.seed}); err != nil {
			return err
		}
		if err := c.pullBack(ctx, call, false, into); err != nil {
			return err
		}
	}
	return nil
}

// renoiseStream is the first stream of Surrogate.Seed that re-noised copies draw
// from.
const renoiseStream = 1 << 30

// Gradient returns the losses at some values and the gradient of their sum there
// by the surrogate, as update decides its random choices. The caller frees it
// with Problem.FreeValues.
func Gradient(ctx context.Context, p Problem, s Surrogate, at Values, update int, vary ...Variable) (Values, []float64, error) {
	c, err := NewChain(p, s, vary...)
	if err != nil {
		return Values{}, nil, err
	}
	defer c.Free()
	losses, err := c.Forward(ctx, at, update)
	if err != nil {
		return Values{}, nil, err
	}
	grads, err := p.NewValues(vary...)
	if err != nil {
		return Values{}, nil, err
	}
	if err := c.Backward(ctx, grads); err != nil {
		p.FreeValues(grads)
		return Values{}, nil, err
	}
	return grads, losses, nil
}
