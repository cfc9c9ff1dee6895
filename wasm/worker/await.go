//go:build js

package main

import (
	"context"
	"errors"
	"os"
	"syscall/js"
	"time"
)

// visit is a request that is being answered. Its promises settle while it runs
// Go, and only then may anything that belongs to it be touched.
type visit struct {
	context.Context
	cancel context.CancelFunc
	signal js.Value
	abort  js.Func
	seen   time.Time // when it last ran
}

// visits are those under way.
var visits = map[*visit]bool{}

type visitKey struct{}

// patience is how long a caller may take to read or to send something. No request
// waits for longer without a reason to go on, so that one which was not seen for
// much longer is gone without a word: the platform drops what belongs to a
// request, promises included, when it ends it.
var patience = 30 * time.Second

// lost reports whether a visit is gone without a word.
func (v *visit) lost(now time.Time) bool { return now.Sub(v.seen) > 2*patience+15*time.Second }

// begin makes the context of a request, which ends when its caller goes.
func begin(parent context.Context, request js.Value) (context.Context, *visit) {
	now := time.Now()
	for v := range visits {
		if v.lost(now) {
			v.cancel()
		}
	}
	v := &visit{seen: now, signal: request.Get("signal")}
	v.Context, v.cancel = context.WithCancel(parent)
	v.Context = context.WithValue(v.Context, visitKey{}, v)
	v.abort = js.FuncOf(func(js.Value, []js.Value) any {
		v.abort.Release()
		v.cancel()
		return nil
	})
	v.signal.Call("addEventListener", "abort", v.abort)
	visits[v] = true
	return v.Context, v
}

func (v *visit) end() {
	if v.Err() == nil { // else it may be another request that runs
		v.signal.Call("removeEventListener", "abort", v.abort)
		v.abort.Release()
	}
	v.cancel()
	delete(visits, v)
}

// await parks the goroutine until a promise of its own request is settled, or
// the request is over.
func await(ctx context.Context, promise js.Value) (value js.Value, err error) {
	settled := make(chan struct{})
	var resolve, reject js.Func
	settle := func() {
		resolve.Release()
		reject.Release()
		close(settled)
	}
	resolve = js.FuncOf(func(_ js.Value, args []js.Value) any {
		if len(args) > 0 {
			value = args[0]
		}
		settle()
		return nil
	})
	reject = js.FuncOf(func(_ js.Value, args []js.Value) any {
		err = failure(args[0])
		settle()
		return nil
	})
	promise.Call("then", resolve, reject)
	select {
	case <-settled:
	case <-ctx.Done():
		return js.Undefined(), context.Cause(ctx)
	}
	if v, ok := ctx.Value(visitKey{}).(*visit); ok {
		v.seen = time.Now()
	}
	return value, err
}

// awaitBriefly is await with a deadline.
func awaitBriefly(ctx context.Context, promise js.Value) (js.Value, error) {
	return await(ctx, glue.Call("within", promise, patience.Milliseconds()))
}

// failure is what a promise was rejected with; "too slow" is within's.
func failure(reason js.Value) error {
	if reason.Type() != js.TypeObject || reason.Get("message").Type() != js.TypeString {
		return errors.New(js.Global().Call("String", reason).String())
	}
	if message := reason.Get("message").String(); message != "too slow" {
		return errors.New(message)
	}
	return os.ErrDeadlineExceeded
}

// bytesOf copies a Uint8Array.
func bytesOf(array js.Value) []byte {
	data := make([]byte, array.Length())
	js.CopyBytesToGo(data, array)
	return data
}

// arrayOf is a copy as a Uint8Array.
func arrayOf(data []byte) js.Value {
	array := js.Global().Get("Uint8Array").New(len(data))
	js.CopyBytesToJS(array, data)
	return array
}
