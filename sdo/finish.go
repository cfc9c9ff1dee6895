package sdo

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// finish reads the best latents and samples back and settles how the run
// ended. It must also work after ctx has ended.
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
	read := context.WithoutCancel(ctx)
	var err error
	if result.Latents, err = r.Space.Read(read, r.best); err == nil {
		result.Samples, err = r.Space.Read(read, r.bestSample)
	}
	if err != nil {
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
