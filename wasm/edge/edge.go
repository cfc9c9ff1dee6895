// Package edge is the HTTP interface of the core for places without a GPU: runs
// of small models on the CPU executor as streams of events, a registry of
// adapters, recipes by short link. docs/edge.md is its contract.
//
// Its handlers are ordinary ones and know no platform: wasm/worker carries them
// on Cloudflare Workers, tests on net/http. In a worker all requests share one
// thread and one memory. What belongs to a request (its body, its answer, a
// promise it waits for) may only be touched while that request is running there,
// so nothing here waits for another request: whoever needs what another one
// holds asks again after a Pause of its own.
package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options are what a deployment decides.
type Options struct {
	Version string // of the program
	Budget  Budget
	// Secret allows changing the registry, as "Authorization: Bearer SECRET".
	// Without one nothing can be uploaded or deleted.
	Secret string
	// Key signs resume tokens. Without one a run must fit one request.
	Key []byte
	// TokenLife is how long a resume token holds; 0 means an hour.
	TokenLife time.Duration
	// LoRAs keeps the registry's adapters; nil for none.
	LoRAs Bucket
	// Links keeps recipes by short link; nil for none.
	Links Links
	// LinkLife is how long a recipe is kept after it was last stored; 0 for ever.
	LinkLife time.Duration
	// Limit is asked whether a caller may make one more request that costs
	// something, which is any but GET; nil lets all.
	Limit func(ctx context.Context, caller string) (bool, error)
	// Caller tells callers apart; nil goes by the address they connect from.
	Caller func(r *http.Request) string
	// AllowOrigin lets pages from elsewhere use the interface: an origin, or "*"
	// for any. Empty lets only pages from here.
	AllowOrigin string
	// Patience is how long a caller may take to read an event or to send the next
	// part of a body; 0 means half a minute.
	Patience time.Duration
	// Pause lets other requests run for at least this long, 0 for a turn each. It
	// returns early, with the context's error, when the request is over.
	Pause func(ctx context.Context, d time.Duration) error
	// Now is the time; nil means time.Now.
	Now func() time.Time
	// Log takes what went wrong inside, a line each; nil drops it.
	Log func(line string)
}

// Server answers the interface's requests.
type Server struct {
	Options
	mux       *http.ServeMux
	networks  library
	admission admission
	catalog   func() (*catalog, error)
}

// New makes a server.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Pause == nil {
		o.Pause = sleep
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	if o.Caller == nil {
		o.Caller = address
	}
	if o.TokenLife == 0 {
		o.TokenLife = time.Hour
	}
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	s := &Server{Options: o, mux: http.NewServeMux()}
	s.catalog = sync.OnceValues(s.makeCatalog) // which waits for nothing
	for _, register := range []func(*Server){runRoutes, catalogRoutes, loraRoutes, linkRoutes} {
		register(s)
	}
	return s
}

// sleep is Pause where every request has a goroutine that may run at any time.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// address is where a request comes from, without the port.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// handle registers a handler whose error is answered as JSON.
func (s *Server) handle(pattern string, answer func(http.ResponseWriter, *http.Request) error) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := answer(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			s.fail(w, r, s.fault(p))
		}
	}()
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if s.AllowOrigin != "" {
		header.Set("Access-Control-Allow-Origin", s.AllowOrigin)
		header.Set("Access-Control-Expose-Headers", "ETag, Location, Retry-After")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			header.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE")
			header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match, If-None-Match, Range")
			header.Set("Access-Control-Max-Age", "86400")
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	if handler, pattern := s.mux.Handler(r); pattern == "" {
		s.unknown(w, r, handler)
		return
	}
	if err := s.limit(r); err != nil {
		s.fail(w, r, err)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// limit refuses a caller who asks for too much.
func (s *Server) limit(r *http.Request) error {
	if s.Limit == nil || r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	allowed, err := s.Limit(r.Context(), s.Caller(r))
	if err != nil || allowed {
		return err
	}
	return &Error{http.StatusTooManyRequests, "too_many_requests", "too many requests from your address; wait a little, then try again"}
}

// unknown answers as JSON what the multiplexer refuses: a path that does not
// exist, or a method that its path does not take.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request, refuse http.Handler) {
	heard := &statusOnly{header: http.Header{}}
	refuse.ServeHTTP(heard, r)
	if allow := heard.header.Get("Allow"); heard.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", allow)
		s.fail(w, r, refuse405(r.Method, r.URL.Path, allow))
		return
	}
	s.fail(w, r, &Error{http.StatusNotFound, "not_found", fmt.Sprintf("there is no %s here; docs/edge.md lists what there is", r.URL.Path)})
}

func refuse405(method, path, allow string) *Error {
	return &Error{http.StatusMethodNotAllowed, "method_not_allowed", fmt.Sprintf("%s is not for %s; use %s", path, method, allow)}
}

// statusOnly is a response writer that keeps the status and the headers.
type statusOnly struct {
	header http.Header
	status int
}

func (w *statusOnly) Header() http.Header         { return w.header }
func (w *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (w *statusOnly) WriteHeader(status int)      { w.status = status }

// cancelled reports whether an error is only that the caller has gone.
func cancelled(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)))
}
