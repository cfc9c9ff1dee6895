package sdo

import (
	"context"
	"fmt"
	"math"
)

// guard holds what has just moved to what noise looks like, and refuses what is
// not finite.
func (r *run) guard(ctx context.Context, moved []bool) error {
	if r.options.Whiten != nil {
		for _, noise := range r.noisy(r.values) {
			if err := r.options.Whiten(ctx, noise, moved); err != nil {
				return fmt.Errorf("sdo: whitening: %w", err)
			}
		}
	}
	if err := r.measure(ctx); err != nil {
		return err
	}
	if r.options.NormGuard != NormProject {
		return nil
	}
	for _, noise := range r.noisy(r.values) {
		norms, err := r.rowNorms(ctx, noise)
		if err != nil {
			return err
		}
		scales := make([]float64, r.Rows)
		for row, norm := range norms {
			scales[row] = 1
			if moved[row] && norm > 0 {
				scales[row] = math.Sqrt(float64(r.Cols)) / norm
				if r.options.NormStart && noise == r.values.Latents {
					scales[row] = r.startNorms[row] / norm
				}
			}
			if noise == r.values.Latents {
				r.norms[row] *= scales[row]
			}
		}
		if err := r.Space.ScaleRows(noise, scales); err != nil {
			return err
		}
	}
	return nil
}

// noisy lists, of values or gradients, what varies and was standard normal noise
// to begin with.
func (r *run) noisy(values Values) (vectors []Vector) {
	for _, v := range r.options.Vary {
		if v.Variable == Latents || v.Variable == Noises {
			of, _ := values.of(v.Variable)
			vectors = append(vectors, of...)
		}
	}
	return vectors
}

func (r *run) rowNorms(ctx context.Context, v Vector) ([]float64, error) {
	squares, err := r.Space.RowDots(ctx, v, v, r.Rows)
	if err != nil {
		return nil, fmt.Errorf("sdo: norm of the latents: %w", err)
	}
	for row, square := range squares {
		squares[row] = math.Sqrt(square)
	}
	return squares, nil
}

// measure takes the norm of each latent and refuses one that is not a finite
// number above 0: the guards would divide by it and the network learn nothing
// from it.
func (r *run) measure(ctx context.Context) (err error) {
	if r.norms, err = r.rowNorms(ctx, r.values.Latents); err != nil {
		return err
	}
	for row, norm := range r.norms {
		if !finite(norm) || norm == 0 {
			return notFinite("sdo: the latent of row %d has norm %v %s", row, norm, r.when())
		}
	}
	return nil
}

// penalise adds the gradient of NormPenalty, weight*x*(1 - (d-1)/|x|^2).
func (r *run) penalise(ctx context.Context) error {
	grads := r.noisy(r.grads)
	for k, noise := range r.noisy(r.values) {
		norms, err := r.rowNorms(ctx, noise)
		if err != nil {
			return err
		}
		scales := make([]float64, r.Rows)
		for row, norm := range norms {
			scales[row] = r.options.NormWeight * (1 - float64(r.Cols-1)/(norm*norm))
		}
		if err := r.copy(r.scratch, noise); err != nil {
			return err
		}
		if err := r.Space.ScaleRows(r.scratch, scales); err != nil {
			return err
		}
		if err := r.Space.Combine(grads[k], []float64{1, 1}, []Vector{grads[k], r.scratch}); err != nil {
			return err
		}
	}
	return nil
}

// driftedRows says which samples have moved too far from where they began.
func (r *run) driftedRows(ctx context.Context) ([]bool, error) {
	drifted := make([]bool, r.Rows)
	if r.before == nil || r.result.Updates == 0 {
		return drifted, nil
	}
	if err := r.chain.combine(r.scratch, 1, r.chain.Sample(), -1, r.before); err != nil {
		return nil, err
	}
	squares, err := r.Space.RowDots(ctx, r.scratch, r.scratch, r.Rows)
	if err != nil {
		return nil, fmt.Errorf("sdo: drift: %w", err)
	}
	for row, square := range squares {
		drifted[row] = math.Sqrt(square/float64(r.Cols)) > r.options.DriftLimit
	}
	return drifted, nil
}
