package cpu

import "github.com/sdo-go/sdo/graph"

// A tensor is viewed as [R P Q] and an operand of P numbers is repeated over R
// and Q. The kernels go through the R*P runs of Q elements; where Q is 1, the
// bias of a linear layer, a run is a whole row of P instead.

func addBroadcast[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return perRun(n,
		func(y, x []T, b T) {
			for i, v := range x {
				y[i] = v + b
			}
		},
		func(y, x, b []T) {
			for i, v := range x {
				y[i] = v + b[i]
			}
		})
}

func mulBroadcast[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return perRun(n,
		func(y, x []T, b T) {
			for i, v := range x {
				y[i] = v * b
			}
		},
		func(y, x, b []T) {
			for i, v := range x {
				y[i] = v * b[i]
			}
		})
}

// perRun combines runs of x with one number of b, or rows of x with all of b.
func perRun[T Float](n *graph.Node, run func(y, x []T, b T), row func(y, x, b []T)) kernel[T] {
	a := *n.Attrs.(*graph.BroadcastAttrs)
	if a.Q == 1 {
		return loop(a.R, a.P, func(c *call[T], lo, hi int) {
			for r := lo; r < hi; r++ {
				at := r * a.P
				row(c.out[at:at+a.P], c.in[0][at:at+a.P], c.in[1])
			}
		})
	}
	return loop(a.R*a.P, a.Q, func(c *call[T], lo, hi int) {
		for r := lo; r < hi; r++ {
			at := r * a.Q
			run(c.out[at:at+a.Q], c.in[0][at:at+a.Q], c.in[1][r%a.P])
		}
	})
}

// broadcast repeats b.
func broadcast[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	a := *n.Attrs.(*graph.BroadcastAttrs)
	return loop(a.R*a.P, a.Q, func(c *call[T], lo, hi int) {
		for r := lo; r < hi; r++ {
			fill(c.out[r*a.Q:(r+1)*a.Q], c.in[0][r%a.P])
		}
	})
}

// reduceSum is the transpose of broadcast. Sums are kept in float64.
func reduceSum[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	a := *n.Attrs.(*graph.BroadcastAttrs)
	return loop(a.P, a.R*a.Q, func(c *call[T], lo, hi int) {
		for p := lo; p < hi; p++ {
			total := 0.0
			for r := range a.R {
				at := (r*a.P + p) * a.Q
				total += sum(c.in[0][at : at+a.Q])
			}
			c.out[p] = T(total)
		}
	})
}

// scaleShift is x*(1 + scale) + shift.
func scaleShift[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	a := *n.Attrs.(*graph.BroadcastAttrs)
	return loop(a.R*a.P, 2*a.Q, func(c *call[T], lo, hi int) {
		for r := lo; r < hi; r++ {
			scale, shift := 1+c.in[1][r%a.P], c.in[2][r%a.P]
			y, x := c.out[r*a.Q:(r+1)*a.Q], c.in[0][r*a.Q:(r+1)*a.Q]
			for i, v := range x {
				y[i] = v*scale + shift
			}
		}
	})
}

func fill[T Float](x []T, v T) {
	for i := range x {
		x[i] = v
	}
}

// sum adds in float64, four chains at a time so that additions overlap.
func sum[T Float](x []T) float64 {
	var s0, s1, s2, s3 float64
	for len(x) >= 4 {
		s0 += float64(x[0])
		s1 += float64(x[1])
		s2 += float64(x[2])
		s3 += float64(x[3])
		x = x[4:]
	}
	for _, v := range x {
		s0 += float64(v)
	}
	return (s0 + s1) + (s2 + s3)
}

// dot is <x, y>, added in float64.
func dot[T Float](x, y []T) float64 {
	y = y[:len(x)]
	var s0, s1, s2, s3 float64
	for len(x) >= 4 && len(y) >= 4 {
		s0 += float64(x[0]) * float64(y[0])
		s1 += float64(x[1]) * float64(y[1])
		s2 += float64(x[2]) * float64(y[2])
		s3 += float64(x[3]) * float64(y[3])
		x, y = x[4:], y[4:]
	}
	for i, v := range x {
		s0 += float64(v) * float64(y[i])
	}
	return (s0 + s1) + (s2 + s3)
}
