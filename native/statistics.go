package main

import (
	"fmt"
	"math"

	"gorgonia.org/tensor"

	"github.com/sdo-go/sdo/model"
)

// tensorStats describes the numbers of one tensor. Keys are stable.
type tensorStats struct {
	Name  string  `json:"name"`
	Shape []int   `json:"shape"`
	DType string  `json:"dtype"`
	Mean  float64 `json:"mean"`
	Std   float64 `json:"std"`
	Min   float64 `json:"min"`
	Max   float64 `json:"max"`
	Bad   int     `json:"not_finite,omitempty"` // numbers that are NaN or infinite; the others are not given then
}

// chunk is how many numbers of a tensor are held in double precision at once.
const chunk = 1 << 18

// statistics reduces the tensors of a source in float64, on the host, one tensor
// after another: a model larger than memory will do. Whole numbers have no
// statistics.
func statistics(s model.Source, each func(tensorStats)) error {
	for _, name := range s.Names() {
		info, _ := s.Info(name)
		stats := tensorStats{Name: name, Shape: info.Shape, DType: string(info.DType)}
		if isFloat(info.DType) {
			t, err := s.Read(name)
			if err != nil {
				return err
			}
			if err := stats.reduce(t.Data); err != nil {
				return fmt.Errorf("tensor %q: %w", name, err)
			}
		}
		each(stats)
	}
	return nil
}

// reduce makes the statistics of numbers, chunk by chunk; chunks are put together
// by Chan's formula for the sum of squared deviations.
func (s *tensorStats) reduce(data []float32) error {
	for _, v := range data {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			s.Bad++
		}
	}
	if s.Bad > 0 || len(data) == 0 {
		return nil
	}
	s.Min, s.Max = math.Inf(1), math.Inf(-1)
	values := make([]float64, min(len(data), chunk))
	seen, squares := 0.0, 0.0
	for from := 0; from < len(data); from += chunk {
		part := data[from:min(from+chunk, len(data))]
		values = values[:len(part)]
		for i, v := range part {
			values[i] = float64(v)
		}
		x := tensor.New(tensor.WithShape(len(values)), tensor.WithBacking(values))
		sum, err := reduced(x.Sum())
		if err != nil {
			return err
		}
		lowest, err := reduced(x.Min())
		if err != nil {
			return err
		}
		highest, err := reduced(x.Max())
		if err != nil {
			return err
		}
		n := float64(len(values))
		mean := sum / n
		if _, err := x.SubScalar(mean, true, tensor.UseUnsafe()); err != nil {
			return err
		}
		if _, err := x.Mul(x, tensor.UseUnsafe()); err != nil {
			return err
		}
		own, err := reduced(x.Sum())
		if err != nil {
			return err
		}
		s.Min, s.Max = min(s.Min, lowest), max(s.Max, highest)
		apart := mean - s.Mean
		squares += own + apart*apart*seen*n/(seen+n)
		s.Mean += apart * n / (seen + n)
		seen += n
	}
	s.Std = math.Sqrt(squares / seen)
	return nil
}

// reduced is the one number that a reduction leaves.
func reduced(t *tensor.Dense, err error) (float64, error) {
	if err != nil {
		return 0, err
	}
	return t.Data().(float64), nil
}
