package graph

import "math"

// AttentionAttrs split the channels into heads; head h owns the channels
// [h*C/Heads, (h+1)*C/Heads).
type AttentionAttrs struct {
	Heads  int
	Scale  float64 // factor on the scores; 0 means 1/sqrt(C/Heads)
	Causal bool    // a query sees the keys up to its own position only
}

// Attention is softmax(scale * q k^T) v per head, with q [N Lq C] and k, v
// [N Lk C]; the result is [N Lq C]. No kernel stores the score matrix: the
// backward pass recomputes it from q, k and one log-sum-exp per query, in the
// manner of FlashAttention (arXiv 2205.14135).
func (g *Graph) Attention(q, k, v *Node, heads int) *Node {
	return g.AttentionWith(q, k, v, AttentionAttrs{Heads: heads})
}

// AttentionWith is Attention with another factor on the scores, or with a
// causal mask, for which there must be as many keys as queries.
func (g *Graph) AttentionWith(q, k, v *Node, attrs AttentionAttrs) *Node {
	for _, t := range []*Node{q, k, v} {
		wantRank("attention", "operand", t, 3)
	}
	c := q.Shape[2]
	if !k.Shape.Equal(v.Shape) || k.Shape[0] != q.Shape[0] || k.Shape[2] != c {
		fail("attention: query %v does not fit key %v and value %v", q.Shape, k.Shape, v.Shape)
	}
	if attrs.Heads < 1 || c%attrs.Heads != 0 {
		fail("attention: %d channels do not divide into %d heads", c, attrs.Heads)
	}
	if attrs.Causal && q.Shape[1] != k.Shape[1] {
		fail("attention: a causal mask over %d queries wants as many keys, got %d", q.Shape[1], k.Shape[1])
	}
	if attrs.Scale == 0 {
		attrs.Scale = 1 / math.Sqrt(float64(c/attrs.Heads))
	}
	return g.add("attention", q.Shape, &attrs, q, k, v)
}

func init() {
	kernelOps("attention", "attention_lse", "attention_delta", "attention_grad_q", "attention_grad_k", "attention_grad_v")
	vjps["attention"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		q, k, v := n.Inputs[0], n.Inputs[1], n.Inputs[2]
		perQuery := Shape{q.Shape[0], n.Attrs.(*AttentionAttrs).Heads, q.Shape[1]}
		lse := g.add("attention_lse", perQuery, n.Attrs, q, k)
		grads := make([]*Node, 3)
		if want[0] || want[1] {
			delta := g.add("attention_delta", perQuery, n.Attrs, n, dy)
			if want[0] {
				grads[0] = g.add("attention_grad_q", q.Shape, n.Attrs, q, k, v, dy, lse, delta)
			}
			if want[1] {
				grads[1] = g.add("attention_grad_k", k.Shape, n.Attrs, q, k, v, dy, lse, delta)
			}
		}
		if want[2] {
			grads[2] = g.add("attention_grad_v", v.Shape, n.Attrs, q, k, dy, lse)
		}
		return grads
	}
}
