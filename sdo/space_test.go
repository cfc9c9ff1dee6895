package sdo

import (
	"context"
	"math"
	"math/rand/v2"
)

// slices64 is the space of float64 slices, with a ledger of what it handed out.
type slices64 struct {
	made, live int
	lengths    []int // of what was made
}

type vector []float64

func (v vector) Len() int { return len(v) }

// boxed makes vectors comparable by identity.
type boxed struct{ vector }

func numbers(v Vector) []float64 { return v.(*boxed).vector }

func (s *slices64) NewVector(n int) (Vector, error) {
	s.made++
	s.live++
	s.lengths = append(s.lengths, n)
	garbage := make(vector, n)
	for i := range garbage {
		garbage[i] = 1e30 // nobody may count on zeros
	}
	return &boxed{garbage}, nil
}

func (s *slices64) FreeVector(v Vector) {
	s.live--
	v.(*boxed).vector = nil // a second free or a late use panics
}

func (s *slices64) of(x []float64) Vector {
	v, _ := s.NewVector(len(x))
	copy(numbers(v), x)
	return v
}

func (s *slices64) Write(_ context.Context, dst Vector, src []float64) error {
	copy(numbers(dst), src)
	return nil
}

func (s *slices64) Read(ctx context.Context, src Vector) ([]float64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return append([]float64(nil), numbers(src)...), nil
}

func (s *slices64) Combine(dst Vector, coeffs []float64, xs []Vector) error {
	out := numbers(dst)
	for i := range out {
		sum := 0.0
		for k, x := range xs {
			sum += coeffs[k] * numbers(x)[i]
		}
		out[i] = sum
	}
	return nil
}

func (s *slices64) RowDots(_ context.Context, x, y Vector, rows int) ([]float64, error) {
	dots, cols := make([]float64, rows), x.Len()/rows
	for i, a := range numbers(x) {
		dots[i/cols] += a * numbers(y)[i]
	}
	return dots, nil
}

func (s *slices64) ScaleRows(v Vector, scales []float64) error {
	cols := v.Len() / len(scales)
	for i := range numbers(v) {
		numbers(v)[i] *= scales[i/cols]
	}
	return nil
}

func (s *slices64) Adam(p, m, v, grad Vector, lr []float64, beta1, beta2, eps, weightDecay float64, step int) error {
	cols := p.Len() / len(lr)
	first, second := 1-math.Pow(beta1, float64(step)), 1-math.Pow(beta2, float64(step))
	for i, g := range numbers(grad) {
		rate := lr[i/cols]
		m, v, p := &numbers(m)[i], &numbers(v)[i], &numbers(p)[i]
		*m = beta1**m + (1-beta1)*g
		*v = beta2**v + (1-beta2)*g*g
		*p -= rate * (*m/first/(math.Sqrt(*v/second)+eps) + weightDecay**p)
	}
	return nil
}

func (s *slices64) Normal(v Vector, seed uint64, stream uint32) error {
	random := rand.New(rand.NewPCG(seed, uint64(stream)))
	for i := range numbers(v) {
		numbers(v)[i] = random.NormFloat64()
	}
	return nil
}
