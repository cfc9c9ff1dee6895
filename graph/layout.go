package graph

// ConcatAttrs name the axis two tensors are joined along.
type ConcatAttrs struct{ Axis int }

// SliceAttrs name a half-open range of one axis.
type SliceAttrs struct{ Axis, From, To int }

// Reshape views x under another shape of the same size. It costs nothing.
func (g *Graph) Reshape(x *Node, shape ...int) *Node {
	if Shape(shape).Equal(x.Shape) {
		return x
	}
	if Shape(shape).Size() != x.Shape.Size() {
		fail("reshape: %v has %d elements, %v has %d", x.Shape, x.Shape.Size(), Shape(shape), Shape(shape).Size())
	}
	return g.add(OpReshape, shape, nil, x)
}

// Transpose swaps the last two axes of x [N A B].
func (g *Graph) Transpose(x *Node) *Node {
	wantRank("transpose", "input", x, 3)
	return g.add("transpose", Shape{x.Shape[0], x.Shape[2], x.Shape[1]}, nil, x)
}

// Flip reverses the last axis: a mirror image left to right.
func (g *Graph) Flip(x *Node) *Node { return g.add("flip", x.Shape, nil, x) }

// Concat joins a and b along an axis; all other extents must agree.
func (g *Graph) Concat(a, b *Node, axis int) *Node {
	ok := len(a.Shape) == len(b.Shape) && axis >= 0 && axis < len(a.Shape)
	for i := 0; ok && i < len(a.Shape); i++ {
		ok = i == axis || a.Shape[i] == b.Shape[i]
	}
	if !ok {
		fail("concat: cannot join %v and %v along axis %d", a.Shape, b.Shape, axis)
	}
	shape := append(Shape{}, a.Shape...)
	shape[axis] += b.Shape[axis]
	return g.add("concat", shape, &ConcatAttrs{axis}, a, b)
}

// Slice takes the range [from, to) of one axis.
func (g *Graph) Slice(x *Node, axis, from, to int) *Node {
	if axis < 0 || axis >= len(x.Shape) || from < 0 || to <= from || to > x.Shape[axis] {
		fail("slice: range [%d, %d) of axis %d does not lie in %v", from, to, axis, x.Shape)
	}
	shape := append(Shape{}, x.Shape...)
	shape[axis] = to - from
	return g.add("slice", shape, &SliceAttrs{axis, from, to}, x)
}

func init() {
	kernelOps("transpose", "flip", "concat", "slice", "slice_grad")
	vjps[OpReshape] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		return []*Node{g.Reshape(dy, n.Inputs[0].Shape...)}
	}
	vjps["transpose"] = func(g *Graph, n, dy *Node, want []bool) []*Node { return []*Node{g.Transpose(dy)} }
	vjps["flip"] = func(g *Graph, n, dy *Node, want []bool) []*Node { return []*Node{g.Flip(dy)} }
	vjps["concat"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		axis := n.Attrs.(*ConcatAttrs).Axis
		middle, end := n.Inputs[0].Shape[axis], n.Shape[axis]
		grads := make([]*Node, 2)
		if want[0] {
			grads[0] = g.Slice(dy, axis, 0, middle)
		}
		if want[1] {
			grads[1] = g.Slice(dy, axis, middle, end)
		}
		return grads
	}
	vjps["slice"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		return []*Node{g.add("slice_grad", n.Inputs[0].Shape, n.Attrs, dy)}
	}
}
