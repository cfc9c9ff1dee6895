package graph

import "fmt"

// LayerNorm normalises x over its last axis, of C numbers, then applies gamma
// [C] and beta [C], either of which may be nil. It is the group normalisation
// of as many images as x has rows, with one pixel and one group each.
func (g *Graph) LayerNorm(x, gamma, beta *Node, eps float64) *Node {
	if len(x.Shape) == 0 {
		fail("layer_norm: input %v has no axis", x.Shape)
	}
	c := x.Shape[len(x.Shape)-1]
	if gamma == nil {
		gamma = g.constant(fmt.Sprintf("layer_norm.ones.%d", c), 1, c)
	}
	if beta == nil {
		beta = g.constant(fmt.Sprintf("layer_norm.zeros.%d", c), 0, c)
	}
	wantShape("layer_norm", "gamma", gamma, Shape{c})
	wantShape("layer_norm", "beta", beta, Shape{c})
	rows := g.Reshape(x, x.Shape.Size()/c, c)
	return g.Reshape(g.GroupNorm(rows, gamma, beta, GroupNormAttrs{Groups: 1, Eps: eps}), x.Shape...)
}

// constant is the constant of a name, which is made when it is first asked for.
func (g *Graph) constant(name string, value float32, shape ...int) *Node {
	if n := g.Lookup(name); n != nil {
		return n
	}
	data := make([]float32, Shape(shape).Size())
	for i := range data {
		data[i] = value
	}
	return g.Const(name, data, shape...)
}

// L2Normalize divides the rows of x, which lie along its last axis, by their
// length, sqrt(|x|^2 + eps).
func (g *Graph) L2Normalize(x *Node, eps float64) *Node {
	last := len(x.Shape) - 1
	if last < 0 {
		fail("l2_normalize: input %v has no axis", x.Shape)
	}
	rows, c := x.Shape.Size()/x.Shape[last], x.Shape[last]
	length := g.Rsqrt(g.Affine(g.ReduceSum(g.Mul(x, x), 1, rows, c, rows), 1, eps))
	return g.MulBroadcast(x, length, 1, rows, c)
}
