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

func groupNormStats(n *graph.Node, p *preset) ([]launch, error) {
	g := newNormalisation(n.Inputs[0].Shape, n.Attrs)
	runs := g.images * g.Groups
	return one(launch{
		shader:  "group_norm_stats",
		consts:  elements(g.width, "TEAM", p.team),
		uniform: append(words(runs, g.perGroup*g.pixels), floatWord(g.Eps)),
		bind:    operands(n),
		groups:  fold(runs, 1),
	})
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

func groupNormGradInput(n *graph.Node, p *preset) ([]launch, error) {
	g := newNormalisation(n.Shape, n.Attrs)
	runs := g.images * g.Groups
	return one(launch{
		shader:  "group_norm_bwd",
		consts:  elements(g.width, "TEAM", p.team, "ROWS", teamRows(p.team, g.pixels), "SILU", g.SiLU),
		uniform: words(runs, g.Groups, g.perGroup, g.pixels),
		bind:    operands(n),
		groups:  fold(runs, 1),
	})
}

func groupNormGradParams(n *graph.Node, p *preset) ([]launch, error) {
	g := newNormalisation(n.Inputs[1].Shape, n.Attrs)
	return one(launch{
		shader:  "group_norm_params_bwd",
		consts:  elements(g.width, "TEAM", p.team, "ROWS", teamRows(p.team, g.pixels), "SILU", g.SiLU),
		uniform: words(g.images, g.channels, g.perGroup, g.pixels),
		bind:    operands(n),
		groups:  fold(g.channels, 1),
	})
}
