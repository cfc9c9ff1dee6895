package mixture

import (
	"context"
	"math"
	"math/rand/v2"

	"github.com/sdo-go/sdo/sdo"
)

// Space is vectors of float64 in Go's memory: an sdo.Space.
type Space struct{}

// slice is a vector. It is a pointer so that two of the same contents differ.
type slice struct{ x []float64 }

func (s *slice) Len() int { return len(s.x) }

// Numbers are the contents of a vector of Space, to read and write.
func Numbers(v sdo.Vector) []float64 { return v.(*slice).x }

func (Space) NewVector(n int) (sdo.Vector, error) { return &slice{make([]float64, n)}, nil }

func (Space) FreeVector(sdo.Vector) {}

func (Space) Write(_ context.Context, dst sdo.Vector, src []float64) error {
	copy(Numbers(dst), src)
	return nil
}

func (Space) Read(_ context.Context, src sdo.Vector) ([]float64, error) {
	return append([]float64(nil), Numbers(src)...), nil
}

func (Space) Combine(dst sdo.Vector, coeffs []float64, xs []sdo.Vector) error {
	out := Numbers(dst)
	for i := range out {
		sum := 0.0
		for k, x := range xs {
			sum += coeffs[k] * x.(*slice).x[i]
		}
		out[i] = sum
	}
	return nil
}

func (Space) RowDots(_ context.Context, x, y sdo.Vector, rows int) ([]float64, error) {
	dots, cols := make([]float64, rows), x.Len()/rows
	for row := range dots {
		for i := row * cols; i < (row+1)*cols; i++ {
			dots[row] += Numbers(x)[i] * Numbers(y)[i]
		}
	}
	return dots, nil
}

func (Space) ScaleRows(v sdo.Vector, scales []float64) error {
	cols := v.Len() / len(scales)
	for i := range Numbers(v) {
		Numbers(v)[i] *= scales[i/cols]
	}
	return nil
}

func (Space) Adam(p, m, v, grad sdo.Vector, lr []float64, beta1, beta2, eps, weightDecay float64, step int) error {
	cols := p.Len() / len(lr)
	first, second := 1-math.Pow(beta1, float64(step)), 1-math.Pow(beta2, float64(step))
	for i, g := range Numbers(grad) {
		m, v, p := &Numbers(m)[i], &Numbers(v)[i], &Numbers(p)[i]
		*m = beta1**m + (1-beta1)*g
		*v = beta2**v + (1-beta2)*g*g
		*p -= lr[i/cols] * (*m/first/(math.Sqrt(*v/second)+eps) + weightDecay**p)
	}
	return nil
}

func (Space) Normal(v sdo.Vector, seed uint64, stream uint32) error {
	random := rand.New(rand.NewPCG(seed, uint64(stream)))
	for i := range Numbers(v) {
		Numbers(v)[i] = random.NormFloat64()
	}
	return nil
}
