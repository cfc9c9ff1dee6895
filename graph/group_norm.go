package graph

// GroupNormAttrs describe a group normalisation. SiLU fuses the activation that
// follows it everywhere in a diffusion UNet, so that only x and two numbers a
// group need to be kept for the backward pass; the activation is recomputed.
type GroupNormAttrs struct {
	Groups int
	Eps    float64
	SiLU   bool
}

// GroupNorm normalises x [N C ...] over each of Groups groups of channels, then
// applies gamma [C] and beta [C] and, with SiLU set, the activation.
func (g *Graph) GroupNorm(x, gamma, beta *Node, attrs GroupNormAttrs) *Node {
	if len(x.Shape) < 2 {
		fail("group_norm: input %v has no channel axis", x.Shape)
	}
	c := x.Shape[1]
	if attrs.Groups < 1 || c%attrs.Groups != 0 {
		fail("group_norm: %d channels do not divide into %d groups", c, attrs.Groups)
	}
	wantShape("group_norm", "gamma", gamma, Shape{c})
	wantShape("group_norm", "beta", beta, Shape{c})
	stats := g.add("group_norm_stats", Shape{x.Shape[0], attrs.Groups, 2}, &attrs, x)
	return g.add("group_norm", x.Shape, &attrs, x, stats, gamma, beta)
}

func init() {
	kernelOps("group_norm_stats", "group_norm", "group_norm_grad_input", "group_norm_grad_params")
	// The gradient with respect to x includes the way through the statistics,
	// so the statistics themselves pass nothing on.
	vjps["group_norm_stats"] = func(g *Graph, n, dy *Node, want []bool) []*Node { return []*Node{nil} }
	vjps["group_norm"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		x, stats, gamma, beta := n.Inputs[0], n.Inputs[1], n.Inputs[2], n.Inputs[3]
		grads := make([]*Node, 4)
		if want[0] {
			grads[0] = g.add("group_norm_grad_input", x.Shape, n.Attrs, dy, x, stats, gamma, beta)
		}
		if want[2] || want[3] {
			c := gamma.Shape[0]
			both := g.add("group_norm_grad_params", Shape{2, c}, n.Attrs, dy, x, stats, gamma, beta)
			grads[2] = g.Reshape(g.Slice(both, 0, 0, 1), c)
			grads[3] = g.Reshape(g.Slice(both, 0, 1, 2), c)
		}
		return grads
	}
}
