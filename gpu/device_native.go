//go:build !js

package gpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cogentcore/webgpu/wgpu"
)

const adapterAdvice = "install a Vulkan driver (on Debian and Ubuntu: mesa-vulkan-drivers) or use --device cpu"

var backendNames = map[wgpu.BackendType]string{
	wgpu.BackendTypeVulkan: "vulkan", wgpu.BackendTypeMetal: "metal", wgpu.BackendTypeD3D12: "dx12",
}

// typeNames and typeRanks order adapters: the lowest rank wins.
var (
	typeNames = map[wgpu.AdapterType]string{
		wgpu.AdapterTypeDiscreteGPU: "discrete", wgpu.AdapterTypeIntegratedGPU: "integrated", wgpu.AdapterTypeCPU: "software",
	}
	typeRanks = map[string]int{"discrete": 0, "integrated": 1, "unknown": 2, "software": 3}
)

type (
	rawLayout struct {
		group    *wgpu.BindGroupLayout
		pipeline *wgpu.PipelineLayout
	}
	rawBuffer   struct{ *wgpu.Buffer }
	rawPipeline struct{ *wgpu.ComputePipeline }
	rawBindings struct{ *wgpu.BindGroup }
	rawPass     struct {
		encoder *wgpu.CommandEncoder
		pass    *wgpu.ComputePassEncoder
		offset  [1]uint32
	}
	rawDevice struct {
		instance *wgpu.Instance
		device   *wgpu.Device
		queue    *wgpu.Queue
		staging  *readback
	}
)

// readback is the mappable buffer that downloads pass through, kept and grown.
type readback struct {
	buffer *wgpu.Buffer
	size   int64
}

func (l rawLayout) release()   { l.pipeline.Release(); l.group.Release() }
func (b rawBuffer) release()   { b.Buffer.Release() }
func (p rawPipeline) release() { p.ComputePipeline.Release() }
func (b rawBindings) release() { b.BindGroup.Release() }

func describe(a *wgpu.Adapter) Info {
	told := a.GetInfo()
	name, driver := told.Name, strings.TrimSpace(told.VendorName+" "+told.DriverDescription)
	if strings.HasPrefix(name, "0x") { // the 0.19 library puts numbers where names belong
		name, driver = told.DriverDescription, fmt.Sprintf("vendor %#x device %#x", told.VendorId, told.DeviceId)
	}
	info := Info{
		Name:    name,
		Driver:  driver,
		Backend: backendNames[told.BackendType],
		Type:    typeNames[told.AdapterType],
	}
	if isSoftware(info.Name) {
		info.Type = "software"
	}
	if info.Type == "" {
		info.Type = "unknown"
	}
	info.Software = info.Type == "software"
	for _, f := range a.EnumerateFeatures() {
		if name := f.String(); name != "" {
			info.Features = append(info.Features, name)
		}
	}
	return info
}

// quietLayers keeps Mesa's device-select layer, which looks for a Wayland
// display to order the adapters by, from complaining where there is none.
func quietLayers() {
	if os.Getenv("XDG_RUNTIME_DIR") == "" && os.Getenv("NODEVICE_SELECT") == "" {
		os.Setenv("NODEVICE_SELECT", "1")
	}
}

func openRaw(_ context.Context, want wanted, defaultLimits bool) (raw rawDevice, info Info, limits Limits, err error) {
	quietLayers()
	wgpu.SetLogLevel(wgpu.LogLevelOff) // errors come back as errors
	instance := newInstance()
	defer func() {
		if err != nil {
			instance.Release()
		}
	}()
	adapters := instance.EnumerateAdapters(nil)
	var chosen *wgpu.Adapter
	var names []string
	for _, a := range adapters {
		defer a.Release()
		this := describe(a)
		names = append(names, this.Backend+":"+this.Name)
		if want.matches(this) && (chosen == nil || typeRanks[this.Type] < typeRanks[info.Type]) {
			chosen, info = a, this
		}
	}
	switch {
	case len(adapters) == 0:
		return raw, info, limits, noAdapter("no Vulkan, Metal or Direct3D 12 driver answered")
	case chosen == nil:
		return raw, info, limits, noAdapter(fmt.Sprintf("none matches %q among %s",
			want.backend+":"+want.name, strings.Join(names, ", ")))
	}

	request := chosen.GetLimits().Limits
	request.MaxPushConstantSize = 0 // the binding reads it from memory it never filled
	if defaultLimits {
		request = restrict(request, DefaultLimits())
	}
	// A descriptor, even an empty one, also replaces the library's default
	// device-lost callback, which would abort the process.
	device, err := chosen.RequestDevice(&wgpu.DeviceDescriptor{Label: "sdo", RequiredLimits: &wgpu.RequiredLimits{Limits: request}})
	if err != nil {
		return raw, info, limits, fmt.Errorf("%w: %s refused to open: %v; %s", ErrNoAdapter, info.Name, err, adapterAdvice)
	}
	openScopes(device)
	limits = Limits{
		MaxBuffer:     clamp(request.MaxBufferSize),
		MaxBinding:    clamp(uint64(request.MaxStorageBufferBindingSize)),
		MaxStorage:    int(request.MaxStorageBuffersPerShaderStage),
		MaxThreads:    int(request.MaxComputeInvocationsPerWorkgroup),
		MaxWorkgroup:  int(request.MaxComputeWorkgroupStorageSize),
		MaxGroups:     int(request.MaxComputeWorkgroupsPerDimension),
		OffsetAlign:   int(request.MinStorageBufferOffsetAlignment),
		UniformAlign:  int(request.MinUniformBufferOffsetAlignment),
		MaxUniformLen: clamp(uint64(request.MaxUniformBufferBindingSize)),
	}
	return rawDevice{instance, device, device.GetQueue(), &readback{}}, info, limits, nil
}

// restrict lowers what an adapter offers.
func restrict(offered wgpu.Limits, to Limits) wgpu.Limits {
	offered.MaxBufferSize = uint64(to.MaxBuffer)
	offered.MaxStorageBufferBindingSize = uint64(to.MaxBinding)
	offered.MaxStorageBuffersPerShaderStage = uint32(to.MaxStorage)
	offered.MaxComputeInvocationsPerWorkgroup = uint32(to.MaxThreads)
	offered.MaxComputeWorkgroupSizeX = uint32(to.MaxThreads)
	offered.MaxComputeWorkgroupSizeY = uint32(to.MaxThreads)
	offered.MaxComputeWorkgroupSizeZ = 64
	offered.MaxComputeWorkgroupStorageSize = uint32(to.MaxWorkgroup)
	offered.MaxComputeWorkgroupsPerDimension = uint32(to.MaxGroups)
	offered.MinStorageBufferOffsetAlignment = uint32(to.OffsetAlign)
	offered.MinUniformBufferOffsetAlignment = uint32(to.UniformAlign)
	offered.MaxUniformBufferBindingSize = uint64(to.MaxUniformLen)
	return offered
}

// clamp keeps a limit meaning "unlimited" inside an int64.
func clamp(n uint64) int64 { return int64(min(n, 1<<62)) }

func (d rawDevice) err() error { return takeErrors(d.device) }

func (d rawDevice) close() {
	if d.staging.buffer != nil {
		d.staging.buffer.Release()
	}
	d.device.Poll(true, nil)
	d.queue.Release()
	d.device.Release()
	d.instance.Release()
}

func (d rawDevice) newBuffer(label string, size int64, usage Usage) (rawBuffer, error) {
	flags := wgpu.BufferUsageCopyDst | wgpu.BufferUsageCopySrc
	if usage == Uniform {
		flags |= wgpu.BufferUsageUniform
	} else {
		flags |= wgpu.BufferUsageStorage
	}
	buffer, err := d.createBuffer(label, size, flags)
	return rawBuffer{buffer}, err
}

// createBuffer also asks the open scopes, because the binding's own scope does
// not see an out-of-memory error and returns a buffer that is not there.
func (d rawDevice) createBuffer(label string, size int64, usage wgpu.BufferUsage) (*wgpu.Buffer, error) {
	if err := takeErrors(d.device); err != nil {
		return nil, fmt.Errorf("earlier work failed: %w", err)
	}
	buffer, err := d.device.CreateBuffer(&wgpu.BufferDescriptor{Label: label, Size: uint64(size), Usage: usage})
	if err != nil {
		return nil, plain(err)
	}
	if err := takeErrors(d.device); err != nil {
		buffer.Release()
		return nil, err
	}
	return buffer, nil
}

// plain makes a binding's error one sentence without its Go call name.
func plain(err error) error {
	if err == nil {
		return nil
	}
	message := err.Error()
	if _, rest, found := strings.Cut(message, "(): "); found {
		message = rest
	}
	return classify(message)
}

// classify tells memory and loss from mistakes. The library files both under
// validation errors when they pass through another error type on their way.
func classify(message string) error {
	message = sentence(message)
	switch {
	case strings.Contains(message, "Not enough memory"):
		return ErrOutOfMemory
	case strings.Contains(message, "Parent device is lost"):
		return ErrLost
	}
	return errors.New(message)
}

func (d rawDevice) write(b *rawBuffer, offset int64, data []byte) error {
	return plain(d.queue.WriteBuffer(b.Buffer, uint64(offset), data))
}

func (d rawDevice) read(ctx context.Context, b *rawBuffer, offset int64, into []byte) error {
	size := int64(len(into))
	if d.staging.size < size {
		if d.staging.buffer != nil {
			d.staging.buffer.Release()
			*d.staging = readback{}
		}
		grown := max(size, 64<<10)
		buffer, err := d.createBuffer("read-back", grown, wgpu.BufferUsageMapRead|wgpu.BufferUsageCopyDst)
		if err != nil {
			return fmt.Errorf("read-back: allocating %d bytes: %w", grown, err)
		}
		*d.staging = readback{buffer, grown}
	}
	staging := d.staging.buffer

	encoder, err := d.device.CreateCommandEncoder(nil)
	if err != nil {
		return plain(err)
	}
	defer encoder.Release()
	if err := encoder.CopyBufferToBuffer(b.Buffer, uint64(offset), staging, 0, uint64(size)); err != nil {
		return plain(err)
	}
	if err := d.finish(encoder); err != nil {
		return err
	}
	pending := mapForRead(staging, size)
	if err := d.await(ctx, pending); err != nil {
		staging.Unmap() // runs the callback of a mapping still pending
		if finished, _ := pending.done(); finished {
			pending.free()
		}
		return err
	}
	pending.free()
	copy(into, staging.GetMappedRange(0, uint(size)))
	return plain(staging.Unmap())
}

// await polls until the mapping is there. It sleeps between polls, shorter at
// first, so that a cancelled context is noticed within a millisecond.
func (d rawDevice) await(ctx context.Context, m mapping) error {
	pause := 20 * time.Microsecond
	for {
		d.device.Poll(false, nil)
		if finished, err := m.done(); finished {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
			pause = min(pause*2, time.Millisecond)
		}
	}
}

// settle has nothing to wait for: here everything is made when it is asked for.
func (d rawDevice) settle() error { return nil }

func (d rawDevice) unfinished() bool { return false }

func (d rawDevice) newLayout(storage int) (rawLayout, error) {
	entries := []wgpu.BindGroupLayoutEntry{{
		Binding: 0, Visibility: wgpu.ShaderStageCompute,
		Buffer: wgpu.BufferBindingLayout{Type: wgpu.BufferBindingTypeUniform, HasDynamicOffset: true},
	}}
	for i := range storage {
		entries = append(entries, wgpu.BindGroupLayoutEntry{
			Binding: uint32(i + 1), Visibility: wgpu.ShaderStageCompute,
			Buffer: wgpu.BufferBindingLayout{Type: wgpu.BufferBindingTypeStorage},
		})
	}
	group, err := d.device.CreateBindGroupLayout(&wgpu.BindGroupLayoutDescriptor{Entries: entries})
	if err != nil {
		return rawLayout{}, plain(err)
	}
	pipeline, err := d.device.CreatePipelineLayout(&wgpu.PipelineLayoutDescriptor{BindGroupLayouts: []*wgpu.BindGroupLayout{group}})
	if err != nil {
		group.Release()
		return rawLayout{}, plain(err)
	}
	return rawLayout{group, pipeline}, nil
}

func (d rawDevice) newPipeline(label, wgsl string, layout *rawLayout) (rawPipeline, error) {
	module, err := d.device.CreateShaderModule(&wgpu.ShaderModuleDescriptor{
		Label: label, WGSLDescriptor: &wgpu.ShaderModuleWGSLDescriptor{Code: wgsl},
	})
	if err != nil {
		return rawPipeline{}, plain(err)
	}
	defer module.Release()
	pipeline, err := d.device.CreateComputePipeline(&wgpu.ComputePipelineDescriptor{
		Label: label, Layout: layout.pipeline,
		Compute: wgpu.ProgrammableStageDescriptor{Module: module, EntryPoint: "main"},
	})
	if err != nil {
		return rawPipeline{}, plain(err)
	}
	return rawPipeline{pipeline}, nil
}

func (d rawDevice) newBindings(layout *rawLayout, uniform Range, storage []Range) (rawBindings, error) {
	entry := func(binding int, r Range) wgpu.BindGroupEntry {
		return wgpu.BindGroupEntry{Binding: uint32(binding), Buffer: r.Buffer.raw.Buffer, Offset: uint64(r.Offset), Size: uint64(r.Size)}
	}
	entries := []wgpu.BindGroupEntry{entry(0, uniform)}
	for i, r := range storage {
		entries = append(entries, entry(i+1, r))
	}
	group, err := d.device.CreateBindGroup(&wgpu.BindGroupDescriptor{Layout: layout.group, Entries: entries})
	if err != nil {
		return rawBindings{}, plain(err)
	}
	return rawBindings{group}, nil
}

func (d rawDevice) begin() (rawPass, error) {
	encoder, err := d.device.CreateCommandEncoder(nil)
	if err != nil {
		return rawPass{}, plain(err)
	}
	return rawPass{encoder: encoder, pass: encoder.BeginComputePass(nil)}, nil
}

func (p *rawPass) dispatch(pipeline *rawPipeline, bindings *rawBindings, uniformOffset uint32, groups [3]uint32) {
	p.offset[0] = uniformOffset
	p.pass.SetPipeline(pipeline.ComputePipeline)
	p.pass.SetBindGroup(0, bindings.BindGroup, p.offset[:])
	p.pass.DispatchWorkgroups(groups[0], groups[1], groups[2])
}

func (d rawDevice) submit(p *rawPass) error {
	defer p.encoder.Release()
	err := p.pass.End()
	p.pass.Release()
	if err != nil {
		return plain(err)
	}
	return d.finish(p.encoder)
}

// finish queues an encoder's work. A command buffer with an error is never
// submitted: the library treats a refused submission as fatal.
func (d rawDevice) finish(encoder *wgpu.CommandEncoder) error {
	commands, err := encoder.Finish(nil)
	if err != nil {
		return plain(err)
	}
	defer commands.Release()
	if err := takeErrors(d.device); err != nil {
		return err
	}
	d.queue.Submit(commands)
	return nil
}
