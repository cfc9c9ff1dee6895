package cpu

import "github.com/sdo-go/sdo/graph"

func affine[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	a := n.Attrs.(*graph.AffineAttrs)
	scale, shift := T(a.Scale), T(a.Shift)
	return loop(n.Shape.Size(), 2, func(c *call[T], lo, hi int) {
		y, x := c.out[lo:hi], c.in[0][lo:hi]
		for i, v := range x {
			y[i] = scale*v + shift
		}
	})
}

func add[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return loop(n.Shape.Size(), 1, func(c *call[T], lo, hi int) {
		y, a, b := c.out[lo:hi], c.in[0][lo:hi], c.in[1][lo:hi]
		for i := range y {
			y[i] = a[i] + b[i]
		}
	})
}

func sub[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return loop(n.Shape.Size(), 1, func(c *call[T], lo, hi int) {
		y, a, b := c.out[lo:hi], c.in[0][lo:hi], c.in[1][lo:hi]
		for i := range y {
			y[i] = a[i] - b[i]
		}
	})
}

func mul[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return loop(n.Shape.Size(), 1, func(c *call[T], lo, hi int) {
		y, a, b := c.out[lo:hi], c.in[0][lo:hi], c.in[1][lo:hi]
		for i := range y {
			y[i] = a[i] * b[i]
		}
	})
}
