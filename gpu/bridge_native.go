//go:build !js

package gpu

/*
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// Declared here because the binding keeps its copy of webgpu.h to itself; the
// symbols come from the library it links.
typedef void (*errorCallback)(int type, char const *message, void *user);
typedef void (*mapCallback)(int status, void *user);
extern void wgpuDevicePushErrorScope(void *device, int filter);
extern void wgpuDevicePopErrorScope(void *device, errorCallback callback, void *user);
extern void *wgpuCreateInstance(void const *descriptor);
extern void wgpuBufferMapAsync(void *buffer, uint32_t mode, size_t offset, size_t size, mapCallback callback, void *user);

enum { filterValidation = 0, filterOutOfMemory = 1, mapRead = 1 };

// WGPUInstanceExtras of wgpu.h, as the extension of a WGPUInstanceDescriptor.
typedef struct {
	struct { void const *next; int type; } chain;
	uint32_t backends, flags;
	int dx12Compiler, gles3Minor;
	char const *dxil, *dxc;
} instanceExtras;

enum { instanceExtrasType = 0x00030006, backendVulkan = 1, backendMetal = 4, backendDX12 = 8 };

static void *createInstance(void) {
	instanceExtras extras = {.chain.type = instanceExtrasType, .backends = backendVulkan | backendMetal | backendDX12};
	void const *descriptor = &extras;
	return wgpuCreateInstance(&descriptor);
}

typedef struct {
	int type;
	char message[2048];
} scopeError;

static void keepError(int type, char const *message, void *user) {
	scopeError *e = user;
	e->type = type;
	strncpy(e->message, message, sizeof e->message - 1);
}

static void pushScopes(void *device) {
	wgpuDevicePushErrorScope(device, filterValidation);
	wgpuDevicePushErrorScope(device, filterOutOfMemory);
}

static void popScopes(void *device, scopeError *validation, scopeError *memory) {
	wgpuDevicePopErrorScope(device, keepError, memory);
	wgpuDevicePopErrorScope(device, keepError, validation);
}

static void keepStatus(int status, void *user) { *(volatile int *)user = status + 1; }

static void mapForRead(void *buffer, size_t size, int *status) {
	wgpuBufferMapAsync(buffer, mapRead, 0, size, keepStatus, status);
}
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/cogentcore/webgpu/wgpu"
)

// This file reaches past the binding, whose v0.23.0 leaves holes that end the
// process instead of returning an error:
//
//   - Its CreateInstance passes on memory that it never cleared, and the library
//     panics on the values found there.
//   - It never installs an uncaptured-error callback, and the library's default
//     one panics across C. Its own scopes catch validation errors only, so
//     running out of memory aborts. Two scopes that stay open for the device's
//     whole life, one of each kind, catch everything before that default.
//   - Its MapAsync hands C a pointer to Go memory that nothing keeps alive until
//     the callback runs.
//   - Its device-lost callback does the same, so none is given; the library
//     then stays silent and Device.Record refuses work once a loss is seen.
//
// The handles are the first fields of the binding's structs.

// newInstance asks for Vulkan, Metal and Direct3D 12. OpenGL is left out: as a
// compute device it is slower than the CPU code, and looking for it makes Mesa
// complain on servers without a display.
func newInstance() *wgpu.Instance {
	instance := new(wgpu.Instance)
	*(*unsafe.Pointer)(unsafe.Pointer(instance)) = C.createInstance()
	return instance
}

func deviceHandle(d *wgpu.Device) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(d)) }

// A wgpu.Buffer is {deviceRef, ref}.
func bufferHandle(b *wgpu.Buffer) unsafe.Pointer { return (*[2]unsafe.Pointer)(unsafe.Pointer(b))[1] }

// openScopes starts to catch errors; takeErrors returns what was caught since.
func openScopes(d *wgpu.Device) { C.pushScopes(deviceHandle(d)) }

func takeErrors(d *wgpu.Device) error {
	caught := (*[2]C.scopeError)(C.calloc(2, C.sizeof_scopeError))
	defer C.free(unsafe.Pointer(caught))
	validation, memory := &caught[0], &caught[1]
	C.popScopes(deviceHandle(d), validation, memory)
	C.pushScopes(deviceHandle(d))
	switch {
	case memory._type != 0:
		return ErrOutOfMemory
	case validation._type != 0:
		return classify(C.GoString(&validation.message[0]))
	}
	return nil
}

// mapping is one pending request to map a buffer for reading.
type mapping struct{ status *C.int }

func mapForRead(b *wgpu.Buffer, size int64) mapping {
	m := mapping{(*C.int)(C.calloc(1, C.sizeof_int))}
	C.mapForRead(bufferHandle(b), C.size_t(size), m.status)
	return m
}

// done reports whether the callback ran, and how it went.
func (m mapping) done() (bool, error) {
	switch status := *m.status; status {
	case 0:
		return false, nil
	case 1:
		return true, nil
	case 1 + 3:
		return true, ErrLost
	default:
		return true, fmt.Errorf("mapping a buffer for reading failed with status %d", status-1)
	}
}

func (m mapping) free() { C.free(unsafe.Pointer(m.status)) }
