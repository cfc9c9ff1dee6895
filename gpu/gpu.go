// Package gpu is the device: adapter and limits, buffers with a ledger, a
// pipeline cache, a recorder of compute passes, and read-back. It is the only
// importer of the WebGPU binding and the only user of syscall/js for WebGPU, so
// that another binding costs one package. It knows nothing of tensors, graphs
// or kernels: a caller brings WGSL text and byte ranges.
//
// Every shader follows one binding convention: group 0, binding 0 is a uniform
// block at a dynamic offset, bindings 1..k are read_write storage. All storage
// is read_write because WebGPU tracks usage by buffer and not by range, and
// tensors share buffers.
//
// A Device and what it makes are for one goroutine at a time.
package gpu

import (
	"errors"
	"fmt"
	"strings"
)

// Info describes the adapter behind a device, for reports.
type Info struct {
	Name     string   // "llvmpipe (LLVM 15.0.6, 256 bits)"
	Driver   string   // driver and version, as the driver words it
	Backend  string   // "vulkan", "metal", "dx12" or "browser"
	Type     string   // "discrete", "integrated", "software" or "unknown"
	Software bool     // a CPU behind a GPU's interface: right numbers, meaningless times
	Features []string // optional features the adapter offers; none is required
}

// Limits are what buffers and kernels of this device may use.
type Limits struct {
	MaxBuffer     int64 // bytes of one buffer
	MaxBinding    int64 // bytes of one storage binding
	MaxStorage    int   // storage bindings of one kernel
	MaxThreads    int   // invocations of one workgroup
	MaxWorkgroup  int   // bytes of workgroup memory
	MaxGroups     int   // workgroups per dimension
	OffsetAlign   int   // alignment of a storage binding's offset
	UniformAlign  int   // alignment of a dynamic uniform offset
	MaxUniformLen int64 // bytes of one uniform binding
}

// DefaultLimits are what every WebGPU device grants. Kernels are written for
// these; only buffers may grow beyond.
func DefaultLimits() Limits {
	return Limits{
		MaxBuffer: 256 << 20, MaxBinding: 128 << 20, MaxStorage: 8, MaxThreads: 256,
		MaxWorkgroup: 16 << 10, MaxGroups: 65535, OffsetAlign: 256, UniformAlign: 256, MaxUniformLen: 64 << 10,
	}
}

// limit is one of Limits as the WebGPU standard names it.
type limit struct {
	get   int64
	set   func(int64)
	lower bool // is better
}

func (l limit) better(n int64) bool {
	if l.lower {
		return n > 0 && n < l.get
	}
	return n > l.get
}

// byName gives access to every limit by its name in the standard.
func (l *Limits) byName() map[string]limit {
	long := func(p *int64) limit { return limit{get: *p, set: func(n int64) { *p = n }} }
	short := func(p *int, lower bool) limit { return limit{int64(*p), func(n int64) { *p = int(n) }, lower} }
	return map[string]limit{
		"maxBufferSize": long(&l.MaxBuffer), "maxStorageBufferBindingSize": long(&l.MaxBinding),
		"maxUniformBufferBindingSize":       long(&l.MaxUniformLen),
		"maxStorageBuffersPerShaderStage":   short(&l.MaxStorage, false),
		"maxComputeInvocationsPerWorkgroup": short(&l.MaxThreads, false),
		"maxComputeWorkgroupStorageSize":    short(&l.MaxWorkgroup, false),
		"maxComputeWorkgroupsPerDimension":  short(&l.MaxGroups, false),
		"minStorageBufferOffsetAlignment":   short(&l.OffsetAlign, true),
		"minUniformBufferOffsetAlignment":   short(&l.UniformAlign, true),
	}
}

// ByName lists the limits as the WebGPU standard names them.
func (l Limits) ByName() map[string]int64 {
	values := map[string]int64{}
	for name, limit := range l.byName() {
		values[name] = limit.get
	}
	return values
}

// Errors that a caller may want to tell apart with errors.Is.
var (
	ErrNoAdapter   = errors.New("no usable GPU adapter")
	ErrOutOfMemory = errors.New("not enough GPU memory")
	ErrLost        = errors.New("the GPU device was lost")
)

// noAdapter says what to do when there is nothing to run on.
func noAdapter(detail string) error {
	return fmt.Errorf("%w: %s; %s", ErrNoAdapter, detail, adapterAdvice)
}

// sentence joins a message of several lines into one. The native library wraps
// the cause in the names of its own calls, which are left out.
func sentence(message string) string {
	var parts []string
	for line := range strings.Lines(message) {
		line = strings.TrimRight(strings.TrimSpace(line), ":")
		switch {
		case line == "", line == "Caused by", line == "Validation Error",
			strings.HasPrefix(line, "In wgpu"), strings.HasPrefix(line, "note: label"):
		default:
			parts = append(parts, line)
		}
	}
	return strings.Join(parts, ": ")
}

// softwareNames mark adapters that are CPUs, where the type is not told.
var softwareNames = []string{"llvmpipe", "lavapipe", "swiftshader", "microsoft basic render"}

func isSoftware(name string) bool {
	name = strings.ToLower(name)
	for _, s := range softwareNames {
		if strings.Contains(name, s) {
			return true
		}
	}
	return false
}

// wanted is a parsed adapter choice, "backend:name", "backend" or "name", all
// case-insensitive; the name is a substring.
type wanted struct{ backend, name string }

func parseWanted(choice string) wanted {
	choice = strings.ToLower(strings.TrimSpace(choice))
	if backend, name, both := strings.Cut(choice, ":"); both {
		return wanted{backend, name}
	}
	switch choice {
	case "vulkan", "metal", "dx12", "browser":
		return wanted{backend: choice}
	}
	return wanted{name: choice}
}

func (w wanted) matches(info Info) bool {
	return (w.backend == "" || w.backend == info.Backend) &&
		strings.Contains(strings.ToLower(info.Name), w.name)
}
