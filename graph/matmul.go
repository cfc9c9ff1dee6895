package graph

// MatMulAttrs say which operand is read transposed.
type MatMulAttrs struct{ TransA, TransB bool }

// MatMul multiplies two matrices, op(a) [M K] by op(b) [K N], and adds bias [N]
// to every row where bias is not nil.
func (g *Graph) MatMul(a, b, bias *Node, attrs MatMulAttrs) *Node {
	wantRank("matmul", "left operand", a, 2)
	wantRank("matmul", "right operand", b, 2)
	m, k := a.Shape[0], a.Shape[1]
	if attrs.TransA {
		m, k = k, m
	}
	kb, n := b.Shape[0], b.Shape[1]
	if attrs.TransB {
		kb, n = n, kb
	}
	if k != kb {
		fail("matmul: inner extents differ, %v and %v with %+v", a.Shape, b.Shape, attrs)
	}
	inputs := []*Node{a, b}
	if bias != nil {
		wantShape("matmul", "bias", bias, Shape{n})
		inputs = append(inputs, bias)
	}
	return g.add("matmul", Shape{m, n}, &attrs, inputs...)
}

// Linear is the affine layer x w^T + bias over the last axis of x, with w
// [out in] as PyTorch stores it. Leading axes of x are kept.
func (g *Graph) Linear(x, w, bias *Node) *Node {
	wantRank("linear", "weight", w, 2)
	in, out := w.Shape[1], w.Shape[0]
	last := len(x.Shape) - 1
	if last < 0 || x.Shape[last] != in {
		fail("linear: input %v ends in another extent than the weight's %d inputs", x.Shape, in)
	}
	flat := g.Reshape(x, x.Shape.Size()/in, in)
	y := g.MatMul(flat, w, bias, MatMulAttrs{TransB: true})
	return g.Reshape(y, append(append(Shape{}, x.Shape[:last]...), out)...)
}

func init() {
	kernelOps("matmul")
	vjps["matmul"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		a, b, t := n.Inputs[0], n.Inputs[1], *n.Attrs.(*MatMulAttrs)
		grads := make([]*Node, len(n.Inputs))
		if want[0] {
			if t.TransA { // a^T = dy op(b)^T, so a = op(b) dy^T
				grads[0] = g.MatMul(b, dy, nil, MatMulAttrs{TransA: t.TransB, TransB: true})
			} else {
				grads[0] = g.MatMul(dy, b, nil, MatMulAttrs{TransB: !t.TransB})
			}
		}
		if want[1] {
			if t.TransB { // b^T = op(a)^T dy, so b = dy^T op(a)
				grads[1] = g.MatMul(dy, a, nil, MatMulAttrs{TransA: true, TransB: t.TransA})
			} else {
				grads[1] = g.MatMul(a, dy, nil, MatMulAttrs{TransA: !t.TransA})
			}
		}
		if len(n.Inputs) == 3 && want[2] {
			grads[2] = g.ReduceSum(dy, n.Shape[0], n.Shape[1], 1, n.Shape[1])
		}
		return grads
	}
}
