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
	params   map[*graph.Node]*vector[T]
	owned    []*vector[T] // constants uploaded by Compile
	segments [][]step[T]
	live     bool // not released
}

// step is one kernel and where its operands lie.
type step[T Float] struct {
	node   *graph.Node
	kernel kernel[T]
	out    place[T]
	in     []place[T]
	call   call[T]
}

// place is a range of a region; a parameter carries its own memory.
type place[T Float] struct {
	region   graph.Region
	from, to int
	param    []T
}

func (p place[T]) of(scratch, tape []T) []T {
	switch p.region {
	case graph.RegionScratch:
		return scratch[p.from:p.to]
	case graph.RegionTape:
		return tape[p.from:p.to]
	}
	return p.param
}

// Compile makes a plan's kernels and reserves its memory. Constants that params
// does not hold are uploaded.
func (e *Executor[T]) Compile(plan *graph.Plan, params map[*graph.Node]graph.Tensor) (graph.Program, error) {
	p := &program[T]{e: e, plan: plan, params: map[*graph.Node]*vector[T]{}, live: true}
	e.programs++
	if err := p.bind(params); err != nil {
		p.Release()
		return nil, err
	}
	shared, local := 0, 0
	for _, segment := range plan.Segments {
		steps := make([]step[T], len(segment.Nodes))
		for i, n := range segment.Nodes {
			maker := e.kernels[n.Op]
			if maker == nil {
				p.Release()
				return nil, fmt.Errorf("cpu: no kernel for %v", n)
			}
			s := step[T]{node: n, kernel: maker(e, n), out: p.place(n)}
			for _, in := range n.Inputs {
				s.in = append(s.in, p.place(in))
			}
			s.call.in = make([][]T, len(s.in))
			shared, local = max(shared, s.kernel.shared), max(local, s.kernel.local)
			steps[i] = s
		}
		p.segments = append(p.segments, steps)
	}
	if err := e.reserve(elements(plan.ScratchBytes), shared, local); err != nil {
		p.Release()
		return nil, err
	}
	return p, nil
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
		v, err := p.e.vector(t)
		if err != nil {
			return fmt.Errorf("%v: %w", n, err)
		}
		if len(v.data) != n.Shape.Size() {
			return lengthError(n.String(), len(v.data), n.Shape.Size())
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
	from := elements(slot.Offset)
	at := place[T]{region: slot.Region, from: from, to: from + size}
	if slot.Region == graph.RegionParam {
		at.param = p.params[n].data
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
		p.e.scratch, p.e.shared = nil, nil
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
	c.shared = p.e.shared
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
