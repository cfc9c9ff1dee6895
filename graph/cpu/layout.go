package cpu

import "github.com/sdo-go/sdo/graph"

// span is the size of one entry of an axis: the product of the extents from it
// on.
func span(s graph.Shape, axis int) int { return s[axis:].Size() }

func concat[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	axis := n.Attrs.(*graph.ConcatAttrs).Axis
	a, b, y := span(n.Inputs[0].Shape, axis), span(n.Inputs[1].Shape, axis), span(n.Shape, axis)
	return loop(n.Shape.Size()/y, y, func(c *call[T], lo, hi int) {
		for r := lo; r < hi; r++ {
			copy(c.out[r*y:][:a], c.in[0][r*a:])
			copy(c.out[r*y+a:][:b], c.in[1][r*b:])
		}
	})
}

func slice[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	a := n.Attrs.(*graph.SliceAttrs)
	x, y := span(n.Inputs[0].Shape, a.Axis), span(n.Shape, a.Axis)
	start := a.From * (x / n.Inputs[0].Shape[a.Axis])
	return loop(n.Shape.Size()/y, y, func(c *call[T], lo, hi int) {
		for r := lo; r < hi; r++ {
			copy(c.out[r*y:][:y], c.in[0][r*x+start:])
		}
	})
}

// sliceGrad places dy at From in zeros.
func sliceGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	a := n.Attrs.(*graph.SliceAttrs)
	x, y := span(n.Shape, a.Axis), span(n.Inputs[0].Shape, a.Axis)
	start := a.From * (x / n.Shape[a.Axis])
	return loop(n.Shape.Size()/x, x, func(c *call[T], lo, hi int) {
		for r := lo; r < hi; r++ {
			dx := c.out[r*x:][:x]
			clear(dx[:start])
			copy(dx[start:], c.in[0][r*y:][:y])
			clear(dx[start+y:])
		}
	})
}

// transpose swaps the last two axes; one item is one row of the result.
func transpose[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	rows, columns := n.Shape[1], n.Shape[2]
	return loop(n.Shape[0]*rows, 2*columns, func(c *call[T], lo, hi int) {
		for r := lo; r < hi; r++ {
			y, x := c.out[r*columns:][:columns], c.in[0][r/rows*rows*columns+r%rows:]
			for i := range y {
				y[i] = x[i*rows]
			}
		}
	})
}

// flip reverses the last axis.
func flip[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	w := n.Shape[len(n.Shape)-1]
	return loop(n.Shape.Size()/w, w, func(c *call[T], lo, hi int) {
		for r := lo; r < hi; r++ {
			y, x := c.out[r*w:][:w], c.in[0][r*w:][:w]
			for i, v := range x {
				y[w-1-i] = v
			}
		}
	})
}
