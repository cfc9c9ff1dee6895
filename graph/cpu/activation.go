package cpu

import (
	"math"

	"github.com/sdo-go/sdo/graph"
)

// Activations work element by element. Each gradient takes dy and the input x,
// not the output, so that a forward pass need keep nothing but inputs.

func siluKernel[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return loop(n.Shape.Size(), 16, func(c *call[T], lo, hi int) {
		y, x := c.out[lo:hi], c.in[0][lo:hi]
		sigmoids(y, x, 1, 0)
		for i, v := range x {
			y[i] *= v
		}
	})
}

func siluGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return unaryGrad(n, func(x T) T {
		s := sigmoid(x)
		return s * (1 + x*(1-s))
	})
}

func relu[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return unary(n, func(x T) T { return max(x, 0) })
}

func reluGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return unaryGrad(n, func(x T) T {
		if x > 0 {
			return 1
		}
		return 0
	})
}

func softplusKernel[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return unary(n, softplus[T])
}

func softplusGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return unaryGrad(n, sigmoid[T])
}

func sigmoidKernel[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return unary(n, sigmoid[T])
}

func sigmoidGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return unaryGrad(n, func(x T) T {
		s := sigmoid(x)
		return s * (1 - s)
	})
}

// smoothAbs is sqrt(x^2 + eps^2) - eps, as x^2/(sqrt(x^2+eps^2) + eps), which
// does not cancel near zero.
func smoothAbs[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	eps := T(n.Attrs.(*graph.SmoothAbsAttrs).Eps)
	return unary(n, func(x T) T {
		if x == 0 {
			return 0
		}
		return x * x / (sqrt(x*x+eps*eps) + eps)
	})
}

func smoothAbsGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	eps := T(n.Attrs.(*graph.SmoothAbsAttrs).Eps)
	return unaryGrad(n, func(x T) T {
		if x == 0 {
			return 0
		}
		return x / sqrt(x*x+eps*eps)
	})
}

func sqrt[T Float](x T) T { return T(math.Sqrt(float64(x))) }

// unary is y = f(x).
func unary[T Float](n *graph.Node, f func(x T) T) kernel[T] {
	return loop(n.Shape.Size(), 16, func(c *call[T], lo, hi int) {
		y, x := c.out[lo:hi], c.in[0][lo:hi]
		for i, v := range x {
			y[i] = f(v)
		}
	})
}

// unaryGrad is dx = dy * slope(x).
func unaryGrad[T Float](n *graph.Node, slope func(x T) T) kernel[T] {
	return loop(n.Shape.Size(), 16, func(c *call[T], lo, hi int) {
		dx, dy, x := c.out[lo:hi], c.in[0][lo:hi], c.in[1][lo:hi]
		for i, v := range x {
			dx[i] = flush(dy[i] * slope(v))
		}
	})
}
