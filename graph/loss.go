package graph

// SoftmaxCrossEntropy is -ln softmax(logits)[label] per row of logits [M K],
// with labels [M]: one loss a row, [M].
func (g *Graph) SoftmaxCrossEntropy(logits, labels *Node) *Node {
	wantRank("softmax_cross_entropy", "logits", logits, 2)
	wantShape("softmax_cross_entropy", "labels", labels, Shape{logits.Shape[0]})
	return g.add("softmax_cross_entropy", Shape{logits.Shape[0]}, nil, logits, labels)
}

// BCEWithLogits is softplus(x) - x*target element by element: the binary cross
// entropy of sigmoid(x), in the form that cannot overflow.
func (g *Graph) BCEWithLogits(logits, targets *Node) *Node {
	return g.binary("bce_with_logits", logits, targets)
}

func init() {
	kernelOps("softmax_cross_entropy", "softmax_cross_entropy_grad", "bce_with_logits", "bce_with_logits_grad")
	for _, op := range []string{"softmax_cross_entropy", "bce_with_logits"} {
		// Labels and targets are data: no gradient flows to them.
		vjps[op] = func(g *Graph, n, dy *Node, want []bool) []*Node {
			logits, targets := n.Inputs[0], n.Inputs[1]
			return []*Node{g.add(n.Op+"_grad", logits.Shape, nil, logits, targets, dy), nil}
		}
	}
}
