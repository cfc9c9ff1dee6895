package graph

// SmoothAbsAttrs hold the half width of the rounded corner at zero.
type SmoothAbsAttrs struct{ Eps float64 }

// AffineAttrs are the scalars of scale*x + shift.
type AffineAttrs struct{ Scale, Shift float64 }

// ClampAttrs are the bounds of a clamp.
type ClampAttrs struct{ Lo, Hi float64 }

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

// GELU is x*Phi(x), Phi the distribution function of the normal distribution:
// the exact form, by erf.
func (g *Graph) GELU(x *Node) *Node { return g.add("gelu", x.Shape, nil, x) }

// GELUTanh is GELU with Phi(x) approximated by
// (1 + tanh(sqrt(2/pi)*(x + 0.044715*x^3)))/2.
func (g *Graph) GELUTanh(x *Node) *Node { return g.add("gelu_tanh", x.Shape, nil, x) }

// QuickGELU is x*sigmoid(1.702*x), CLIP's approximation of GELU.
func (g *Graph) QuickGELU(x *Node) *Node { return g.add("quick_gelu", x.Shape, nil, x) }

// Tanh is the hyperbolic tangent.
func (g *Graph) Tanh(x *Node) *Node { return g.add("tanh", x.Shape, nil, x) }

// Exp is e^x.
func (g *Graph) Exp(x *Node) *Node { return g.add("exp", x.Shape, nil, x) }

// Rsqrt is 1/sqrt(x), for x above 0.
func (g *Graph) Rsqrt(x *Node) *Node { return g.add("rsqrt", x.Shape, nil, x) }

// Clamp is min(max(x, lo), hi); its gradient is 1 between the bounds, which
// count, and 0 beyond them.
func (g *Graph) Clamp(x *Node, lo, hi float64) *Node {
	if !(lo <= hi) {
		fail("clamp: the lower bound %g lies above the upper bound %g", lo, hi)
	}
	return g.add("clamp", x.Shape, &ClampAttrs{lo, hi}, x)
}

// GEGLU is the gated activation of a transformer's feed-forward layer: with x
// [... 2D] split along its last axis into a value and a gate, value*GELU(gate),
// [... D].
func (g *Graph) GEGLU(x *Node) *Node {
	last := len(x.Shape) - 1
	if last < 0 || x.Shape[last]%2 != 0 {
		fail("geglu: the last axis of %v does not split into a value and a gate", x.Shape)
	}
	shape := append(Shape{}, x.Shape...)
	shape[last] /= 2
	return g.add("geglu", shape, nil, x)
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
	for _, op := range []string{
		"silu", "relu", "softplus", "sigmoid", "smooth_abs", "gelu", "gelu_tanh", "quick_gelu", "tanh", "exp", "rsqrt", "clamp", "geglu",
	} {
		kernelOps(op, op+"_grad")
		vjps[op] = func(g *Graph, n, dy *Node, want []bool) []*Node {
			x := n.Inputs[0]
			return []*Node{g.add(n.Op+"_grad", x.Shape, n.Attrs, dy, x)}
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
