package cpu

import "github.com/sdo-go/sdo/graph"

// upsampleNearest2x repeats pixels in 2x2 blocks; sumPool2x is its transpose.
func upsampleNearest2x[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	w := n.Shape[3]
	return loop(n.Shape.Size()/(2*w), 2*w, func(c *call[T], lo, hi int) {
		for row := lo; row < hi; row++ {
			x, y := c.in[0][row*w/2:][:w/2], c.out[2*row*w:][:2*w]
			for i, v := range x {
				y[2*i], y[2*i+1] = v, v
			}
			copy(y[w:], y[:w])
		}
	})
}

func sumPool2x[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	w := n.Shape[3]
	return loop(n.Shape.Size()/w, 4*w, func(c *call[T], lo, hi int) {
		for row := lo; row < hi; row++ {
			y, x := c.out[row*w:][:w], c.in[0][4*row*w:][:4*w]
			for i := range y {
				y[i] = x[2*i] + x[2*i+1] + x[2*w+2*i] + x[2*w+2*i+1]
			}
		}
	})
}
