package gpu

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall/js"
	"time"
)

// The browser half speaks to navigator.gpu itself. The binding's js half cannot
// ask for limits, reports success for rejected promises and needs a global of
// the page to upload bytes; nothing of it would be left after going around
// that.

const adapterAdvice = "use a browser with WebGPU (Chrome or Edge 113, Safari 26, Firefox 141 or newer) or run on the CPU"

type (
	rawLayout struct{ group, pipeline js.Value }
	rawBuffer struct{ js.Value }
	rawDevice struct {
		device, queue js.Value
		*session
	}
)

// session is what an open device keeps beside its handles.
type session struct {
	failure   error // that the browser reported outside of any call
	closed    bool
	onLoss    func(error)
	callbacks []js.Func
	verdicts  []verdict
	compiling bool
	upload    scratch // bytes on their way to a buffer
	passes    recording
}

func (l rawLayout) release() {}
func (b rawBuffer) release() { b.Call("destroy") }

// object is a JavaScript object literal.
type object = map[string]any

// await parks the goroutine until a promise settles or ctx ends. It must not
// be called from inside a JavaScript callback.
func await(ctx context.Context, promise js.Value) (js.Value, error) {
	type outcome struct {
		value js.Value
		err   error
	}
	settled := make(chan outcome, 1)
	var resolve, reject js.Func
	done := func(o outcome) any {
		settled <- o
		resolve.Release()
		reject.Release()
		return nil
	}
	resolve = js.FuncOf(func(_ js.Value, args []js.Value) any { return done(outcome{value: args[0]}) })
	reject = js.FuncOf(func(_ js.Value, args []js.Value) any { return done(outcome{err: errors.New(message(args[0]))}) })
	promise.Call("then", resolve, reject)
	select {
	case o := <-settled:
		return o.value, o.err
	case <-ctx.Done():
		return js.Undefined(), ctx.Err()
	}
}

// message is the text of a JavaScript error.
func message(e js.Value) string {
	if e.Type() == js.TypeObject && e.Get("message").Type() == js.TypeString {
		return sentence(e.Get("message").String())
	}
	return sentence(e.String())
}

// guard turns a JavaScript exception into an error.
func guard(err *error) {
	if r := recover(); r != nil {
		exception, ok := r.(js.Error)
		if !ok {
			panic(r)
		}
		*err = errors.New(message(exception.Value))
	}
}

func openRaw(ctx context.Context, want wanted, defaultLimits bool) (raw rawDevice, info Info, limits Limits, err error) {
	defer guard(&err)
	navigator := js.Global().Get("navigator")
	if navigator.IsUndefined() || !navigator.Get("gpu").Truthy() {
		return raw, info, limits, noAdapter("this page has no navigator.gpu")
	}
	adapter, err := await(ctx, navigator.Get("gpu").Call("requestAdapter", object{"powerPreference": "high-performance"}))
	if err != nil {
		return raw, info, limits, noAdapter(err.Error())
	}
	if !adapter.Truthy() {
		return raw, info, limits, noAdapter("the browser offers no adapter")
	}
	info = describe(adapter)
	if !want.matches(info) {
		return raw, info, limits, noAdapter(fmt.Sprintf("the browser offers %q, not %q", info.Name, want.backend+":"+want.name))
	}

	// No feature is asked for, since no kernel uses one; of limits all that there is.
	limits = DefaultLimits()
	required := object{}
	if offered := adapter.Get("limits"); !defaultLimits {
		for name, limit := range limits.byName() {
			if n := int64(offered.Get(name).Float()); limit.better(n) {
				limit.set(n)
				required[name] = n
			}
		}
	}
	device, err := await(ctx, adapter.Call("requestDevice", object{"label": "sdo", "requiredLimits": required}))
	if err != nil {
		return raw, info, limits, fmt.Errorf("%w: %s refused to open: %v; %s", ErrNoAdapter, info.Name, err, adapterAdvice)
	}
	raw = rawDevice{device, device.Get("queue"), &session{}}
	raw.passes = newRecording(raw.device, raw.queue)
	raw.listen()
	return raw, info, limits, nil
}

func describe(adapter js.Value) Info {
	info := Info{Name: "browser adapter", Backend: "browser", Type: "unknown"}
	told := adapter.Get("info")
	if told.Truthy() {
		var parts []string
		for _, key := range []string{"vendor", "architecture", "device", "description"} {
			if s := told.Get(key); s.Type() == js.TypeString && s.String() != "" {
				parts = append(parts, s.String())
			}
		}
		if len(parts) > 0 {
			info.Name = strings.Join(parts, " ")
		}
	}
	fallback := adapter.Get("isFallbackAdapter").Truthy() || told.Truthy() && told.Get("isFallbackAdapter").Truthy()
	if fallback || isSoftware(info.Name) {
		info.Type, info.Software = "software", true
	}
	names := js.Global().Get("Array").Call("from", adapter.Get("features"))
	for i := range names.Length() {
		info.Features = append(info.Features, names.Index(i).String())
	}
	return info
}

// listen keeps the first error that no call returned, and the device's loss.
func (d rawDevice) listen() {
	uncaptured := js.FuncOf(func(_ js.Value, args []js.Value) any {
		if d.failure == nil {
			d.failure = scopeError(args[0].Get("error"))
		}
		return nil
	})
	lost := js.FuncOf(func(_ js.Value, args []js.Value) any {
		if d.closed {
			return nil
		}
		d.session.failure = fmt.Errorf("%w: %s", ErrLost, message(args[0]))
		if d.onLoss != nil {
			go d.onLoss(d.failure) // a callback must not wait
		}
		return nil
	})
	d.callbacks = []js.Func{uncaptured, lost}
	d.device.Call("addEventListener", "uncapturederror", uncaptured)
	d.device.Get("lost").Call("then", lost)
}

func scopeError(e js.Value) error {
	if e.Get("constructor").Get("name").String() == "GPUOutOfMemoryError" {
		return ErrOutOfMemory
	}
	return errors.New(message(e))
}

func (d rawDevice) err() error {
	err := d.failure
	if !errors.Is(err, ErrLost) {
		d.session.failure = nil
	}
	return err
}

// close leaves the callbacks alive: the browser resolves device.lost later.
func (d rawDevice) close() {
	d.closed = true
	d.device.Call("destroy")
}

// WhenLost calls tell once the device is lost, also when no work is under way.
func (d *Device) WhenLost(tell func(error)) { d.raw.onLoss = tell }

// Lose ends the device as a crash of its driver would, to see what becomes of
// the work on it.
func (d *Device) Lose() { d.raw.device.Call("destroy") }

// scoped runs create between error scopes, whose verdict settle waits for: an
// answer takes a round trip to the browser's GPU process, and a network has
// hundreds of buffers and kernels. The scopes end even if create throws: one
// left open would swallow later errors.
func (d rawDevice) scoped(label string, create func() js.Value) (made js.Value, err error) {
	defer guard(&err)
	d.device.Call("pushErrorScope", "validation")
	d.device.Call("pushErrorScope", "out-of-memory")
	func() {
		defer guard(&err)
		made = create()
	}()
	memory, validation := d.device.Call("popErrorScope"), d.device.Call("popErrorScope")
	if err == nil {
		d.verdicts = append(d.verdicts, verdict{label: label, scopes: [2]js.Value{memory, validation}})
	}
	return made, err
}

// verdict is what is still to be said of something made.
type verdict struct {
	label    string
	scopes   [2]js.Value // promises of error scopes
	module   js.Value    // of a pipeline, which is on its way too
	pipeline js.Value    // promise
	place    entry
}

// settle waits for all verdicts and returns the first bad one.
func (d rawDevice) settle() (first error) {
	for len(d.verdicts) > 0 {
		v := d.verdicts[0]
		d.session.verdicts = d.verdicts[1:]
		if err := v.wait(); err != nil && first == nil {
			first = fmt.Errorf("%s: %w", v.label, err)
		}
	}
	d.session.compiling = false
	return first
}

func (v verdict) wait() (err error) {
	for _, scope := range v.scopes {
		problem, failed := await(context.Background(), scope)
		switch {
		case err != nil:
		case failed != nil:
			err = failed
		case problem.Truthy():
			err = scopeError(problem)
		}
	}
	if v.place.table == nil {
		return err
	}
	pipeline, failed := await(context.Background(), v.pipeline)
	if failed == nil {
		v.place.set(pipeline)
		return err
	}
	if told := compilation(v.module); told != "" {
		failed = errors.New(told)
	}
	return failed
}

// unfinished reports whether pipelines are still on their way.
func (d rawDevice) unfinished() bool { return d.compiling }

// Bits of GPUBufferUsage and GPUMapMode, and GPUShaderStage.COMPUTE.
const (
	usageMapRead, usageCopySrc, usageCopyDst = 0x1, 0x4, 0x8
	usageUniform, usageStorage               = 0x40, 0x80
	mapModeRead, stageCompute                = 0x1, 0x4
)

func (d rawDevice) newBuffer(label string, size int64, usage Usage) (rawBuffer, error) {
	bits := usageCopySrc | usageCopyDst | usageStorage
	if usage == Uniform {
		bits = usageCopySrc | usageCopyDst | usageUniform
	}
	buffer, err := d.scoped(fmt.Sprintf("%s: allocating %d bytes", label, size), func() js.Value {
		return d.device.Call("createBuffer", object{"label": label, "size": size, "usage": bits})
	})
	return rawBuffer{buffer}, err
}

func (d rawDevice) write(b *rawBuffer, offset int64, data []byte) (err error) {
	defer guard(&err)
	d.queue.Call("writeBuffer", b.Value, offset, d.upload.fill(data), 0, len(data))
	return nil
}

// scratch is a JavaScript byte array that is kept from one use to the next.
type scratch struct {
	bytes js.Value
	size  int
}

// fill copies data to the front of the array, which is made anew where it is too
// small.
func (s *scratch) fill(data []byte) js.Value {
	if s.size < len(data) {
		s.size = max(len(data), 4<<10)
		s.bytes = js.Global().Get("Uint8Array").New(s.size)
	}
	js.CopyBytesToJS(s.bytes, data)
	return s.bytes
}

func (d rawDevice) read(ctx context.Context, b *rawBuffer, offset int64, into []byte) (err error) {
	defer guard(&err)
	staging := d.device.Call("createBuffer", object{"size": len(into), "usage": usageMapRead | usageCopyDst})
	defer staging.Call("destroy") // also ends a mapping that a cancelled ctx left pending
	encoder := d.device.Call("createCommandEncoder")
	encoder.Call("copyBufferToBuffer", b.Value, offset, staging, 0, len(into))
	d.queue.Call("submit", []any{encoder.Call("finish")})
	if _, err := await(ctx, staging.Call("mapAsync", mapModeRead)); err != nil {
		if ctx.Err() == nil {
			d.awaitLoss()
		}
		if errors.Is(d.failure, ErrLost) {
			return d.failure
		}
		return err
	}
	js.CopyBytesToGo(into, js.Global().Get("Uint8Array").New(staging.Call("getMappedRange")))
	return nil
}

// awaitLoss gives the news that a device is lost time to arrive: mappings of a
// lost device may be refused before.
func (d rawDevice) awaitLoss() {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	await(ctx, d.device.Get("lost")) // listen takes it in
}

func (d rawDevice) newLayout(storage int) (layout rawLayout, err error) {
	defer guard(&err)
	entries := []any{object{"binding": 0, "visibility": stageCompute, "buffer": object{"type": "uniform", "hasDynamicOffset": true}}}
	for i := range storage {
		entries = append(entries, object{"binding": i + 1, "visibility": stageCompute, "buffer": object{"type": "storage"}})
	}
	group := d.device.Call("createBindGroupLayout", object{"entries": entries})
	return rawLayout{group, d.device.Call("createPipelineLayout", object{"bindGroupLayouts": []any{group}})}, nil
}

// newPipeline compiles in the background, kernels side by side: the place of the
// pipeline is filled by settle.
func (d rawDevice) newPipeline(label, wgsl string, layout *rawLayout) (rawPipeline, error) {
	module, err := d.scoped("shader "+label, func() js.Value {
		return d.device.Call("createShaderModule", object{"label": label, "code": wgsl})
	})
	if err != nil {
		return rawPipeline{}, err
	}
	v := &d.verdicts[len(d.verdicts)-1]
	v.module, v.place = module, d.passes.kernels.add(js.Undefined())
	v.pipeline = d.device.Call("createComputePipelineAsync", object{
		"label": label, "layout": layout.pipeline, "compute": object{"module": module, "entryPoint": "main"},
	})
	d.session.compiling = true
	return v.place, nil
}

// compilation is the compiler's first error in a module with its line, empty
// where it has none: error scopes tell that a module is invalid, not always why.
func compilation(module js.Value) (told string) {
	if !module.Truthy() {
		return ""
	}
	info, err := await(context.Background(), module.Call("getCompilationInfo"))
	if err != nil {
		return ""
	}
	messages := info.Get("messages")
	for i := range messages.Length() {
		if m := messages.Index(i); m.Get("type").String() == "error" {
			return fmt.Sprintf("line %d: %s", m.Get("lineNum").Int(), sentence(m.Get("message").String()))
		}
	}
	return ""
}

// newBindings does not wait for a verdict: an invalid group surfaces as an
// uncaptured error at the next read.
func (d rawDevice) newBindings(layout *rawLayout, uniform Range, storage []Range) (b rawBindings, err error) {
	defer guard(&err)
	entry := func(binding int, r Range) any {
		return object{"binding": binding, "resource": object{"buffer": r.Buffer.raw.Value, "offset": r.Offset, "size": r.Size}}
	}
	entries := []any{entry(0, uniform)}
	for i, r := range storage {
		entries = append(entries, entry(i+1, r))
	}
	return d.passes.groups.add(d.device.Call("createBindGroup", object{"layout": layout.group, "entries": entries})), nil
}
