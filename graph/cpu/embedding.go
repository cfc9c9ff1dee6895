package cpu

import (
	"math"

	"github.com/sdo-go/sdo/graph"
)

// timeEmbedding is diffusers' get_timestep_embedding: sines and cosines of t at
// frequencies exp(-ln(MaxPeriod)*i/(Dim/2 - FreqShift)), evaluated in float64.
func timeEmbedding[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	a := *n.Attrs.(*graph.TimeEmbeddingAttrs)
	half := a.Dim / 2
	frequency := make([]float64, half)
	for i := range frequency {
		frequency[i] = math.Exp(-math.Log(a.MaxPeriod) * float64(i) / (float64(half) - a.FreqShift))
	}
	sines, cosines := 0, half
	if a.FlipSinToCos {
		sines, cosines = half, 0
	}
	return loop(n.Shape[0], 40*a.Dim, func(c *call[T], lo, hi int) {
		for r := lo; r < hi; r++ {
			y := c.out[r*a.Dim:][:a.Dim]
			y[a.Dim-1] = 0 // overwritten unless Dim is odd
			for i, f := range frequency {
				sin, cos := math.Sincos(float64(c.in[0][r]) * f)
				y[sines+i], y[cosines+i] = T(sin), T(cos)
			}
		}
	})
}

// fourierEmbedding multiplies as PyTorch does, in the executor's precision:
// angles reach thousands of radians, where the order of roundings shows.
func fourierEmbedding[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	a := *n.Attrs.(*graph.FourierEmbeddingAttrs)
	half := n.Shape[1] / 2
	sines, cosines := 0, half
	if a.FlipSinToCos {
		sines, cosines = half, 0
	}
	return loop(n.Shape[0], 40*half, func(c *call[T], lo, hi int) {
		for r := lo; r < hi; r++ {
			y, t := c.out[r*2*half:][:2*half], c.in[0][r]
			if a.Log {
				t = T(math.Log(float64(t)))
			}
			for i, w := range c.in[1] {
				sin, cos := math.Sincos(float64(T(T(t*w)*2) * math.Pi))
				y[sines+i], y[cosines+i] = T(sin), T(cos)
			}
		}
	})
}

// embedding looks rows up, zeros for those it is not to see. An index outside the
// table gives a row of NaN, the loudest answer a kernel has.
func embedding[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	rows, width, seen := n.Inputs[0].Shape[0], n.Shape[1], n.Attrs.(*graph.EmbeddingAttrs)
	k := loop(n.Shape[0], width, func(c *call[T], lo, hi int) {
		for r := lo; r < hi; r++ {
			y := c.out[r*width:][:width]
			switch i := int(c.in[1][r]); {
			case i < 0 || i >= rows:
				fill(y, T(math.NaN()))
			case i < seen.From || i >= seen.To:
				clear(y)
			case c.half != nil:
				unpackHalves(y, c.half[i*width:][:width])
			default:
				copy(y, c.in[0][i*width:])
			}
		}
	})
	k.halves = true
	return k
}

// embeddingGrad adds the rows of dy that share an index. Workers own columns,
// so the order of additions is fixed.
func embeddingGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	rows, width := n.Shape[0], n.Shape[1]
	count := n.Inputs[1].Shape[0]
	return loop(width, rows+count, func(c *call[T], lo, hi int) {
		for r := range rows {
			clear(c.out[r*width+lo : r*width+hi])
		}
		for r := range count {
			i := int(c.in[1][r])
			if i < 0 || i >= rows {
				continue
			}
			y, dy := c.out[i*width+lo:i*width+hi], c.in[0][r*width+lo:r*width+hi]
			for j, v := range dy {
				y[j] += v
			}
		}
	})
}
