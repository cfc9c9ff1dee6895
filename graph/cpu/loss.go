package cpu

import (
	"math"

	"github.com/sdo-go/sdo/graph"
)

// softmaxCrossEntropy is the log-sum-exp of a row less its label's logit. A
// label outside the row gives NaN.
func softmaxCrossEntropy[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	width := n.Inputs[0].Shape[1]
	return kernel[T]{
		local: width,
		phases: []phase[T]{{n.Shape[0], 16 * width, func(c *call[T], lo, hi int) {
			for r := lo; r < hi; r++ {
				x := c.in[0][r*width:][:width]
				label := int(c.in[1][r])
				if label < 0 || label >= width {
					c.out[r] = T(math.NaN())
					continue
				}
				top, total := expRow(c.local, x)
				c.out[r] = T(math.Log(total)) + (top - x[label])
			}
		}}},
	}
}

// softmaxCrossEntropyGrad is (softmax(logits) - onehot(label)) * dloss.
func softmaxCrossEntropyGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	width := n.Shape[1]
	return loop(n.Shape[0], 16*width, func(c *call[T], lo, hi int) {
		for r := lo; r < hi; r++ {
			dx, dloss := c.out[r*width:][:width], c.in[2][r]
			_, total := expRow(dx, c.in[0][r*width:][:width])
			label := int(c.in[1][r])
			for i, v := range dx {
				p := T(float64(v) / total)
				if i == label {
					p -= 1
				}
				dx[i] = flush(p * dloss)
			}
		}
	})
}

// bceWithLogits is softplus(x) - x*target.
func bceWithLogits[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return loop(n.Shape.Size(), 30, func(c *call[T], lo, hi int) {
		for i := lo; i < hi; i++ {
			x := c.in[0][i]
			c.out[i] = softplus(x) - x*c.in[1][i]
		}
	})
}

func bceWithLogitsGrad[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	return loop(n.Shape.Size(), 20, func(c *call[T], lo, hi int) {
		for i := lo; i < hi; i++ {
			c.out[i] = flush((sigmoid(c.in[0][i]) - c.in[1][i]) * c.in[2][i])
		}
	})
}
