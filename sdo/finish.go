package sdo

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// finish reads the best back and settles how the run ended. It must also work
// after ctx has ended.
func (r *run) finish(ctx context.Context, ended error) (*Result, error) {
	result := &r.result
	result.Counters = r.chain.Counters()
	cancelled := ctx.Err() != nil && errors.Is(ended, ctx.Err())
	if len(result.Losses) == 0 {
		if cancelled {
			ended = fmt.Errorf("sdo: stopped before the first sample was scored: %w", ended)
		}
		return nil, ended
	}
	if cancelled {
		result.Cancelled, ended = true, nil
	}
	if err := r.readBest(context.WithoutCancel(ctx)); err != nil {
		return nil, errors.Join(ended, fmt.Errorf("sdo: reading the best latents: %w", err))
	}
	for row := range r.Rows {
		square := 0.0
		for _, x := range result.Latents[row*r.Cols : (row+1)*r.Cols] {
			square += x * x
		}
		result.LatentNorms = append(result.LatentNorms, math.Sqrt(square))
	}
	return result, ended
}

func (r *run) readBest(ctx context.Context) (err error) {
	result := &r.result
	read := func(v Vector) (x []float64) {
		if err == nil && v != nil {
			x, err = r.Space.Read(ctx, v)
		}
		return x
	}
	latents := r.best.Latents
	if latents == nil {
		latents = r.Start
	}
	result.Latents, result.Samples = read(latents), read(r.bestSample)
	result.Condition, result.GuidanceScale = read(r.best.Condition), read(r.best.GuidanceScale)
	for _, noise := range r.best.Noises {
		result.Noises = append(result.Noises, read(noise))
	}
	if err != nil || !r.joint {
		return err
	}
	for k, p := range r.best.Parameters {
		if err := r.copy(r.values.Parameters[k], p); err != nil {
			return err
		}
	}
	return r.Network.(Trainable).Changed(ctx)
}
