package gpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// maxStorageBindings is the default limit of storage bindings per kernel.
const maxStorageBindings = 8

// Device is an open GPU.
type Device struct {
	raw       rawDevice
	info      Info
	limits    Limits
	bytes     int64
	layouts   [maxStorageBindings + 1]*rawLayout
	pipelines map[string]*Pipeline // by number of bindings and text
	fresh     []string             // pipelines that have not been settled
	runs      int64
	failure   error // of queued work, not yet reported
}

// Open finds an adapter and opens it. choice is "backend:name", either half, or
// empty, which means the environment variable SDO_ADAPTER and then the best
// hardware there is. SDO_LIMITS=default asks for the limits every WebGPU device
// grants instead of all that the adapter offers.
//
// Without an adapter the error wraps ErrNoAdapter and says what to install.
func Open(ctx context.Context, choice string) (*Device, error) {
	if choice == "" {
		choice = os.Getenv("SDO_ADAPTER")
	}
	raw, info, limits, err := openRaw(ctx, parseWanted(choice), os.Getenv("SDO_LIMITS") == "default")
	if err != nil {
		return nil, err
	}
	return &Device{raw: raw, info: info, limits: limits, pipelines: map[string]*Pipeline{}}, nil
}

// Info describes the adapter.
func (d *Device) Info() Info { return d.info }

// Limits returns what was granted.
func (d *Device) Limits() Limits { return d.limits }

// Bytes is the sum of all live buffers, by this package's own count.
func (d *Device) Bytes() int64 { return d.bytes }

// Err returns the first failure of queued work since the last call and forgets
// it, except that a lost device stays lost.
func (d *Device) Err() error {
	if err := d.raw.err(); err != nil && d.failure == nil {
		d.failure = err
	}
	err := d.failure
	if !errors.Is(err, ErrLost) {
		d.failure = nil
	}
	return err
}

// Settle waits until everything that was made is known to be good and returns
// the first error. A browser makes buffers and pipelines in another process,
// which is asked about all of them at once; Read settles too. Pipelines made
// since the last time are made again after an error.
func (d *Device) Settle() error {
	err := d.raw.settle()
	if err != nil {
		for _, key := range d.fresh {
			delete(d.pipelines, key)
		}
	}
	d.fresh = d.fresh[:0]
	if err != nil {
		return d.note(err)
	}
	return d.Err()
}

// note remembers a loss, after which no more work may be submitted.
func (d *Device) note(err error) error {
	if errors.Is(err, ErrLost) {
		d.failure = err
	}
	return err
}

// Close releases the device. Buffers still held become useless.
func (d *Device) Close() error {
	for _, p := range d.pipelines {
		p.raw.release()
	}
	for _, l := range d.layouts {
		if l != nil {
			l.release()
		}
	}
	d.pipelines, d.layouts = nil, [maxStorageBindings + 1]*rawLayout{}
	d.raw.close()
	return nil
}

// Usage says how kernels may bind a buffer.
type Usage int

const (
	Storage Usage = iota // read_write storage
	Uniform              // uniform blocks
)

// Buffer is memory on the device.
type Buffer struct {
	device *Device
	raw    rawBuffer
	size   int64
}

// NewBuffer allocates zeroed memory; size is rounded up to 4 bytes. A size
// beyond the device's limits, or one the driver refuses, is an error that wraps
// ErrOutOfMemory; the driver's word may come with Settle. label names the buffer
// in error messages.
func (d *Device) NewBuffer(label string, size int64, usage Usage) (*Buffer, error) {
	size = max(4, (size+3)&^3)
	if size > d.limits.MaxBuffer {
		return nil, fmt.Errorf("%s: %w: it needs %d bytes and one buffer of %s holds at most %d",
			label, ErrOutOfMemory, size, d.info.Name, d.limits.MaxBuffer)
	}
	raw, err := d.raw.newBuffer(label, size, usage)
	if err != nil {
		return nil, fmt.Errorf("%s: allocating %d bytes on %s: %w", label, size, d.info.Name, err)
	}
	d.bytes += size
	return &Buffer{d, raw, size}, nil
}

// Size is the number of bytes.
func (b *Buffer) Size() int64 { return b.size }

// Release gives the memory back once queued work no longer needs it. Releasing
// nil or twice is harmless.
func (b *Buffer) Release() {
	if b == nil || b.device == nil {
		return
	}
	b.raw.release()
	b.device.bytes -= b.size
	b.device = nil
}

// Write uploads data, a multiple of 4 bytes, before any work submitted later.
func (d *Device) Write(b *Buffer, offset int64, data []byte) error {
	if offset < 0 || offset%4 != 0 || len(data)%4 != 0 || offset+int64(len(data)) > b.size {
		return fmt.Errorf("gpu: write of %d bytes at %d does not fit a buffer of %d", len(data), offset, b.size)
	}
	if len(data) == 0 {
		return nil
	}
	return d.raw.write(&b.raw, offset, data)
}

// Read waits for all submitted work and downloads len(into) bytes, a multiple
// of 4. It also reports the first failure of work queued before it. When ctx
// ends first, into is undefined and the device stays usable.
func (d *Device) Read(ctx context.Context, b *Buffer, offset int64, into []byte) error {
	if offset < 0 || offset%4 != 0 || len(into)%4 != 0 || offset+int64(len(into)) > b.size {
		return fmt.Errorf("gpu: read of %d bytes at %d does not fit a buffer of %d", len(into), offset, b.size)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.Settle(); err != nil {
		return err
	}
	if len(into) == 0 {
		return nil
	}
	if err := d.raw.read(ctx, &b.raw, offset, into); err != nil {
		return d.note(err)
	}
	return d.Err()
}

// Pipeline is a compiled kernel.
type Pipeline struct {
	raw     rawPipeline
	storage int
}

// Pipeline compiles WGSL with entry point "main" and the given number of
// storage bindings, or returns the one compiled before from the same text. A
// shader that the front end refuses is an error with its message and line, here or
// at Settle.
func (d *Device) Pipeline(label, wgsl string, storage int) (*Pipeline, error) {
	if strings.TrimSpace(wgsl) == "" {
		return nil, fmt.Errorf("shader %s: the text is empty", label) // the native library would crash
	}
	key := fmt.Sprintf("%d\n%s", storage, wgsl)
	if p := d.pipelines[key]; p != nil {
		return p, nil
	}
	layout, err := d.layout(storage)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", label, err)
	}
	raw, err := d.raw.newPipeline(label, wgsl, layout)
	if err != nil {
		return nil, fmt.Errorf("shader %s: %w", label, err)
	}
	p := &Pipeline{raw, storage}
	d.pipelines[key], d.fresh = p, append(d.fresh, key)
	return p, nil
}

// Dispatches counts the kernel runs recorded so far.
func (d *Device) Dispatches() int64 { return d.runs }

// Pipelines counts the kernels compiled so far.
func (d *Device) Pipelines() int { return len(d.pipelines) }

func (d *Device) layout(storage int) (*rawLayout, error) {
	if storage < 0 || storage > maxStorageBindings {
		return nil, fmt.Errorf("a kernel has %d storage bindings; portable kernels have at most %d", storage, maxStorageBindings)
	}
	if d.layouts[storage] == nil {
		layout, err := d.raw.newLayout(storage)
		if err != nil {
			return nil, err
		}
		d.layouts[storage] = &layout
	}
	return d.layouts[storage], nil
}

// Range is a piece of a buffer.
type Range struct {
	Buffer       *Buffer
	Offset, Size int64
}

// Bindings ties buffers to the bindings of kernels; made once, used often.
type Bindings struct{ raw rawBindings }

// Bind makes bindings for kernels with len(storage) storage bindings. uniform
// is the block of one dispatch: its offset must be 0, the real one is given to
// Dispatch. A range beyond the adapter's binding limit is an error.
func (d *Device) Bind(uniform Range, storage []Range) (*Bindings, error) {
	layout, err := d.layout(len(storage))
	if err != nil {
		return nil, err
	}
	for i, r := range storage {
		if r.Size > d.limits.MaxBinding {
			return nil, fmt.Errorf("binding %d: %w: it needs %d bytes and %s binds at most %d at once",
				i+1, ErrOutOfMemory, r.Size, d.info.Name, d.limits.MaxBinding)
		}
		if r.Offset%int64(d.limits.OffsetAlign) != 0 || r.Size%4 != 0 || r.Size <= 0 || r.Offset+r.Size > r.Buffer.size {
			return nil, fmt.Errorf("binding %d: range [%d, +%d) does not fit a buffer of %d bytes on a grid of %d",
				i+1, r.Offset, r.Size, r.Buffer.size, d.limits.OffsetAlign)
		}
	}
	raw, err := d.raw.newBindings(layout, uniform, storage)
	if err != nil {
		return nil, err
	}
	return &Bindings{raw}, nil
}

// Release drops the bindings. Releasing nil is harmless.
func (b *Bindings) Release() {
	if b != nil {
		b.raw.release()
	}
}

// Recorder collects dispatches into one compute pass.
type Recorder struct {
	device *Device
	raw    rawPass
}

// Record starts a compute pass.
func (d *Device) Record() (*Recorder, error) {
	if err := d.failure; errors.Is(err, ErrLost) {
		return nil, err // the native library aborts the process on work for a lost device
	}
	raw, err := d.raw.begin()
	if err != nil {
		return nil, err
	}
	return &Recorder{device: d, raw: raw}, nil
}

// Dispatch appends one kernel run with its uniform block at uniformOffset.
// Dispatches see each other's writes in order.
func (r *Recorder) Dispatch(p *Pipeline, b *Bindings, uniformOffset uint32, groups [3]uint32) {
	r.device.runs++
	r.raw.dispatch(&p.raw, &b.raw, uniformOffset, groups)
}

// Submit ends the pass and queues it. Invalid work is reported here or by the
// next Err; either way the recorder is spent.
func (r *Recorder) Submit() error {
	if r.device.raw.unfinished() {
		if err := r.device.Settle(); err != nil {
			return err
		}
	}
	return r.device.note(r.device.raw.submit(&r.raw))
}
