// Package webgpu runs graph plans on a GPU through package gpu and the kernels
// of package shaders. It is an executor and a vector space; it does not decide
// what to compute (package graph) nor what to do with it (package sdo).
//
// Work is queued into one open compute pass and submitted after each network
// call, before each upload and before each read-back. Nothing is read back in
// between, so an error of the device surfaces at the next Read at the latest.
//
// Memory: one scratch arena shared by all programs and one tape arena per kept
// call, each one buffer or as many as the device's limit asks for; one buffer per
// parameter and per vector, and one per form that kernels pack the parameters of
// a small network into.
package webgpu

import (
	"context"
	"fmt"

	"github.com/sdo-go/sdo/gpu"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/shaders"
)

// Executor implements graph.Executor on one device. It is not safe for
// concurrent use.
type Executor struct {
	device    *gpu.Device
	preset    *preset
	pass      *gpu.Recorder // open pass, nil when nothing is queued
	blocks    *upload       // uniform blocks of vector operations and feeds
	rows      *upload       // one number per row, for ScaleRows and Adam
	scratch   []*gpu.Buffer // the arena
	arena     int           // counts the times that it grew
	filler    *gpu.Buffer   // bound where a kernel has a binding it will not read
	programs  map[*program]struct{}
	pipelines map[pipelineKey]*gpu.Pipeline
	bindings  map[bindKey]*gpu.Bindings
	packed    map[packedKey]*packed
	after     []func() // releases that wait until the open pass is submitted
	usage     graph.Usage
}

var _ graph.Executor = (*Executor)(nil)

// Open finds a GPU; adapter is as for gpu.Open, empty for the best one.
func Open(ctx context.Context, adapter string) (*Executor, error) {
	device, err := gpu.Open(ctx, adapter)
	if err != nil {
		return nil, err
	}
	e, err := New(device)
	if err != nil {
		device.Close()
		return nil, err
	}
	return e, nil
}

// New makes an executor on an open device, which Close closes.
func New(device *gpu.Device) (*Executor, error) {
	e := &Executor{
		device: device, preset: presetFor(device.Info().Software), programs: map[*program]struct{}{},
		pipelines: map[pipelineKey]*gpu.Pipeline{}, bindings: map[bindKey]*gpu.Bindings{},
		packed: map[packedKey]*packed{},
	}
	var err error
	if e.blocks, err = newUpload(device, "uniform blocks", 64<<10, gpu.Uniform); err != nil {
		return nil, err
	}
	if e.rows, err = newUpload(device, "row scalars", 4<<10, gpu.Storage); err != nil {
		return nil, err
	}
	if e.filler, err = device.NewBuffer("filler", maxOperands*slotAlign, gpu.Storage); err != nil {
		return nil, err
	}
	return e, nil
}

// GPU is the device underneath, for reports and benchmarks.
func (e *Executor) GPU() *gpu.Device { return e.device }

// Device describes the adapter.
func (e *Executor) Device() graph.Device {
	info := e.device.Info()
	driver := info.Backend
	if info.Driver != "" {
		driver = info.Driver + ", " + info.Backend
	}
	return graph.Device{Kind: "webgpu", Name: info.Name, Driver: driver, Software: info.Software}
}

// Usage returns the executor's own count of bytes on the device.
func (e *Executor) Usage() graph.Usage { return e.usage }

// ResetPeak makes the present activations the peak.
func (e *Executor) ResetPeak() { e.usage.PeakActivations = e.usage.Activations }

func (e *Executor) activations(delta int64) {
	e.usage.Activations += delta
	e.usage.PeakActivations = max(e.usage.PeakActivations, e.usage.Activations)
}

// Close drops queued work and releases the device with everything on it.
func (e *Executor) Close() error {
	if e.device == nil {
		return nil
	}
	err := e.flush()
	for p := range e.programs {
		p.Release()
	}
	for _, b := range e.bindings {
		b.Release()
	}
	for _, b := range append(e.scratch, e.filler, e.blocks.buffer, e.rows.buffer) {
		b.Release()
	}
	if closed := e.device.Close(); err == nil {
		err = closed
	}
	e.device = nil
	return err
}

// record returns the open pass, starting one if needed.
func (e *Executor) record() (*gpu.Recorder, error) {
	if e.pass == nil {
		pass, err := e.device.Record()
		if err != nil {
			return nil, err
		}
		e.pass = pass
	}
	return e.pass, nil
}

// flush submits the open pass. What was uploaded for it goes first: the queue
// keeps the order of writes and submissions, so the upload space is free again.
func (e *Executor) flush() error {
	if e.pass == nil {
		return nil
	}
	pass := e.pass
	e.pass = nil
	err := e.blocks.send(e.device)
	if failed := e.rows.send(e.device); err == nil {
		err = failed
	}
	if failed := pass.Submit(); err == nil {
		err = failed
	}
	for _, release := range e.after {
		release()
	}
	e.after = e.after[:0]
	if err != nil {
		for _, k := range e.packed {
			k.seen = [maxOperands]uint64{} // it may not have been made
		}
	}
	return err
}

// later runs release once the open pass is submitted: an open pass knows
// buffers and bind groups by number only, and does not keep them alive.
func (e *Executor) later(release func()) {
	if e.pass == nil {
		release()
		return
	}
	e.after = append(e.after, release)
}

// discard releases a buffer as soon as no queued work needs it.
func (e *Executor) discard(b *gpu.Buffer) { e.later(func() { e.forget(b) }) }

// forget releases a buffer and the cached bindings that hold it.
func (e *Executor) forget(b *gpu.Buffer) {
	for key, bound := range e.bindings {
		if key.holds(b) {
			bound.Release()
			delete(e.bindings, key)
		}
	}
	b.Release()
}

// upload is space for small values that accompany queued work: written here
// while recording, sent in one piece at the next flush.
type upload struct {
	buffer *gpu.Buffer
	data   []byte
	used   int
}

func newUpload(device *gpu.Device, label string, size int, usage gpu.Usage) (*upload, error) {
	buffer, err := device.NewBuffer(label, int64(size), usage)
	if err != nil {
		return nil, err
	}
	return &upload{buffer: buffer, data: make([]byte, size)}, nil
}

func (u *upload) fits(bytes int) bool { return u.used+bytes <= len(u.data) }

// take reserves bytes and returns their offset; the caller checked fits.
func (u *upload) take(bytes int) int {
	at := u.used
	u.used += bytes
	return at
}

func (u *upload) send(device *gpu.Device) error {
	used := u.used
	u.used = 0
	return device.Write(u.buffer, 0, u.data[:used])
}

// maxOperands is the default limit of storage bindings of one kernel.
const maxOperands = 8

// bindKey identifies the storage ranges of a bind group.
type bindKey struct {
	count  int
	ranges [maxOperands]gpu.Range
}

func (k bindKey) holds(b *gpu.Buffer) bool {
	for _, r := range k.ranges[:k.count] {
		if r.Buffer == b {
			return true
		}
	}
	return false
}

// bind returns bindings over the upload blocks and the given ranges, made once
// per combination: creating a bind group costs more than a dispatch.
func (e *Executor) bind(storage []gpu.Range) (*gpu.Bindings, error) {
	key := bindKey{count: len(storage)}
	copy(key.ranges[:], storage)
	if b := e.bindings[key]; b != nil {
		return b, nil
	}
	b, err := e.device.Bind(gpu.Range{Buffer: e.blocks.buffer, Size: slotAlign}, storage)
	if err != nil {
		return nil, err
	}
	e.bindings[key] = b
	return b, nil
}

// pipelineKey names a compiled kernel. The preset belongs to it: the name of a
// vector kernel does not tell its workgroup size, and a dispatch counts groups
// of the present one.
type pipelineKey struct {
	preset *preset
	name   string
}

// pipeline compiles a kernel variant; name caches it without rebuilding the
// text.
func (e *Executor) pipeline(name, shader string, consts map[string]string, operands int) (*gpu.Pipeline, error) {
	key := pipelineKey{e.preset, name}
	if p := e.pipelines[key]; p != nil {
		return p, nil
	}
	text, err := shaders.Specialise(shader, consts)
	if err != nil {
		return nil, err
	}
	p, err := e.device.Pipeline(shader, text, operands)
	if err != nil {
		return nil, err
	}
	e.pipelines[key] = p
	return p, nil
}

// enqueue appends one vector kernel with the uniform words to the open pass.
func (e *Executor) enqueue(name string, words []uint32, groups [3]uint32, storage ...gpu.Range) error {
	p, err := e.vectorPipeline(name, len(storage))
	if err != nil {
		return err
	}
	if err := e.dispatch(p, words, groups, storage); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// dispatch appends a kernel whose block travels with the queued work.
func (e *Executor) dispatch(p *gpu.Pipeline, words []uint32, groups [3]uint32, storage []gpu.Range) error {
	bound, err := e.bind(storage)
	if err != nil {
		return err
	}
	if err := e.reserveBlock(); err != nil {
		return err
	}
	pass, err := e.record()
	if err != nil {
		return err
	}
	at := e.blocks.take(slotAlign)
	putWords(e.blocks.data[at:], words)
	pass.Dispatch(p, bound, uint32(at), groups)
	return nil
}

// reserveBlock makes room for one more uniform block. Called before row scalars
// are queued, it keeps the following enqueue from flushing between the two.
func (e *Executor) reserveBlock() error {
	if e.blocks.fits(slotAlign) {
		return nil
	}
	return e.flush()
}
