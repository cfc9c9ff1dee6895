package graph

import (
	"cmp"
	"fmt"
	"slices"
)

// Region says which memory a tensor lives in.
type Region int

const (
	RegionParam   Region = iota // parameters and constants, resident for as long as the model
	RegionScratch               // one arena per executor, reused by every call
	RegionTape                  // one arena per kept call, alive from its forward to its backward
)

func (r Region) String() string { return [...]string{"param", "scratch", "tape"}[r] }

// slotAlign is WebGPU's default alignment of a storage buffer's binding offset.
const slotAlign = 256

// Slot is a tensor's place: an offset into one of the buffers of its region's
// arena. Bytes counts four a number; an executor with wider numbers scales both.
type Slot struct {
	Region        Region
	Buffer        int
	Offset, Bytes int64
}

// Segment is a run of kernels with no caller in between. A plan for a kept call
// has two: forward, then backward.
type Segment struct {
	Inputs []*Node // fed before the segment runs
	Nodes  []*Node // kernels in order; some are the plan's own and not the graph's
	Wanted []*Node // may be fetched after the segment ran
}

// Plan is a compiled graph: an order, and a place for every tensor. Its byte
// counts are exact and known before anything is allocated.
type Plan struct {
	Segments     []Segment
	Params       []*Node // parameters and constants in use
	ScratchBytes int64   // arena shared by all segments
	TapeBytes    int64   // pinned by one kept call
	ParamBytes   int64   // parameters as stored

	// The buffers of the two arenas, which are one each unless
	// CompileOptions.MaxBuffer was too small for it.
	Scratch, Tape []int64

	// Recomputed names the blocks of which the backward segment computes something
	// again, in the order of the graph, and RecomputedMultiplyAdds is what that
	// costs a call. Segment.MultiplyAdds counts it.
	Recomputed             []string
	RecomputedMultiplyAdds int64

	slots   map[*Node]Slot
	written map[*Node]*Node // what computes a node of the graph in its place
}

// Slot is where n lives. A reshape lives where its input does.
func (p *Plan) Slot(n *Node) Slot { return p.slots[p.own(n)] }

// root resolves reshapes, which are views.
func root(n *Node) *Node {
	for n.Op == OpReshape {
		n = n.Inputs[0]
	}
	return n
}

// CompileOptions are what a plan must keep to. The zero value asks for nothing:
// every tensor that the backward reads is kept, buffers and bindings have no
// limit.
type CompileOptions struct {
	// TapeBudget is the bytes that kept calls may take, their tapes and the
	// scratch arena together. A plan that needs more computes part of the graph's
	// blocks again in its backward segment instead of keeping what they hold: as
	// little as the budget asks for, or what makes it smallest where none fits. 0
	// keeps everything.
	TapeBudget int64
	Tapes      int   // kept calls alive at once that the budget counts; 0 is 1
	MaxBuffer  int64 // bytes of one buffer of the device, 0 for no limit
	MaxBinding int64 // bytes of one tensor as the device's kernels see it, 0 for no limit
}

// Compile orders the nodes that the wanted tensors of each segment need and
// gives each a place. What an earlier segment computes and a later one reads
// is pinned on the tape; everything else shares the scratch arena. A segment
// without wanted tensors is an error.
func Compile(g *Graph, segments ...[]*Node) (*Plan, error) {
	return CompileWith(g, CompileOptions{}, segments...)
}

// CompileWith is Compile under limits. Inputs and wanted tensors are those of
// the graph whatever the plan makes of what lies between.
func CompileWith(g *Graph, o CompileOptions, segments ...[]*Node) (*Plan, error) {
	p := &Plan{slots: map[*Node]Slot{}, written: map[*Node]*Node{}}
	if err := p.order(g, segments); err != nil {
		return nil, err
	}
	if o.MaxBinding > 0 {
		if err := p.split(o.MaxBinding); err != nil {
			return nil, err
		}
	}
	if o.TapeBudget > 0 && len(p.Segments) == 2 {
		p.recompute(o)
	}
	p.params()
	if err := p.allocate(o); err != nil {
		return nil, err
	}
	return p, nil
}

// order sorts the nodes that each segment needs and no earlier one computes.
func (p *Plan) order(g *Graph, segments [][]*Node) error {
	done := make([]bool, len(g.Nodes))
	for s, wanted := range segments {
		if len(wanted) == 0 {
			return fmt.Errorf("plan: segment %d asks for nothing", s)
		}
		needed := make([]bool, len(g.Nodes))
		for _, w := range wanted {
			if w == nil || w.graph != g {
				return fmt.Errorf("plan: segment %d asks for a node of another graph: %v", s, w)
			}
			needed[w.ID] = true
		}
		segment := Segment{Wanted: wanted}
		for id := len(g.Nodes) - 1; id >= 0; id-- {
			n := g.Nodes[id]
			if done[id] || !needed[id] {
				continue
			}
			for _, in := range n.Inputs {
				needed[in.ID] = true
			}
			switch n.Op {
			case OpParam, OpConst, OpReshape:
				continue
			case OpInput:
				segment.Inputs = append(segment.Inputs, n)
			default:
				segment.Nodes = append(segment.Nodes, n)
			}
			done[id] = true
		}
		slices.Reverse(segment.Inputs)
		slices.Reverse(segment.Nodes)
		p.Segments = append(p.Segments, segment)
	}
	return nil
}

// params lists the parameters and constants that the segments read.
func (p *Plan) params() {
	read := func(n *Node) {
		n = root(n)
		if _, known := p.slots[n]; known || n.Op != OpParam && n.Op != OpConst {
			return
		}
		bytes := storedBytes(n)
		p.slots[n] = Slot{Region: RegionParam, Bytes: bytes}
		p.Params = append(p.Params, n)
		p.ParamBytes += bytes
	}
	for _, segment := range p.Segments {
		for _, n := range segment.Nodes {
			for _, in := range n.Inputs {
				read(in)
			}
		}
		for _, w := range segment.Wanted {
			read(w)
		}
	}
	slices.SortFunc(p.Params, func(a, b *Node) int { return cmp.Compare(a.ID, b.ID) })
}

func storedBytes(n *Node) int64 {
	words := n.Shape.Size()
	if n.Storage == F16 {
		words = (words + 1) / 2
	}
	return int64(words) * 4
}

func align(bytes int64) int64 { return (bytes + slotAlign - 1) / slotAlign * slotAlign }

func bytesOf(n *Node) int64 { return int64(n.Shape.Size()) * 4 }

// allocate gives every tensor that is no parameter its place.
func (p *Plan) allocate(o CompileOptions) error {
	o.MaxBuffer = o.MaxBuffer / slotAlign * slotAlign
	if err := p.fits(o); err != nil {
		return err
	}
	tape, scratch := arena{limit: o.MaxBuffer}, arena{limit: o.MaxBuffer}
	p.pin(&tape)
	for _, segment := range p.Segments {
		p.place(segment, &scratch)
	}
	p.Tape, p.Scratch = tape.buffers, scratch.buffers
	for _, bytes := range p.Tape {
		p.TapeBytes += bytes
	}
	for _, bytes := range p.Scratch {
		p.ScratchBytes += bytes
	}
	return nil
}

// fits refuses a tensor that is larger than the device can hold in one piece.
func (p *Plan) fits(o CompileOptions) error {
	check := func(n *Node, bytes, limit int64) error {
		if bytes > limit || o.MaxBuffer > 0 && align(bytes) > o.MaxBuffer {
			return fmt.Errorf("plan: %w: %v takes %d bytes and the device holds at most %d in one piece; try fewer or smaller pictures",
				ErrTooLarge, n, bytes, limit)
		}
		return nil
	}
	buffer, binding := cmp.Or(o.MaxBuffer, 1<<62), cmp.Or(o.MaxBinding, 1<<62)
	for _, n := range p.Params { // seen in parts, if need be
		if err := check(n, storedBytes(n), buffer); err != nil {
			return err
		}
	}
	for _, segment := range p.Segments {
		for _, n := range slices.Concat(segment.Inputs, segment.Nodes) {
			if err := check(n, bytesOf(n), min(buffer, binding)); err != nil {
				return err
			}
		}
	}
	return nil
}

// arena is memory in buffers of limited size, addressed as if they followed each
// other: buffer b begins at b*limit. Without a limit it is one buffer.
type arena struct {
	limit   int64
	buffers []int64 // bytes used of each
}

// avoid returns the first address from at on where bytes lie within one buffer.
func (a *arena) avoid(at, bytes int64) int64 {
	if a.limit > 0 && at/a.limit != (at+bytes-1)/a.limit {
		return (at/a.limit + 1) * a.limit
	}
	return at
}

// use makes room for bytes at an address and returns it as a place.
func (a *arena) use(region Region, at, bytes int64) Slot {
	buffer := 0
	if a.limit > 0 {
		buffer, at = int(at/a.limit), at%a.limit
	}
	for len(a.buffers) <= buffer {
		a.buffers = append(a.buffers, 0)
	}
	a.buffers[buffer] = max(a.buffers[buffer], at+align(bytes))
	return Slot{region, buffer, at, bytes}
}

// pin puts on the tape what one segment makes and a later one reads.
func (p *Plan) pin(tape *arena) {
	madeBy := map[*Node]int{} // segments, of what is not a parameter
	for s, segment := range p.Segments {
		for _, n := range slices.Concat(segment.Inputs, segment.Nodes) {
			madeBy[n] = s
		}
	}
	end := int64(0)
	pinned := func(n *Node, reader int) {
		n = p.own(n)
		made, computed := madeBy[n]
		if _, placed := p.slots[n]; !computed || placed || made == reader {
			return
		}
		bytes := bytesOf(n)
		end = tape.avoid(end, align(bytes))
		p.slots[n] = tape.use(RegionTape, end, bytes)
		end += align(bytes)
	}
	for s, segment := range p.Segments {
		for _, n := range segment.Nodes {
			for _, in := range n.Inputs {
				pinned(in, s)
			}
		}
		for _, w := range segment.Wanted {
			pinned(w, s)
		}
	}
}

// own is the node that computes n in this plan.
func (p *Plan) own(n *Node) *Node {
	n = root(n)
	for own := p.written[n]; own != nil; own = p.written[n] {
		n = own
	}
	return n
}

// life is a tensor that needs a place: from the kernel that writes it to the
// last that reads it, in kernel numbers of one segment.
type life struct {
	node          *Node
	bytes, offset int64
	from, to      int
}

// place packs a segment's remaining tensors into the scratch arena. Largest
// first, each at the lowest address that no tensor alive at the same time
// covers: the greedy-by-size order of Pisarchyk and Lee, "Efficient memory
// management for deep neural net inference" (2020).
func (p *Plan) place(segment Segment, scratch *arena) {
	lives := map[*Node]*life{}
	born := func(n *Node, at int) {
		if _, placed := p.slots[n]; !placed {
			lives[n] = &life{node: n, bytes: align(bytesOf(n)), from: at, to: at}
		}
	}
	for _, n := range segment.Inputs {
		born(n, -1) // all inputs are fed before the first kernel
	}
	for i, n := range segment.Nodes {
		born(n, i)
		for _, in := range n.Inputs {
			if l := lives[root(in)]; l != nil {
				l.to = i
			}
		}
	}
	for _, w := range segment.Wanted {
		if l := lives[p.own(w)]; l != nil {
			l.to = len(segment.Nodes)
		}
	}

	queue := make([]*life, 0, len(lives))
	for _, n := range slices.Concat(segment.Inputs, segment.Nodes) {
		if l := lives[n]; l != nil {
			queue = append(queue, l)
		}
	}
	slices.SortStableFunc(queue, func(a, b *life) int {
		return cmp.Or(cmp.Compare(b.node.Shape.Size(), a.node.Shape.Size()), cmp.Compare(a.node.ID, b.node.ID))
	})
	var placed []*life // by address
	for _, l := range queue {
		for _, other := range placed {
			if other.to < l.from || l.to < other.from {
				continue
			}
			if l.offset+l.bytes <= other.offset {
				break // the gap below other is wide enough
			}
			l.offset = scratch.avoid(max(l.offset, other.offset+other.bytes), l.bytes)
		}
		at, _ := slices.BinarySearchFunc(placed, l, func(a, b *life) int { return cmp.Compare(a.offset, b.offset) })
		placed = slices.Insert(placed, at, l)
		p.slots[l.node] = scratch.use(RegionScratch, l.offset, bytesOf(l.node))
	}
}
