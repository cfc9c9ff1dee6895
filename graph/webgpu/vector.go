package webgpu

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/sdo-go/sdo/gpu"
	"github.com/sdo-go/sdo/graph"
	"github.com/x448/float16"
)

// vector is a tensor in a buffer of its own: a vector of the space, or a
// parameter.
type vector struct {
	owner   *Executor
	buffer  *gpu.Buffer // nil once freed
	n       int
	storage graph.Storage
	bytes   int64
	ledger  *int64 // where they are counted
	version uint64 // of the contents, from 1
}

// Len is the number of elements.
func (v *vector) Len() int { return v.n }

func (v *vector) all() gpu.Range { return gpu.Range{Buffer: v.buffer, Size: v.buffer.Size()} }

// written is all for a kernel that writes: what was made of the old contents is
// out of date.
func (v *vector) written() gpu.Range {
	v.version++
	return v.all()
}

// own checks that t is a live tensor of this executor.
func (e *Executor) own(op string, t graph.Tensor) (*vector, error) {
	v, ok := t.(*vector)
	switch {
	case !ok || v == nil:
		return nil, fmt.Errorf("%s: the tensor is not from a GPU executor: %T", op, t)
	case v.owner != e:
		return nil, fmt.Errorf("%s: the tensor belongs to another executor", op)
	case v.buffer == nil:
		return nil, fmt.Errorf("%s: the tensor was freed", op)
	}
	return v, nil
}

// numbers is own for operations on 32-bit floats.
func (e *Executor) numbers(op string, t graph.Tensor) (*vector, error) {
	v, err := e.own(op, t)
	if err == nil && v.storage != graph.F32 {
		err = fmt.Errorf("%s: the tensor is a parameter stored in half precision", op)
	}
	return v, err
}

// sameLength resolves tensors that must all be as long as the first.
func (e *Executor) sameLength(op string, ts ...graph.Tensor) ([]*vector, error) {
	vs := make([]*vector, len(ts))
	for i, t := range ts {
		v, err := e.numbers(op, t)
		if err != nil {
			return nil, err
		}
		if vs[i] = v; v.n != vs[0].n {
			return nil, fmt.Errorf("%s: tensors of %d and %d elements", op, vs[0].n, v.n)
		}
	}
	return vs, nil
}

// newVector allocates n numbers that kernels can see at once.
func (e *Executor) newVector(label string, n int, ledger *int64) (*vector, error) {
	if bytes, limit := 4*int64(n), e.device.Limits().MaxBinding; bytes > limit {
		return nil, fmt.Errorf("%s: %w: it needs %d bytes and %s binds at most %d at once",
			label, gpu.ErrOutOfMemory, bytes, e.device.Info().Name, limit)
	}
	return e.allocate(label, n, graph.F32, ledger)
}

// allocate is newVector for what a plan may take in parts.
func (e *Executor) allocate(label string, n int, storage graph.Storage, ledger *int64) (*vector, error) {
	if n < 1 {
		return nil, fmt.Errorf("%s: %d elements; at least 1 is needed", label, n)
	}
	bytes := 4 * int64(n)
	if storage == graph.F16 {
		bytes = 4 * ((int64(n) + 1) / 2)
	}
	buffer, err := e.device.NewBuffer(label, wholeVectors(bytes), gpu.Storage)
	if err != nil {
		return nil, err
	}
	*ledger += bytes
	return &vector{e, buffer, n, storage, bytes, ledger, 1}, nil
}

// NewVector allocates n zeros.
func (e *Executor) NewVector(n int) (graph.Tensor, error) {
	v, err := e.newVector("vector", n, &e.usage.Vectors)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// FreeVector releases a vector or a parameter. Freeing twice is harmless.
func (e *Executor) FreeVector(t graph.Tensor) {
	v, err := e.own("free", t)
	if err != nil {
		return
	}
	*v.ledger -= v.bytes
	e.discard(v.buffer)
	v.buffer = nil
}

// NewParam uploads a parameter. Half precision rounds to nearest even; a number
// beyond its range is an error.
func (e *Executor) NewParam(data []float32, storage graph.Storage) (graph.Tensor, error) {
	v, err := e.allocate("parameter", len(data), storage, &e.usage.Params)
	if err != nil {
		return nil, err
	}
	packed, err := pack(data, storage)
	return e.fill(v, packed, err)
}

// NewHalfParam uploads a parameter that is in half precision already.
func (e *Executor) NewHalfParam(halves []byte) (graph.Tensor, error) {
	v, err := e.allocate("parameter", len(halves)/2, graph.F16, &e.usage.Params)
	if err != nil {
		return nil, err
	}
	for len(halves)%4 != 0 { // whole words
		halves = append(halves, 0)
	}
	return e.fill(v, halves, nil)
}

// fill writes what pack made of a parameter's numbers, unless that failed.
func (e *Executor) fill(v *vector, packed []byte, err error) (graph.Tensor, error) {
	if err == nil {
		err = e.device.Write(v.buffer, 0, packed)
	}
	if err != nil {
		e.FreeVector(v)
		return nil, fmt.Errorf("parameter: %w", err)
	}
	return v, nil
}

// pack lays numbers out as words: one each, or two halves with the first in
// the low bits, as unpack2x16float reads them.
func pack(data []float32, storage graph.Storage) ([]byte, error) {
	if storage == graph.F32 {
		out := make([]byte, 4*len(data))
		for i, x := range data {
			binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(x))
		}
		return out, nil
	}
	out := make([]byte, (2*len(data)+3)&^3)
	for i, x := range data {
		half := float16.Fromfloat32(x)
		if half.IsInf(0) && !math.IsInf(float64(x), 0) {
			return nil, fmt.Errorf("element %d is %g, beyond the range of half precision", i, x)
		}
		binary.LittleEndian.PutUint16(out[2*i:], half.Bits())
	}
	return out, nil
}

// Write uploads numbers, rounded to float32.
func (e *Executor) Write(ctx context.Context, dst graph.Tensor, src []float64) error {
	v, err := e.numbers("write", dst)
	if err != nil {
		return err
	}
	if len(src) != v.n {
		return fmt.Errorf("write: %d numbers into a tensor of %d", len(src), v.n)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := e.flush(); err != nil { // queued work comes before the upload
		return err
	}
	data := make([]byte, 4*v.n)
	for i, x := range src {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(float32(x)))
	}
	return e.device.Write(v.written().Buffer, 0, data)
}

// Read waits for all queued work and downloads a tensor. The first error of
// that work is returned here. A cancelled ctx leaves the executor usable.
func (e *Executor) Read(ctx context.Context, src graph.Tensor) ([]float64, error) {
	v, err := e.numbers("read", src)
	if err != nil {
		return nil, err
	}
	return e.readFloats(ctx, v.buffer, v.n)
}

func (e *Executor) readFloats(ctx context.Context, b *gpu.Buffer, n int) ([]float64, error) {
	if err := e.flush(); err != nil {
		return nil, err
	}
	data := make([]byte, 4*n)
	if err := e.device.Read(ctx, b, 0, data); err != nil {
		return nil, err
	}
	out := make([]float64, n)
	for i := range out {
		out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:])))
	}
	return out, nil
}

// dotChunk is the number of products that one workgroup of vector_dots adds.
const dotChunk = 4096

// vectorPipeline compiles a vector kernel for this adapter. name is a shader,
// or "shader/FLAG" for the variant with that constant true.
func (e *Executor) vectorPipeline(name string, operands int) (*gpu.Pipeline, error) {
	if p := e.pipelines[pipelineKey{e.preset, name}]; p != nil {
		return p, nil
	}
	shader, flag, _ := strings.Cut(name, "/")
	consts := map[string]string{"WORKGROUP": fmt.Sprintf("%du", e.preset.lanes)}
	if shader == "vector_dots" {
		consts["WORKGROUP"] = fmt.Sprintf("%du", e.preset.team)
		consts["CHUNK"] = fmt.Sprintf("%du", dotChunk)
	}
	if flag != "" {
		consts[flag] = "true"
	}
	return e.pipeline(name, shader, consts, operands)
}

// Combine sets dst = sum_k coeffs[k]*xs[k] in float32, four terms a pass.
func (e *Executor) Combine(dst graph.Tensor, coeffs []float64, xs []graph.Tensor) error {
	if len(coeffs) != len(xs) {
		return fmt.Errorf("combine: %d coefficients for %d tensors", len(coeffs), len(xs))
	}
	vs, err := e.sameLength("combine", append([]graph.Tensor{dst}, xs...)...)
	if err != nil {
		return err
	}
	out := vs[0]
	// dst among the terms becomes the coefficient it keeps; a tensor named twice
	// becomes one term, since a range may not be bound twice.
	keep := 0.0
	var terms []*vector
	coeff := map[*vector]float64{}
	for k, x := range vs[1:] {
		if x == out {
			keep += coeffs[k]
			continue
		}
		if _, known := coeff[x]; !known {
			terms = append(terms, x)
		}
		coeff[x] += coeffs[k]
	}
	for first := true; first || len(terms) > 0; first = false {
		now := terms[:min(4, len(terms))]
		terms = terms[len(now):]
		words := []uint32{uint32(out.n), uint32(len(now)), floatWord(keep), 0, 0, 0, 0, 0}
		ranges := []gpu.Range{out.written()}
		for k := range 4 {
			if k < len(now) {
				words[4+k] = floatWord(coeff[now[k]])
				ranges = append(ranges, now[k].all())
			} else {
				ranges = append(ranges, e.unread(k))
			}
		}
		if err := e.enqueue("vector_combine", words, e.spread(out.n), ranges...); err != nil {
			return err
		}
		keep = 1
	}
	return nil
}

// unread fills binding k of a kernel that will not look at it. Distinct k do
// not overlap.
func (e *Executor) unread(k int) gpu.Range {
	return gpu.Range{Buffer: e.filler, Offset: int64(k) * slotAlign, Size: slotAlign}
}

// splitRows checks that tensors divide into rows.
func splitRows(op string, v *vector, rows int) (cols int, err error) {
	if rows < 1 || v.n%rows != 0 {
		return 0, fmt.Errorf("%s: %d elements do not divide into %d rows", op, v.n, rows)
	}
	return v.n / rows, nil
}

// RowDots returns <x_r, y_r> of each row. The device sums chunks of 4096
// products in a fixed order, the host adds the chunks in float64.
func (e *Executor) RowDots(ctx context.Context, x, y graph.Tensor, rows int) ([]float64, error) {
	vs, err := e.sameLength("row dots", x, y)
	if err != nil {
		return nil, err
	}
	cols, err := splitRows("row dots", vs[0], rows)
	if err != nil {
		return nil, err
	}
	chunks := ceil(cols, dotChunk)
	partial, err := e.newVector("row dots", rows*chunks, new(int64))
	if err != nil {
		return nil, err
	}
	defer e.FreeVector(partial)
	kernel, other := "vector_dots", vs[1].all()
	if vs[0] == vs[1] {
		kernel, other = "vector_dots/SAME", e.unread(0)
	}
	words := []uint32{uint32(rows), uint32(cols), uint32(chunks)}
	err = e.enqueue(kernel, words, fold(rows*chunks, 1), partial.all(), vs[0].all(), other)
	if err != nil {
		return nil, err
	}
	sums, err := e.readFloats(ctx, partial.buffer, rows*chunks)
	if err != nil {
		return nil, err
	}
	dots := make([]float64, rows)
	for i, s := range sums {
		dots[i/chunks] += s
	}
	return dots, nil
}

// rowScalars queues one number per row for upload and returns where in the
// rows buffer they will be, in words.
func (e *Executor) rowScalars(values []float64) (first uint32, err error) {
	bytes := 4 * len(values)
	if !e.rows.fits(bytes) {
		if err := e.flush(); err != nil {
			return 0, err
		}
		if !e.rows.fits(bytes) {
			grown, err := newUpload(e.device, "row scalars", 2*bytes, gpu.Storage)
			if err != nil {
				return 0, err
			}
			e.forget(e.rows.buffer)
			e.rows = grown
		}
	}
	at := e.rows.take(bytes)
	for r, x := range values {
		binary.LittleEndian.PutUint32(e.rows.data[at+4*r:], floatWord(x))
	}
	return uint32(at / 4), nil
}

func (e *Executor) rowRange() gpu.Range {
	return gpu.Range{Buffer: e.rows.buffer, Size: e.rows.buffer.Size()}
}

// ScaleRows multiplies row r of v by scales[r].
func (e *Executor) ScaleRows(v graph.Tensor, scales []float64) error {
	x, err := e.numbers("scale rows", v)
	if err != nil {
		return err
	}
	cols, err := splitRows("scale rows", x, len(scales))
	if err != nil {
		return err
	}
	if err := e.reserveBlock(); err != nil {
		return err
	}
	first, err := e.rowScalars(scales)
	if err != nil {
		return err
	}
	words := []uint32{uint32(x.n), uint32(cols), first}
	return e.enqueue("vector_scale", words, e.spread(x.n), x.written(), e.rowRange())
}

// Adam makes one AdamW update in place; see vector_adam.wgsl for the formula.
func (e *Executor) Adam(p, m, v, grad graph.Tensor, lr []float64, beta1, beta2, eps, weightDecay float64, step int) error {
	vs, err := e.sameLength("adam", p, m, v, grad)
	if err != nil {
		return err
	}
	for i, a := range vs {
		for _, b := range vs[:i] {
			if a == b {
				return fmt.Errorf("adam: the parameter, its moments and its gradient must be four different tensors")
			}
		}
	}
	cols, err := splitRows("adam", vs[0], len(lr))
	if err != nil {
		return err
	}
	if step < 1 {
		return fmt.Errorf("adam: step %d; steps count from 1", step)
	}
	if err := e.reserveBlock(); err != nil {
		return err
	}
	first, err := e.rowScalars(lr)
	if err != nil {
		return err
	}
	n := vs[0].n
	words := []uint32{
		uint32(n), uint32(cols), first, floatWord(weightDecay),
		floatWord(beta1), floatWord(1 - beta1), floatWord(beta2), floatWord(1 - beta2),
		floatWord(1 / (1 - math.Pow(beta1, float64(step)))),
		floatWord(1 / (1 - math.Pow(beta2, float64(step)))), floatWord(eps),
	}
	return e.enqueue("vector_adam", words, e.spread(n),
		vs[0].written(), vs[1].written(), vs[2].written(), vs[3].all(), e.rowRange())
}

// Normal fills v with graph.Normal(seed, stream, i), within 2e-6.
func (e *Executor) Normal(v graph.Tensor, seed uint64, stream uint32) error {
	x, err := e.numbers("normal", v)
	if err != nil {
		return err
	}
	words := []uint32{uint32(x.n), stream, uint32(seed), uint32(seed >> 32)}
	return e.enqueue("vector_normal", words, e.spread((x.n+3)/4), x.written())
}

// spread covers n elements with the workgroups of the vector kernels.
func (e *Executor) spread(n int) [3]uint32 { return fold(n, e.preset.lanes) }

// putWords writes little-endian words.
func putWords(dst []byte, words []uint32) {
	for i, w := range words {
		binary.LittleEndian.PutUint32(dst[4*i:], w)
	}
}
