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

// Slot is a tensor's place: an offset into its region's arena. Bytes counts
// four a number; an executor with wider numbers scales both.
type Slot struct {
	Region        Region
	Offset, Bytes int64
}

// Segment is a run of kernels with no caller in between. A plan for a kept call
// has two: forward, then backward.
type Segment struct {
	Inputs []*Node // fed before the segment runs
	Nodes  []*Node // kernels in order
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

	slots map[*Node]Slot
}

// Slot is where n lives. A reshape lives where its input does.
func (p *Plan) Slot(n *Node) Slot { return p.slots[root(n)] }

// root resolves reshapes, which are views.
func root(n *Node) *Node {
	for n.Op == OpReshape {
		n = n.Inputs[0]
	}
	return n
}

// life is a tensor that needs a place: from the kernel that writes it to the
// last that reads it, in kernel numbers of one segment.
type life struct {
	node     *Node
	from, to int
	offset   int64
}

// CompileOptions are what a plan must keep to. The zero value asks for nothing:
// every tensor that the backward reads is kept, buffers and bindings have no
// limit.
type CompileOptions struct {
	// TapeBudget is the bytes that one kept call may take, tape and scratch arena
	// together. A plan that needs more computes blocks of the graph again in its
	// backward segment instead of keeping what they hold. 0 keeps everything.
	TapeBudget int64
	MaxBuffer  int64 // bytes of one buffer of the device, 0 for no limit
	MaxBinding int64 // bytes of one tensor as the device's kernels see it, 0 for no limit
}

// CompileWith is Compile under limits.
func CompileWith(g *Graph, o CompileOptions, segments ...[]*Node) (*Plan, error) {
	return compile(g, o, segments)
}

// Compile orders the nodes that the wanted tensors of each segment need and
// gives each a place. What an earlier segment computes and a later one reads
// is pinned on the tape; everything else shares the scratch arena. A segment
// without wanted tensors is an error.
func Compile(g *Graph, segments ...[]*Node) (*Plan, error) {
	return compile(g, CompileOptions{}, segments)
}

func compile(g *Graph, o CompileOptions, segments [][]*Node) (*Plan, error) {
	p := &Plan{slots: map[*Node]Slot{}}
	segmentOf := map[*Node]int{} // of computed nodes and inputs
	for s, wanted := range segments {
		if len(wanted) == 0 {
			return nil, fmt.Errorf("plan: segment %d asks for nothing", s)
		}
		needed := make([]bool, len(g.Nodes))
		for _, w := range wanted {
			if w == nil || w.graph != g {
				return nil, fmt.Errorf("plan: segment %d asks for a node of another graph: %v", s, w)
			}
			needed[w.ID] = true
		}
		segment := Segment{Wanted: wanted}
		for id := len(g.Nodes) - 1; id >= 0; id-- {
			n := g.Nodes[id]
			if _, done := segmentOf[n]; done || !needed[id] {
				continue
			}
			for _, in := range n.Inputs {
				needed[in.ID] = true
			}
			switch n.Op {
			case OpParam, OpConst:
				if _, known := p.slots[n]; !known {
					bytes := storedBytes(n)
					p.slots[n] = Slot{Region: RegionParam, Bytes: bytes}
					p.Params = append(p.Params, n)
					p.ParamBytes += bytes
				}
			case OpInput:
				segmentOf[n] = s
				segment.Inputs = append(segment.Inputs, n)
			case OpReshape:
			default:
				segmentOf[n] = s
				segment.Nodes = append(segment.Nodes, n)
			}
		}
		slices.Reverse(segment.Inputs)
		slices.Reverse(segment.Nodes)
		p.Segments = append(p.Segments, segment)
	}
	slices.SortFunc(p.Params, func(a, b *Node) int { return cmp.Compare(a.ID, b.ID) })
	p.pin(segmentOf)
	for s := range p.Segments {
		p.ScratchBytes = max(p.ScratchBytes, p.place(&p.Segments[s]))
	}
	return p, nil
}

func storedBytes(n *Node) int64 {
	words := n.Shape.Size()
	if n.Storage == F16 {
		words = (words + 1) / 2
	}
	return int64(words) * 4
}

func align(bytes int64) int64 { return (bytes + slotAlign - 1) / slotAlign * slotAlign }

// pin puts on the tape what one segment makes and a later one reads.
func (p *Plan) pin(segmentOf map[*Node]int) {
	pinned := func(n *Node, reader int) {
		n = root(n)
		made, computed := segmentOf[n]
		if _, placed := p.slots[n]; !computed || placed || made == reader {
			return
		}
		bytes := int64(n.Shape.Size()) * 4
		p.slots[n] = Slot{RegionTape, p.TapeBytes, bytes}
		p.TapeBytes += align(bytes)
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

// place packs a segment's remaining tensors into the scratch arena and returns
// its size. Largest first, each at the lowest offset that no tensor alive at
// the same time covers: the greedy-by-size order of Pisarchyk and Lee,
// "Efficient memory management for deep neural net inference" (2020).
func (p *Plan) place(segment *Segment) (size int64) {
	lives := map[*Node]*life{}
	born := func(n *Node, at int) {
		if _, placed := p.slots[n]; !placed {
			lives[n] = &life{node: n, from: at, to: at}
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
		if l := lives[root(w)]; l != nil {
			l.to = len(segment.Nodes)
		}
	}

	queue := make([]*life, 0, len(lives))
	for _, l := range lives {
		queue = append(queue, l)
	}
	slices.SortFunc(queue, func(a, b *life) int {
		return cmp.Or(cmp.Compare(b.node.Shape.Size(), a.node.Shape.Size()), cmp.Compare(a.node.ID, b.node.ID))
	})
	var placed []*life // by offset
	for _, l := range queue {
		bytes := int64(l.node.Shape.Size()) * 4
		for _, other := range placed {
			if other.to < l.from || l.to < other.from {
				continue
			}
			if l.offset+bytes <= other.offset {
				break // the gap below other is wide enough
			}
			l.offset = max(l.offset, other.offset+align(int64(other.node.Shape.Size())*4))
		}
		at, _ := slices.BinarySearchFunc(placed, l, func(a, b *life) int { return cmp.Compare(a.offset, b.offset) })
		placed = slices.Insert(placed, at, l)
		p.slots[l.node] = Slot{RegionScratch, l.offset, bytes}
		size = max(size, l.offset+align(bytes))
	}
	return size
}
