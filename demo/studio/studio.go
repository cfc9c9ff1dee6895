// Package studio answers what the page asks of the core: requests and events as
// JSON, over whatever carries them. src/protocol.ts beside it is the contract;
// names and meanings are that file's.
//
// It decides nothing about the method: a request becomes a recipe for package
// engine. It knows no browser either, so it is tested natively.
package studio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/sdo-go/sdo/gpu"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/recipes"
)

// Host is where a studio runs.
type Host interface {
	// Post sends a message to the page. It must not wait for the page.
	Post(Message)
	// Yield lets the host take in what has arrived meanwhile: a browser's worker
	// hears nothing while Go computes.
	Yield()
	Store
}

// Store keeps files from one visit to the next, by paths with slashes. A file
// that does not exist is an error that is fs.ErrNotExist.
type Store interface {
	Read(path string) ([]byte, error)
	ReadAt(path string, into []byte, at int64) error // fills into with what begins at a byte
	Write(path string, data []byte) error            // as a whole or not at all
	Remove(prefix string) error
	List(prefix string) ([]File, error)
}

// File is an entry of a store.
type File struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
}

// Message is a reply or an event of a request.
type Message struct {
	ID     int
	Event  any
	Error  *Failure
	Result any
}

// MarshalJSON writes the one of event, error and result that the message is.
func (m Message) MarshalJSON() ([]byte, error) {
	var body struct {
		ID     int      `json:"id"`
		Event  any      `json:"event,omitempty"`
		Error  *Failure `json:"error,omitempty"`
		Result *any     `json:"result,omitempty"`
	}
	body.ID, body.Event, body.Error = m.ID, m.Event, m.Error
	if m.Event == nil && m.Error == nil {
		body.Result = &m.Result
	}
	return json.Marshal(body)
}

// Buffers numbers the byte arrays of a message, which travel beside its JSON.
func (m Message) Buffers() (all []*Buffer) {
	for _, part := range []any{m.Event, m.Result} {
		if c, ok := part.(interface{ buffers() []*Buffer }); ok {
			all = append(all, c.buffers()...)
		}
	}
	for k, b := range all {
		b.Index = k
	}
	return all
}

// Buffer stands in JSON for a byte array that travels beside it.
type Buffer struct {
	Index int    `json:"$buffer"`
	Data  []byte `json:"-"`
}

// Failure is an error as the page gets it.
type Failure struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

// Kinds of a Failure.
const (
	kindInput     = "input"
	kindBusy      = "busy"
	kindNoAdapter = "no_adapter"
	kindLost      = "device_lost"
	kindMemory    = "out_of_memory"
	kindCancelled = "cancelled"
	kindFault     = "fault"
)

// inputError marks an error as the user's to mend.
type inputError struct{ error }

func (e inputError) Unwrap() error { return e.error }

// badInput marks err as the user's to mend, unless it is nil or the device's.
func badInput(err error) error {
	if err == nil || kindOf(err) != kindFault {
		return err
	}
	return inputError{err}
}

var errBusy = errors.New("another run is going on; wait for its end or cancel it")

func kindOf(err error) string {
	var input inputError
	var problem recipes.Problem
	var problems recipes.Problems
	switch {
	case errors.Is(err, errBusy):
		return kindBusy
	case errors.Is(err, context.Canceled):
		return kindCancelled
	case errors.Is(err, gpu.ErrLost):
		return kindLost
	case errors.Is(err, gpu.ErrOutOfMemory), errors.Is(err, cpu.ErrOutOfMemory), errors.Is(err, graph.ErrTooLarge):
		return kindMemory
	case errors.Is(err, gpu.ErrNoAdapter):
		return kindNoAdapter
	case errors.As(err, &input), errors.As(err, &problem), errors.As(err, &problems):
		return kindInput
	}
	return kindFault
}

func failure(err error) *Failure {
	f := &Failure{kindOf(err), strings.TrimPrefix(err.Error(), "sdo: ")}
	switch f.Kind {
	case kindLost:
		// Everything that was under way failed by it, and would tell of itself.
		f.Message = gpu.ErrLost.Error() + "; it may have run out of memory or been reset, so try fewer pictures"
	case kindMemory:
		if !strings.Contains(f.Message, "; try ") { // which the CPU executor and the plan say themselves
			f.Message += "; try fewer pictures or the method sdo"
		}
	case kindCancelled:
		f.Message = "cancelled before there was anything to keep"
	}
	return f
}

// Server answers one page.
type Server struct {
	host    Host
	version string

	mu      sync.Mutex           // of what follows
	device  *device              // nil until opened
	opening bool                 // another is on its way
	job     *job                 // what uses the device now; nil for nothing
	latest  networks             // read last: most requests are of the same
	early   map[int][]func(*job) // by request that is not answered: what to do when its job begins
}

// New makes a server without a device. version is the program's.
func New(host Host, version string) *Server {
	return &Server{host: host, version: version, early: map[int][]func(*job){}}
}

// request is what a handler gets.
type request struct {
	context.Context
	id     int
	server *Server
}

// tell sends an event of the request.
func (r *request) tell(event any) { r.server.host.Post(Message{ID: r.id, Event: event}) }

// handler answers a method with its parameters still as text.
type handler func(*request, json.RawMessage) (any, error)

// method makes a handler of a function with typed parameters.
func method[P any](answer func(*request, P) (any, error)) handler {
	return func(r *request, text json.RawMessage) (any, error) {
		var params P
		if err := json.Unmarshal(text, &params); err != nil {
			return nil, inputError{fmt.Errorf("parameters: %w", err)}
		}
		return answer(r, params)
	}
}

type none struct{}

// handlers are the methods of the protocol.
var handlers = map[string]handler{
	"open":         method(open),
	"catalog":      method(catalog),
	"check":        method(check),
	"plan":         method(plan),
	"source":       method(source),
	"sample":       method(sample),
	"steer":        method(steer),
	"tune":         method(tune),
	"audit":        method(auditRecipe),
	"pause":        controlling((*job).pause),
	"resume":       controlling((*job).resume),
	"cancel":       controlling((*job).stop),
	"checkpoints":  method(checkpoints),
	"discard":      method(discard),
	"inspect":      method(inspect),
	"add_model":    method(addModel),
	"remove_model": method(removeModel),
	"add_lora":     method(addLoRA),
	"remove_lora":  method(removeLoRA),
	"measure":      method(measure),
	"kernels":      method(kernels),
	"lose_device":  method(loseDevice),
}

// Handle answers one request, {id, method, params}, and returns when it is
// answered; the caller gives each a goroutine of its own.
func (s *Server) Handle(ctx context.Context, text []byte) {
	var q struct {
		ID     int             `json:"id"`
		Method string          `json:"method"`
		Params json.RawMessage `json:"params"`
	}
	if err := json.Unmarshal(text, &q); err != nil {
		s.host.Post(Message{Error: failure(inputError{fmt.Errorf("request: %w", err)})})
		return
	}
	defer func() {
		if r := recover(); r != nil {
			s.host.Post(Message{ID: q.ID, Error: &Failure{kindFault,
				fmt.Sprintf("a fault of the program in %s: %v; please report it with the text of the Device page", q.Method, r)}})
		}
	}()
	answer, ok := handlers[q.Method]
	if !ok {
		s.host.Post(Message{ID: q.ID, Error: failure(inputError{fmt.Errorf("there is no method %q", q.Method)})})
		return
	}
	if len(q.Params) == 0 {
		q.Params = json.RawMessage("{}")
	}
	s.mu.Lock()
	s.early[q.ID] = nil
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.early, q.ID)
	}()
	result, err := answer(&request{Context: ctx, id: q.ID, server: s}, q.Params)
	if err != nil {
		s.host.Post(Message{ID: q.ID, Error: failure(err)})
		return
	}
	s.host.Post(Message{ID: q.ID, Result: result})
}

// executor is the open device, without a job on it.
func (s *Server) executor() graph.Executor {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.device == nil {
		return nil
	}
	return s.device.Executor
}
