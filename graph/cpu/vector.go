package cpu

import (
	"context"
	"fmt"
	"math"

	"github.com/sdo-go/sdo/graph"
)

// vector is this executor's tensor.
type vector[T Float] struct {
	size  int
	data  []T
	half  []uint16 // instead of data, a parameter that is held packed
	param bool     // counted as a parameter, not as a vector
}

func (v *vector[T]) Len() int { return v.size }

// own looks inside a tensor.
func (e *Executor[T]) own(t graph.Tensor) (*vector[T], error) {
	v, ok := t.(*vector[T])
	if !ok || v == nil || v.data == nil && v.half == nil {
		return nil, fmt.Errorf("cpu: %T was not made by this kind of executor, or was freed", t)
	}
	return v, nil
}

// vector looks inside a tensor that is read or written number by number.
func (e *Executor[T]) vector(t graph.Tensor) (*vector[T], error) {
	v, err := e.own(t)
	if err == nil && v.half != nil {
		return nil, fmt.Errorf("cpu: the tensor is a parameter stored in half precision")
	}
	return v, err
}

// vectors looks inside several tensors that must have equal lengths.
func (e *Executor[T]) vectors(ts ...graph.Tensor) ([][]T, error) {
	xs := make([][]T, len(ts))
	for i, t := range ts {
		v, err := e.vector(t)
		if err != nil {
			return nil, err
		}
		if len(v.data) != ts[0].Len() {
			return nil, lengthError("a tensor beside another", len(v.data), ts[0].Len())
		}
		xs[i] = v.data
	}
	return xs, nil
}

// NewVector allocates n zeros.
func (e *Executor[T]) NewVector(n int) (graph.Tensor, error) {
	if n < 1 {
		return nil, fmt.Errorf("cpu: a vector of %d numbers", n)
	}
	if err := Room(bytesOf[T](n)); err != nil {
		return nil, err
	}
	e.usage.Vectors += bytesOf[T](n)
	return &vector[T]{size: n, data: make([]T, n)}, nil
}

// FreeVector takes a vector or a parameter off the ledger. Freeing twice is
// harmless.
func (e *Executor[T]) FreeVector(t graph.Tensor) {
	v, err := e.own(t)
	if err != nil {
		return
	}
	switch {
	case v.half != nil:
		e.usage.Params -= heldBytes[T](v.size, graph.F16)
	case v.param:
		e.usage.Params -= bytesOf[T](v.size)
	default:
		e.usage.Vectors -= bytesOf[T](v.size)
	}
	v.data, v.half = nil, nil
}

// Write copies src into dst.
func (e *Executor[T]) Write(_ context.Context, dst graph.Tensor, src []float64) error {
	v, err := e.vector(dst)
	if err != nil {
		return err
	}
	if len(src) != len(v.data) {
		return lengthError("the source of a write", len(src), len(v.data))
	}
	for i, x := range src {
		v.data[i] = T(x)
	}
	return nil
}

// Read copies src out.
func (e *Executor[T]) Read(_ context.Context, src graph.Tensor) ([]float64, error) {
	v, err := e.vector(src)
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(v.data))
	for i, x := range v.data {
		out[i] = float64(x)
	}
	return out, nil
}

// Combine sets dst = sum_k coeffs[k]*xs[k], each element summed in float64, so
// dst may be any of xs.
func (e *Executor[T]) Combine(dst graph.Tensor, coeffs []float64, xs []graph.Tensor) error {
	if len(coeffs) != len(xs) {
		return fmt.Errorf("cpu: combine: %d coefficients for %d tensors", len(coeffs), len(xs))
	}
	data, err := e.vectors(append([]graph.Tensor{dst}, xs...)...)
	if err != nil {
		return fmt.Errorf("combine: %w", err)
	}
	y, terms := data[0], data[1:]
	e.each(len(y), 2*len(terms)+1, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			s := 0.0
			for k, x := range terms {
				s += coeffs[k] * float64(x[i])
			}
			y[i] = T(s)
		}
	})
	return nil
}

// RowDots returns <x_r, y_r> of equal rows, summed in float64.
func (e *Executor[T]) RowDots(_ context.Context, x, y graph.Tensor, rows int) ([]float64, error) {
	data, err := e.vectors(x, y)
	if err != nil {
		return nil, fmt.Errorf("row dots: %w", err)
	}
	width, err := rowWidth(len(data[0]), rows)
	if err != nil {
		return nil, fmt.Errorf("row dots: %w", err)
	}
	dots := make([]float64, rows)
	for r := range dots {
		dots[r] = dot(data[0][r*width:][:width], data[1][r*width:][:width])
	}
	return dots, nil
}

func rowWidth(size, rows int) (int, error) {
	if rows < 1 || size%rows != 0 {
		return 0, fmt.Errorf("cpu: %d numbers do not split into %d rows", size, rows)
	}
	return size / rows, nil
}

// ScaleRows multiplies row r by scales[r].
func (e *Executor[T]) ScaleRows(t graph.Tensor, scales []float64) error {
	v, err := e.vector(t)
	if err != nil {
		return err
	}
	width, err := rowWidth(len(v.data), len(scales))
	if err != nil {
		return fmt.Errorf("scale rows: %w", err)
	}
	for r, s := range scales {
		row := v.data[r*width:][:width]
		for i := range row {
			row[i] = T(float64(row[i]) * s)
		}
	}
	return nil
}

// Adam makes one AdamW update (Loshchilov and Hutter, arXiv 1711.05101,
// algorithm 2, with the weight decay scaled by the learning rate as in
// PyTorch). Moments too small to matter are flushed: the square of a gradient
// of 1e-20 is a denormal.
func (e *Executor[T]) Adam(p, m, v, grad graph.Tensor, lr []float64, beta1, beta2, eps, weightDecay float64, step int) error {
	data, err := e.vectors(p, m, v, grad)
	if err != nil {
		return fmt.Errorf("adam: %w", err)
	}
	width, err := rowWidth(len(data[0]), len(lr))
	if err != nil {
		return fmt.Errorf("adam: %w", err)
	}
	if step < 1 {
		return fmt.Errorf("cpu: adam: steps count from 1, got %d", step)
	}
	unbias1 := 1 / (1 - math.Pow(beta1, float64(step)))
	unbias2 := 1 / (1 - math.Pow(beta2, float64(step)))
	b1, b2 := T(beta1), T(beta2)
	ps, ms, vs, gs := data[0], data[1], data[2], data[3]
	e.each(len(ps), 16, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			g := gs[i]
			ms[i] = flush(b1*ms[i] + (1-b1)*g)
			vs[i] = flush(b2*vs[i] + (1-b2)*g*g)
			rate := lr[i/width]
			direction := float64(ms[i]) * unbias1 / (math.Sqrt(float64(vs[i])*unbias2) + eps)
			ps[i] = T(float64(ps[i]) - rate*(direction+weightDecay*float64(ps[i])))
		}
	})
	return nil
}

// Normal fills t with graph.Normal(seed, stream, 0), (…, 1), …
func (e *Executor[T]) Normal(t graph.Tensor, seed uint64, stream uint32) error {
	v, err := e.vector(t)
	if err != nil {
		return err
	}
	e.each(len(v.data), 200, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			v.data[i] = T(graph.Normal(seed, stream, uint32(i)))
		}
	})
	return nil
}
