package graph

import (
	"cmp"
	"maps"
	"slices"
)

// A plan under a budget forgets part of what a kept call would pin and computes
// it again in the backward segment, the trade of Chen et al., "Training deep
// nets with sublinear memory cost" (2016). What is forgotten lies inside blocks:
// whatever goes in or out of one is kept if it is needed, so no chain of kernels
// that runs again is longer than its block. Inside, the choice is tensor by
// tensor, because the best bargains are in the middle: queries, keys and values
// cost three products, what attention makes of them costs far more.
//
// The kernels that run again are copies of the graph's nodes, each right before
// the first kernel that reads it. They get the same operands, so the numbers are
// the same to the last bit.

const (
	// elementCost is how many multiply-adds of a product an element of any other
	// kernel counts as when bargains are compared.
	elementCost = 8
	// retakeSteps is about how many choices a plan has between keeping everything
	// and keeping as little as it can.
	retakeSteps = 64
	// notWorth is the part of the tape below which a tensor is not looked at.
	notWorth = 1e-4
)

// retakes numbers the tensors of a forward and a backward segment and knows
// which of them the backward computes again. Tensors are the forward's inputs
// and nodes, then those of the backward.
type retakes struct {
	p        *Plan
	tapes    int64
	nodes    []*Node
	numbers  map[*Node]int
	first    int     // tensor of the backward segment
	inputs   [][]int // tensors that a node reads, parameters left out
	bytes    []int64
	cost     []int64 // of computing it once more
	fixed    []bool  // is kept if it is needed: in no block, or on the edge of one
	lasting  []bool  // wanted when its segment ends
	dropped  []bool  // is computed again if it is needed
	pinned   []bool  // the rest: what measure found
	again    []bool
	forward  []int // what the forward segment makes, inputs and then kernel by kernel
	order    []int // what the backward segment makes
	tape     int64
	last     []int
	changes  []int64
	multiply int64 // multiply-adds of what is computed again
}

func newRetakes(p *Plan, tapes int) *retakes {
	r := &retakes{p: p, tapes: int64(max(1, tapes)), numbers: map[*Node]int{}}
	for s, segment := range p.Segments {
		if s == 1 {
			r.first = len(r.nodes)
		}
		for _, n := range slices.Concat(segment.Inputs, segment.Nodes) {
			r.numbers[n] = len(r.nodes)
			r.nodes = append(r.nodes, n)
		}
	}
	count := len(r.nodes)
	flags := func() []bool { return make([]bool, count) }
	r.fixed, r.lasting, r.dropped, r.pinned, r.again = flags(), flags(), flags(), flags(), flags()
	r.inputs, r.bytes, r.cost = make([][]int, count), make([]int64, count), make([]int64, count)
	r.last, r.changes = make([]int, count), make([]int64, 2*count+2)
	for t := range r.first {
		r.forward = append(r.forward, t)
	}
	for t, n := range r.nodes {
		r.bytes[t] = align(bytesOf(n))
		r.cost[t] = n.multiplyAdds() + elementCost*int64(n.Shape.Size())
		r.fixed[t] = n.block == 0 || n.Op == OpInput
		for _, in := range n.Inputs {
			k, made := r.numbers[root(in)]
			if !made {
				continue
			}
			r.inputs[t] = append(r.inputs[t], k)
			if t < r.first && n.block != r.nodes[k].block {
				r.fixed[k] = true
			}
		}
	}
	for _, segment := range p.Segments {
		for _, w := range segment.Wanted {
			if t, made := r.numbers[p.own(w)]; made {
				r.fixed[t], r.lasting[t] = true, true
			}
		}
	}
	return r
}

// measure finds what is pinned and what is computed again, and returns the bytes
// of tapes and scratch arena, the arena as the most that is alive at once.
func (r *retakes) measure() int64 {
	clear(r.pinned)
	clear(r.again)
	r.order, r.tape, r.multiply = r.order[:0], 0, 0
	for t := r.first; t < len(r.nodes); t++ {
		for _, k := range r.inputs[t] {
			r.need(k)
		}
		r.order = append(r.order, t)
	}
	for t, wanted := range r.lasting[:r.first] {
		if wanted && slices.ContainsFunc(r.p.Segments[1].Wanted, func(w *Node) bool { return r.p.own(w) == r.nodes[t] }) {
			r.need(t)
		}
	}
	return r.tapes*r.tape + max(r.alive(r.forward), r.alive(r.order))
}

// need pins tensor k, or puts it into the backward's order, if the forward makes
// it and neither is done yet.
func (r *retakes) need(k int) {
	switch {
	case k >= r.first || r.pinned[k] || r.again[k]:
	case !r.dropped[k]:
		r.pinned[k] = true
		r.tape += r.bytes[k]
	default:
		r.again[k] = true
		for _, in := range r.inputs[k] {
			r.need(in)
		}
		r.order = append(r.order, k)
		r.multiply += r.nodes[k].multiplyAdds()
	}
}

// alive is the most scratch that the kernels of an order hold at once.
func (r *retakes) alive(order []int) (most int64) {
	changes := r.changes[:len(order)+1]
	clear(changes)
	for i, t := range order {
		r.last[t] = i
		for _, k := range r.inputs[t] {
			r.last[k] = i
		}
	}
	for i, t := range order {
		// What the forward makes has its place on the tape if it is pinned. All
		// inputs are fed before the first kernel.
		if r.pinned[t] {
			continue
		}
		from := i
		if r.nodes[t].Op == OpInput {
			from = 0
		}
		changes[from] += r.bytes[t]
		if !r.lasting[t] {
			changes[r.last[t]+1] -= r.bytes[t]
		}
	}
	now := int64(0)
	for _, change := range changes {
		now += change
		most = max(most, now)
	}
	return most
}

// bargain is what computing pinned tensor t again saves on the tape and costs,
// and which tensors it makes the backward compute. It wants measure's findings.
func (r *retakes) bargain(t int) (saved, cost int64, made []int) {
	made = []int{t}
	var edges []int
	saved = r.bytes[t]
	for i := 0; i < len(made); i++ {
		cost += r.cost[made[i]]
		for _, k := range r.inputs[made[i]] {
			switch {
			case r.pinned[k] && k != t, r.again[k], slices.Contains(made, k), slices.Contains(edges, k):
			case r.fixed[k]:
				edges = append(edges, k)
				saved -= r.bytes[k]
			default:
				made = append(made, k)
			}
		}
	}
	return saved, cost, made
}

// step is a choice: everything of the steps before it, and some more tensors
// computed again.
type step struct {
	drops []int
	total int64 // bytes, as measure counts them
}

// steps goes from keeping everything to keeping as little as pays, the best
// bargain first. Each step takes less memory than the one before; they do not
// depend on the budget, so that a larger one never costs more.
func (r *retakes) steps() []step {
	total := r.measure()
	steps := []step{{total: total}}
	smallest := int64(notWorth * float64(r.tape))
	var open []int
	for t := range r.first {
		if r.pinned[t] && !r.fixed[t] && r.bytes[t] > smallest {
			open = append(open, t)
		}
	}
	for progress := true; progress; {
		progress = false
		var refused []int
		for len(open) > 0 {
			best, worth := -1, 0.0
			var drops []int
			for i, t := range open {
				saved, cost, made := r.bargain(t)
				if value := float64(saved) / float64(cost); saved > 0 && value > worth {
					best, worth, drops = i, value, made
				}
			}
			if best < 0 {
				break
			}
			for _, t := range drops {
				r.dropped[t] = true
			}
			if now := r.measure(); now <= total {
				total, progress = now, true
				steps = append(steps, step{drops, now})
			} else { // the arena grew by more than the tape shrank; later perhaps
				for _, t := range drops {
					r.dropped[t] = false
				}
				r.measure()
				refused = append(refused, open[best])
			}
			open = slices.Delete(open, best, best+1)
		}
		open = append(open, refused...)
	}
	return thin(steps)
}

// thin joins steps that save little with those after them.
func thin(steps []step) []step {
	least := (steps[0].total - steps[len(steps)-1].total) / retakeSteps
	thinned := steps[:1:1]
	var drops []int
	for i, s := range steps[1:] {
		drops = append(drops, s.drops...)
		if thinned[len(thinned)-1].total-s.total > least || i == len(steps)-2 {
			thinned = append(thinned, step{drops, s.total})
			drops = nil
		}
	}
	return thinned
}

// recompute chooses what the backward segment computes again.
func (p *Plan) recompute(o CompileOptions) {
	r := newRetakes(p, o.Tapes)
	steps := r.steps()
	// planned is the plan with the first steps taken, and its exact bytes.
	planned := func(taken int) (*Plan, int64) {
		clear(r.dropped)
		for _, s := range steps[:taken+1] {
			for _, t := range s.drops {
				r.dropped[t] = true
			}
		}
		r.measure()
		q := r.write()
		q.params()
		if err := q.allocate(o); err != nil {
			return q, 0 // and compiling p says so
		}
		return q, r.tapes*q.TapeBytes + q.ScratchBytes
	}
	for taken, s := range steps {
		if s.total > o.TapeBudget {
			continue
		}
		if q, bytes := planned(taken); bytes <= o.TapeBudget {
			p.adopt(q)
			return
		}
	}
	// None fits: the smallest. What measure counts is never more than the plan.
	var smallest *Plan
	var least int64
	order := make([]int, len(steps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(steps[a].total, steps[b].total) })
	for _, taken := range order {
		if smallest != nil && steps[taken].total >= least {
			break
		}
		if q, bytes := planned(taken); smallest == nil || bytes < least {
			smallest, least = q, bytes
		}
	}
	p.adopt(smallest)
}

// adopt takes over the program of q, its places aside.
func (p *Plan) adopt(q *Plan) {
	p.Segments, p.written = q.Segments, q.written
	p.Recomputed, p.RecomputedMultiplyAdds = q.Recomputed, q.RecomputedMultiplyAdds
}

// write returns the plan's program with the backward segment as measure ordered
// it: copies of the forward's nodes where they are computed again, and of those
// that read one.
func (r *retakes) write() *Plan {
	forward, backward := r.p.Segments[0], r.p.Segments[1]
	q := &Plan{slots: map[*Node]Slot{}, written: maps.Clone(r.p.written), RecomputedMultiplyAdds: r.multiply}
	copies := map[*Node]*Node{}
	var resolve func(n *Node) *Node
	resolve = func(n *Node) *Node {
		if c := copies[n]; c != nil || n.Op != OpReshape {
			return cmp.Or(c, n)
		}
		if in := resolve(n.Inputs[0]); in != n.Inputs[0] {
			view := *n
			view.Inputs = []*Node{in}
			copies[n] = &view
			return &view
		}
		return n
	}
	backward.Nodes = nil
	blocks := map[int]bool{}
	for _, t := range r.order {
		n := r.nodes[t]
		if n.Op == OpInput {
			continue
		}
		inputs, changed := make([]*Node, len(n.Inputs)), t < r.first
		for i, in := range n.Inputs {
			inputs[i] = resolve(in)
			changed = changed || inputs[i] != in
		}
		if changed {
			c := *n
			c.Inputs = inputs
			copies[n] = &c
			if t >= r.first {
				q.written[n] = &c // fetched under the name of the graph's node
			} else {
				blocks[n.block] = true
			}
			n = &c
		}
		backward.Nodes = append(backward.Nodes, n)
	}
	for i, name := range forward.Wanted[0].graph.blocks {
		if blocks[i+1] {
			q.Recomputed = append(q.Recomputed, name)
		}
	}
	q.Segments = []Segment{forward, backward}
	return q
}
