package graph

import "context"

// Tensor is storage that lives on a device: a slice on the CPU, a buffer range
// on a GPU. Only the executor that made it can look inside.
//
// It is an alias of an interface literal on purpose: package sdo declares the
// same alias under the name Vector, so an executor is an sdo.Space as it
// stands and neither package imports the other.
type Tensor = interface{ Len() int }

// Storage says how the numbers of a parameter lie in memory.
type Storage int

const (
	F32 Storage = iota // one 32-bit word per number
	F16                // two numbers per 32-bit word, arithmetic still in f32
)

// Device describes what an executor runs on, for reports.
type Device struct {
	Kind     string // "cpu" or "webgpu"
	Name     string // adapter name, or the processor and its BLAS
	Driver   string // driver and back end, empty on the CPU
	Software bool   // a software adapter: correct, but its times are ratios only
}

// Usage counts the bytes an executor holds, by its own ledger and not by the
// operating system's.
type Usage struct {
	Params          int64 // weights
	Vectors         int64 // tensors made by NewVector
	Activations     int64 // scratch arena + live tapes
	PeakActivations int64 // highest Activations since ResetPeak
}

// Feed copies a tensor into a graph input before a segment runs, or fills the
// input with Value when From is nil.
type Feed struct {
	Node  *Node
	From  Tensor
	Value float64
}

// Fetch copies a node of the segment into a tensor after it ran.
type Fetch struct {
	Node *Node
	To   Tensor
}

// Tape holds the pinned tensors of one kept call (the plan's tape region).
type Tape interface {
	Bytes() int64
	Release()
}

// Program is a plan made ready on a device. Pipelines, bind groups and buffers
// are made once; Run only replays them.
type Program interface {
	Plan() *Plan
	// NewTape allocates one set of pinned tensors. A plan with TapeBytes 0
	// needs none and Run accepts nil.
	NewTape() (Tape, error)
	// Run feeds inputs, executes one segment and fetches outputs. On a GPU it
	// only enqueues work; errors of the device surface at the next Read.
	Run(ctx context.Context, tape Tape, segment int, feeds []Feed, fetches []Fetch) error
	Release()
}

// Executor runs plans on one device and does the few vector operations a
// sampler and an optimiser need. An executor is not safe for concurrent use.
type Executor interface {
	Device() Device
	Usage() Usage
	ResetPeak()
	Close() error

	// ScratchBytes is the arena that plans share on this device: their own bytes
	// and what the device's kernels need besides. It allocates nothing, so a
	// run's memory can be told before it starts.
	ScratchBytes(plans ...*Plan) int64
	// ParamBytes is what the parameters of a network's plans take on this
	// device, those of one name counted once, with the packed forms a device
	// keeps of them and the constants of each plan. It allocates nothing.
	ParamBytes(plans ...*Plan) int64

	// NewParam uploads a parameter.
	NewParam(data []float32, storage Storage) (Tensor, error)
	// NewHalfParam is NewParam with storage F16 of numbers that are in half
	// precision already, two bytes each, the low one first. The executor may keep
	// the slice.
	NewHalfParam(halves []byte) (Tensor, error)
	// Compile makes a plan ready. params holds a tensor for every parameter
	// node of the plan; constants are uploaded by Compile itself.
	Compile(plan *Plan, params map[*Node]Tensor) (Program, error)

	// The vector space. These methods are sdo.Space word for word.

	NewVector(n int) (Tensor, error)
	FreeVector(v Tensor)
	Write(ctx context.Context, dst Tensor, src []float64) error
	Read(ctx context.Context, src Tensor) ([]float64, error)
	// Combine sets dst = sum_k coeffs[k]*xs[k]. dst may be one of xs. No terms
	// sets dst to zero.
	Combine(dst Tensor, coeffs []float64, xs []Tensor) error
	// RowDots splits x and y into equal rows and returns <x_r, y_r> of each.
	RowDots(ctx context.Context, x, y Tensor, rows int) ([]float64, error)
	// ScaleRows multiplies row r of v by scales[r]; len(scales) equal rows.
	ScaleRows(v Tensor, scales []float64) error
	// Adam makes one AdamW update in place (decoupled weight decay, bias
	// correction by step, counted from 1). Row r of p moves with lr[r];
	// len(lr) equal rows. m and v are the moments.
	Adam(p, m, v, grad Tensor, lr []float64, beta1, beta2, eps, weightDecay float64, step int) error
	// Normal fills v with standard normal numbers: element i is
	// graph.Normal(seed, stream, i) on every device.
	Normal(v Tensor, seed uint64, stream uint32) error
}
