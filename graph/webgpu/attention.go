package webgpu

import "github.com/sdo-go/sdo/graph"

// heads is the geometry of one attention; channel extents count elements of
// width numbers.
type heads struct {
	images, count, channels, perHead, width int
	scale                                   float64
	causal                                  bool
}

func newHeads(x graph.Shape, attrs any) heads {
	a := attrs.(*graph.AttentionAttrs)
	width := elementWidth(x[2] / a.Heads)
	return heads{x[0], a.Heads, x[2] / width, x[2] / a.Heads / width, width, a.Scale, a.Causal}
}

// part is how many rows of the other side one launch visits.
func (h heads) part(p *preset) int {
	const besides = 64 // turns of the small loops, where they are not unrolled
	return max(1, maxTurns/(2*h.perHead+besides)) * p.others
}

// launch runs one invocation per image, head and few own rows, each of which
// visits all rows of the other side, a part in each launch.
func (h heads) launch(p *preset, shader string, rows, others int, bind []operand, pairs ...any) (launches []launch, err error) {
	count := h.images * h.count * ceil(rows, p.own)
	for start := 0; start < others; start += h.part(p) {
		uniform := append(words(count, rows, others, h.count, h.channels, h.perHead), floatWord(h.scale))
		launches = append(launches, launch{
			shader:  shader,
			consts:  elements(h.width, append([]any{"WORKGROUP", p.lanes, "OWN", p.own, "OTHERS", p.others, "CAUSAL", h.causal}, pairs...)...),
			uniform: append(uniform, words(start, min(start+h.part(p), others))...),
			bind:    bind,
			groups:  fold(count, p.lanes),
		})
	}
	return launches, nil
}

// attentionStateBytes is what the launches of one attention hand on, 0 where it is
// one.
func attentionStateBytes(n *graph.Node, p *preset) int64 {
	if h := newHeads(n.Shape, n.Attrs); n.Inputs[1].Shape[1] > h.part(p) {
		return 4 * int64(h.images*h.count*n.Shape[1])
	}
	return 0
}

func attention(n *graph.Node, p *preset) ([]launch, error) {
	state, parts := unread(), attentionStateBytes(n, p) > 0
	if parts {
		state = temp(0)
	}
	return newHeads(n.Shape, n.Attrs).launch(p, "attention", n.Shape[1], n.Inputs[1].Shape[1], append(operands(n), state), "PARTS", parts)
}

func attentionLSE(n *graph.Node, p *preset) ([]launch, error) {
	q, k := n.Inputs[0].Shape, n.Inputs[1].Shape
	return newHeads(q, n.Attrs).launch(p, "attention_lse", q[1], k[1], operands(n))
}

func attentionDelta(n *graph.Node, p *preset) ([]launch, error) {
	x := n.Inputs[0].Shape
	h := newHeads(x, n.Attrs)
	count := h.images * h.count * x[1]
	return one(launch{
		shader:  "attention_delta",
		consts:  elements(h.width, "WORKGROUP", p.lanes),
		uniform: words(count, x[1], h.count, h.channels, h.perHead),
		bind:    operands(n),
		groups:  fold(count, p.lanes),
	})
}

func attentionGradQ(n *graph.Node, p *preset) ([]launch, error) {
	q, k, v, dy, lse, delta := n.Inputs[0], n.Inputs[1], n.Inputs[2], n.Inputs[3], n.Inputs[4], n.Inputs[5]
	bind := []operand{tensor(q), tensor(dy), tensor(k), tensor(v), tensor(lse), tensor(delta), tensor(n)}
	return newHeads(q.Shape, n.Attrs).launch(p, "attention_bwd", q.Shape[1], k.Shape[1], bind, "OWN_QUERY", true)
}

func attentionGradK(n *graph.Node, p *preset) ([]launch, error) {
	q, k, v, dy, lse, delta := n.Inputs[0], n.Inputs[1], n.Inputs[2], n.Inputs[3], n.Inputs[4], n.Inputs[5]
	bind := []operand{tensor(k), tensor(v), tensor(q), tensor(dy), tensor(lse), tensor(delta), tensor(n)}
	return newHeads(q.Shape, n.Attrs).launch(p, "attention_bwd", k.Shape[1], q.Shape[1], bind, "OWN_QUERY", false)
}

func attentionGradV(n *graph.Node, p *preset) ([]launch, error) {
	q, k := n.Inputs[0].Shape, n.Inputs[1].Shape
	return newHeads(q, n.Attrs).launch(p, "attention_value_bwd", k[1], q[1], operands(n))
}
