// Package cpu runs plans of package graph on the processor: in float32 as the
// fallback where there is no GPU and to train the built-in networks, in float64
// as the reference that every kernel of every device is tested against. The
// code is generic over the two. Matrix products go to gonum where it has
// assembly, to a tiled product in Go elsewhere, WebAssembly included, and to
// OpenBLAS with the build tag openblas; everything else is plain Go.
//
// It is not a general array library: the only way in is a compiled plan.
package cpu

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"unsafe"

	"github.com/sdo-go/sdo/graph"
)

var (
	_ graph.Executor = (*Executor[float32])(nil)
	_ graph.Executor = (*Executor[float64])(nil)
)

// Options choose how an executor works. The zero value is right for most.
type Options struct {
	// Workers is the number of goroutines kernels are split over; 0 means
	// GOMAXPROCS.
	Workers int
	// TraceNaN looks at every result and fails a run at the first node that
	// produces a number that is not finite. Slow.
	TraceNaN bool
}

// Executor implements graph.Executor. Its ledger counts elements at their real
// size: what a plan says for float32, twice that for float64. The arena holds,
// behind a plan's tensors, the working memory of its kernels: mostly unfolded
// tiles of convolutions, turned filters and unpacked parameters. Parameters
// stored as F16 are rounded to float16; large ones are held packed and unpacked
// by the kernel that reads them, at every use.
type Executor[T Float] struct {
	workers int
	trace   bool
	gemm    gemm[T]
	kernels map[string]maker[T]
	pool    *pool[T]

	programs int           // not released
	scratch  []T           // arena shared by all programs, their working memory included
	spare    map[int][][]T // released tapes by size
	usage    graph.Usage
}

// New returns an executor. Close ends its workers.
func New[T Float](o Options) *Executor[T] {
	workers := o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	return &Executor[T]{
		workers: workers,
		trace:   o.TraceNaN,
		gemm:    newGemm[T](),
		kernels: kernels[T](),
		pool:    newPool[T](workers),
		spare:   map[int][][]T{},
	}
}

// Device names the processor and the BLAS.
func (e *Executor[T]) Device() graph.Device {
	return graph.Device{Kind: "cpu", Name: processor() + ", " + library}
}

func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if match := regexp.MustCompile(`model name\s*:\s*(.+)`).FindSubmatch(text); err == nil && match != nil {
		return string(match[1])
	}
	return runtime.GOOS + "/" + runtime.GOARCH
}

// Usage reports the ledger.
func (e *Executor[T]) Usage() graph.Usage { return e.usage }

// ResetPeak starts a new PeakActivations.
func (e *Executor[T]) ResetPeak() { e.usage.PeakActivations = e.usage.Activations }

// Close ends the workers and drops all memory. The executor's programs and
// tensors must not be used afterwards.
func (e *Executor[T]) Close() error {
	if e.pool != nil {
		e.pool.close()
	}
	*e = Executor[T]{spare: map[int][][]T{}}
	return nil
}

// Ops lists the operations this executor has a kernel for.
func (e *Executor[T]) Ops() []string {
	var ops []string
	for op := range e.kernels {
		ops = append(ops, op)
	}
	return ops
}

// activate adds to the bytes of live activations.
func (e *Executor[T]) activate(elements int) {
	e.usage.Activations += bytesOf[T](elements)
	e.usage.PeakActivations = max(e.usage.PeakActivations, e.usage.Activations)
}

// reserve grows the arena to what a program needs. The old one goes first, so
// that both need not fit at once.
func (e *Executor[T]) reserve(size int) error {
	more := size - len(e.scratch)
	if more <= 0 {
		return nil
	}
	if err := Room(bytesOf[T](more)); err != nil {
		return err
	}
	e.scratch = nil
	e.scratch = make([]T, size)
	e.activate(more)
	return nil
}

func elementSize[T Float]() int { return int(unsafe.Sizeof(T(0))) }

func bytesOf[T Float](elements int) int64 { return int64(elements) * int64(elementSize[T]()) }

// elements converts a plan's bytes, at four a number.
func elements(bytes int64) int { return int(bytes / 4) }

// each splits a loop that is not a kernel over the workers.
func (e *Executor[T]) each(items, cost int, run func(lo, hi int)) {
	e.pool.run(&phase[T]{items, cost, func(_ *call[T], lo, hi int) { run(lo, hi) }}, &call[T]{})
}

// ScratchBytes is the largest arena of the plans, at this executor's width of a
// number, with the working memory of its kernels and workers.
func (e *Executor[T]) ScratchBytes(plans ...*graph.Plan) (most int64) {
	for _, plan := range plans {
		_, layout, err := e.make(plan)
		if err != nil {
			layout = arenaLayout{plan: elements(plan.ScratchBytes)} // Compile will say why
		}
		most = max(most, bytesOf[T](layout.size()))
	}
	return most
}

// ParamBytes counts each parameter once for all plans, as NewParam holds it.
func (e *Executor[T]) ParamBytes(plans ...*graph.Plan) (total int64) {
	counted := map[string]bool{}
	for _, plan := range plans {
		for _, n := range plan.Params {
			if n.Op == graph.OpConst || !counted[n.Name] {
				counted[n.Name] = true
				total += heldBytes[T](n.Shape.Size(), n.Storage)
			}
		}
	}
	return total
}

// packedFrom is the size in numbers from which F16 parameters are held packed.
// Unpacking takes about a nanosecond a number, which is nothing beside the
// products of a large layer and a tenth of the time of a small network.
const packedFrom = 1 << 18

func heldPacked(size int, storage graph.Storage) bool {
	return storage == graph.F16 && size >= packedFrom
}

func heldBytes[T Float](size int, storage graph.Storage) int64 {
	if heldPacked(size, storage) {
		return 4 * ((int64(size) + 1) / 2) // whole words, as plans count
	}
	return bytesOf[T](size)
}

// NewParam uploads a parameter. F16 storage rounds it; a number beyond its range is
// an error.
func (e *Executor[T]) NewParam(data []float32, storage graph.Storage) (graph.Tensor, error) {
	bytes := heldBytes[T](len(data), storage)
	if err := Room(bytes); err != nil {
		return nil, err
	}
	if storage == graph.F16 {
		if i := slices.IndexFunc(data, beyondHalf); i >= 0 {
			return nil, fmt.Errorf("parameter: element %d is %g, beyond the range of half precision", i, data[i])
		}
	}
	v := &vector[T]{size: len(data), param: true}
	if heldPacked(len(data), storage) {
		v.half = make([]uint16, len(data))
		for i, x := range data {
			v.half[i] = packHalf(x)
		}
	} else {
		v.data = make([]T, len(data))
		for i, x := range data {
			if storage == graph.F16 {
				x = roundHalf(x)
			}
			v.data[i] = T(x)
		}
	}
	e.usage.Params += bytes
	return v, nil
}

// NewHalfParam uploads a parameter that is in half precision already, and holds the
// slice itself where it holds it packed.
func (e *Executor[T]) NewHalfParam(halves []byte) (graph.Tensor, error) {
	bits := halfBits(halves)
	bytes := heldBytes[T](len(bits), graph.F16)
	if err := Room(bytes); err != nil {
		return nil, err
	}
	v := &vector[T]{size: len(bits), param: true}
	if heldPacked(len(bits), graph.F16) {
		v.half = bits
	} else {
		v.data = make([]T, len(bits))
		unpackHalves(v.data, bits)
	}
	e.usage.Params += bytes
	return v, nil
}

func lengthError(what string, got, want int) error {
	return fmt.Errorf("cpu: %s has %d numbers, want %d", what, got, want)
}
