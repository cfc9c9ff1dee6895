package graph

// UpsampleNearest2x repeats every pixel of x [N C H W] in a 2x2 block.
func (g *Graph) UpsampleNearest2x(x *Node) *Node {
	wantRank("upsample_nearest2x", "input", x, 4)
	s := x.Shape
	return g.add("upsample_nearest2x", Shape{s[0], s[1], 2 * s[2], 2 * s[3]}, nil, x)
}

// UpsampleNearest repeats the pixels of x [N C H W] to fill an image of h x w,
// neither smaller than x's: row i shows row floor(i*H/h), rounded in float32 as
// PyTorch's "nearest" is, and so do columns.
func (g *Graph) UpsampleNearest(x *Node, h, w int) *Node {
	wantRank("upsample_nearest", "input", x, 4)
	s := x.Shape
	switch {
	case h < s[2] || w < s[3]:
		fail("upsample_nearest: %dx%d is smaller than the input %v", h, w, s)
	case h == s[2] && w == s[3]:
		return x
	case h == 2*s[2] && w == 2*s[3]:
		return g.UpsampleNearest2x(x)
	}
	return g.add("upsample_nearest", Shape{s[0], s[1], h, w}, nil, x)
}

// SumPool2x sums 2x2 blocks of x [N C H W] with even H and W. It is the
// transpose of UpsampleNearest2x.
func (g *Graph) SumPool2x(x *Node) *Node {
	wantRank("sum_pool2x", "input", x, 4)
	s := x.Shape
	if s[2]%2 != 0 || s[3]%2 != 0 {
		fail("sum_pool2x: height and width of %v must be even", s)
	}
	return g.add("sum_pool2x", Shape{s[0], s[1], s[2] / 2, s[3] / 2}, nil, x)
}

// AvgPool2x averages 2x2 blocks of x [N C H W]. A last row or column without a
// partner is left out.
func (g *Graph) AvgPool2x(x *Node) *Node {
	wantRank("avg_pool2x", "input", x, 4)
	for axis := 2; axis < 4; axis++ {
		if extent := x.Shape[axis]; extent%2 != 0 {
			x = g.Slice(x, axis, 0, extent-1)
		}
	}
	return g.Affine(g.SumPool2x(x), 0.25, 0)
}

func init() {
	kernelOps("upsample_nearest2x", "sum_pool2x", "upsample_nearest", "upsample_nearest_grad")
	vjps["upsample_nearest"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		return []*Node{g.add("upsample_nearest_grad", n.Inputs[0].Shape, nil, dy)}
	}
	vjps["upsample_nearest2x"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		return []*Node{g.SumPool2x(dy)}
	}
	vjps["sum_pool2x"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		return []*Node{g.UpsampleNearest2x(dy)}
	}
}
