package sdo

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// OptimizerRule names how a gradient moves a variable.
type OptimizerRule string

const (
	SGD   OptimizerRule = "sgd"   // plain gradient descent, weight decay decoupled
	Adam  OptimizerRule = "adam"  // arXiv 1412.6980
	AdamW OptimizerRule = "adamw" // arXiv 1711.05101: weight decay decoupled
)

// Optimizer moves one variable.
type Optimizer struct {
	Rule         OptimizerRule
	LR           float64 // per update
	Beta1, Beta2 float64 // of adam and adamw
	Eps          float64 // of adam and adamw
	WeightDecay  float64 // of adamw and sgd
}

// DefaultOptimizer is Adam as the authors of SDO use it on latents.
func DefaultOptimizer() Optimizer {
	return Optimizer{Rule: Adam, LR: 0.05, Beta1: 0.9, Beta2: 0.9, Eps: 1e-8}
}

// Validate reports the first setting that makes no sense.
func (o Optimizer) Validate() error {
	switch {
	case o.Rule != SGD && o.Rule != Adam && o.Rule != AdamW:
		return fmt.Errorf("optimizer is %q, want adam, adamw or sgd", o.Rule)
	case !(o.LR > 0) || !finite(o.LR):
		return fmt.Errorf("learning rate is %v, want a number above 0", o.LR)
	case !(o.WeightDecay >= 0) || !finite(o.WeightDecay):
		return fmt.Errorf("weight decay is %v, want 0 or more", o.WeightDecay)
	case o.Rule == Adam && o.WeightDecay != 0:
		return fmt.Errorf("weight decay is %v with adam, which would scale it by the gradient's size; use adamw", o.WeightDecay)
	case o.Rule == SGD:
		return nil
	case !(o.Beta1 >= 0 && o.Beta1 < 1 && o.Beta2 >= 0 && o.Beta2 < 1):
		return fmt.Errorf("betas are %v and %v, want numbers from 0 up to but not including 1", o.Beta1, o.Beta2)
	case !(o.Eps > 0) || !finite(o.Eps):
		return fmt.Errorf("eps is %v, want a number above 0", o.Eps)
	}
	return nil
}

// Variation is a variable and how it moves.
type Variation struct {
	Variable  Variable
	Optimizer Optimizer
}

// descent moves values against their gradients, each variable by its own rule.
type descent struct {
	space   Space
	rows    int
	maxNorm float64
	moves   []move
}

// move is one vector that moves: a variable, or one tensor of it.
type move struct {
	Optimizer
	value, grad   Vector
	first, second Vector // moments; nil for sgd
	shared        bool   // by the rows
	rows          int    // 1 where it is shared
}

// newDescent allocates zero moments. values and grads hold a vector for every
// variable named.
func newDescent(space Space, rows int, maxNorm float64, vary []Variation, values, grads Values) (*descent, error) {
	d := &descent{space: space, rows: rows, maxNorm: maxNorm}
	for _, v := range vary {
		x, shared := values.of(v.Variable)
		g, _ := grads.of(v.Variable)
		for k := range x {
			m := move{Optimizer: v.Optimizer, value: x[k], grad: g[k], shared: shared, rows: rows}
			if shared {
				m.rows = 1
			}
			if v.Optimizer.Rule != SGD {
				for _, moment := range []*Vector{&m.first, &m.second} {
					var err error
					if *moment, err = space.NewVector(x[k].Len()); err == nil {
						err = space.Combine(*moment, nil, nil)
					}
					if err != nil {
						d.moves = append(d.moves, m)
						d.free()
						return nil, fmt.Errorf("sdo: moments of %s: %w", v.Variable, err)
					}
				}
			}
			d.moves = append(d.moves, m)
		}
	}
	return d, nil
}

// of lists the vectors of a variable and whether the rows share it.
func (v Values) of(name Variable) (vectors []Vector, shared bool) {
	switch name {
	case Latents:
		return []Vector{v.Latents}, false
	case Noises:
		return slices.DeleteFunc(slices.Clone(v.Noises), func(x Vector) bool { return x == nil }), false
	case Condition:
		return []Vector{v.Condition}, false
	case GuidanceScale:
		return []Vector{v.GuidanceScale}, false
	}
	return v.Parameters, true
}

func (d *descent) free() {
	for _, m := range d.moves {
		freeVectors(d.space, m.first, m.second)
	}
}

// step makes update number step, counted from 1. Rows for which moving is false
// stay; nil moves all. The gradients are used up.
func (d *descent) step(ctx context.Context, step int, moving []bool) error {
	if err := d.clip(ctx); err != nil {
		return err
	}
	for _, m := range d.moves {
		rates := make([]float64, m.rows)
		for row := range rates {
			if moving == nil || m.shared || moving[row] {
				rates[row] = m.LR
			}
		}
		if err := m.step(d.space, step, rates); err != nil {
			return fmt.Errorf("sdo: %s: %w", m.Rule, err)
		}
	}
	return nil
}

func (m move) step(space Space, step int, rates []float64) error {
	if m.Rule != SGD {
		return space.Adam(m.value, m.first, m.second, m.grad, rates, m.Beta1, m.Beta2, m.Eps, m.WeightDecay, step)
	}
	if m.WeightDecay != 0 {
		kept := make([]float64, len(rates))
		for row, rate := range rates {
			kept[row] = 1 - rate*m.WeightDecay
		}
		if err := space.ScaleRows(m.value, kept); err != nil {
			return err
		}
	}
	if err := space.ScaleRows(m.grad, rates); err != nil {
		return err
	}
	return space.Combine(m.value, []float64{1, -1}, []Vector{m.value, m.grad})
}

// clip scales gradients whose norm is above maxNorm down to it: that of each
// row over the variables that belong to it, and that of all parameters
// together.
func (d *descent) clip(ctx context.Context) error {
	if d.maxNorm == 0 {
		return nil
	}
	ofRows, ofAll := make([]float64, d.rows), make([]float64, 1)
	for _, m := range d.moves {
		dots, err := d.space.RowDots(ctx, m.grad, m.grad, m.rows)
		if err != nil {
			return fmt.Errorf("sdo: norm of a gradient: %w", err)
		}
		sum := ofRows
		if m.shared {
			sum = ofAll
		}
		for row, square := range dots {
			sum[row] += square
		}
	}
	for _, m := range d.moves {
		sum := ofRows
		if m.shared {
			sum = ofAll
		}
		scales := make([]float64, m.rows)
		for row := range scales {
			scales[row] = min(1, d.maxNorm/(math.Sqrt(sum[row])+1e-12))
		}
		if err := d.space.ScaleRows(m.grad, scales); err != nil {
			return err
		}
	}
	return nil
}
