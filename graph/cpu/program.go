package cpu

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/sdo-go/sdo/graph"
)

// program is a plan with its kernels made. Run resolves places to slices and
// replays; it allocates nothing.
type program[T Float] struct {
	e        *Executor[T]
	plan     *graph.Plan
	layout   arenaLayout
	params   map[*graph.Node]*vector[T]
	owned    []*vector[T] // constants uploaded by Compile
	segments [][]step[T]
	live     bool // not released
}

// arenaLayout is what an arena holds for a program, in elements, in this order.
type arenaLayout struct {
	plan    int // tensors
	shared  int // working memory of one kernel
	halves  int // packed operands of one kernel, unpacked
	private int // working memory of all workers
}

func (l arenaLayout) size() int { return l.plan + l.shared + l.halves + l.private }

// step is one kernel and where its operands lie.
type step[T Float] struct {
	node   *graph.Node
	kernel kernel[T]
	out    place[T]
	in     []place[T]
	unpack []phase[T] // of operands that are held packed
	call   call[T]
}

// place is a range of a region; a parameter carries its own memory.
type place[T Float] struct {
	region   graph.Region
	from, to int
	param    *vector[T]
}

func (p place[T]) of(scratch, tape []T) []T {
	switch p.region {
	case graph.RegionScratch:
		return scratch[p.from:p.to]
	case graph.RegionTape:
		return tape[p.from:p.to]
	}
	return p.param.data
}

// make makes the kernels of a plan and counts what the arena must hold.
func (e *Executor[T]) make(plan *graph.Plan) (kernels [][]kernel[T], l arenaLayout, err error) {
	l.plan = elements(plan.ScratchBytes)
	for _, segment := range plan.Segments {
		made := make([]kernel[T], len(segment.Nodes))
		for i, n := range segment.Nodes {
			maker := e.kernels[n.Op]
			if maker == nil {
				return nil, l, fmt.Errorf("cpu: no kernel for %v", n)
			}
			made[i] = maker(e, n)
			halves := 0
			for k, in := range n.Inputs {
				if !(k == 0 && made[i].halves) {
					halves += unpacked(in)
				}
			}
			l.shared, l.halves = max(l.shared, aligned(made[i].shared)), max(l.halves, halves)
			l.private = max(l.private, e.workers*aligned(made[i].local))
		}
		kernels = append(kernels, made)
	}
	return kernels, l, nil
}

// unpacked is how many numbers an operand takes once more because it is a
// parameter that is held packed.
func unpacked(n *graph.Node) int {
	for n.Op == graph.OpReshape {
		n = n.Inputs[0]
	}
	if n.Op == graph.OpParam && heldPacked(n.Shape.Size(), n.Storage) {
		return aligned(n.Shape.Size())
	}
	return 0
}

// aligned rounds up to what keeps the next operand on a boundary of 256 bytes:
// the order in which assembly adds depends on where its operands begin.
func aligned(elements int) int { return (elements + 63) / 64 * 64 }

// Compile makes a plan's kernels and reserves its memory. Constants that params
// does not hold are uploaded.
func (e *Executor[T]) Compile(plan *graph.Plan, params map[*graph.Node]graph.Tensor) (graph.Program, error) {
	p := &program[T]{e: e, plan: plan, params: map[*graph.Node]*vector[T]{}, live: true}
	e.programs++
	kernels, layout, err := e.make(plan)
	if err == nil {
		err = p.bind(params)
	}
	if err == nil {
		err = e.reserve(layout.size())
	}
	if err != nil {
		p.Release()
		return nil, err
	}
	p.layout = layout
	for s, segment := range plan.Segments {
		steps := make([]step[T], len(segment.Nodes))
		for i, n := range segment.Nodes {
			steps[i] = p.newStep(n, kernels[s][i])
		}
		p.segments = append(p.segments, steps)
	}
	return p, nil
}

// newStep finds the operands of a kernel. Those held packed get a place in the
// arena, and a phase that unpacks them there.
func (p *program[T]) newStep(n *graph.Node, k kernel[T]) step[T] {
	s := step[T]{node: n, kernel: k, out: p.place(n)}
	s.call.in = make([][]T, len(n.Inputs))
	at := p.layout.plan + p.layout.shared
	for i, in := range n.Inputs {
		place := p.place(in)
		if place.param != nil && place.param.half != nil {
			half := place.param.half
			if i == 0 && k.halves {
				s.call.half = half
				s.in = append(s.in, place)
				continue
			}
			place.region, place.from, place.to = graph.RegionScratch, at, at+len(half)
			at += aligned(len(half))
			s.unpack = append(s.unpack, phase[T]{len(half), 4, func(c *call[T], lo, hi int) {
				unpackHalves(c.in[i][lo:hi], half[lo:hi])
			}})
		}
		s.in = append(s.in, place)
	}
	return s
}

// bind finds the memory of every parameter of the plan.
func (p *program[T]) bind(params map[*graph.Node]graph.Tensor) error {
	for _, n := range p.plan.Params {
		t := params[n]
		if t == nil && n.Op == graph.OpConst {
			uploaded, err := p.e.NewParam(n.Data, graph.F32)
			if err != nil {
				return err
			}
			t = uploaded
			p.owned = append(p.owned, uploaded.(*vector[T]))
		}
		if t == nil {
			return fmt.Errorf("cpu: %v was given no tensor", n)
		}
		v, err := p.e.own(t)
		if err != nil {
			return fmt.Errorf("%v: %w", n, err)
		}
		if v.size != n.Shape.Size() {
			return lengthError(n.String(), v.size, n.Shape.Size())
		}
		if (v.half != nil) != (unpacked(n) > 0) {
			return fmt.Errorf("cpu: %v was given a tensor of other storage", n)
		}
		p.params[n] = v
	}
	return nil
}

// place is where a node lies; a reshape lies where its input does.
func (p *program[T]) place(n *graph.Node) place[T] {
	size := n.Shape.Size()
	for n.Op == graph.OpReshape {
		n = n.Inputs[0]
	}
	slot := p.plan.Slot(n)
	buffers := p.plan.Scratch // one after the other in one piece
	if slot.Region == graph.RegionTape {
		buffers = p.plan.Tape
	}
	offset := slot.Offset
	if slot.Region != graph.RegionParam {
		for _, bytes := range buffers[:slot.Buffer] {
			offset += bytes
		}
	}
	from := elements(offset)
	at := place[T]{region: slot.Region, from: from, to: from + size}
	if slot.Region == graph.RegionParam {
		at.param = p.params[n]
	}
	return at
}

// Plan is the plan the program was made of.
func (p *program[T]) Plan() *graph.Plan { return p.plan }

// Release frees the constants; with the last program go the arena and the
// tapes that were kept for others.
func (p *program[T]) Release() {
	if !p.live {
		return
	}
	for _, v := range p.owned {
		p.e.FreeVector(v)
	}
	p.owned, p.segments, p.live = nil, nil, false
	if p.e.programs--; p.e.programs == 0 {
		p.e.activate(-len(p.e.scratch))
		p.e.scratch = nil
		clear(p.e.spare)
	}
}

// tape is the arena of one kept call.
type tape[T Float] struct {
	e    *Executor[T]
	data []T
}

// NewTape takes a released tape of the same size, or allocates.
func (p *program[T]) NewTape() (graph.Tape, error) {
	size := elements(p.plan.TapeBytes)
	t := &tape[T]{e: p.e}
	if spare := p.e.spare[size]; len(spare) > 0 {
		t.data = spare[len(spare)-1]
		p.e.spare[size] = spare[:len(spare)-1]
	} else {
		if err := Room(bytesOf[T](size)); err != nil {
			return nil, err
		}
		t.data = make([]T, size)
	}
	p.e.activate(size)
	return t, nil
}

func (t *tape[T]) Bytes() int64 { return bytesOf[T](len(t.data)) }

// Release gives the arena back for the next kept call.
func (t *tape[T]) Release() {
	if t.data == nil {
		return
	}
	t.e.spare[len(t.data)] = append(t.e.spare[len(t.data)], t.data)
	t.e.activate(-len(t.data))
	t.data = nil
}

// Run feeds, computes and fetches. The context is looked at before each kernel.
func (p *program[T]) Run(ctx context.Context, kept graph.Tape, segment int, feeds []graph.Feed, fetches []graph.Fetch) error {
	if segment < 0 || segment >= len(p.segments) {
		return fmt.Errorf("cpu: segment %d of a program with %d", segment, len(p.segments))
	}
	var taped []T
	if t, ok := kept.(*tape[T]); ok && t != nil {
		taped = t.data
	}
	if want := elements(p.plan.TapeBytes); len(taped) < want {
		return lengthError("the tape (or a released one)", len(taped), want)
	}
	for _, in := range p.plan.Segments[segment].Inputs {
		if !fed(in, feeds) {
			return fmt.Errorf("cpu: %v was not fed", in)
		}
	}
	for _, f := range feeds {
		if err := p.feed(f, taped); err != nil {
			return err
		}
	}
	for i := range p.segments[segment] {
		if err := ctx.Err(); err != nil {
			return err
		}
		s := &p.segments[segment][i]
		p.step(s, taped)
		if p.e.trace {
			if err := finite(s); err != nil {
				return err
			}
		}
	}
	for _, f := range fetches {
		v, err := p.e.vector(f.To)
		if err != nil {
			return err
		}
		x := p.place(f.Node).of(p.e.scratch, taped)
		if len(v.data) != len(x) {
			return lengthError(fmt.Sprintf("the tensor for %v", f.Node), len(v.data), len(x))
		}
		copy(v.data, x)
	}
	return nil
}

func fed(n *graph.Node, feeds []graph.Feed) bool {
	for i := range feeds {
		if feeds[i].Node == n {
			return true
		}
	}
	return false
}

func (p *program[T]) feed(f graph.Feed, taped []T) error {
	if f.Node == nil || f.Node.Op != graph.OpInput {
		return fmt.Errorf("cpu: %v is not an input and cannot be fed", f.Node)
	}
	slot := p.plan.Slot(f.Node)
	if slot.Bytes == 0 {
		return fmt.Errorf("cpu: %v is not used by the plan", f.Node)
	}
	dst := p.place(f.Node).of(p.e.scratch, taped)
	if f.From == nil {
		fill(dst, T(f.Value))
		return nil
	}
	v, err := p.e.vector(f.From)
	if err != nil {
		return err
	}
	if len(v.data) != len(dst) {
		return lengthError(fmt.Sprintf("the tensor for %v", f.Node), len(v.data), len(dst))
	}
	for i, x := range v.data {
		dst[i] = flush(x)
	}
	return nil
}

func (p *program[T]) step(s *step[T], taped []T) {
	c := &s.call
	c.out = s.out.of(p.e.scratch, taped)
	for i, in := range s.in {
		c.in[i] = in.of(p.e.scratch, taped)
	}
	shared, private := p.layout.plan, p.layout.size()-p.layout.private
	c.shared, c.local = p.e.scratch[shared:shared+p.layout.shared], p.e.scratch[private:p.layout.size()]
	for i := range s.unpack {
		p.e.pool.run(&s.unpack[i], c)
	}
	for i := range s.kernel.phases {
		p.e.pool.run(&s.kernel.phases[i], c)
	}
}

// finite names the first number that is not, and which operands already held
// one.
func finite[T Float](s *step[T]) error {
	i := firstNonFinite(s.call.out)
	if i < 0 {
		return nil
	}
	err := fmt.Errorf("cpu: %v: element %d is %v", s.node, i, s.call.out[i])
	for k, in := range s.call.in {
		if j := firstNonFinite(in); j >= 0 {
			err = errors.Join(err, fmt.Errorf("its operand %v: element %d is %v", s.node.Inputs[k], j, in[j]))
		}
	}
	return err
}

func firstNonFinite[T Float](x []T) int {
	for i, v := range x {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return i
		}
	}
	return -1
}
