package sdo

import (
	"context"
	"fmt"
	"math"
)

// measure takes the norm of each latent and refuses one that is not a finite
// number above 0: the guards would divide by it and the network learn nothing
// from it.
func (r *run) measure(ctx context.Context) error {
	squares, err := r.Space.RowDots(ctx, r.latent, r.latent, r.Rows)
	if err != nil {
		return fmt.Errorf("sdo: norm of the latents: %w", err)
	}
	r.norms = r.norms[:0]
	for row, square := range squares {
		norm := math.Sqrt(square)
		if !finite(norm) || norm == 0 {
			return fmt.Errorf("sdo: the latent of row %d has norm %v %s", row, norm, r.when())
		}
		r.norms = append(r.norms, norm)
	}
	return nil
}

// project scales every moving row to norm sqrt(Cols), the norm of noise.
func (r *run) project() error {
	noise := math.Sqrt(float64(r.Cols))
	scales := make([]float64, r.Rows)
	for row, norm := range r.norms {
		scales[row] = 1
		if !r.result.Stopped[row] {
			scales[row], r.norms[row] = noise/norm, noise
		}
	}
	return r.Space.ScaleRows(r.latent, scales)
}

// penalise adds the gradient of NormPenalty, weight*x*(1 - (d-1)/|x|^2).
func (r *run) penalise() error {
	scales := make([]float64, r.Rows)
	for row, norm := range r.norms {
		scales[row] = r.options.NormWeight * (1 - float64(r.Cols-1)/(norm*norm))
	}
	if err := r.copy(r.scratch, r.latent); err != nil {
		return err
	}
	if err := r.Space.ScaleRows(r.scratch, scales); err != nil {
		return err
	}
	return r.Space.Combine(r.grad, []float64{1, 1}, []Vector{r.grad, r.scratch})
}
