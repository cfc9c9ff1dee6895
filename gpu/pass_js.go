package gpu

import (
	"encoding/binary"
	"syscall/js"
)

type (
	rawPipeline = entry
	rawBindings = entry

	// rawPass is a list of dispatches until it is submitted.
	rawPass struct{ list []byte }
)

// recording makes compute passes of lists. Pipelines and bindings are entries of
// JavaScript arrays, so that a dispatch is six words and a pass one call of
// replay.js.
type recording struct {
	device, queue   js.Value
	replay          js.Value // replay.js, or undefined where nobody made it global
	kernels, groups *table
	spare           []byte   // the list of the last pass, for the next
	bytes, words    js.Value // where JavaScript reads a list: one memory, two views
	room            int
}

// stepBytes is a dispatch in a list: pipeline, bindings, offset of the uniform
// block, workgroups along x, y and z.
const stepBytes = 6 * 4

func newRecording(device, queue js.Value) recording {
	return recording{device: device, queue: queue, replay: js.Global().Get("sdoReplay"), kernels: newTable(), groups: newTable()}
}

// Replay turns the use of replay.js off and on again, to measure what it saves.
// It reports whether there is one.
func (d *Device) Replay(on bool) bool {
	d.raw.passes.replay = js.Undefined()
	if on {
		d.raw.passes.replay = js.Global().Get("sdoReplay")
	}
	return js.Global().Get("sdoReplay").Truthy()
}

func (d rawDevice) begin() (rawPass, error) {
	list := d.passes.spare[:0]
	d.passes.spare = nil
	return rawPass{list}, nil
}

func (p *rawPass) dispatch(pipeline *rawPipeline, bindings *rawBindings, uniformOffset uint32, groups [3]uint32) {
	for _, word := range [...]uint32{pipeline.at, bindings.at, uniformOffset, groups[0], groups[1], groups[2]} {
		p.list = binary.LittleEndian.AppendUint32(p.list, word)
	}
}

func (d rawDevice) submit(p *rawPass) (err error) {
	defer guard(&err)
	d.passes.spare = p.list
	if !d.passes.replay.Truthy() {
		d.passes.submitPlain(p.list)
		return nil
	}
	d.passes.fill(p.list)
	d.passes.replay.Invoke(d.device, d.queue, d.passes.kernels.values, d.passes.groups.values, d.passes.words, len(p.list)/4)
	return nil
}

// fill copies a list to where JavaScript reads it.
func (r *recording) fill(list []byte) {
	if r.room < len(list) {
		r.room = max(2*len(list), 1024*stepBytes)
		memory := js.Global().Get("ArrayBuffer").New(r.room)
		r.bytes, r.words = js.Global().Get("Uint8Array").New(memory), js.Global().Get("Uint32Array").New(memory)
	}
	js.CopyBytesToJS(r.bytes, list)
}

// submitPlain is replay.js in Go: three calls a dispatch.
func (r *recording) submitPlain(list []byte) {
	encoder := r.device.Call("createCommandEncoder")
	pass := encoder.Call("beginComputePass")
	bound := func(name string) js.Value { return pass.Get(name).Call("bind", pass) } // a lookup costs as much as the call
	setPipeline, setGroup, dispatch := bound("setPipeline"), bound("setBindGroup"), bound("dispatchWorkgroups")
	for ; len(list) > 0; list = list[stepBytes:] {
		word := func(k int) uint32 { return binary.LittleEndian.Uint32(list[4*k:]) }
		setPipeline.Invoke(r.kernels.values.Index(int(word(0))))
		setGroup.Invoke(0, r.groups.values.Index(int(word(1))), []any{word(2)})
		dispatch.Invoke(word(3), word(4), word(5))
	}
	pass.Call("end")
	r.queue.Call("submit", []any{encoder.Call("finish")})
}

// table is a JavaScript array whose free places are used again.
type table struct {
	values js.Value
	size   uint32
	free   []uint32
}

func newTable() *table { return &table{values: js.Global().Get("Array").New()} }

func (t *table) add(v js.Value) entry {
	at := t.size
	if last := len(t.free) - 1; last >= 0 {
		at, t.free = t.free[last], t.free[:last]
	} else {
		t.size++
	}
	t.values.SetIndex(int(at), v)
	return entry{t, at}
}

// entry is a place in a table.
type entry struct {
	table *table
	at    uint32
}

func (e entry) set(v js.Value) { e.table.values.SetIndex(int(e.at), v) }

func (e entry) release() {
	e.set(js.Undefined())
	e.table.free = append(e.table.free, e.at)
}
