package webgpu

import "github.com/sdo-go/sdo/graph"

// normalisation is the geometry of a group norm over x [N C ...], pixels
// counted in elements of width numbers.
type normalisation struct {
	*graph.GroupNormAttrs
	images, channels, perGroup, pixels, width int
}

func newNormalisation(x graph.Shape, attrs any) normalisation {
	a := attrs.(*graph.GroupNormAttrs)
	pixels := x.Size() / (x[0] * x[1])
	width := elementWidth(pixels)
	return normalisation{a, x[0], x[1], x[1] / a.Groups, pixels / width, width}
}

func (g normalisation) runs() int { return g.images * g.Groups }

// statsParts cuts a group, a contiguous run, for its statistics.
func (g normalisation) statsParts(p *preset) (part, parts int) {
	return p.partsOfLines(g.runs(), 1, g.perGroup*g.pixels)
}

func groupNormStats(n *graph.Node, p *preset) ([]launch, error) {
	g := newNormalisation(n.Inputs[0].Shape, n.Attrs)
	part, parts := g.statsParts(p)
	block := func(count int) []uint32 {
		return append(words(count, g.perGroup*g.pixels, part, parts), floatWord(g.Eps))
	}
	sums := launch{
		shader:  "group_norm_stats",
		consts:  elements(g.width, "TEAM", p.team, "PARTS", parts > 1),
		uniform: block(g.runs() * parts),
		bind:    operands(n),
		groups:  fold(g.runs()*parts, 1),
	}
	if parts == 1 {
		return one(sums)
	}
	sums.bind = []operand{tensor(n.Inputs[0]), temp(0)}
	return []launch{sums, {
		shader:  "group_norm_merge",
		consts:  consts("WORKGROUP", p.lanes),
		uniform: block(g.runs()),
		bind:    []operand{temp(0), tensor(n)},
		groups:  fold(g.runs(), p.lanes),
	}}, nil
}

func groupNorm(n *graph.Node, p *preset) ([]launch, error) {
	g := newNormalisation(n.Shape, n.Attrs)
	count := n.Shape.Size() / g.width
	return one(launch{
		shader:  "group_norm",
		consts:  elements(g.width, "WORKGROUP", p.lanes, "SILU", g.SiLU),
		uniform: words(count, g.pixels, g.channels, g.perGroup),
		bind:    operands(n),
		groups:  fold(count, p.lanes),
	})
}

// gradParts cuts the pixels of a group for the gradient of its input.
func (g normalisation) gradParts(p *preset) (part, parts int) {
	return p.partsOfLines(g.runs(), g.perGroup, g.pixels)
}

func groupNormGradInput(n *graph.Node, p *preset) ([]launch, error) {
	g := newNormalisation(n.Shape, n.Attrs)
	part, parts := g.gradParts(p)
	slots := g.runs() * parts
	pass := func(sum, write bool, sums operand) launch {
		return launch{
			shader:  "group_norm_bwd",
			consts:  elements(g.width, "TEAM", p.team, "ROWS", teamRows(p.team, g.pixels), "SILU", g.SiLU, "SUM", sum, "WRITE", write),
			uniform: words(g.runs(), g.Groups, g.perGroup, g.pixels, part, slots),
			bind:    append(operands(n), sums),
			groups:  fold(slots, 1),
		}
	}
	if parts == 1 {
		return one(pass(true, true, unread()))
	}
	return []launch{
		pass(true, false, temp(0)),
		addSplits(p, parts, 2*g.runs(), temp(0), temp(1)),
		pass(false, true, temp(1)),
	}, nil
}

// paramParts cuts the pixels of a channel for the gradients of its parameters.
func (g normalisation) paramParts(p *preset) (part, parts int) {
	return p.partsOfLines(g.channels, g.images, g.pixels)
}

func groupNormGradParams(n *graph.Node, p *preset) ([]launch, error) {
	g := newNormalisation(n.Inputs[1].Shape, n.Attrs)
	part, parts := g.paramParts(p)
	slots := g.channels * parts
	sums := launch{
		shader:  "group_norm_params_bwd",
		consts:  elements(g.width, "TEAM", p.team, "ROWS", teamRows(p.team, g.pixels), "SILU", g.SiLU),
		uniform: words(g.images, g.channels, g.perGroup, g.pixels, part, slots),
		bind:    operands(n),
		groups:  fold(slots, 1),
	}
	if parts == 1 {
		return one(sums)
	}
	sums.bind[len(sums.bind)-1] = temp(0)
	return []launch{sums, addSplits(p, parts, n.Shape.Size(), temp(0), tensor(n))}, nil
}

// normalisationTemps are the bytes of scratch space of a group norm's launches.
func normalisationTemps(n *graph.Node, p *preset) []int64 {
	switch n.Op {
	case "group_norm_stats":
		g := newNormalisation(n.Inputs[0].Shape, n.Attrs)
		if _, parts := g.statsParts(p); parts > 1 {
			return []int64{8 * int64(g.runs()*parts)}
		}
	case "group_norm_grad_input":
		g := newNormalisation(n.Shape, n.Attrs)
		if _, parts := g.gradParts(p); parts > 1 {
			return []int64{8 * int64(g.runs()*parts), 8 * int64(g.runs())}
		}
	case "group_norm_grad_params":
		g := newNormalisation(n.Inputs[1].Shape, n.Attrs)
		if _, parts := g.paramParts(p); parts > 1 {
			return []int64{4 * int64(parts*n.Shape.Size())}
		}
	}
	return nil
}
