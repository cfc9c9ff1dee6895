package graph

import "slices"

// vjp appends the nodes that send dy, the gradient at n, to n's inputs. It
// returns one node per input, nil where no gradient flows or none is wanted.
type vjp func(g *Graph, n, dy *Node, want []bool) []*Node

var (
	vjps = map[string]vjp{}
	ops  []string
)

func kernelOps(names ...string) { ops = append(ops, names...) }

// Ops lists every operation that needs a kernel, sorted. The op table and the
// executors are tested against this list.
func Ops() []string {
	sorted := slices.Clone(ops)
	slices.Sort(sorted)
	return sorted
}

// Grad appends the reverse sweep of sum_k <outputs[k], seeds[k]> and returns
// its gradient at each node of wrt, in order. A wrt that the outputs do not
// depend on gets nil. Only the nodes that lie between wrt and the outputs are
// differentiated, so asking for the input alone costs no weight gradients.
func Grad(g *Graph, outputs, seeds, wrt []*Node) []*Node {
	if len(outputs) != len(seeds) {
		fail("grad: %d outputs but %d seeds", len(outputs), len(seeds))
	}
	end := len(g.Nodes) // only nodes that existed before the sweep take part
	needed := make([]bool, end)
	for _, w := range wrt {
		needed[w.ID] = true
	}
	for _, n := range g.Nodes[:end] {
		for _, in := range n.Inputs {
			needed[n.ID] = needed[n.ID] || needed[in.ID]
		}
	}

	grads := make([]*Node, end)
	accumulate := func(n, d *Node) {
		switch {
		case d == nil || !needed[n.ID]:
		case grads[n.ID] == nil:
			grads[n.ID] = d
		default:
			grads[n.ID] = g.Add(grads[n.ID], d)
		}
	}
	for k, out := range outputs {
		if !out.Shape.Equal(seeds[k].Shape) {
			fail("grad: output %v has seed of shape %v", out, seeds[k].Shape)
		}
		accumulate(out, seeds[k])
	}
	for id := end - 1; id >= 0; id-- {
		n, dy := g.Nodes[id], grads[id]
		if dy == nil || n.IsLeaf() {
			continue
		}
		want := make([]bool, len(n.Inputs))
		for i, in := range n.Inputs {
			want[i] = needed[in.ID]
		}
		if !slices.Contains(want, true) {
			continue
		}
		rule := vjps[n.Op]
		if rule == nil {
			fail("grad: %s has no gradient rule", n.Op)
		}
		for i, d := range rule(g, n, dy, want) {
			accumulate(n.Inputs[i], d)
		}
	}

	result := make([]*Node, len(wrt))
	for i, w := range wrt {
		result[i] = grads[w.ID]
	}
	return result
}

func wantRank(op, what string, n *Node, rank int) {
	if len(n.Shape) != rank {
		fail("%s: %s %v must have %d axes", op, what, n.Shape, rank)
	}
}

func wantShape(op, what string, n *Node, shape Shape) {
	if !n.Shape.Equal(shape) {
		fail("%s: %s has shape %v, want %v", op, what, n.Shape, shape)
	}
}
