package webgpu

import "github.com/sdo-go/sdo/graph"

// broadcasting launches a shader over a tensor viewed as [R P Q].
func broadcasting(n *graph.Node, p *preset, shader string, pairs ...any) ([]launch, error) {
	a := n.Attrs.(*graph.BroadcastAttrs)
	width := elementWidth(a.Q)
	count := n.Shape.Size() / width
	return one(launch{
		shader:  shader,
		consts:  elements(width, append([]any{"WORKGROUP", p.lanes}, pairs...)...),
		uniform: words(count, a.P, a.Q/width),
		bind:    operands(n),
		groups:  fold(count, p.lanes),
	})
}

// broadcast takes the values of OPERATION in broadcast.wgsl.
func broadcast(operation int) kernel {
	return func(n *graph.Node, p *preset) ([]launch, error) {
		return broadcasting(n, p, "broadcast", "OPERATION", operation)
	}
}

func repeat(n *graph.Node, p *preset) ([]launch, error) { return broadcasting(n, p, "repeat") }

func scaleShift(n *graph.Node, p *preset) ([]launch, error) { return broadcasting(n, p, "scale_shift") }

// reduction is the sum of a tensor viewed as [R P Q] over R and Q, cut into
// splitsR x splitsQ parts per sum.
type reduction struct {
	r, p, q          int
	splitR, splitQ   int // extents of one part
	splitsR, splitsQ int
	serial           bool // one invocation per sum rather than a workgroup
}

func newReduction(n *graph.Node, p *preset) reduction {
	a := n.Attrs.(*graph.BroadcastAttrs)
	r := reduction{r: a.R, p: a.P, q: a.Q, splitR: a.R, splitQ: a.Q, splitsR: 1, splitsQ: 1}
	if r.serial = a.R*a.Q <= shortSum || a.Q == 1 && a.P >= p.crew && a.R <= maxTurns; r.serial {
		return r
	}
	// Parts are worth a second launch only when workgroups are few and each
	// invocation has plenty to add, or too much.
	parts := max(min(p.crew/(p.team*a.P), a.R*a.Q/(p.team*shortSum)), ceil(a.R*a.Q, p.team*maxTurns/2))
	if parts > 1 && a.R >= parts {
		r.splitR = ceil(a.R, parts)
		r.splitsR = ceil(a.R, r.splitR)
	} else if parts > 1 {
		r.splitQ = ceil(a.Q, parts)
		r.splitsQ = ceil(a.Q, r.splitQ)
	}
	return r
}

func (r reduction) splits() int { return r.splitsR * r.splitsQ }

func (r reduction) launch(p *preset, x, y operand) launch {
	sums := r.splits() * r.p
	groups := fold(sums, 1)
	if r.serial {
		groups = fold(sums, p.team)
	}
	return launch{
		shader:  "reduce_sum",
		consts:  consts("SERIAL", r.serial, "TEAM", p.team, "ROWS", teamRows(p.team, r.splitQ)),
		uniform: words(r.r, r.p, r.q, r.splitR, r.splitQ, r.splitsQ, sums),
		bind:    []operand{x, y},
		groups:  groups,
	}
}

// addSplits adds the rows of x [splits size].
func addSplits(p *preset, splits, size int, x, y operand) launch {
	return reduction{
		r: splits, p: size, q: 1, splitR: splits, splitQ: 1, splitsR: 1, splitsQ: 1, serial: true,
	}.launch(p, x, y)
}

func reduceSum(n *graph.Node, p *preset) ([]launch, error) {
	r := newReduction(n, p)
	x, y := tensor(n.Inputs[0]), tensor(n)
	if r.splits() == 1 {
		return one(r.launch(p, x, y))
	}
	return []launch{r.launch(p, x, temp(0)), addSplits(p, r.splits(), r.p, temp(0), y)}, nil
}
