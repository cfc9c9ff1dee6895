package mixture

import (
	"context"
	"math"

	"github.com/sdo-go/sdo/sdo"
)

// Objective is a loss of every row alone: an sdo.Objective over Space. It
// returns the loss of a row's sample and writes its gradient.
type Objective func(row int, x, grad *point) float64

// Evaluate calls the loss for each row.
func (o Objective) Evaluate(_ context.Context, x, grad sdo.Vector) ([]float64, error) {
	losses := make([]float64, x.Len()/Dim)
	for row := range losses {
		var g point
		losses[row] = o(row, (*point)(Numbers(x)[row*Dim:]), &g)
		if grad != nil {
			copy(Numbers(grad)[row*Dim:], g[:])
		}
	}
	return losses, nil
}

// Target is half the squared distance to each row's own target, n x Dim.
func Target(targets []float64) Objective {
	return func(row int, x, grad *point) (loss float64) {
		for j := range Dim {
			grad[j] = x[j] - targets[row*Dim+j]
			loss += grad[j] * grad[j] / 2
		}
		return loss
	}
}

// Projection is half the squared distance of <direction, x> from height: what
// brightness is to a picture.
func Projection(direction []float64, height float64) Objective {
	return func(_ int, x, grad *point) float64 {
		u := (*point)(direction)
		off := dot(x, u) - height
		for j := range Dim {
			grad[j] = off * u[j]
		}
		return off * off / 2
	}
}

// Gram is half the squared distance between the outer products of the sample
// and of the row's target with themselves, over Dim: second moments in the
// place of values, as a style loss has it.
func Gram(targets []float64) Objective {
	return func(row int, x, grad *point) float64 {
		y := (*point)(targets[row*Dim:])
		xx, xy, yy := dot(x, x), dot(x, y), dot(y, y)
		for j := range Dim {
			grad[j] = 2 * (xx*x[j] - xy*y[j]) / Dim
		}
		return (xx*xx - 2*xy*xy + yy*yy) / 2 / Dim
	}
}

// Member is the cross entropy of a mode among all, by the mixture's own
// posterior, until the mode is ahead of the others together by margin in
// log-odds: from there on it and its gradient are zero. An infinite margin is
// the plain cross entropy.
func (m *Mixture) Member(mode int, margin float64) Objective {
	d := m.at(clean)
	return func(_ int, x, grad *point) float64 {
		var v view
		d.from(x, &v)
		others := 0.0
		for k, w := range v.weight {
			if k != mode {
				others += w
			}
		}
		loss := -math.Log(max(v.weight[mode], 1e-300))
		if others < 0.5 { // where 1 - others would have no digits left
			loss = -math.Log1p(-others)
		}
		loss -= math.Log1p(math.Exp(-margin))
		if loss <= 0 {
			return 0
		}
		for j := range Dim {
			grad[j] = v.score[j] - v.scores[mode][j]
		}
		return loss
	}
}
