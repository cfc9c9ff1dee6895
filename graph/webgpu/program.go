package webgpu

import (
	"context"
	"fmt"
	"slices"

	"github.com/sdo-go/sdo/gpu"
	"github.com/sdo-go/sdo/graph"
)

// slotAlign is the alignment of storage offsets and of uniform blocks that
// every WebGPU device accepts.
const slotAlign = 256

func align(n int64) int64 { return (n + slotAlign - 1) / slotAlign * slotAlign }

// wholeVectors rounds up to 16 bytes. Every binding covers whole vec4s, so that
// a kernel may declare any tensor array<vec4<f32>> and load its last elements;
// what lies behind them is arbitrary.
func wholeVectors(n int64) int64 { return (n + 15) &^ 15 }

// place is where a binding's bytes are: a buffer of its own, or a range of the
// scratch or tape arena.
type place struct {
	region        graph.Region
	param         *gpu.Buffer // of RegionParam
	buffer        int         // of the arena
	offset, bytes int64
}

func (a place) overlaps(b place) bool {
	return a.region == b.region && a.param == b.param && a.buffer == b.buffer && a.offset < b.offset+b.bytes && b.offset < a.offset+a.bytes
}

// step is one dispatch of a program.
type step struct {
	node     *graph.Node // that it helps to compute
	shader   string
	pipeline *gpu.Pipeline
	block    uint32 // offset of its uniform block
	groups   [3]uint32
	bind     []place
	tape     bool // binds the tape: its bind group exists once per tape
}

// program is a plan with pipelines, uniform blocks and bind groups made.
type program struct {
	owner    *Executor
	plan     *graph.Plan
	params   map[*graph.Node]*vector
	consts   []*vector // uploaded by Compile, released with the program
	segments [][]step
	packed   [][]*packed // what the steps of a segment read and Run keeps up to date
	blocks   *gpu.Buffer // uniform blocks of all steps, written once
	blockMax int64       // bytes that one step's binding of blocks covers
	bound    [][]*gpu.Bindings
	arena    int // state of the executor's arena that bound refers to
	tapes    map[*tape]struct{}
}

// tape is the pinned memory of one kept call.
type tape struct {
	owner   *program
	buffers []*gpu.Buffer // nil once released
	bound   [][]*gpu.Bindings
	arena   int
}

// Compile specialises and compiles the kernels of a plan and makes its bind
// groups. A plan that does not fit the device is an error that wraps
// gpu.ErrOutOfMemory and names the bytes and the limit.
func (e *Executor) Compile(plan *graph.Plan, params map[*graph.Node]graph.Tensor) (graph.Program, error) {
	p := &program{owner: e, plan: plan, params: map[*graph.Node]*vector{}, tapes: map[*tape]struct{}{}}
	if err := p.compile(params); err != nil {
		p.Release()
		return nil, fmt.Errorf("compile: %w", err)
	}
	e.programs[p] = struct{}{}
	return p, nil
}

// ScratchBytes is the arena that plans share: the buffers of the largest, each
// with the temporaries of whichever node needs the most of them there.
func (e *Executor) ScratchBytes(plans ...*graph.Plan) (total int64) {
	var most []int64
	for _, plan := range plans {
		sizes := slices.Clone(plan.Scratch)
		for _, segment := range plan.Segments {
			for _, n := range segment.Nodes {
				used := arena{sizes: slices.Clone(plan.Scratch), limit: e.device.Limits().MaxBuffer}
				for _, bytes := range e.temporaries(plan, n) {
					used.take(bytes)
				}
				sizes = larger(sizes, used.sizes)
			}
		}
		most = larger(most, sizes)
	}
	for _, bytes := range most {
		total += bytes
	}
	return total
}

// arena is how much of each of its buffers is in use.
type arena struct {
	sizes []int64
	limit int64
}

// take finds room behind what is in use, in a further buffer if none has any.
func (a *arena) take(bytes int64) place {
	at := place{region: graph.RegionScratch, bytes: wholeVectors(bytes)}
	for ; ; at.buffer++ {
		if at.buffer == len(a.sizes) {
			a.sizes = append(a.sizes, 0)
		}
		at.offset = align(a.sizes[at.buffer])
		if end := at.offset + align(bytes); end <= a.limit || at.offset == 0 {
			a.sizes[at.buffer] = end
			return at
		}
	}
}

// larger are sizes that hold both a and b.
func larger(a, b []int64) []int64 {
	both := slices.Clone(a)
	for i, bytes := range b {
		if i == len(both) {
			both = append(both, 0)
		}
		both[i] = max(both[i], bytes)
	}
	return both
}

// temporaries are the bytes of what builder.build takes for one node, in order.
// A node that has no kernel takes nothing here and fails at Compile.
func (e *Executor) temporaries(plan *graph.Plan, n *graph.Node) (sizes []int64) {
	layOut, ok := kernels[n.Op]
	if !ok {
		return nil
	}
	launches, err := layOut(n, e.preset)
	if err != nil {
		return nil
	}
	spaces := temps(n, e.preset)
	for _, l := range launches {
		if k, ok := lasting(plan, l); ok {
			spaces[k] = 0
		}
	}
	for _, bytes := range spaces {
		if bytes > 0 {
			sizes = append(sizes, bytes)
		}
	}
	for _, l := range launches {
		for i, o := range l.bind {
			if o.node == nil {
				continue
			}
			at := plan.Slot(o.node)
			twice := slices.ContainsFunc(l.bind[:i], func(earlier operand) bool {
				if earlier.node == nil || at.Region == graph.RegionParam {
					return earlier.node == o.node // a parameter has a buffer of its own
				}
				return plan.Slot(earlier.node) == at
			})
			if twice {
				sizes = append(sizes, wholeVectors(at.Bytes))
			}
		}
	}
	return sizes
}

func (p *program) compile(params map[*graph.Node]graph.Tensor) error {
	e, limits := p.owner, p.owner.device.Limits()
	if err := e.device.Err(); err != nil {
		return fmt.Errorf("earlier work failed: %w", err)
	}
	for what, buffers := range map[string][]int64{"activations": p.plan.Scratch, "kept activations": p.plan.Tape} {
		for _, bytes := range buffers {
			if bytes > limits.MaxBuffer {
				return fmt.Errorf("%w: the %s need a buffer of %d bytes and one of %s holds at most %d",
					gpu.ErrOutOfMemory, what, bytes, e.device.Info().Name, limits.MaxBuffer)
			}
		}
	}
	if err := p.resolve(params); err != nil {
		return err
	}

	var blocks []byte
	scratch := p.plan.Scratch
	for _, segment := range p.plan.Segments {
		var steps []step
		p.packed = append(p.packed, nil)
		for _, n := range segment.Nodes {
			b := builder{p: p, node: n, blocks: blocks, scratch: arena{slices.Clone(p.plan.Scratch), limits.MaxBuffer}}
			if err := b.build(); err != nil {
				return fmt.Errorf("%v: %w", n, err)
			}
			steps = append(steps, b.steps...)
			blocks, scratch = b.blocks, larger(scratch, b.scratch.sizes)
		}
		p.segments = append(p.segments, steps)
	}
	if err := e.reserveScratch(scratch); err != nil {
		return err
	}
	// One binding serves every block, so the last needs room for the longest.
	blocks = append(blocks, make([]byte, max(p.blockMax, slotAlign))...)
	var err error
	if p.blocks, err = e.device.NewBuffer("uniform blocks", int64(len(blocks)), gpu.Uniform); err != nil {
		return err
	}
	if err := e.device.Write(p.blocks, 0, blocks); err != nil {
		return err
	}
	if p.bound, err = p.bindSteps(nil); err != nil {
		return err
	}
	p.arena = e.arena
	return e.device.Settle()
}

// resolve finds the tensor of each parameter and uploads constants.
func (p *program) resolve(params map[*graph.Node]graph.Tensor) error {
	e := p.owner
	for _, n := range p.plan.Params {
		given, ok := params[n]
		if !ok && n.Op == graph.OpConst {
			uploaded, err := e.NewParam(n.Data, n.Storage)
			if err != nil {
				return fmt.Errorf("%v: %w", n, err)
			}
			p.consts = append(p.consts, uploaded.(*vector))
			given, ok = uploaded, true
		}
		if !ok {
			return fmt.Errorf("%v has no tensor", n)
		}
		v, err := e.own(n.String(), given)
		if err != nil {
			return err
		}
		if v.n != n.Shape.Size() || v.storage != n.Storage {
			return fmt.Errorf("%v wants %d elements in %s, its tensor has %d in %s",
				n, n.Shape.Size(), storageName(n.Storage), v.n, storageName(v.storage))
		}
		p.params[n] = v
	}
	return nil
}

func storageName(s graph.Storage) string {
	if s == graph.F16 {
		return "half precision"
	}
	return "single precision"
}

// place finds the bytes of a node's tensor.
func (p *program) place(n *graph.Node) (place, error) {
	slot := p.plan.Slot(n)
	if slot.Bytes == 0 {
		return place{}, fmt.Errorf("%v has no place in the plan", n)
	}
	at := place{region: slot.Region, buffer: slot.Buffer, offset: slot.Offset, bytes: wholeVectors(slot.Bytes)}
	if slot.Region == graph.RegionParam {
		at.param, at.offset = p.params[root(n)].buffer, 0
	}
	return at, nil
}

// builder turns the launches of one node into steps.
type builder struct {
	p       *program
	node    *graph.Node
	steps   []step
	blocks  []byte
	scratch arena // with what the node's kernels take besides
}

func (b *builder) build() error {
	layOut, ok := kernels[b.node.Op]
	if !ok {
		return fmt.Errorf("no GPU kernel for %q", b.node.Op)
	}
	launches, err := layOut(b.node, b.p.owner.preset)
	if err != nil {
		return err
	}
	sizes := temps(b.node, b.p.owner.preset)
	spaces := make([]place, len(sizes))
	for _, l := range launches {
		if k, ok := lasting(b.p.plan, l); ok {
			if spaces[k], err = b.keep(l, sizes[k]); err != nil {
				return fmt.Errorf("kernel %s: %w", l.shader, err)
			}
		}
	}
	for k, bytes := range sizes {
		if spaces[k].bytes == 0 {
			spaces[k] = b.scratch.take(bytes)
		}
	}
	for _, l := range launches {
		if _, ok := lasting(b.p.plan, l); ok {
			continue // Run does it when it must
		}
		bind := make([]place, len(l.bind))
		for i, o := range l.bind {
			switch {
			case o.unread:
				bind[i] = place{region: graph.RegionParam, param: b.p.owner.filler, bytes: slotAlign}
			case o.node == nil:
				bind[i] = spaces[o.temp]
			default:
				if bind[i], err = b.p.place(o.node); err != nil {
					return fmt.Errorf("kernel %s: %w", l.shader, err)
				}
				if o.to > 0 {
					bind[i].offset += o.from
					bind[i].bytes = wholeVectors(o.to - o.from)
				}
			}
		}
		if err := b.separate(l, bind); err != nil {
			return fmt.Errorf("kernel %s: %w", l.shader, err)
		}
		if err := b.add(l, bind); err != nil {
			return fmt.Errorf("kernel %s: %w", l.shader, err)
		}
	}
	return nil
}

// separate gives every binding its own bytes: WebGPU refuses a dispatch whose
// writable bindings overlap, and all bindings here are writable. An input that
// is bound twice (mul x x) is copied first; an output over an input would be a
// mistake of the plan.
func (b *builder) separate(l launch, bind []place) error {
	isOutput := func(o operand) bool { return o.node == nil || o.node == b.node }
	for i := range bind {
		for j := range i {
			if !bind[i].overlaps(bind[j]) {
				continue
			}
			if isOutput(l.bind[i]) || isOutput(l.bind[j]) {
				return fmt.Errorf("bindings %d and %d share memory and one of them is written", j+1, i+1)
			}
			original := bind[i]
			bind[i] = b.scratch.take(original.bytes)
			n := int(original.bytes / 4)
			e := b.p.owner
			copyTo, err := e.vectorPipeline("vector_copy", 2)
			if err != nil {
				return err
			}
			b.append("vector_copy", copyTo, []uint32{uint32(n)}, e.spread(n), []place{bind[i], original})
			break
		}
	}
	return nil
}

// add checks a launch against the device and compiles its kernel.
func (b *builder) add(l launch, bind []place) error {
	e := b.p.owner
	if err := checkGroups(l.groups); err != nil {
		return err
	}
	for i, at := range bind {
		if limit := e.device.Limits().MaxBinding; at.bytes > limit {
			return fmt.Errorf("%w: binding %d needs %d bytes and %s binds at most %d at once",
				gpu.ErrOutOfMemory, i+1, at.bytes, e.device.Info().Name, limit)
		}
	}
	p, err := e.pipeline(variant(l.shader, l.consts, len(bind)), l.shader, l.consts, len(bind))
	if err != nil {
		return err
	}
	b.append(l.shader, p, l.uniform, l.groups, bind)
	return nil
}

// check refuses a dispatch of more workgroups than every device allows.
func checkGroups(groups [3]uint32) error {
	for axis, count := range groups {
		if count < 1 || count > maxGroups {
			return fmt.Errorf("%d workgroups along axis %d; allowed are 1 to %d", count, axis, maxGroups)
		}
	}
	return nil
}

// append adds a step and its uniform block.
func (b *builder) append(shader string, pipeline *gpu.Pipeline, uniform []uint32, groups [3]uint32, bind []place) {
	block := make([]byte, align(max(4*int64(len(uniform)), 1)))
	putWords(block, uniform)
	onTape := func(at place) bool { return at.region == graph.RegionTape }
	b.steps = append(b.steps, step{b.node, shader, pipeline, uint32(len(b.blocks)), groups, bind, slices.ContainsFunc(bind, onTape)})
	b.blocks = append(b.blocks, block...)
	b.p.blockMax = max(b.p.blockMax, int64(len(block)))
}

// bindSteps makes the bind groups of the steps that bind the tape t, or of
// those that bind none when t is nil. The others stay nil.
func (p *program) bindSteps(t *tape) ([][]*gpu.Bindings, error) {
	uniform := gpu.Range{Buffer: p.blocks, Size: max(p.blockMax, slotAlign)}
	bound := make([][]*gpu.Bindings, len(p.segments))
	for k, steps := range p.segments {
		bound[k] = make([]*gpu.Bindings, len(steps))
		for i, s := range steps {
			if s.tape != (t != nil) {
				continue
			}
			ranges := make([]gpu.Range, len(s.bind))
			for j, at := range s.bind {
				ranges[j] = p.locate(at, t)
			}
			b, err := p.owner.device.Bind(uniform, ranges)
			if err != nil {
				p.owner.release(bound)
				return nil, err
			}
			bound[k][i] = b
		}
	}
	return bound, nil
}

func (p *program) locate(at place, t *tape) gpu.Range {
	buffer := at.param
	switch at.region {
	case graph.RegionScratch:
		buffer = p.owner.scratch[at.buffer]
	case graph.RegionTape:
		buffer = t.buffers[at.buffer]
	}
	return gpu.Range{Buffer: buffer, Offset: at.offset, Size: at.bytes}
}

// release drops bind groups as soon as no queued work needs them.
func (e *Executor) release(bound [][]*gpu.Bindings) {
	e.later(func() {
		for _, steps := range bound {
			for _, b := range steps {
				b.Release()
			}
		}
	})
}

// reserveScratch grows the buffers of the shared arena. Every bind group over the
// old ones is dropped first, so that both need not fit at once; programs bind
// again at their next run.
func (e *Executor) reserveScratch(sizes []int64) error {
	small := func(i int) bool {
		return i >= len(e.scratch) || e.scratch[i] == nil || e.scratch[i].Size() < sizes[i]
	}
	grows := false
	for i := range sizes {
		grows = grows || small(i)
	}
	if !grows {
		return nil
	}
	if err := e.flush(); err != nil {
		return err
	}
	for p := range e.programs {
		p.unbind()
	}
	e.arena++
	for i, bytes := range sizes {
		if !small(i) {
			continue
		}
		if i == len(e.scratch) {
			e.scratch = append(e.scratch, nil)
		}
		if old := e.scratch[i]; old != nil {
			e.activations(-old.Size())
			e.forget(old)
			e.scratch[i] = nil
		}
		buffer, err := e.device.NewBuffer("activations", bytes, gpu.Storage)
		if err != nil {
			return err
		}
		e.scratch[i] = buffer
		e.activations(buffer.Size())
	}
	return nil
}

func (p *program) unbind() {
	p.owner.release(p.bound)
	p.bound = nil
	for t := range p.tapes {
		p.owner.release(t.bound)
		t.bound = nil
	}
}

// Plan returns the compiled plan.
func (p *program) Plan() *graph.Plan { return p.plan }

// NewTape allocates the pinned tensors of one kept call. Its bind groups are
// made by the first run.
func (p *program) NewTape() (graph.Tape, error) {
	t := &tape{owner: p}
	p.tapes[t] = struct{}{}
	if p.plan.TapeBytes == 0 {
		return t, nil
	}
	for _, bytes := range p.plan.Tape {
		buffer, err := p.owner.device.NewBuffer("kept activations", bytes, gpu.Storage)
		if err != nil {
			t.Release()
			return nil, err
		}
		t.buffers = append(t.buffers, buffer)
		p.owner.activations(buffer.Size())
	}
	return t, nil
}

// Bytes is the pinned memory.
func (t *tape) Bytes() (total int64) {
	for _, b := range t.buffers {
		total += b.Size()
	}
	return total
}

// Release frees the pinned memory once queued work no longer needs it.
func (t *tape) Release() {
	p := t.owner
	if _, live := p.tapes[t]; !live {
		return
	}
	delete(p.tapes, t)
	p.owner.release(t.bound)
	t.bound = nil
	for _, b := range t.buffers {
		p.owner.activations(-b.Size())
		p.owner.discard(b)
	}
	t.buffers = nil
}

// Run queues one segment: feeds, kernels, fetches, in one compute pass.
func (p *program) Run(ctx context.Context, kept graph.Tape, segment int, feeds []graph.Feed, fetches []graph.Fetch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e := p.owner
	t, err := p.check(kept, segment, feeds, fetches)
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	if err := p.rebind(t); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	for _, k := range p.packed[segment] {
		if err := e.refresh(k); err != nil {
			return fmt.Errorf("run: %w", err)
		}
	}
	for _, f := range feeds {
		if err := p.feed(f, t); err != nil {
			return fmt.Errorf("run: feed %v: %w", f.Node, err)
		}
	}
	if len(p.segments[segment]) > 0 {
		pass, err := e.record()
		if err != nil {
			return err
		}
		for i, s := range p.segments[segment] {
			pass.Dispatch(s.pipeline, p.bindingsOf(t, segment, i), s.block, s.groups)
		}
	}
	for _, f := range fetches {
		if err := p.fetch(f, t); err != nil {
			return fmt.Errorf("run: fetch %v: %w", f.Node, err)
		}
	}
	return e.flush()
}

func (p *program) bindingsOf(t *tape, segment, i int) *gpu.Bindings {
	if p.segments[segment][i].tape {
		return t.bound[segment][i]
	}
	return p.bound[segment][i]
}

// check refuses a run that does not match the plan.
func (p *program) check(kept graph.Tape, segment int, feeds []graph.Feed, fetches []graph.Fetch) (*tape, error) {
	if p.blocks == nil {
		return nil, fmt.Errorf("the program was released")
	}
	if segment < 0 || segment >= len(p.segments) {
		return nil, fmt.Errorf("segment %d of a plan with %d", segment, len(p.segments))
	}
	t, _ := kept.(*tape)
	if _, live := p.tapes[t]; t != nil && !live {
		return nil, fmt.Errorf("the tape was released or belongs to another program")
	}
	if p.plan.TapeBytes > 0 && t == nil {
		return nil, fmt.Errorf("the plan pins %d bytes and needs a tape", p.plan.TapeBytes)
	}
	inputs, wanted := p.plan.Segments[segment].Inputs, p.plan.Segments[segment].Wanted
	for _, f := range feeds {
		if !slices.Contains(inputs, f.Node) {
			return nil, fmt.Errorf("%v is not an input of segment %d", f.Node, segment)
		}
		if f.From != nil {
			if err := p.fits(f.Node, f.From); err != nil {
				return nil, err
			}
		}
	}
	for _, in := range inputs {
		if !slices.ContainsFunc(feeds, func(f graph.Feed) bool { return f.Node == in }) {
			return nil, fmt.Errorf("%v is not fed", in)
		}
	}
	for _, f := range fetches {
		if !slices.Contains(wanted, f.Node) {
			return nil, fmt.Errorf("%v is not wanted from segment %d", f.Node, segment)
		}
		if err := p.fits(f.Node, f.To); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// fits checks that a tensor can be copied to or from a node.
func (p *program) fits(n *graph.Node, t graph.Tensor) error {
	v, err := p.owner.numbers(n.String(), t)
	if err == nil && v.n != n.Shape.Size() {
		err = fmt.Errorf("%v: a tensor of %d elements for %d", n, v.n, n.Shape.Size())
	}
	return err
}

// rebind makes bind groups again after the scratch arena grew.
func (p *program) rebind(t *tape) (err error) {
	e := p.owner
	if slices.Contains(e.scratch, nil) {
		return fmt.Errorf("%w: the activations of another program took what there was", gpu.ErrOutOfMemory)
	}
	if p.bound == nil || p.arena != e.arena {
		e.release(p.bound)
		if p.bound, err = p.bindSteps(nil); err != nil {
			return err
		}
		p.arena = e.arena
	}
	if t != nil && t.buffers != nil && (t.bound == nil || t.arena != e.arena) {
		e.release(t.bound)
		if t.bound, err = p.bindSteps(t); err != nil {
			return err
		}
		t.arena = e.arena
	}
	return nil
}

// feed copies a tensor into an input, or fills it.
func (p *program) feed(f graph.Feed, t *tape) error {
	at, err := p.place(f.Node)
	if err != nil {
		return err
	}
	to, n := p.locate(at, t), f.Node.Shape.Size()
	if f.From == nil {
		return p.owner.enqueue("vector_fill", []uint32{uint32(n), floatWord(f.Value)}, p.owner.spread(n), to)
	}
	return p.owner.copy(to, f.From.(*vector).all(), n)
}

// fetch copies a result out.
func (p *program) fetch(f graph.Fetch, t *tape) error {
	at, err := p.place(f.Node)
	if err != nil {
		return err
	}
	return p.owner.copy(f.To.(*vector).written(), p.locate(at, t), f.Node.Shape.Size())
}

func (e *Executor) copy(to, from gpu.Range, n int) error {
	return e.enqueue("vector_copy", []uint32{uint32(n)}, e.spread(n), to, from)
}

// Release frees the program's own buffers and tapes, and with the last program
// the scratch arena; parameters stay.
func (p *program) Release() {
	for t := range p.tapes {
		t.Release()
	}
	p.unbind()
	for _, segment := range p.packed {
		for _, k := range segment {
			p.owner.drop(k)
		}
	}
	p.packed = nil
	for _, v := range p.consts {
		p.owner.FreeVector(v)
	}
	p.consts = nil
	if p.blocks != nil {
		p.owner.discard(p.blocks)
		p.blocks = nil
	}
	e := p.owner
	if delete(e.programs, p); len(e.programs) == 0 {
		for _, b := range e.scratch {
			if b != nil {
				e.activations(-b.Size())
				e.discard(b)
			}
		}
		e.scratch = nil
	}
}
