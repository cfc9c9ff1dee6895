//go:build js

package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"syscall/js"
	"time"
)

// libraryWriter is the library's response writer, with what it has beside.
type libraryWriter interface {
	http.ResponseWriter
	WriteRawJSBody(js.Value)
	Ready() // the answer may leave
}

// response collects an answer and leaves it to the library as a body of
// JavaScript: whole where it is never flushed, else as a stream.
type response struct {
	library libraryWriter
	visit   *visit
	head    bool // no body is wanted
	status  int
	began   bool // the status was written
	buffer  []byte
	writer  js.Value // of the stream; undefined until the first flush
	broken  error    // of the stream
}

func (w *response) Header() http.Header { return w.library.Header() }

func (w *response) WriteHeader(status int) {
	if !w.began {
		w.status, w.began = status, true
	}
}

func (w *response) Write(data []byte) (int, error) {
	w.began = true
	if w.broken != nil {
		return 0, w.broken
	}
	w.buffer = append(w.buffer, data...)
	return len(data), nil
}

// SetWriteDeadline accepts deadlines: every flush has one of its own.
func (w *response) SetWriteDeadline(time.Time) error { return nil }

// FlushError sends what was written and waits until the caller takes it.
func (w *response) FlushError() error {
	if w.broken == nil {
		w.broken = w.flush()
	}
	return w.broken
}

func (w *response) flush() error {
	if w.visit.Err() != nil {
		return context.Cause(w.visit)
	}
	if w.writer.IsUndefined() {
		stream := glue.Call("stream")
		w.writer = stream.Get("writer")
		w.leave(stream.Get("readable"))
	}
	if len(w.buffer) == 0 {
		return nil
	}
	chunk := arrayOf(w.buffer)
	w.buffer = w.buffer[:0]
	_, err := awaitBriefly(w.visit, w.writer.Call("write", chunk))
	return err
}

// leave hands the answer to the library.
func (w *response) leave(body js.Value) {
	w.library.WriteHeader(w.status)
	w.library.WriteRawJSBody(body)
	w.library.Ready()
}

// finish ends the answer.
func (w *response) finish() {
	switch {
	case w.visit.Err() != nil: // nobody is there, and another request may run
		w.library.WriteRawJSBody(js.Null())
	case w.writer.IsUndefined() && w.head:
		w.leave(js.Null())
	case w.writer.IsUndefined():
		w.leave(arrayOf(w.buffer))
	default:
		if w.FlushError() == nil {
			await(w.visit, w.writer.Call("close"))
		} else if w.visit.Err() == nil {
			await(w.visit, w.writer.Call("abort", w.broken.Error()))
		}
	}
}

// body reads a request's body, a chunk of the platform's at a time.
type body struct {
	visit  *visit
	stream js.Value
	reader js.Value // undefined until the first read
	until  time.Time
	rest   []byte
}

// bodyOf reads the stream that the library's reader would read: that one waits
// for ever where the caller has gone.
func bodyOf(r *http.Request, v *visit) io.ReadCloser {
	raw, ok := r.Body.(interface{ GetRawJSBody() js.Value })
	if !ok {
		return http.NoBody
	}
	return &body{visit: v, stream: raw.GetRawJSBody(), until: time.Now().Add(4 * patience)}
}

func (b *body) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		if b.visit.Err() != nil {
			return 0, context.Cause(b.visit)
		}
		if b.reader.IsUndefined() {
			b.reader = b.stream.Call("getReader")
		}
		if !time.Now().Before(b.until) {
			return 0, os.ErrDeadlineExceeded
		}
		chunk, err := awaitBriefly(b.visit, b.reader.Call("read"))
		if err != nil {
			return 0, err
		}
		if chunk.Get("done").Bool() {
			return 0, io.EOF
		}
		b.rest = bytesOf(chunk.Get("value"))
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Close tells the platform that nothing more of the body is wanted, and waits for
// no answer.
func (b *body) Close() error {
	if b.visit.Err() == nil && b.reader.IsUndefined() {
		b.stream.Call("cancel").Call("catch", glue.Get("ignore"))
	} else if b.visit.Err() == nil {
		b.reader.Call("cancel").Call("catch", glue.Get("ignore"))
	}
	return nil
}
