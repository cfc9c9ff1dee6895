package graph

// Conv2DAttrs are the geometry of a convolution. Padding is per side because
// diffusers' downsamplers with padding 0 pad right and bottom only.
type Conv2DAttrs struct {
	Stride                               int
	PadTop, PadLeft, PadBottom, PadRight int
}

// Same is the geometry that keeps the image size for an odd k x k kernel.
func Same(k int) Conv2DAttrs {
	p := (k - 1) / 2
	return Conv2DAttrs{Stride: 1, PadTop: p, PadLeft: p, PadBottom: p, PadRight: p}
}

func (a Conv2DAttrs) output(h, w, kh, kw int) (oh, ow int) {
	return (h+a.PadTop+a.PadBottom-kh)/a.Stride + 1, (w+a.PadLeft+a.PadRight-kw)/a.Stride + 1
}

// Conv2D correlates x [N C H W] with w [O C KH KW] and adds bias [O], which may
// be nil. The result is [N O OH OW].
func (g *Graph) Conv2D(x, w, bias *Node, attrs Conv2DAttrs) *Node {
	wantRank("conv2d", "input", x, 4)
	wantRank("conv2d", "weight", w, 4)
	if x.Shape[1] != w.Shape[1] {
		fail("conv2d: input has %d channels, weight wants %d", x.Shape[1], w.Shape[1])
	}
	if attrs.Stride < 1 || min(attrs.PadTop, attrs.PadLeft, attrs.PadBottom, attrs.PadRight) < 0 {
		fail("conv2d: stride must be at least 1 and padding at least 0, got %+v", attrs)
	}
	kh, kw := w.Shape[2], w.Shape[3]
	if x.Shape[2]+attrs.PadTop+attrs.PadBottom < kh || x.Shape[3]+attrs.PadLeft+attrs.PadRight < kw {
		fail("conv2d: padded input %v is smaller than the %dx%d kernel", x.Shape, kh, kw)
	}
	oh, ow := attrs.output(x.Shape[2], x.Shape[3], kh, kw)
	inputs := []*Node{x, w}
	if bias != nil {
		wantShape("conv2d", "bias", bias, Shape{w.Shape[0]})
		inputs = append(inputs, bias)
	}
	return g.add("conv2d", Shape{x.Shape[0], w.Shape[0], oh, ow}, &attrs, inputs...)
}

// ConvTranspose2D is the transpose of the convolution of an h x w image: x
// [N O OH OW] is spread through w [O C KH KW] to [N C h w]. attrs are those of
// the convolution, which must take h x w to x's OH x OW.
func (g *Graph) ConvTranspose2D(x, w *Node, h, width int, attrs Conv2DAttrs) *Node {
	wantRank("conv_transpose2d", "input", x, 4)
	wantRank("conv_transpose2d", "weight", w, 4)
	if x.Shape[1] != w.Shape[0] {
		fail("conv_transpose2d: input has %d channels, weight wants %d", x.Shape[1], w.Shape[0])
	}
	if attrs.Stride < 1 || min(attrs.PadTop, attrs.PadLeft, attrs.PadBottom, attrs.PadRight) < 0 {
		fail("conv_transpose2d: stride must be at least 1 and padding at least 0, got %+v", attrs)
	}
	if oh, ow := attrs.output(h, width, w.Shape[2], w.Shape[3]); oh != x.Shape[2] || ow != x.Shape[3] {
		fail("conv_transpose2d: the convolution of %dx%d gives %dx%d, the input is %v", h, width, oh, ow, x.Shape)
	}
	return g.add("conv2d_grad_input", Shape{x.Shape[0], w.Shape[1], h, width}, &attrs, x, w)
}

func init() {
	kernelOps("conv2d", "conv2d_grad_input", "conv2d_grad_weight")
	vjps["conv2d"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		x, w := n.Inputs[0], n.Inputs[1]
		grads := make([]*Node, len(n.Inputs))
		if want[0] {
			grads[0] = g.add("conv2d_grad_input", x.Shape, n.Attrs, dy, w)
		}
		if want[1] {
			grads[1] = g.add("conv2d_grad_weight", w.Shape, n.Attrs, dy, x)
		}
		if len(n.Inputs) == 3 && want[2] {
			s := n.Shape
			grads[2] = g.ReduceSum(dy, s[0], s[1], s[2]*s[3], s[1])
		}
		return grads
	}
	// The transpose is linear in both of its operands as well.
	vjps["conv2d_grad_input"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		x, w := n.Inputs[0], n.Inputs[1]
		grads := make([]*Node, 2)
		if want[0] {
			grads[0] = g.add("conv2d", x.Shape, n.Attrs, dy, w)
		}
		if want[1] {
			grads[1] = g.add("conv2d_grad_weight", w.Shape, n.Attrs, x, dy)
		}
		return grads
	}
}
