package cpu

import (
	"math"

	"github.com/sdo-go/sdo/graph"
)

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

// sources gives the position of an axis of from pixels that each of to pixels
// shows, rounded as PyTorch's.
func sources(from, to int) []int {
	scale := float32(from) / float32(to)
	at := make([]int, to)
	for i := range at {
		at[i] = min(from-1, int(math.Floor(float64(float32(i)*scale))))
	}
	return at
}

// upsampleNearest repeats pixels to fill a larger image; one item is one row.
func upsampleNearest[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	x, h, w := n.Inputs[0].Shape, n.Shape[2], n.Shape[3]
	rows, columns := sources(x[2], h), sources(x[3], w)
	return loop(n.Shape.Size()/w, w, func(c *call[T], lo, hi int) {
		for r := lo; r < hi; r++ {
			y, x := c.out[r*w:][:w], c.in[0][(r/h*x[2]+rows[r%h])*x[3]:]
			for i, from := range columns {
				y[i] = x[from]
			}
		}
	})
}

// upsampleNearestGrad sums dy over the pixels that show the same one; one item
// is one plane.
func upsampleNearestGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	dy, h, w := n.Inputs[0].Shape, n.Shape[2], n.Shape[3]
	rows, columns := sources(h, dy[2]), sources(w, dy[3])
	return loop(n.Shape[0]*n.Shape[1], dy[2]*dy[3], func(c *call[T], lo, hi int) {
		for p := lo; p < hi; p++ {
			dx := c.out[p*h*w:][:h*w]
			clear(dx)
			for i, to := range rows {
				dx, dy := dx[to*w:][:w], c.in[0][(p*dy[2]+i)*dy[3]:][:dy[3]]
				for j, to := range columns {
					dx[to] += dy[j]
				}
			}
		}
	})
}
