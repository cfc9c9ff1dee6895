package graph

// UpsampleNearest2x repeats every pixel of x [N C H W] in a 2x2 block.
func (g *Graph) UpsampleNearest2x(x *Node) *Node {
	wantRank("upsample_nearest2x", "input", x, 4)
	s := x.Shape
	return g.add("upsample_nearest2x", Shape{s[0], s[1], 2 * s[2], 2 * s[3]}, nil, x)
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

// AvgPool2x averages 2x2 blocks of x [N C H W] with even H and W.
func (g *Graph) AvgPool2x(x *Node) *Node { return g.Affine(g.SumPool2x(x), 0.25, 0) }

func init() {
	kernelOps("upsample_nearest2x", "sum_pool2x")
	vjps["upsample_nearest2x"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		return []*Node{g.SumPool2x(dy)}
	}
	vjps["sum_pool2x"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		return []*Node{g.UpsampleNearest2x(dy)}
	}
}
