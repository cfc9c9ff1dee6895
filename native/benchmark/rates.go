package benchmark

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sdo-go/sdo/sdo"
)

// Rates is what the calls of a model take on the device, in seconds: the quickest of many,
// which whatever else the machine does disturbs least.
type Rates struct {
	Model     string  `json:"model"`
	Device    string  `json:"device"`
	Rows      int     `json:"rows"`
	Forward   float64 `json:"forward"`   // nothing kept
	Kept      float64 `json:"kept"`      // a graph kept
	Backward  float64 `json:"backward"`  // of a latent
	Objective float64 `json:"objective"` // loss and gradient of the first loss
}

// Ratio is the cost of a backward call in forward ones.
func (r *Rates) Ratio() float64 { return (r.Backward + r.Kept - r.Forward) / r.Forward }

// measureRates times a model's calls in turns, so that whatever else the machine
// does falls on all of them.
func (l *Lab) measureRates(ctx context.Context, g Grid, model string) (*Rates, error) {
	at := g.scale(model)
	c := g.cell(model, losses(model)[0], sdo.Latents, "sdo", at.steps[0], defaultLR, 1)
	s, err := l.subjectOf(c)
	if err != nil {
		return nil, err
	}
	defer s.close()
	space, p := s.problem.Space, s.problem
	out, err := space.NewVector(p.Start.Len())
	if err != nil {
		return nil, err
	}
	defer space.FreeVector(out)
	grad, err := space.NewVector(p.Start.Len())
	if err != nil {
		return nil, err
	}
	defer space.FreeVector(grad)
	in := sdo.Input{X: p.Start, Timestep: p.Table.Steps[0].Timestep, Cond: p.Cond}
	var kept sdo.Kept
	work := []func() error{
		func() error { return p.Network.Predict(ctx, in, out) },
		func() (err error) { kept, err = p.Network.Keep(ctx, in, sdo.WrtX, out); return err },
		func() error {
			defer kept.Release()
			return kept.Backward(ctx, out, sdo.Gradients{X: grad})
		},
		func() error { _, err := p.Objective.Evaluate(ctx, p.Start, grad); return err },
	}
	took := make([][]float64, len(work))
	for range 15 {
		for i, do := range work {
			began := time.Now()
			if err := do(); err != nil {
				return nil, err
			}
			if _, err := space.RowDots(ctx, out, grad, 1); err != nil { // waits for the device
				return nil, err
			}
			took[i] = append(took[i], time.Since(began).Seconds())
		}
	}
	r := &Rates{Model: model, Device: s.device, Rows: c.Rows}
	for i, to := range []*float64{&r.Forward, &r.Kept, &r.Backward, &r.Objective} {
		*to = slices.Min(took[i])
	}
	return r, nil
}

// estimate is about how long a cell takes.
func (r *Rates) estimate(c Cell) float64 {
	forward, backward := calls(c)
	return float64(forward)*r.Forward + float64(backward)*(r.Backward+r.Kept-r.Forward) + float64(c.Updates)*r.Objective
}

// calls a cell will make, looks included, by arithmetic.
func calls(c Cell) (forward, backward int) {
	n, u, seen := c.Steps, c.Updates, len(looks(c.Updates, true))
	if c.Vary == sdo.Parameters {
		forward = u*n + 7*n*(24+c.Rows-1)/c.Rows
		switch c.Method {
		case "full":
			return forward, u * n
		case "alignprop":
			return forward + u*n/2, u * n / 2
		case "draft-5", "drtune-5":
			return forward, u * min(5, n)
		case "flowbp-sparse-4":
			return forward, u * min(4, n)
		case "draft-lv", "leapalign":
			return forward, u * 2
		}
		return forward, u
	}
	switch {
	case c.Method == "full":
		return u * n, u * n
	case strings.HasPrefix(c.Method, "stale"):
		return u*4 + seen*n + u/10*n, u
	case c.Method == "identity":
		return u * n, 0
	}
	return u * n, u
}
