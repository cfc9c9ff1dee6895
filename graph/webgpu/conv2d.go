package webgpu

import "github.com/sdo-go/sdo/graph"

// tile is the extent in pixels and in channels of what one invocation of
// conv2d.wgsl and conv2d_grad_weight.wgsl holds in registers.
const tile = 8

// panel is a right operand laid out by pack.wgsl: strips of tile columns, each
// with taps*k rows and one more for the bias.
type panel struct {
	taps, k, n   int
	stepK, stepN int // distance of neighbours along k and n in the weights
}

func (w panel) strips() int  { return ceil(w.n, tile) }
func (w panel) size() int    { return w.strips() * (w.taps*w.k + 1) * tile }
func (w panel) bytes() int64 { return 4 * int64(w.size()) }

// pack lays weights out in temp 0; bias may be nil.
func (w panel) pack(p *preset, weights, bias *graph.Node) launch {
	third := unread()
	if bias != nil {
		third = tensor(bias)
	}
	return launch{
		shader:  "pack",
		consts:  consts("WORKGROUP", p.lanes, "BIAS", bias != nil, "W_F16", storage(weights) == graph.F16),
		uniform: words(w.taps, w.k, w.n, w.strips(), w.stepK, w.stepN),
		bind:    []operand{tensor(weights), temp(0), third},
		groups:  fold(w.size()/4, p.lanes),
	}
}

// convolution is the geometry of a conv2d and its gradients: x [N C H W],
// w [O C KH KW], y [N O OH OW].
type convolution struct {
	graph.Conv2DAttrs
	x, w, y graph.Shape
	grad    bool // of the input
}

func newConvolution(n *graph.Node) convolution {
	g := convolution{Conv2DAttrs: *n.Attrs.(*graph.Conv2DAttrs)}
	switch n.Op {
	case "conv2d":
		g.x, g.w, g.y = n.Inputs[0].Shape, n.Inputs[1].Shape, n.Shape
	case "conv2d_grad_input":
		g.x, g.w, g.y, g.grad = n.Shape, n.Inputs[1].Shape, n.Inputs[0].Shape, true
	default:
		g.x, g.w, g.y = n.Inputs[1].Shape, n.Shape, n.Inputs[0].Shape
	}
	return g
}

// panel is the right operand of the implicit product: input channels by output
// channels, or the other way round for the gradient.
func (g convolution) panel() panel {
	o, c, taps := g.w[0], g.w[1], g.w[2]*g.w[3]
	if g.grad {
		return panel{taps: taps, k: o, n: c, stepK: c * taps, stepN: taps}
	}
	return panel{taps: taps, k: c, n: o, stepK: taps, stepN: c * taps}
}

// gather is the uniform block of conv2d.wgsl.
type gather struct {
	pixels, channels, height, width, image, plane int
	outs, outHeight, outWidth                     int
	tapsY, tapsX, stride, top, left               int
}

// splits cuts the channels of x.
func (g gather) splits(p *preset) (part, splits int) {
	return p.parts(ceil(g.pixels, tile)*ceil(g.outs, tile), g.channels, g.tapsY*g.tapsX)
}

// temps are the sums of the splits, in temp 1, where there are several.
func (g gather) temps(p *preset) []int64 {
	if _, splits := g.splits(p); splits > 1 {
		return []int64{4 * int64(splits*g.pixels*g.outs)}
	}
	return nil
}

// launch multiplies x by the panel in temp 0.
func (g gather) launch(p *preset, grad bool, x, y *graph.Node) []launch {
	part, splits := g.splits(p)
	tiles := ceil(g.pixels, tile*p.lanes)
	spread := fold(tiles*splits, 1)
	l := launch{
		shader: "conv2d",
		consts: consts("WORKGROUP", p.lanes, "GRAD", grad),
		uniform: words(g.pixels, g.channels, g.height, g.width, g.image, g.plane, g.outs, g.outHeight, g.outWidth,
			g.tapsY, g.tapsX, g.stride, g.top, g.left, part, tiles, tiles*splits),
		bind:   []operand{tensor(x), temp(0), tensor(y)},
		groups: [3]uint32{spread[0], uint32(ceil(g.outs, tile)), spread[1]},
	}
	if splits == 1 {
		return []launch{l}
	}
	l.bind[2] = temp(1)
	return []launch{l, addSplits(p, splits, g.pixels*g.outs, temp(1), tensor(y))}
}

// gathered reads x, or dy for the gradient of the input.
func (g convolution) gathered() gather {
	if g.grad {
		return g.gather(g.y, g.x)
	}
	return g.gather(g.x, g.y)
}

// gather reads from images of shape from and writes images of shape to.
func (g convolution) gather(from, to graph.Shape) gather {
	return gather{
		pixels: to[0] * to[2] * to[3], channels: from[1], height: from[2], width: from[3],
		image: from[1] * from[2] * from[3], plane: from[2] * from[3],
		outs: to[1], outHeight: to[2], outWidth: to[3],
		tapsY: g.w[2], tapsX: g.w[3], stride: g.Stride, top: g.PadTop, left: g.PadLeft,
	}
}

func conv2d(n *graph.Node, p *preset) ([]launch, error) {
	x, w := n.Inputs[0], n.Inputs[1]
	var bias *graph.Node
	if len(n.Inputs) == 3 {
		bias = n.Inputs[2]
		if err := wantSingles(n, bias); err != nil {
			return nil, err
		}
	}
	if err := wantSingles(n, x); err != nil {
		return nil, err
	}
	g := newConvolution(n)
	return append([]launch{g.panel().pack(p, w, bias)}, g.gathered().launch(p, false, x, n)...), nil
}

func conv2dGradInput(n *graph.Node, p *preset) ([]launch, error) {
	dy, w := n.Inputs[0], n.Inputs[1]
	if err := wantSingles(n, dy); err != nil {
		return nil, err
	}
	g := newConvolution(n)
	return append([]launch{g.panel().pack(p, w, nil)}, g.gathered().launch(p, true, dy, n)...), nil
}

// splitRows cuts the rows of pixels that a weight gradient sums over, so that
// there are enough invocations, and few enough turns for each. It returns the rows of a part and the parts.
func (g convolution) splitRows(p *preset) (rows, splits int) {
	threads := g.w[2] * g.w[3] * ceil(g.w[0], tile) * ceil(g.w[1], tile)
	total := g.y[0] * g.y[2]
	rows = ceil(total, max(1, min(total, p.crew/threads)))
	rows = min(rows, max(1, maxTurns/g.y[3]))
	return rows, ceil(total, rows)
}

func conv2dGradWeight(n *graph.Node, p *preset) ([]launch, error) {
	dy, x := n.Inputs[0], n.Inputs[1]
	if err := wantSingles(n, dy, x); err != nil {
		return nil, err
	}
	g := newConvolution(n)
	rows, splits := g.splitRows(p)
	threads := splits * g.w[2] * g.w[3] * ceil(g.w[0], tile) * ceil(g.w[1], tile)
	l := launch{
		shader: "conv2d_grad_weight",
		consts: consts("WORKGROUP", p.lanes),
		uniform: words(g.y[0]*g.y[2], rows, splits, g.y[1], g.x[1], g.x[2], g.x[3], g.y[2], g.y[3],
			g.w[2], g.w[3], g.Stride, g.PadTop, g.PadLeft),
		bind:   []operand{tensor(dy), tensor(x), tensor(n)},
		groups: fold(threads, p.lanes),
	}
	if splits == 1 {
		return one(l)
	}
	l.bind[2] = temp(0)
	return []launch{l, addSplits(p, splits, n.Shape.Size(), temp(0), tensor(n))}, nil
}
