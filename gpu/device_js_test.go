package gpu

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"syscall/js"
	"testing"
	"time"
)

// spins keep a device busy for a tenth of a second or so: a browser ends the
// process behind a device that is busy for long.
const spins = 20_000

// What the binding gets wrong in a browser, one test each: device_js.go goes
// around all of it.

// The binding never asks for limits, so that a device has the default ones.
func TestLimitsAreAskedFor(t *testing.T) {
	t.Setenv("SDO_LIMITS", "")
	d := open(t)
	adapter, err := await(context.Background(), js.Global().Get("navigator").Get("gpu").Call("requestAdapter"))
	if err != nil {
		t.Fatal(err)
	}
	offered, granted := adapter.Get("limits"), d.raw.device.Get("limits")
	told := d.Limits().ByName()
	for name := range told {
		got, want := granted.Get(name).Float(), offered.Get(name).Float()
		if got != want || float64(told[name]) != want {
			t.Errorf("%s is %v and said to be %v, the adapter offers %v", name, got, told[name], want)
		}
	}
}

// The binding's description of an adapter is empty.
func TestAdapterIsNamed(t *testing.T) {
	info := open(t).Info()
	if info.Name == "" || info.Name == "browser adapter" || info.Backend != "browser" || len(info.Features) == 0 {
		t.Errorf("got %+v", info)
	}
	t.Logf("%+v", info)
}

// The binding says that a broken shader is fine; here is even its line.
func TestShaderErrorHasItsLine(t *testing.T) {
	d := open(t)
	_, err := d.Pipeline("sample", strings.Replace(double, "v[id.x] *= 2u", "v[id.x] *= two", 1), 1)
	if err == nil {
		err = d.Settle()
	}
	if err == nil || !strings.Contains(err.Error(), "line 7") || !strings.Contains(err.Error(), "two") {
		t.Errorf("got %v", err)
	}
	// The pipeline is not kept: the same text fails again.
	if _, err := d.Pipeline("sample", strings.Replace(double, "v[id.x] *= 2u", "v[id.x] *= two", 1), 1); err == nil && d.Settle() == nil {
		t.Error("a broken pipeline was kept")
	}
}

// The binding reports that a buffer is mapped although its promise was rejected.
func TestRejectedMappingIsAnError(t *testing.T) {
	d := open(t)
	_, err := await(context.Background(), d.raw.device.Call("createBuffer", object{"size": 16, "usage": usageStorage}).Call("mapAsync", mapModeRead))
	if err == nil {
		t.Error("no error")
	}
	if d.Err() == nil {
		works(t, d) // the browser's own report of it may still be on its way
	}
}

// The binding writes through a global that the page must set, and fails on
// nothing to write.
func TestWriteNeedsNoGlobal(t *testing.T) {
	d := open(t)
	if js.Global().Get("wasm").Truthy() {
		t.Fatal("there is a global named wasm, so this shows nothing")
	}
	b, err := d.NewBuffer("data", 16, Storage)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Release()
	want := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	for _, data := range [][]byte{want, {}} {
		if err := d.Write(b, 8, data); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, 16)
	if err := d.Read(context.Background(), b, 0, got); err != nil {
		t.Fatal(err)
	}
	if string(got[8:]) != string(want) || string(got[:8]) != string(make([]byte, 8)) {
		t.Errorf("read %v", got)
	}
}

// A lost device is an error that says so, of every later call, and no panic.
func TestLostDevice(t *testing.T) {
	d := open(t)
	data, err := d.NewBuffer("data", 1024, Storage)
	if err != nil {
		t.Fatal(err)
	}
	if err := run(d, spin, spins, data); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(time.Millisecond, d.Lose)
	if err := d.Read(context.Background(), data, 0, make([]byte, 4)); !errors.Is(err, ErrLost) {
		t.Errorf("reading when it happens: %v", err)
	}

	d = open(t)
	if data, err = d.NewBuffer("data", 1024, Storage); err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	d.WhenLost(func(err error) { told <- err })
	d.Lose()
	if err := <-told; !errors.Is(err, ErrLost) {
		t.Errorf("told: %v", err)
	}
	for range 2 {
		if err := d.Read(context.Background(), data, 0, make([]byte, 4)); !errors.Is(err, ErrLost) {
			t.Errorf("reading: %v", err)
		}
	}
	if _, err := d.Record(); !errors.Is(err, ErrLost) {
		t.Errorf("recording: %v", err)
	}
	works(t, open(t)) // another can be opened
}

// With replay.js and without, a pass does the same.
func TestReplay(t *testing.T) {
	d := open(t)
	if !d.Replay(true) {
		t.Log("replay.js is not there: only the plain way is tested")
	}
	for _, on := range []bool{false, true, false} {
		d.Replay(on)
		data, err := d.NewBuffer("data", 1024, Storage)
		if err != nil {
			t.Fatal(err)
		}
		one := binary.LittleEndian.AppendUint32(nil, 1)
		if err := d.Write(data, 0, one); err != nil {
			t.Fatal(err)
		}
		block, err := d.NewBuffer("block", 1024, Uniform)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int64{0, 512} { // the second block covers no element
			if err := d.Write(block, at, binary.LittleEndian.AppendUint32(nil, uint32(1-at/512))); err != nil {
				t.Fatal(err)
			}
		}
		p, err := d.Pipeline("double", double, 1)
		if err != nil {
			t.Fatal(err)
		}
		bound, err := d.Bind(Range{block, 0, 256}, []Range{{data, 0, 1024}})
		if err != nil {
			t.Fatal(err)
		}
		rec, err := d.Record()
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []uint32{0, 512, 0, 0} {
			rec.Dispatch(p, bound, at, [3]uint32{1, 1, 1})
		}
		if err := rec.Submit(); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4)
		if err := d.Read(context.Background(), data, 0, got); err != nil {
			t.Fatal(err)
		}
		if n := binary.LittleEndian.Uint32(got); n != 8 {
			t.Errorf("replay %v: doubled three times, 1 is %d", on, n)
		}
		bound.Release()
		data.Release()
		block.Release()
	}
}

// Places of released bindings are used again.
func TestTable(t *testing.T) {
	table := newTable()
	a, b := table.add(js.ValueOf("a")), table.add(js.ValueOf("b"))
	a.release()
	c, d := table.add(js.ValueOf("c")), table.add(js.ValueOf("d"))
	if c.at != a.at || d.at == b.at || table.size != 3 || table.values.Index(int(c.at)).String() != "c" {
		t.Errorf("places %d %d %d %d of %d", a.at, b.at, c.at, d.at, table.size)
	}
}
