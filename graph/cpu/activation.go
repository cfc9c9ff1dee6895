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

func siluGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] { return sigmoidUnitGrad[T](n, 1) }

// sigmoidUnitGrad is the gradient of x*sigmoid(a*x).
func sigmoidUnitGrad[T Float](n *graph.Node, a T) kernel[T] {
	return loop(n.Shape.Size(), 16, func(c *call[T], lo, hi int) {
		dx, dy, x := c.out[lo:hi], c.in[0][lo:hi], c.in[1][lo:hi]
		sigmoids(dx, x, a, 0)
		for i, s := range dx {
			dx[i] = flush(dy[i] * s * (1 + a*x[i]*(1-s)))
		}
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

func geluKernel[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return loop(n.Shape.Size(), 20, func(c *call[T], lo, hi int) { gelus(c.out[lo:hi], c.in[0][lo:hi]) })
}

// gelus sets y to x*Phi(x).
func gelus[T Float](y, x []T) {
	bells(y, x)
	for i, v := range x {
		y[i] = v * normalCDF(v, y[i])
	}
}

// geluGrad: the slope is Phi(x) + x*phi(x), with the density phi of the normal
// distribution.
func geluGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return loop(n.Shape.Size(), 30, func(c *call[T], lo, hi int) {
		dx, dy, x := c.out[lo:hi], c.in[0][lo:hi], c.in[1][lo:hi]
		bells(dx, x)
		for i, v := range x {
			bell := dx[i]
			dx[i] = flush(dy[i] * (normalCDF(v, bell) + v*density*bell))
		}
	})
}

// density is 1/sqrt(2*pi), the normal distribution's where it is highest.
const density = 0.3989422804014327

// geluTanhSteep is what the sigmoid in 0.5*(1 + tanh(u)) = sigmoid(2u) is taken
// of, and its slope. Beyond 10 either way the sigmoid is 0 or 1.
func geluTanhSteep[T Float](x T) (z, slope T) {
	const a, b = 1.5957691216057308, 0.044715 // 2*sqrt(2/pi)
	x = min(max(x, -10), 10)
	return a * x * (1 + b*x*x), a * (1 + 3*b*x*x)
}

func geluTanh[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return unary(n, func(x T) T {
		z, _ := geluTanhSteep(x)
		return x * sigmoid(z)
	})
}

func geluTanhGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return unaryGrad(n, func(x T) T {
		z, slope := geluTanhSteep(x)
		s := sigmoid(z)
		return s + x*s*(1-s)*slope
	})
}

const quick = 1.702

func quickGELU[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return loop(n.Shape.Size(), 16, func(c *call[T], lo, hi int) {
		y, x := c.out[lo:hi], c.in[0][lo:hi]
		sigmoids(y, x, quick, 0)
		for i, v := range x {
			y[i] *= v
		}
	})
}

func quickGELUGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return sigmoidUnitGrad[T](n, quick)
}

// geglu is value*gelu(gate), the halves of a row; one item is one row.
func geglu[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	w := n.Shape[len(n.Shape)-1]
	return loop(n.Shape.Size()/w, 20*w, func(c *call[T], lo, hi int) {
		for r := lo; r < hi; r++ {
			y, x := c.out[r*w:][:w], c.in[0][2*r*w:][:2*w]
			gelus(y, x[w:])
			for i, v := range x[:w] {
				y[i] *= v
			}
		}
	})
}

func gegluGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	w := n.Shape[len(n.Shape)-1] / 2
	return loop(n.Shape.Size()/(2*w), 30*w, func(c *call[T], lo, hi int) {
		for r := lo; r < hi; r++ {
			dx, dy, x := c.out[2*r*w:][:2*w], c.in[0][r*w:][:w], c.in[1][2*r*w:][:2*w]
			bells(dx[w:], x[w:])
			for i, d := range dy {
				gate, bell := x[w+i], dx[w+i]
				share := normalCDF(gate, bell)
				dx[i] = flush(d * gate * share)
				dx[w+i] = flush(d * x[i] * (share + gate*density*bell))
			}
		}
	})
}

func tanhKernel[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return unary(n, func(x T) T { return T(math.Tanh(float64(x))) })
}

// tanhGrad: 1 - tanh(x)^2 without its cancellation.
func tanhGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return unaryGrad(n, func(x T) T { return 4 * sigmoid(2*x) * sigmoid(-2*x) })
}

func expKernel[T Float](_ *Executor[T], n *graph.Node) kernel[T] { return unary(n, exp[T]) }
func expGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T]   { return unaryGrad(n, exp[T]) }

func rsqrt[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return unary(n, func(x T) T { return 1 / sqrt(x) })
}

func rsqrtGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return unaryGrad(n, func(x T) T {
		r := 1 / sqrt(x)
		return -0.5 * r * r * r
	})
}

func clamp[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	a := n.Attrs.(*graph.ClampAttrs)
	lo, hi := T(a.Lo), T(a.Hi)
	return unary(n, func(x T) T { return min(max(x, lo), hi) })
}

func clampGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	a := n.Attrs.(*graph.ClampAttrs)
	lo, hi := T(a.Lo), T(a.Hi)
	return unaryGrad(n, func(x T) T {
		if x < lo || x > hi {
			return 0
		}
		return 1
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
