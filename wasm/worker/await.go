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
	cancel    context.CancelFunc
	id        int
	seen      time.Time // when it last ran
	suspected time.Time // since when it seems to be gone; zero where it does not
}

// visits are those under way, by number: worker.mjs tells of a caller who goes
// by the request's.
var visits = map[int]*visit{}

// settlements are the promises that are waited for, by number. One function of
// Go takes them all: one for each would never be let go of where the platform
// drops a promise.
var settlements = map[int]func(value, reason js.Value){}

var lastNumber int

func number() int {
	lastNumber++
	return lastNumber
}

func init() {
	glue.Set("settled", js.FuncOf(func(_ js.Value, args []js.Value) any {
		if settle := settlements[args[0].Int()]; settle != nil {
			delete(settlements, args[0].Int())
			settle(args[1], args[2])
		}
		return nil
	}))
	glue.Set("left", js.FuncOf(func(_ js.Value, args []js.Value) any {
		if v := visits[args[0].Int()]; v != nil {
			v.cancel()
		}
		return nil
	}))
}

type visitKey struct{}

// patience is how long a caller may take to read or to send something. No request
// waits for longer without a reason to go on, so that one which was not seen for
// much longer is gone without a word: the platform drops what belongs to a
// request, promises included, when it ends it.
var patience = 30 * time.Second

// dropLost ends visits that are gone without a word. All of them look so after the
// program has computed for long: one that is there gets time to say so.
func dropLost(now time.Time) {
	for _, v := range visits {
		switch {
		case now.Sub(v.seen) <= 2*patience+15*time.Second:
		case v.suspected.IsZero():
			v.suspected = now
		case now.Sub(v.suspected) > patience:
			v.cancel()
		}
	}
}

// begin makes the context of a request, which ends when its caller goes.
func begin(parent context.Context, request js.Value) *visit {
	v := &visit{id: number(), seen: time.Now()}
	dropLost(v.seen)
	v.Context, v.cancel = context.WithCancel(parent)
	v.Context = context.WithValue(v.Context, visitKey{}, v)
	visits[v.id] = v
	glue.Call("watch", request, v.id)
	return v
}

func (v *visit) end() {
	v.cancel()
	delete(visits, v.id)
}

// await parks the goroutine until a promise of its own request is settled, or
// the request is over.
func await(ctx context.Context, promise js.Value) (js.Value, error) {
	return settle(ctx, promise, 0)
}

// awaitBriefly is await with a deadline.
func awaitBriefly(ctx context.Context, promise js.Value) (js.Value, error) {
	return settle(ctx, promise, patience)
}

func settle(ctx context.Context, promise js.Value, deadline time.Duration) (value js.Value, err error) {
	n, settled := number(), make(chan struct{})
	settlements[n] = func(v, reason js.Value) {
		if value = v; !reason.IsUndefined() {
			err = failure(reason)
		}
		close(settled)
	}
	glue.Call("settle", n, promise, deadline.Milliseconds())
	select {
	case <-settled:
	case <-ctx.Done():
		delete(settlements, n)
		return js.Undefined(), context.Cause(ctx)
	}
	if v, ok := ctx.Value(visitKey{}).(*visit); ok {
		v.seen, v.suspected = time.Now(), time.Time{}
	}
	return value, err
}

// failure is what a promise was rejected with.
func failure(reason js.Value) error {
	switch {
	case reason.Equal(glue.Get("tooSlow")):
		return os.ErrDeadlineExceeded
	case reason.Type() == js.TypeObject && reason.Get("message").Type() == js.TypeString:
		return errors.New(reason.Get("message").String())
	}
	return errors.New(js.Global().Call("String", reason).String())
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
