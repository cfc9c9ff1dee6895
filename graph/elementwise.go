package graph

// SmoothAbsAttrs hold the half width of the rounded corner at zero.
type SmoothAbsAttrs struct{ Eps float64 }

// AffineAttrs are the scalars of scale*x + shift.
type AffineAttrs struct{ Scale, Shift float64 }

// SiLU is x*sigmoid(x).
func (g *Graph) SiLU(x *Node) *Node { return g.add("silu", x.Shape, nil, x) }

// ReLU is max(x, 0); its gradient at 0 is 0.
func (g *Graph) ReLU(x *Node) *Node { return g.add("relu", x.Shape, nil, x) }

// Softplus is ln(1 + exp(x)), the smooth ReLU.
func (g *Graph) Softplus(x *Node) *Node { return g.add("softplus", x.Shape, nil, x) }

// Sigmoid is 1/(1 + exp(-x)).
func (g *Graph) Sigmoid(x *Node) *Node { return g.add("sigmoid", x.Shape, nil, x) }

// SmoothAbs is sqrt(x^2 + eps^2) - eps, an absolute value with a gradient at 0.
func (g *Graph) SmoothAbs(x *Node, eps float64) *Node {
	return g.add("smooth_abs", x.Shape, &SmoothAbsAttrs{eps}, x)
}

// Affine is scale*x + shift with constant scalars.
func (g *Graph) Affine(x *Node, scale, shift float64) *Node {
	return g.add("affine", x.Shape, &AffineAttrs{scale, shift}, x)
}

// Add, Sub and Mul work element by element on equal shapes.
func (g *Graph) Add(a, b *Node) *Node { return g.binary("add", a, b) }
func (g *Graph) Sub(a, b *Node) *Node { return g.binary("sub", a, b) }
func (g *Graph) Mul(a, b *Node) *Node { return g.binary("mul", a, b) }

func (g *Graph) binary(op string, a, b *Node) *Node {
	if !a.Shape.Equal(b.Shape) {
		fail("%s: shapes differ, %v and %v", op, a.Shape, b.Shape)
	}
	return g.add(op, a.Shape, nil, a, b)
}

func init() {
	for _, op := range []string{"silu", "relu", "softplus", "sigmoid", "smooth_abs"} {
		kernelOps(op, op+"_grad")
		vjps[op] = func(g *Graph, n, dy *Node, want []bool) []*Node {
			return []*Node{g.add(n.Op+"_grad", n.Shape, n.Attrs, dy, n.Inputs[0])}
		}
	}
	kernelOps("affine", "add", "sub", "mul")
	vjps["affine"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		return []*Node{g.Affine(dy, n.Attrs.(*AffineAttrs).Scale, 0)}
	}
	vjps["add"] = func(g *Graph, n, dy *Node, want []bool) []*Node { return []*Node{dy, dy} }
	vjps["sub"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		grads := []*Node{dy, nil}
		if want[1] {
			grads[1] = g.Affine(dy, -1, 0)
		}
		return grads
	}
	vjps["mul"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		grads := make([]*Node, 2)
		for i := range grads {
			if want[i] {
				grads[i] = g.Mul(dy, n.Inputs[1-i])
			}
		}
		return grads
	}
}
