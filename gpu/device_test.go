package gpu

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// open returns a device, or skips where there is no adapter; SDO_REQUIRE_GPU=1
// makes that a failure.
func open(t *testing.T) *Device {
	t.Helper()
	d, err := Open(context.Background(), "")
	if errors.Is(err, ErrNoAdapter) && os.Getenv("SDO_REQUIRE_GPU") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("adapter: %s (%s)", d.Info().Name, d.Info().Backend)
	t.Cleanup(func() { d.Close() })
	return d
}

const double = `
struct Block { n: u32 }
@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> v: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < block.n) { v[id.x] *= 2u; }
}
`

// spin keeps the device busy for a while.
const spin = `
struct Block { n: u32 }
@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> v: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  var x = v[id.x];
  for (var i = 0u; i < block.n; i++) { x = x * 1664525u + 1013904223u; }
  v[id.x] = x;
}
`

func run(d *Device, wgsl string, n uint32, data *Buffer) error {
	p, err := d.Pipeline("test", wgsl, 1)
	if err != nil {
		return err
	}
	block, err := d.NewBuffer("block", 256, Uniform)
	if err != nil {
		return err
	}
	defer block.Release()
	if err := d.Write(block, 0, binary.LittleEndian.AppendUint32(nil, n)); err != nil {
		return err
	}
	bound, err := d.Bind(Range{block, 0, 256}, []Range{{data, 0, data.Size()}})
	if err != nil {
		return err
	}
	defer bound.Release()
	rec, err := d.Record()
	if err != nil {
		return err
	}
	rec.Dispatch(p, bound, 0, [3]uint32{4, 1, 1})
	return rec.Submit()
}

// works checks that the device still computes.
func works(t *testing.T, d *Device) {
	t.Helper()
	data, err := d.NewBuffer("data", 1024, Storage)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Release()
	words := make([]byte, 1024)
	for i := range 256 {
		binary.LittleEndian.PutUint32(words[4*i:], uint32(i))
	}
	if err := d.Write(data, 0, words); err != nil {
		t.Fatal(err)
	}
	if err := run(d, double, 256, data); err != nil {
		t.Fatal(err)
	}
	if err := d.Read(context.Background(), data, 0, words); err != nil {
		t.Fatal(err)
	}
	for i := range 256 {
		if got := binary.LittleEndian.Uint32(words[4*i:]); got != uint32(2*i) {
			t.Fatalf("element %d is %d, want %d", i, got, 2*i)
		}
	}
}

func TestComputes(t *testing.T) {
	d := open(t)
	works(t, d)
	works(t, d)
	if d.Pipelines() != 1 {
		t.Errorf("%d pipelines for one text", d.Pipelines())
	}
	if d.Bytes() != 0 {
		t.Errorf("%d bytes on the ledger after releasing everything", d.Bytes())
	}
}

func TestBadShaderIsAnError(t *testing.T) {
	d := open(t)
	for name, wgsl := range map[string]string{
		"syntax":        strings.Replace(double, "v[id.x] *= 2u", "v[id.x] *= two", 1),
		"binding count": strings.Replace(double, "binding(1)", "binding(2)", 1),
		"workgroup":     strings.Replace(double, "workgroup_size(64)", "workgroup_size(65536)", 1),
		"no main":       strings.Replace(double, "fn main", "fn other", 1),
		"empty":         "",
	} {
		_, err := d.Pipeline("sample", wgsl, 1)
		if err == nil {
			err = d.Settle()
		}
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if !strings.HasPrefix(err.Error(), "shader sample: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: not one sentence about the shader: %q", name, err)
		}
		t.Logf("%s: %v", name, err)
	}
	works(t, d)
}

func TestTooLargeIsOutOfMemory(t *testing.T) {
	d := open(t)
	_, err := d.NewBuffer("weights", d.Limits().MaxBuffer+4, Storage)
	if !errors.Is(err, ErrOutOfMemory) {
		t.Errorf("buffer: got %v", err)
	}
	if d.Limits().MaxBuffer > d.Limits().MaxBinding {
		b, err := d.NewBuffer("large", d.Limits().MaxBinding+256, Storage)
		if err == nil {
			_, err = d.Bind(Range{b, 0, 256}, []Range{{b, 0, b.Size()}})
			b.Release()
		}
		if !errors.Is(err, ErrOutOfMemory) {
			t.Errorf("binding: got %v", err)
		}
	}
	works(t, d)
}

func TestInvalidWorkIsAnError(t *testing.T) {
	d := open(t)
	data, err := d.NewBuffer("data", 1024, Storage)
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.Pipeline("test", double, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Bind(Range{data, 0, 256}, []Range{{data, 0, 1024}})
	if err == nil { // a browser tells with the next read
		err = d.Read(context.Background(), data, 0, make([]byte, 4))
	}
	if err == nil {
		t.Error("a storage buffer was accepted as a uniform block")
	}
	t.Log(err)
	block, err := d.NewBuffer("block", 256, Uniform)
	if err != nil {
		t.Fatal(err)
	}
	for name, groups := range map[string][3]uint32{"too many groups": {70000, 1, 1}} {
		bound, err := d.Bind(Range{block, 0, 256}, []Range{{data, 0, 1024}})
		if err != nil {
			t.Fatal(err)
		}
		rec, err := d.Record()
		if err != nil {
			t.Fatal(err)
		}
		rec.Dispatch(p, bound, 0, groups)
		err = rec.Submit()
		if err == nil {
			err = d.Read(context.Background(), data, 0, make([]byte, 4))
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	for _, err := range []error{
		d.Write(data, 1020, make([]byte, 8)), d.Write(data, 2, make([]byte, 4)),
		d.Read(context.Background(), data, 0, make([]byte, 2048)),
	} {
		if err == nil {
			t.Error("a transfer outside the buffer was accepted")
		}
	}
	works(t, d)
}

func TestReadCanBeCancelled(t *testing.T) {
	d := open(t)
	data, err := d.NewBuffer("data", 1024, Storage)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := run(d, spin, spins, data); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	start := time.Now()
	err = d.Read(ctx, data, 0, make([]byte, 1024))
	if err == nil {
		t.Skipf("%s finished before the deadline", d.Info().Name)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if waited := time.Since(start); waited > 500*time.Millisecond {
		t.Errorf("noticed after %v", waited)
	}
	works(t, d)
}

func TestUnknownAdapterIsNamed(t *testing.T) {
	_, err := Open(context.Background(), "vulkan:no such adapter")
	if !errors.Is(err, ErrNoAdapter) || !strings.Contains(err.Error(), adapterAdvice) {
		t.Errorf("got %v", err)
	}
	t.Log(err)
}

func TestDefaultLimits(t *testing.T) {
	t.Setenv("SDO_LIMITS", "default")
	d := open(t)
	if got, want := d.Limits(), DefaultLimits(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	works(t, d)
}

// Left alone, a device grants what the adapter offers, never less than default.
func TestOfferedLimits(t *testing.T) {
	t.Setenv("SDO_LIMITS", "")
	d := open(t)
	got, least := d.Limits(), DefaultLimits()
	if got.MaxBuffer < least.MaxBuffer || got.MaxBinding < least.MaxBinding || got.OffsetAlign > least.OffsetAlign {
		t.Errorf("got %+v, less than %+v", got, least)
	}
	works(t, d)
}

func TestAdapterChoice(t *testing.T) {
	lavapipe := Info{Name: "llvmpipe (LLVM 15)", Backend: "vulkan"}
	for choice, want := range map[string]bool{
		"": true, "vulkan": true, "Vulkan:LLVMpipe": true, "llvmpipe": true, "vulkan:": true, ":llvm": true,
		"metal": false, "metal:llvmpipe": false, "vulkan:radeon": false, "radeon": false,
	} {
		if got := parseWanted(choice).matches(lavapipe); got != want {
			t.Errorf("%q: %v", choice, got)
		}
	}
}
