package graph

// BroadcastAttrs view a tensor as [R P Q]: an operand of P numbers is repeated
// R times outside and Q times inside. Bias over channels of [N C H W] is
// R=N, P=C, Q=H*W; one number per image and channel is R=1, P=N*C, Q=H*W.
type BroadcastAttrs struct{ R, P, Q int }

func (g *Graph) broadcast(op string, x, b *Node, attrs BroadcastAttrs) *Node {
	if attrs.R*attrs.P*attrs.Q != x.Shape.Size() || b.Shape.Size() != attrs.P {
		fail("%s: cannot view %v as [R P Q] = %v beside %v", op, x.Shape, Shape{attrs.R, attrs.P, attrs.Q}, b.Shape)
	}
	return g.add(op, x.Shape, &attrs, x, b)
}

// AddBroadcast is x + b with b repeated as attrs say.
func (g *Graph) AddBroadcast(x, b *Node, r, p, q int) *Node {
	return g.broadcast("add_broadcast", x, b, BroadcastAttrs{r, p, q})
}

// MulBroadcast is x * b with b repeated as attrs say.
func (g *Graph) MulBroadcast(x, b *Node, r, p, q int) *Node {
	return g.broadcast("mul_broadcast", x, b, BroadcastAttrs{r, p, q})
}

// ReduceSum views x as [R P Q] and sums over R and Q. shape has P elements.
func (g *Graph) ReduceSum(x *Node, r, p, q int, shape ...int) *Node {
	if r*p*q != x.Shape.Size() || Shape(shape).Size() != p {
		fail("reduce_sum: cannot view %v as [R P Q] = %v with result %v", x.Shape, Shape{r, p, q}, Shape(shape))
	}
	return g.add("reduce_sum", shape, &BroadcastAttrs{r, p, q}, x)
}

// Broadcast repeats b, P numbers, R times outside and Q times inside.
func (g *Graph) Broadcast(b *Node, r, p, q int, shape ...int) *Node {
	if r*p*q != Shape(shape).Size() || b.Shape.Size() != p {
		fail("broadcast: cannot repeat %v as [R P Q] = %v into %v", b.Shape, Shape{r, p, q}, Shape(shape))
	}
	return g.add("broadcast", shape, &BroadcastAttrs{r, p, q}, b)
}

// AddChannels adds t [N C] to every pixel of x [N C H W].
func (g *Graph) AddChannels(x, t *Node) *Node {
	p, q := perChannel("add_channels", x, t)
	return g.AddBroadcast(x, t, 1, p, q)
}

// ScaleShift is x*(1 + scale) + shift with scale and shift [N C] over x
// [N C H W]: the time conditioning of diffusers' "scale_shift" blocks.
func (g *Graph) ScaleShift(x, scale, shift *Node) *Node {
	p, q := perChannel("scale_shift", x, scale)
	perChannel("scale_shift", x, shift)
	return g.add("scale_shift", x.Shape, &BroadcastAttrs{1, p, q}, x, scale, shift)
}

func perChannel(op string, x, t *Node) (p, q int) {
	if len(x.Shape) < 2 || !t.Shape.Equal(x.Shape[:2]) {
		fail("%s: %v does not give one number per image and channel of %v", op, t.Shape, x.Shape)
	}
	p = t.Shape.Size()
	return p, x.Shape.Size() / p
}

// RowSum sums each row of x, where a row is one entry of the first axis: [N].
func (g *Graph) RowSum(x *Node) *Node {
	n := x.Shape[0]
	return g.ReduceSum(x, 1, n, x.Shape.Size()/n, n)
}

// RowMean averages each row of x, where a row is one entry of the first axis.
func (g *Graph) RowMean(x *Node) *Node {
	return g.Affine(g.RowSum(x), float64(x.Shape[0])/float64(x.Shape.Size()), 0)
}

// MeanSquaredError is the mean of (a-b)^2 over each row: [N].
func (g *Graph) MeanSquaredError(a, b *Node) *Node {
	d := g.Sub(a, b)
	return g.RowMean(g.Mul(d, d))
}

// GlobalAvgPool averages x [N C H W] over its pixels: [N C].
func (g *Graph) GlobalAvgPool(x *Node) *Node {
	wantRank("global_avg_pool", "input", x, 4)
	q := x.Shape[2] * x.Shape[3]
	sum := g.ReduceSum(x, 1, x.Shape[0]*x.Shape[1], q, x.Shape[0], x.Shape[1])
	return g.Affine(sum, 1/float64(q), 0)
}

func init() {
	kernelOps("add_broadcast", "mul_broadcast", "broadcast", "reduce_sum", "scale_shift")
	vjps["broadcast"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		a, b := n.Attrs.(*BroadcastAttrs), n.Inputs[0]
		return []*Node{g.ReduceSum(dy, a.R, a.P, a.Q, b.Shape...)}
	}
	vjps["add_broadcast"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		a, b := n.Attrs.(*BroadcastAttrs), n.Inputs[1]
		grads := []*Node{dy, nil}
		if want[1] {
			grads[1] = g.ReduceSum(dy, a.R, a.P, a.Q, b.Shape...)
		}
		return grads
	}
	vjps["mul_broadcast"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		a, x, b := n.Attrs.(*BroadcastAttrs), n.Inputs[0], n.Inputs[1]
		grads := make([]*Node, 2)
		if want[0] {
			grads[0] = g.MulBroadcast(dy, b, a.R, a.P, a.Q)
		}
		if want[1] {
			grads[1] = g.ReduceSum(g.Mul(dy, x), a.R, a.P, a.Q, b.Shape...)
		}
		return grads
	}
	vjps["reduce_sum"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		a, x := n.Attrs.(*BroadcastAttrs), n.Inputs[0]
		return []*Node{g.Broadcast(dy, a.R, a.P, a.Q, x.Shape...)}
	}
	vjps["scale_shift"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		a, x, scale := n.Attrs.(*BroadcastAttrs), n.Inputs[0], n.Inputs[1]
		grads := make([]*Node, 3)
		if want[0] {
			grads[0] = g.Add(dy, g.MulBroadcast(dy, scale, a.R, a.P, a.Q))
		}
		if want[1] {
			grads[1] = g.ReduceSum(g.Mul(dy, x), a.R, a.P, a.Q, scale.Shape...)
		}
		if want[2] {
			grads[2] = g.ReduceSum(dy, a.R, a.P, a.Q, n.Inputs[2].Shape...)
		}
		return grads
	}
}
