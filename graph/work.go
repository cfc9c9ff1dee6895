package graph

import "strings"

// MultiplyAdds counts those of a segment's convolutions, matrix products and
// attention, which is where the time of a network goes: what a run costs can be
// said from its plan, before anything is computed.
func (s Segment) MultiplyAdds() (total int64) {
	for _, n := range s.Nodes {
		total += n.multiplyAdds()
	}
	return total
}

func (n *Node) multiplyAdds() int64 {
	switch {
	case n.Op == "conv2d":
		w := n.Inputs[1].Shape // every output takes a kernel of every input channel
		return int64(n.Shape.Size()) * int64(w.Size()/w[0])
	case n.Op == "conv2d_grad_input":
		dy, w := n.Inputs[0].Shape, n.Inputs[1].Shape
		return int64(dy.Size()) * int64(w.Size()/w[0])
	case n.Op == "conv2d_grad_weight":
		dy := n.Inputs[0].Shape
		return int64(dy.Size()) * int64(n.Shape.Size()/n.Shape[0])
	case n.Op == "matmul":
		inner := n.Inputs[0].Shape[1]
		if n.Attrs.(*MatMulAttrs).TransA {
			inner = n.Inputs[0].Shape[0]
		}
		return int64(n.Shape.Size()) * int64(inner)
	case n.Op == "attention_delta": // a dot product per query
		return int64(n.Inputs[0].Shape.Size())
	case strings.HasPrefix(n.Op, "attention"):
		q, k := n.Inputs[0].Shape, n.Inputs[1].Shape
		scores := int64(q.Size()) * int64(k[1]) // q k^T; what weighs the values is as much
		products := map[string]int64{"attention": 2, "attention_lse": 1, "attention_grad_q": 3, "attention_grad_k": 3, "attention_grad_v": 2}
		return products[n.Op] * scores
	}
	return 0
}
