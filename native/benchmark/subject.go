package benchmark

import (
	"context"
	"fmt"
	"math"

	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
	"github.com/sdo-go/sdo/sdo/mixture"
)

// subject is a network with a loss, ready for a cell to be run on.
type subject struct {
	problem   sdo.Problem
	surrogate sdo.Surrogate
	guard     sdo.NormGuard
	heldOut   int                                                        // rows that a tuning is judged on
	latents   func(ctx context.Context, dst sdo.Vector, first int) error // of a tuning's pictures
	surprise  func(samples []float64) []float64                          // nil but for the mixture
	device    string
	close     func()
}

// Mixture is the model that is no network: package mixture.
const Mixture = "mixture"

// MixtureLosses are what the mixture is steered by: a sample of the data for
// every row to come to; a membership of one mode, by plain cross entropy and by
// one that stops at a margin; a coordinate, as brightness is one of a picture; a
// Gram matrix.
var MixtureLosses = []string{"target", "mode", "mode, margin", "brightness", "gram"}

// mixtureSubject draws a mixture of its own for every seed.
func mixtureSubject(c Cell, s Setting) (*subject, error) {
	config := sampler.DefaultConfig()
	// Stable diffusion's schedule, as published toys and scripts have it.
	config.BetaSchedule, config.BetaStart, config.BetaEnd = sampler.ScheduleScaledLinear, 0.00085, 0.012
	config.ClipSample, config.SetAlphaToOne, config.StepsOffset = false, false, 1
	table, err := sampler.DDIM(config, c.Steps, 0)
	if err != nil {
		return nil, err
	}
	m := mixture.New(c.Seed)
	network, err := m.Network(table)
	if err != nil {
		return nil, err
	}
	var objective mixture.Objective
	switch c.Loss {
	case "target":
		objective = mixture.Target(m.Draw(c.Seed, c.Rows))
	case "gram":
		objective = mixture.Gram(m.Draw(c.Seed, c.Rows))
	case "brightness":
		objective = mixture.Projection(direction(m.Draw(c.Seed, 1)), 2)
	case "mode":
		objective = m.Member(0, math.Inf(1))
	case "mode, margin":
		objective = m.Member(0, 4)
	default:
		return nil, fmt.Errorf("benchmark: the mixture has no loss %q", c.Loss)
	}
	space := mixture.Space{}
	start, err := space.NewVector(c.Rows * mixture.Dim)
	if err == nil {
		err = space.Normal(start, c.Seed, 0)
	}
	if err != nil {
		return nil, err
	}
	surrogate, err := s.surrogate(c.Vary, c.Seed)
	if err != nil {
		return nil, err
	}
	return &subject{
		problem: sdo.Problem{Space: space, Network: network, Table: table, Objective: objective,
			Rows: c.Rows, Cols: mixture.Dim, Start: start},
		surrogate: surrogate,
		guard:     sdo.NormNone, // eight dimensions hold little of a shell
		heldOut:   256,
		latents: func(_ context.Context, dst sdo.Vector, first int) error {
			return space.Normal(dst, c.Seed, uint32(1+first))
		},
		surprise: m.Surprise,
		device:   "Go, float64",
		close:    func() {},
	}, nil
}

// direction scales a vector to length 1.
func direction(x []float64) []float64 {
	square := 0.0
	for _, v := range x {
		square += v * v
	}
	for i := range x {
		x[i] /= math.Sqrt(square)
	}
	return x
}
