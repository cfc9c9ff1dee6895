package cpu

import "github.com/sdo-go/sdo/graph"

// matmul is op(a) op(b) + bias, split over the workers along the longer side of
// the result. Cost: 2*M*N*K floating point operations.
func matmul[T Float](e *Executor[T], n *graph.Node) kernel[T] {
	t := n.Attrs.(*graph.MatMulAttrs)
	lda, ldb := n.Inputs[0].Shape[1], n.Inputs[1].Shape[1]
	rows, columns := n.Shape[0], n.Shape[1]
	inner := n.Inputs[0].Shape.Size() / rows

	side := max(rows, columns)
	step := max(16, (side+e.workers-1)/e.workers)
	items := (side + step - 1) / step
	return loop(items, 2*rows*columns*inner/items, func(c *call[T], lo, hi int) {
		for item := lo; item < hi; item++ {
			r0, r1, c0, c1 := 0, rows, 0, columns
			if rows >= columns {
				r0, r1 = item*step, min(item*step+step, rows)
			} else {
				c0, c1 = item*step, min(item*step+step, columns)
			}
			a := c.in[0][start(trans(t.TransA), r0, 0, lda):]
			b := c.in[1][start(trans(t.TransB), 0, c0, ldb):]
			y := c.out[r0*columns+c0:]
			beta := T(0)
			if len(c.in) == 3 {
				beta = 1
				for r := range r1 - r0 {
					copy(y[r*columns:][:c1-c0], c.in[2][c0:])
				}
			}
			e.gemm(trans(t.TransA), trans(t.TransB), r1-r0, c1-c0, inner, 1, a, lda, b, ldb, beta, y, columns)
		}
	})
}
