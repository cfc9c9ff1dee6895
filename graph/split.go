package graph

import (
	"fmt"
	"slices"
	"strings"
)

// A device's kernels see at most so many bytes of a tensor at once, 128 MiB by
// WebGPU's default. A plan under such a limit holds larger tensors in fragments,
// each a contiguous range of the row-major numbers: channels of an image, rows of
// a matrix, images of a batch. Every operation that meets one is rewritten as
// operations on fragments. A convolution becomes a sum over fragments of its
// input for each of its output, a group normalisation one for each fragment of
// whole groups, and so on. Sums are added in another order; everything else is
// the same to the last bit.
//
// A parameter stays in one piece, of which operations look up the rows they need.
// Inputs and what a caller wants stay whole, and an operation with no rule below
// is refused.

// fragment holds the numbers [from, to) of a tensor.
type fragment struct {
	from, to int
	node     *Node
}

// splitter rewrites the segments of a plan.
type splitter struct {
	p         *Plan
	limit     int64                // bytes of a tensor
	cuts      map[*Node][]fragment // tensors that are held in fragments
	rewritten map[*Node]*Node      // whole tensors that other nodes compute now
	reading   *Node                // of the graph, that is being rewritten
	nodes     []*Node              // of the segment so far
	indices   map[span]*Node       // constants that name rows
}

// tooLong is the panic of a rule that does not apply.
type tooLong struct{ error }

func (s *splitter) refuse(why string) {
	panic(tooLong{fmt.Errorf("plan: %w: %v works on more than the %d bytes that the device's kernels see of one tensor, and %s; try fewer or smaller pictures, or another device",
		ErrTooLarge, s.reading, s.limit, why)})
}

// split rewrites the plan's segments so that no tensor takes more than limit
// bytes.
func (p *Plan) split(limit int64) (err error) {
	s := &splitter{p: p, limit: limit, cuts: map[*Node][]fragment{}, rewritten: map[*Node]*Node{}, indices: map[span]*Node{}}
	large := false
	for _, segment := range p.Segments {
		for _, n := range segment.Nodes {
			large = large || bytesOf(n) > limit || slices.ContainsFunc(n.Inputs, s.wide)
		}
	}
	if !large {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			refusal, ok := r.(tooLong)
			if !ok {
				panic(r)
			}
			err = refusal.error
		}
	}()
	for i := range p.Segments {
		segment := &p.Segments[i]
		s.nodes = nil
		for _, n := range segment.Nodes {
			s.reading = n
			s.rewrite(n)
		}
		segment.Nodes = s.nodes
		for _, w := range segment.Wanted {
			if s.cuts[root(w)] != nil || s.wide(w) {
				return fmt.Errorf("plan: %w: %v is wanted whole and takes %d bytes, of which the device's kernels see at most %d at once; try fewer or smaller pictures",
					ErrTooLarge, w, bytesOf(w), limit)
			}
		}
	}
	for n, whole := range s.rewritten {
		p.written[n] = root(whole)
	}
	return nil
}

// rewrite puts what computes n into the segment.
func (s *splitter) rewrite(n *Node) {
	large := s.large(n.Shape.Size())
	changed := false
	inputs := make([]*Node, len(n.Inputs))
	for i, in := range n.Inputs {
		large = large || s.cuts[root(in)] != nil || s.wide(in)
		inputs[i] = s.whole(in)
		changed = changed || inputs[i] != in
	}
	switch {
	case large:
		fragments := s.fragments(n)
		if s.large(n.Shape.Size()) {
			s.cuts[n] = fragments
			return
		}
		s.cuts[n] = fragments
		joined := s.piece(n, 0, n.Shape.Size(), n.Shape...)
		delete(s.cuts, n)
		s.rewritten[n] = joined
	case changed:
		s.rewritten[n] = s.add(n.Op, n.Shape, n.Attrs, inputs...)
	default:
		s.nodes = append(s.nodes, n)
	}
}

func (s *splitter) large(size int) bool { return int64(size)*4 > s.limit }

// wide reports whether n is a parameter or a constant too large to see at once.
func (s *splitter) wide(n *Node) bool {
	n = root(n)
	return (n.Op == OpParam || n.Op == OpConst) && storedBytes(n) > s.limit
}

// add appends a node to the segment.
func (s *splitter) add(op string, shape Shape, attrs any, inputs ...*Node) *Node {
	if op != OpReshape && s.large(shape.Size()) {
		s.refuse(fmt.Sprintf("no rule makes its %s of %v smaller", op, shape))
	}
	if op != OpReshape && op != "embedding" && slices.ContainsFunc(inputs, s.wide) {
		s.refuse(fmt.Sprintf("no rule makes what its %s reads smaller", op))
	}
	of := s.reading
	n := &Node{ID: of.ID, Op: op, Inputs: inputs, Shape: shape, Attrs: attrs, graph: of.graph, block: of.block}
	if op != OpReshape {
		s.nodes = append(s.nodes, n)
	}
	return n
}

func (s *splitter) view(n *Node, shape ...int) *Node {
	if n.Shape.Equal(shape) {
		return n
	}
	return s.add(OpReshape, shape, nil, n)
}

// whole is the node that computes n now. It may be of no use where n is cut.
func (s *splitter) whole(n *Node) *Node {
	if n.Op == OpReshape {
		in := s.whole(n.Inputs[0])
		if in == n.Inputs[0] {
			return n
		}
		view := *n
		view.Inputs = []*Node{in}
		return &view
	}
	if now := s.rewritten[n]; now != nil {
		return now
	}
	return n
}

// piece is the numbers [from, to) of x under a shape.
func (s *splitter) piece(x *Node, from, to int, shape ...int) *Node {
	if s.large(to - from) {
		s.refuse(fmt.Sprintf("it reads %d numbers of %v at once", to-from, x))
	}
	var joined *Node
	for _, f := range s.over(x, from, to) {
		part := f.node
		size := part.Shape.Size()
		if f.to-f.from < size {
			part = s.flatSlice(part, f.from, f.to)
		}
		if joined == nil {
			joined = part
			continue
		}
		joined = s.join(joined, part)
	}
	return s.view(joined, shape...)
}

// over lists the nodes that hold [from, to) of x, each with the range of its own
// numbers that belongs there.
func (s *splitter) over(x *Node, from, to int) (parts []fragment) {
	cut := s.cuts[root(x)]
	if r := root(x); s.wide(r) {
		row := r.Shape.Size() / r.Shape[0]
		a, b := from/row, (to+row-1)/row
		return []fragment{{from - a*row, to - a*row, s.rows(r, a, b)}}
	}
	if cut == nil {
		return []fragment{{from, to, s.whole(x)}}
	}
	for _, f := range cut {
		if a, b := max(from, f.from), min(to, f.to); a < b {
			parts = append(parts, fragment{a - f.from, b - f.from, f.node})
		}
	}
	return parts
}

// flatSlice is the numbers [from, to) of a node. Halves are decoded by the
// operation that looks rows up.
func (s *splitter) flatSlice(n *Node, from, to int) *Node {
	if r := root(n); r.Storage == F16 {
		row := r.Shape.Size() / r.Shape[0]
		if from%row != 0 || to%row != 0 {
			s.refuse("its weight in half precision cannot be cut there")
		}
		return s.rows(r, from/row, to/row)
	}
	return s.add("slice", Shape{to - from}, &SliceAttrs{0, from, to}, s.view(n, n.Shape.Size()))
}

// rows looks rows of a parameter up, which decodes halves.
func (s *splitter) rows(r *Node, from, to int) *Node {
	row := r.Shape.Size() / r.Shape[0]
	at := span{from, to}
	if s.indices[at] == nil {
		index := make([]float32, to-from)
		for i := range index {
			index[i] = float32(from + i)
		}
		s.indices[at] = &Node{ID: r.ID, Op: OpConst, Shape: Shape{to - from}, Name: fmt.Sprintf("rows %d to %d", from, to), Data: index, graph: r.graph}
	}
	return s.add("embedding", Shape{to - from, row}, &EmbeddingAttrs{from, to}, s.view(r, r.Shape[0], row), s.indices[at])
}

func (s *splitter) join(a, b *Node) *Node {
	m, n := a.Shape.Size(), b.Shape.Size()
	return s.add("concat", Shape{m + n}, &ConcatAttrs{0}, s.view(a, m), s.view(b, n))
}

// sum adds b to a, which may be nil.
func (s *splitter) sum(a, b *Node) *Node {
	if a == nil {
		return b
	}
	return s.add("add", b.Shape, nil, s.view(a, b.Shape...), b)
}

// span is a range of a tensor's numbers, or of some unit of them.
type span struct{ from, to int }

// even cuts count units of size numbers each into as few equal ranges as the
// limit allows: a power of two of them where that is possible, which the groups
// of a normalisation divide by.
func (s *splitter) even(count, size int) (spans []span) {
	if s.large(size) {
		s.refuse(fmt.Sprintf("%d numbers of it cannot be taken apart", size))
	}
	least := 1
	for s.large((count + least - 1) / least * size) {
		least++
	}
	parts := 0
	for k := 1; k <= count && parts == 0; k *= 2 {
		if k >= least && count%k == 0 {
			parts = k
		}
	}
	for k := least; parts == 0; k++ {
		if count%k == 0 || k >= 2*least {
			parts = k
		}
	}
	parts = min(parts, count)
	for i := range parts {
		spans = append(spans, span{i * count / parts, (i + 1) * count / parts})
	}
	return spans
}

// like cuts a tensor, seen as count units of size numbers, where one of the
// others of its size is cut, if those cuts lie between units.
func (s *splitter) like(count, size int, others ...*Node) []span {
	for _, x := range others {
		cut := s.cuts[root(x)]
		if cut == nil || x.Shape.Size() != count*size {
			continue
		}
		spans := make([]span, len(cut))
		fits := true
		for i, f := range cut {
			spans[i] = span{f.from / size, f.to / size}
			fits = fits && f.from%size == 0 && f.to%size == 0
		}
		if fits {
			return spans
		}
	}
	return s.even(count, size)
}

// images cuts [N C ...] into ranges of whole images where one fits, else into
// ranges of the channels of one, counted in channels.
func (s *splitter) images(n, channels, plane int, others ...*Node) (spans []span) {
	if !s.large(channels * plane) {
		for _, sp := range s.like(n, channels*plane, others...) {
			spans = append(spans, span{sp.from * channels, sp.to * channels})
		}
		return spans
	}
	fits := true
	spans = s.like(n*channels, plane, others...)
	for _, sp := range spans {
		fits = fits && sp.from/channels == (sp.to-1)/channels // within one image
	}
	if fits {
		return spans
	}
	spans = nil
	for i := range n {
		for _, sp := range s.even(channels, plane) {
			spans = append(spans, span{i*channels + sp.from, i*channels + sp.to})
		}
	}
	return spans
}

// elementwise are the operations that compute each number from those of the same
// index in operands of the same size.
var elementwise = map[string]bool{"affine": true, "add": true, "sub": true, "mul": true, "bce_with_logits": true, "bce_with_logits_grad": true}

func init() {
	for _, op := range []string{
		"silu", "relu", "softplus", "sigmoid", "smooth_abs", "gelu", "gelu_tanh", "quick_gelu", "tanh", "exp", "rsqrt", "clamp",
	} {
		elementwise[op], elementwise[op+"_grad"] = true, true
	}
}

// fragments computes n in fragments that cover it in order.
func (s *splitter) fragments(n *Node) []fragment {
	switch {
	case elementwise[n.Op]:
		return s.elementwise(n)
	case n.Op == "geglu":
		d := n.Shape[len(n.Shape)-1]
		return s.byRows(n, n.Shape.Size()/d, 2*d, d, 2*d)
	case n.Op == "geglu_grad":
		d := n.Shape[len(n.Shape)-1] / 2
		return s.byRows(n, n.Shape.Size()/(2*d), 2*d, 2*d, d, 2*d)
	case strings.HasPrefix(n.Op, "upsample_nearest"), n.Op == "sum_pool2x":
		in, planes := n.Inputs[0].Shape, n.Shape[0]*n.Shape[1]
		return s.planes(n, planes, in[2:], n.Shape[2:])
	case n.Op == "flip":
		w := n.Shape[len(n.Shape)-1]
		return s.byRows(n, n.Shape.Size()/w, w, w, w)
	case strings.HasPrefix(n.Op, "group_norm"):
		return s.groupNorm(n)
	case n.Op == "conv2d":
		return s.conv2d(n)
	case n.Op == "conv2d_grad_input":
		return s.conv2dGradInput(n)
	case n.Op == "conv2d_grad_weight":
		return s.conv2dGradWeight(n)
	case n.Op == "matmul":
		return s.matmul(n)
	case n.Op == "embedding":
		return s.embedding(n)
	case n.Op == "add_broadcast", n.Op == "mul_broadcast", n.Op == "scale_shift", n.Op == "broadcast":
		return s.broadcast(n)
	case n.Op == "reduce_sum":
		return s.reduceSum(n)
	case n.Op == "concat":
		return s.concat(n)
	case n.Op == "slice":
		return s.slice(n)
	case n.Op == "slice_grad":
		return s.sliceGrad(n)
	case n.Op == "transpose":
		return s.transpose(n)
	case strings.HasPrefix(n.Op, "attention"):
		return s.attention(n)
	}
	s.refuse("this operation cannot be taken apart")
	return nil
}

func (s *splitter) elementwise(n *Node) (out []fragment) {
	// Between rows if it is cut here first, so that what follows finds them whole.
	unit := n.Shape.Size() / n.Shape[0]
	if len(n.Shape) > 1 && s.large(unit) {
		unit /= n.Shape[1]
	}
	spans := s.like(n.Shape.Size()/unit, unit, append(n.Inputs, n)...)
	for _, sp := range spans {
		from, to := sp.from*unit, sp.to*unit
		var inputs []*Node
		for _, in := range n.Inputs {
			inputs = append(inputs, s.piece(in, from, to, to-from))
		}
		out = append(out, fragment{from, to, s.add(n.Op, Shape{to - from}, n.Attrs, inputs...)})
	}
	return out
}

// byRows computes runs of rows, each of which depends on one row of every
// operand: widths of the result and of the operands.
func (s *splitter) byRows(n *Node, rows, widest, width int, widths ...int) (out []fragment) {
	for _, sp := range s.like(rows, widest, n.Inputs...) {
		var inputs []*Node
		for i, in := range n.Inputs {
			inputs = append(inputs, s.piece(in, sp.from*widths[i], sp.to*widths[i], sp.to-sp.from, widths[i]))
		}
		made := s.add(n.Op, Shape{sp.to - sp.from, width}, n.Attrs, inputs...)
		out = append(out, fragment{sp.from * width, sp.to * width, made})
	}
	return out
}

// planes computes runs of planes of an image.
func (s *splitter) planes(n *Node, count int, in, to Shape) (out []fragment) {
	for _, sp := range s.like(count, max(in.Size(), to.Size()), n.Inputs[0]) {
		k := sp.to - sp.from
		x := s.piece(n.Inputs[0], sp.from*in.Size(), sp.to*in.Size(), 1, k, in[0], in[1])
		out = append(out, fragment{sp.from * to.Size(), sp.to * to.Size(), s.add(n.Op, Shape{1, k, to[0], to[1]}, n.Attrs, x)})
	}
	return out
}

// groupNorm works on whole images, or on whole groups of the channels of one.
func (s *splitter) groupNorm(n *Node) (out []fragment) {
	x := n.Inputs[0]
	if n.Op == "group_norm_grad_input" || n.Op == "group_norm_grad_params" {
		x = n.Inputs[1]
	}
	a := *n.Attrs.(*GroupNormAttrs)
	images, channels := x.Shape[0], x.Shape[1]
	plane, per := x.Shape.Size()/(images*channels), channels/a.Groups
	sums := map[span]*Node{} // of parameters' gradients, by channels
	var order []span
	for _, sp := range s.images(images, a.Groups, per*plane, n.Inputs...) {
		count := max((sp.to-sp.from)/a.Groups, 1)
		c0, c1 := sp.from%a.Groups*per, ((sp.to-1)%a.Groups+1)*per
		sp = span{sp.from * per, sp.to * per}
		attrs := a
		attrs.Groups = (c1 - c0) / per
		shape := Shape{count, c1 - c0, plane}
		image := func(t *Node) *Node { return s.piece(t, sp.from*plane, sp.to*plane, shape...) }
		stats := func(t *Node) *Node {
			return s.piece(t, 2*sp.from/per, 2*sp.to/per, count, attrs.Groups, 2)
		}
		param := func(t *Node) *Node { return s.piece(t, c0, c1, c1-c0) }
		in := n.Inputs
		switch n.Op {
		case "group_norm_stats":
			made := s.add(n.Op, Shape{count, attrs.Groups, 2}, &attrs, image(in[0]))
			out = append(out, fragment{2 * sp.from / per, 2 * sp.to / per, made})
		case "group_norm":
			made := s.add(n.Op, shape, &attrs, image(in[0]), stats(in[1]), param(in[2]), param(in[3]))
			out = append(out, fragment{sp.from * plane, sp.to * plane, made})
		case "group_norm_grad_input":
			made := s.add(n.Op, shape, &attrs, image(in[0]), image(in[1]), stats(in[2]), param(in[3]), param(in[4]))
			out = append(out, fragment{sp.from * plane, sp.to * plane, made})
		default:
			made := s.add(n.Op, Shape{2, c1 - c0}, &attrs, image(in[0]), image(in[1]), stats(in[2]), param(in[3]), param(in[4]))
			at := span{c0, c1}
			if sums[at] == nil {
				order = append(order, at)
			}
			sums[at] = s.sum(sums[at], made)
		}
	}
	for row := range 2 {
		for _, at := range order {
			part := s.flatSlice(sums[at], row*(at.to-at.from), (row+1)*(at.to-at.from))
			out = append(out, fragment{row*channels + at.from, row*channels + at.to, part})
		}
	}
	return out
}

// channelsOf cuts image i of a tensor by channels, where one is too large whole.
func (s *splitter) channelsOf(x *Node, i int) (spans []span) {
	channels := x.Shape[1]
	plane := x.Shape.Size() / (x.Shape[0] * channels)
	if !s.large(channels * plane) {
		return []span{{0, channels}}
	}
	for _, sp := range s.images(x.Shape[0], channels, plane, x) {
		if sp.from/channels == i {
			spans = append(spans, span{sp.from - i*channels, sp.to - i*channels})
		}
	}
	return spans
}

// weight is filters [o0, o1) of channels [c0, c1).
func (s *splitter) weight(w *Node, o, c span) *Node {
	shape := Shape{o.to - o.from, w.Shape[1], w.Shape[2], w.Shape[3]}
	if o == (span{0, w.Shape[0]}) && c == (span{0, w.Shape[1]}) {
		return s.whole(w)
	}
	row := w.Shape.Size() / w.Shape[0]
	var part *Node
	if r := root(w); r.Storage == F16 { // decoded on the way
		part = s.view(s.rows(r, o.from, o.to), shape...)
	} else {
		part = s.piece(w, o.from*row, o.to*row, shape...)
	}
	if c == (span{0, w.Shape[1]}) {
		return part
	}
	return s.add("slice", Shape{shape[0], c.to - c.from, shape[2], shape[3]}, &SliceAttrs{1, c.from, c.to}, part)
}

func imageRange(x *Node, i int, c span) (from, to int, shape Shape) {
	plane := x.Shape.Size() / (x.Shape[0] * x.Shape[1])
	at := i * x.Shape[1]
	return (at + c.from) * plane, (at + c.to) * plane, Shape{1, c.to - c.from, x.Shape[2], x.Shape[3]}
}

// batches cuts a convolution by images, where one of either side is small enough.
func (s *splitter) batches(x, y *Node) []span {
	image := max(x.Shape.Size()/x.Shape[0], y.Shape.Size()/y.Shape[0])
	if s.large(image) {
		return nil
	}
	return s.like(x.Shape[0], image, x, y)
}

func (s *splitter) imagesOf(x *Node, sp span) *Node {
	image := x.Shape.Size() / x.Shape[0]
	return s.piece(x, sp.from*image, sp.to*image, sp.to-sp.from, x.Shape[1], x.Shape[2], x.Shape[3])
}

// conv2d sums over fragments of the input's channels, for each of the output's.
func (s *splitter) conv2d(n *Node) (out []fragment) {
	x, w := n.Inputs[0], n.Inputs[1]
	image := n.Shape.Size() / n.Shape[0]
	batches := s.batches(x, n)
	for _, sp := range batches {
		inputs := []*Node{s.imagesOf(x, sp), s.whole(w)}
		if len(n.Inputs) == 3 {
			inputs = append(inputs, s.whole(n.Inputs[2]))
		}
		shape := Shape{sp.to - sp.from, n.Shape[1], n.Shape[2], n.Shape[3]}
		out = append(out, fragment{sp.from * image, sp.to * image, s.add(n.Op, shape, n.Attrs, inputs...)})
	}
	for i := 0; i < n.Shape[0] && batches == nil; i++ {
		for _, o := range s.channelsOf(n, i) {
			from, to, shape := imageRange(n, i, o)
			var total *Node
			for _, c := range s.channelsOf(x, i) {
				a, b, part := imageRange(x, i, c)
				inputs := []*Node{s.piece(x, a, b, part...), s.weight(w, o, c)}
				if len(n.Inputs) == 3 && total == nil {
					inputs = append(inputs, s.piece(n.Inputs[2], o.from, o.to, o.to-o.from))
				}
				total = s.sum(total, s.add(n.Op, shape, n.Attrs, inputs...))
			}
			out = append(out, fragment{from, to, total})
		}
	}
	return out
}

func (s *splitter) conv2dGradInput(n *Node) (out []fragment) {
	dy, w := n.Inputs[0], n.Inputs[1]
	image := n.Shape.Size() / n.Shape[0]
	batches := s.batches(dy, n)
	for _, sp := range batches {
		shape := Shape{sp.to - sp.from, n.Shape[1], n.Shape[2], n.Shape[3]}
		out = append(out, fragment{sp.from * image, sp.to * image, s.add(n.Op, shape, n.Attrs, s.imagesOf(dy, sp), s.whole(w))})
	}
	for i := 0; i < n.Shape[0] && batches == nil; i++ {
		for _, c := range s.channelsOf(n, i) {
			from, to, shape := imageRange(n, i, c)
			var total *Node
			for _, o := range s.channelsOf(dy, i) {
				a, b, part := imageRange(dy, i, o)
				total = s.sum(total, s.add(n.Op, shape, n.Attrs, s.piece(dy, a, b, part...), s.weight(w, o, c)))
			}
			out = append(out, fragment{from, to, total})
		}
	}
	return out
}

func (s *splitter) conv2dGradWeight(n *Node) []fragment {
	dy, x := n.Inputs[0], n.Inputs[1]
	var total *Node
	batches := s.batches(dy, x)
	for _, sp := range batches {
		total = s.sum(total, s.add(n.Op, n.Shape, n.Attrs, s.imagesOf(dy, sp), s.imagesOf(x, sp)))
	}
	for i := 0; i < dy.Shape[0] && batches == nil; i++ {
		var whole *Node // of this image
		for _, o := range s.channelsOf(dy, i) {
			var row *Node
			for _, c := range s.channelsOf(x, i) {
				a, b, dyPart := imageRange(dy, i, o)
				u, v, xPart := imageRange(x, i, c)
				shape := Shape{o.to - o.from, c.to - c.from, n.Shape[2], n.Shape[3]}
				part := s.add(n.Op, shape, n.Attrs, s.piece(dy, a, b, dyPart...), s.piece(x, u, v, xPart...))
				row = s.along(1, row, part)
			}
			whole = s.along(0, whole, row)
		}
		total = s.sum(total, whole)
	}
	return []fragment{{0, n.Shape.Size(), total}}
}

// along joins b to a, which may be nil.
func (s *splitter) along(axis int, a, b *Node) *Node {
	if a == nil {
		return b
	}
	shape := append(Shape{}, a.Shape...)
	shape[axis] += b.Shape[axis]
	return s.add("concat", shape, &ConcatAttrs{axis}, a, b)
}

// matmul goes by rows of the left operand, or sums over them where it is
// transposed.
func (s *splitter) matmul(n *Node) (out []fragment) {
	a, b, t := n.Inputs[0], n.Inputs[1], *n.Attrs.(*MatMulAttrs)
	if t.TransA && !t.TransB && !s.large(n.Shape.Size()) {
		var total *Node
		for _, sp := range s.even(a.Shape[0], max(a.Shape[1], b.Shape[1])) {
			rows := func(x *Node) *Node {
				return s.piece(x, sp.from*x.Shape[1], sp.to*x.Shape[1], sp.to-sp.from, x.Shape[1])
			}
			inputs := []*Node{rows(a), rows(b)}
			if len(n.Inputs) == 3 && total == nil {
				inputs = append(inputs, s.whole(n.Inputs[2]))
			}
			total = s.sum(total, s.add(n.Op, n.Shape, n.Attrs, inputs...))
		}
		return []fragment{{0, n.Shape.Size(), total}}
	}
	if t.TransA {
		s.refuse("a product with such a left operand cannot be taken apart")
	}
	for _, sp := range s.like(a.Shape[0], max(a.Shape[1], n.Shape[1]), a, n) {
		left := s.piece(a, sp.from*a.Shape[1], sp.to*a.Shape[1], sp.to-sp.from, a.Shape[1])
		out = append(out, fragment{sp.from * n.Shape[1], sp.to * n.Shape[1], s.product(n, left)})
	}
	return out
}

// product is rows of a matmul. A right operand that is not seen at once goes by its
// own rows: transposed each makes columns of the result, else a part of the sum.
func (s *splitter) product(n, left *Node) (made *Node) {
	b, bias, t := n.Inputs[1], n.Inputs[2:], *n.Attrs.(*MatMulAttrs)
	rows := left.Shape[0]
	if s.cuts[root(b)] == nil && !s.wide(b) {
		inputs := []*Node{left, s.whole(b)}
		for _, in := range bias {
			inputs = append(inputs, s.whole(in))
		}
		return s.add(n.Op, Shape{rows, n.Shape[1]}, n.Attrs, inputs...)
	}
	for _, sp := range s.like(b.Shape[0], b.Shape[1], b) {
		count := sp.to - sp.from
		right := s.piece(b, sp.from*b.Shape[1], sp.to*b.Shape[1], count, b.Shape[1])
		if t.TransB {
			inputs := []*Node{left, right}
			for _, in := range bias {
				inputs = append(inputs, s.piece(in, sp.from, sp.to, count))
			}
			made = s.along(1, made, s.add(n.Op, Shape{rows, count}, n.Attrs, inputs...))
			continue
		}
		inputs := []*Node{s.add("slice", Shape{rows, count}, &SliceAttrs{1, sp.from, sp.to}, left), right}
		if made == nil {
			for _, in := range bias {
				inputs = append(inputs, s.whole(in))
			}
		}
		made = s.sum(made, s.add(n.Op, Shape{rows, n.Shape[1]}, n.Attrs, inputs...))
	}
	return made
}

// embedding adds look-ups in ranges of the table.
func (s *splitter) embedding(n *Node) (out []fragment) {
	table, index, a := n.Inputs[0], n.Inputs[1], n.Attrs.(*EmbeddingAttrs)
	if s.cuts[root(table)] != nil {
		s.refuse("a look-up in a table that is computed cannot be taken apart")
	}
	width := n.Shape[1]
	ranges := []span{{0, a.To - a.From}}
	if s.wide(table) {
		ranges = s.even(a.To-a.From, width)
	}
	for _, sp := range s.like(index.Shape[0], width, n) {
		var total *Node
		for _, r := range ranges {
			at := s.piece(index, sp.from, sp.to, sp.to-sp.from)
			total = s.sum(total, s.add(n.Op, Shape{sp.to - sp.from, width}, &EmbeddingAttrs{a.From + r.from, a.From + r.to}, s.whole(table), at))
		}
		out = append(out, fragment{sp.from * width, sp.to * width, total})
	}
	return out
}

// broadcast repeats its small operands, the last ones.
func (s *splitter) broadcast(n *Node) (out []fragment) {
	a := *n.Attrs.(*BroadcastAttrs)
	large := n.Inputs[:1]
	if n.Op == "broadcast" {
		large = nil
	}
	unit := a.P * a.Q // of a whole repetition, or of what meets one number
	if s.large(unit) {
		unit = a.Q
	}
	for _, sp := range s.like(n.Shape.Size()/unit, unit, large...) {
		from, to := sp.from*unit, sp.to*unit
		attrs, p := a, span{0, a.P}
		switch {
		case unit == a.P*a.Q:
			attrs.R = sp.to - sp.from
		case sp.from/a.P == (sp.to-1)/a.P:
			p = span{sp.from % a.P, (sp.to-1)%a.P + 1}
			attrs.R, attrs.P = 1, p.to-p.from
		default:
			s.refuse("its repetitions cannot be taken apart")
		}
		var inputs []*Node
		for _, in := range large {
			inputs = append(inputs, s.piece(in, from, to, to-from))
		}
		for _, in := range n.Inputs[len(large):] {
			inputs = append(inputs, s.piece(in, p.from, p.to, p.to-p.from))
		}
		out = append(out, fragment{from, to, s.add(n.Op, Shape{to - from}, &attrs, inputs...)})
	}
	return out
}

// reduceSum adds sums of fragments, which hold whole repetitions, or whole runs
// that make one number, or part of one.
func (s *splitter) reduceSum(n *Node) (out []fragment) {
	a, x := *n.Attrs.(*BroadcastAttrs), n.Inputs[0]
	if unit := a.P * a.Q; !s.large(unit) {
		var total *Node
		for _, sp := range s.like(a.R, unit, x) {
			part := s.piece(x, sp.from*unit, sp.to*unit, (sp.to-sp.from)*unit)
			total = s.sum(total, s.add(n.Op, Shape{a.P}, &BroadcastAttrs{sp.to - sp.from, a.P, a.Q}, part))
		}
		return []fragment{{0, a.P, total}}
	}
	sums := make([]*Node, a.P)
	var spans []span
	if !s.large(a.Q) {
		spans = s.like(a.R*a.P, a.Q, x)
	}
	if a.R == 1 && spans != nil {
		for _, sp := range spans {
			part := s.piece(x, sp.from*a.Q, sp.to*a.Q, (sp.to-sp.from)*a.Q)
			out = append(out, fragment{sp.from, sp.to, s.add(n.Op, Shape{sp.to - sp.from}, &BroadcastAttrs{1, sp.to - sp.from, a.Q}, part)})
		}
		return out
	}
	if a.R*a.P > 64 {
		s.refuse("its sums cannot be taken apart")
	}
	for run := range a.R * a.P {
		for _, sp := range s.even(a.Q, 1) {
			part := s.piece(x, run*a.Q+sp.from, run*a.Q+sp.to, sp.to-sp.from)
			sums[run%a.P] = s.sum(sums[run%a.P], s.add(n.Op, Shape{1}, &BroadcastAttrs{1, 1, sp.to - sp.from}, part))
		}
	}
	for p, sum := range sums {
		out = append(out, fragment{p, p + 1, sum})
	}
	return out
}

// rest is the size of what lies inside an axis, that axis included.
func rest(shape Shape, axis int) int { return shape[axis:].Size() }

// pass hands the numbers [from, to) of x on as fragments that begin at at.
func (s *splitter) pass(x *Node, from, to, at int) (out []fragment) {
	for _, f := range s.over(x, from, to) {
		part := f.node
		if f.to-f.from < part.Shape.Size() {
			part = s.flatSlice(part, f.from, f.to)
		}
		size := f.to - f.from
		out = append(out, fragment{at, at + size, part})
		at += size
	}
	return out
}

func (s *splitter) concat(n *Node) (out []fragment) {
	axis := n.Attrs.(*ConcatAttrs).Axis
	a, b := n.Inputs[0], n.Inputs[1]
	la, lb := rest(a.Shape, axis), rest(b.Shape, axis)
	rows := a.Shape.Size() / la
	if rows == 1 || s.large(la+lb) {
		for r := range rows {
			at := r * (la + lb)
			out = append(out, s.pass(a, r*la, (r+1)*la, at)...)
			out = append(out, s.pass(b, r*lb, (r+1)*lb, at+la)...)
		}
		return out
	}
	for _, sp := range s.even(rows, la+lb) {
		k := sp.to - sp.from
		made := s.add(n.Op, Shape{k, la + lb}, &ConcatAttrs{1},
			s.piece(a, sp.from*la, sp.to*la, k, la), s.piece(b, sp.from*lb, sp.to*lb, k, lb))
		out = append(out, fragment{sp.from * (la + lb), sp.to * (la + lb), made})
	}
	return out
}

func (s *splitter) slice(n *Node) (out []fragment) {
	a, x := *n.Attrs.(*SliceAttrs), n.Inputs[0]
	lx, ly := rest(x.Shape, a.Axis), rest(n.Shape, a.Axis)
	start, rows := a.From*rest(x.Shape, a.Axis+1), n.Shape.Size()/ly
	if rows == 1 || s.large(lx) {
		for r := range rows {
			out = append(out, s.pass(x, r*lx+start, r*lx+start+ly, r*ly)...)
		}
		return out
	}
	for _, sp := range s.like(rows, lx, x) {
		k := sp.to - sp.from
		made := s.add(n.Op, Shape{k, ly}, &SliceAttrs{1, start, start + ly}, s.piece(x, sp.from*lx, sp.to*lx, k, lx))
		out = append(out, fragment{sp.from * ly, sp.to * ly, made})
	}
	return out
}

func (s *splitter) sliceGrad(n *Node) (out []fragment) {
	a, dy := *n.Attrs.(*SliceAttrs), n.Inputs[0]
	lx, ly := rest(n.Shape, a.Axis), rest(dy.Shape, a.Axis)
	start, rows := a.From*rest(n.Shape, a.Axis+1), n.Shape.Size()/lx
	if !s.large(lx) {
		for _, sp := range s.like(rows, lx, n) {
			k := sp.to - sp.from
			made := s.add(n.Op, Shape{k, lx}, &SliceAttrs{1, start, start + ly}, s.piece(dy, sp.from*ly, sp.to*ly, k, ly))
			out = append(out, fragment{sp.from * lx, sp.to * lx, made})
		}
		return out
	}
	zeros := func(size int) *Node { // one number of dy, times zero, repeated
		zero := s.add("affine", Shape{1}, &AffineAttrs{}, s.piece(dy, 0, 1, 1))
		return s.add("broadcast", Shape{size}, &BroadcastAttrs{1, 1, size}, zero)
	}
	for r := range rows {
		at := r * lx
		for _, sp := range s.even(start, 1) {
			if sp.from < sp.to {
				out = append(out, fragment{at + sp.from, at + sp.to, zeros(sp.to - sp.from)})
			}
		}
		out = append(out, s.pass(dy, r*ly, (r+1)*ly, at+start)...)
		for _, sp := range s.even(lx-start-ly, 1) {
			if sp.from < sp.to {
				out = append(out, fragment{at + start + ly + sp.from, at + start + ly + sp.to, zeros(sp.to - sp.from)})
			}
		}
	}
	return out
}

// transpose gathers columns of the fragments of one matrix, and turns those.
func (s *splitter) transpose(n *Node) (out []fragment) {
	x := n.Inputs[0]
	count, rows, columns := x.Shape[0], x.Shape[1], x.Shape[2]
	if !s.large(rows * columns) {
		for _, sp := range s.like(count, rows*columns, x) {
			k := sp.to - sp.from
			made := s.add(n.Op, Shape{k, columns, rows}, nil, s.piece(x, sp.from*rows*columns, sp.to*rows*columns, k, rows, columns))
			out = append(out, fragment{sp.from * rows * columns, sp.to * rows * columns, made})
		}
		return out
	}
	for i := range count {
		at := i * rows * columns
		for _, c := range s.even(columns, rows) {
			var gathered *Node
			for _, r := range s.even(rows, columns) {
				band := s.piece(x, at+r.from*columns, at+r.to*columns, 1, r.to-r.from, columns)
				part := s.add("slice", Shape{1, r.to - r.from, c.to - c.from}, &SliceAttrs{2, c.from, c.to}, band)
				gathered = s.along(1, gathered, part)
			}
			made := s.add(n.Op, Shape{1, c.to - c.from, rows}, nil, gathered)
			out = append(out, fragment{at + c.from*rows, at + c.to*rows, made})
		}
	}
	return out
}

// attention goes by rows of the batch, or forward by queries.
func (s *splitter) attention(n *Node) (out []fragment) {
	batch, widest := n.Shape[0], n.Shape.Size()/n.Shape[0]
	for _, in := range n.Inputs {
		widest = max(widest, in.Shape.Size()/batch)
	}
	if !s.large(widest) {
		for _, sp := range s.even(batch, widest) {
			part := func(t *Node) (from, to int, shape Shape) {
				size := t.Shape.Size() / batch
				shape = append(Shape{}, t.Shape...)
				shape[0] = sp.to - sp.from
				return sp.from * size, sp.to * size, shape
			}
			var inputs []*Node
			for _, in := range n.Inputs {
				from, to, shape := part(in)
				inputs = append(inputs, s.piece(in, from, to, shape...))
			}
			from, to, shape := part(n)
			out = append(out, fragment{from, to, s.add(n.Op, shape, n.Attrs, inputs...)})
		}
		return out
	}
	if n.Op != "attention" || n.Attrs.(*AttentionAttrs).Causal {
		s.refuse("attention this long has a gradient, or a mask, that cannot be taken apart")
	}
	q, k, v := n.Inputs[0], n.Inputs[1], n.Inputs[2]
	length, keys, c := q.Shape[1], k.Shape[1], q.Shape[2]
	for i := range batch {
		of := func(t *Node) *Node { return s.piece(t, i*keys*c, (i+1)*keys*c, 1, keys, c) }
		for _, sp := range s.even(length, c) {
			from, to := (i*length+sp.from)*c, (i*length+sp.to)*c
			rows := Shape{1, sp.to - sp.from, c}
			out = append(out, fragment{from, to, s.add(n.Op, rows, n.Attrs, s.piece(q, from, to, rows...), of(k), of(v))})
		}
	}
	return out
}
