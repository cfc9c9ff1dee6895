//go:build js

// Command browser is the Go core inside a page's worker. The worker
// (demo/src/worker.ts) sets globalThis.sdoHost before it starts the module; this
// sets globalThis.sdoCall, and from then on requests come and replies go. What
// they mean is package studio's.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime/debug"
	"syscall/js"

	"github.com/sdo-go/sdo/demo/studio"
	"github.com/sdo-go/sdo/model/builtin"
)

// version is set by the linker.
var version = "devel"

func main() {
	// A worker has one thread, and garbage is collected on it while a frame waits:
	// collecting less often is worth the memory of one more heap.
	debug.SetGCPercent(200)
	h := host{js.Global().Get("sdoHost")}
	if !h.Truthy() {
		fmt.Println("sdo: globalThis.sdoHost is missing; this module runs inside the page's worker")
		return
	}
	builtin.Fetch = func(name string) ([]byte, error) { return h.bytes("fetch", "models/"+name) }
	server := studio.New(h, version)
	js.Global().Set("sdoCall", js.FuncOf(func(_ js.Value, args []js.Value) any {
		text := []byte(args[0].String())
		go server.Handle(context.Background(), text) // a callback must not wait
		return nil
	}))
	select {}
}

// host is globalThis.sdoHost.
type host struct{ js.Value }

var _ studio.Host = host{}

// Post sends the message's JSON and the bytes that travel beside it.
func (h host) Post(m studio.Message) {
	buffers := js.Global().Get("Array").New()
	for _, b := range m.Buffers() {
		bytes := js.Global().Get("Uint8Array").New(len(b.Data))
		js.CopyBytesToJS(bytes, b.Data)
		buffers.Call("push", bytes)
	}
	text, err := json.Marshal(m)
	if err != nil { // a number that is not finite
		if m.Event != nil {
			fmt.Println("sdo: an event was left out:", err) // its request goes on
			return
		}
		text, _ = json.Marshal(studio.Message{ID: m.ID, Error: &studio.Failure{Kind: "fault", Message: err.Error()}})
	}
	h.Call("post", string(text), buffers)
}

// Yield waits for a task of the event loop, and so for the messages before it.
func (h host) Yield() { wait(h.Call("yield")) }

// Read reads a file of the store.
func (h host) Read(path string) ([]byte, error) { return h.bytes("read", path) }

// ReadAt reads a part of a file of the store.
func (h host) ReadAt(path string, into []byte, at int64) error {
	array, err := wait(h.Get("store").Call("readRange", path, float64(at), float64(at)+float64(len(into))))
	switch {
	case err != nil:
		return err
	case array.IsNull():
		return fs.ErrNotExist
	case js.CopyBytesToGo(into, array) < len(into):
		return io.ErrUnexpectedEOF
	}
	return nil
}

// Write replaces a file of the store.
func (h host) Write(path string, data []byte) error {
	bytes := js.Global().Get("Uint8Array").New(len(data))
	js.CopyBytesToJS(bytes, data)
	_, err := wait(h.Get("store").Call("write", path, bytes))
	return err
}

// Remove removes the files of the store whose paths begin with prefix.
func (h host) Remove(prefix string) error {
	_, err := wait(h.Get("store").Call("remove", prefix))
	return err
}

// List lists the files of the store whose paths begin with prefix.
func (h host) List(prefix string) ([]studio.File, error) {
	list, err := wait(h.Get("store").Call("list", prefix))
	if err != nil {
		return nil, err
	}
	files := make([]studio.File, list.Length())
	for i := range files {
		f := list.Index(i)
		files[i] = studio.File{Path: f.Get("path").String(), Size: int64(f.Get("size").Float())}
	}
	return files, nil
}

// bytes fetches a file of the site or reads one of the store.
func (h host) bytes(method, path string) ([]byte, error) {
	from := h.Value
	if method == "read" {
		from = h.Get("store")
	}
	array, err := wait(from.Call(method, path))
	if err != nil {
		return nil, err
	}
	if array.IsNull() {
		return nil, fs.ErrNotExist
	}
	data := make([]byte, array.Length())
	js.CopyBytesToGo(data, array)
	return data, nil
}

// wait parks the goroutine until a promise is settled. It must not be called
// inside a JavaScript callback.
func wait(promise js.Value) (value js.Value, err error) {
	done := make(chan struct{})
	resolve := js.FuncOf(func(_ js.Value, args []js.Value) any {
		value = args[0]
		close(done)
		return nil
	})
	defer resolve.Release()
	reject := js.FuncOf(func(_ js.Value, args []js.Value) any {
		if err = errors.New(args[0].String()); args[0].Type() == js.TypeObject && args[0].Get("message").Type() == js.TypeString {
			err = errors.New(args[0].Get("message").String())
		}
		close(done)
		return nil
	})
	defer reject.Release()
	promise.Call("then", resolve, reject)
	<-done
	return value, err
}
