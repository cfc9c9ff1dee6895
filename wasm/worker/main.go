//go:build js

// Command worker is the edge interface (package edge) on Cloudflare Workers,
// through github.com/syumai/workers.
//
// The library means a program of its own for every request, which would parse
// the model for every request. This one serves all requests of an isolate:
// worker.mjs starts it with the first, and calls context.binding.handleRequest
// for each. Two things follow. Answers leave as bodies of JavaScript, since the
// library ends a program with the first body of its own (respond.go). And what
// belongs to one request is never touched while another one runs Go: a request
// waits only for promises of its own (await.go).
package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall/js"
	"time"

	"github.com/syumai/workers"
	"github.com/syumai/workers/cloudflare"

	"github.com/sdo-go/sdo/model/builtin"
	"github.com/sdo-go/sdo/wasm/edge"
)

// version is set by the linker.
var version = "devel"

// glue is what worker.mjs leaves for this program, and where this program leaves
// what worker.mjs calls.
var glue = js.Global().Get("context")

// An isolate may take 128 MB, of which this program's own memory is the larger
// part and is never given back: it collects garbage before it grows past this.
const memoryLimit = 80 << 20

func main() {
	debug.SetMemoryLimit(memoryLimit)
	builtin.Fetch = weights
	patience = time.Duration(variable("PATIENCE_SECONDS", patience.Seconds(), 0.1) * float64(time.Second))
	server := edge.New(options())
	workers.ServeNonBlock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(server, w, r) }))
	workers.Ready()
	select {}
}

// weights reads a file that is a module of the worker, so that reading waits for
// nothing.
func weights(name string) ([]byte, error) {
	buffer := glue.Get("weights").Get(name)
	if buffer.IsUndefined() {
		return nil, fmt.Errorf("%s is not among the worker's modules", name)
	}
	return bytesOf(js.Global().Get("Uint8Array").New(buffer)), nil
}

// options are a deployment's, from its bindings and variables (wrangler.jsonc).
func options() edge.Options {
	o := edge.Options{
		Version: version,
		Budget: edge.Budget{
			Seconds: variable("CPU_SECONDS", 20, 0.01),
			Rate:    1e6 * variable("MEGA_MULTIPLY_ADDS_PER_SECOND", 500, 1),
			Bytes:   int64(variable("MEMORY_MIB", 48, 1)) << 20,
		},
		Secret:      text("SDO_SECRET"),
		Key:         []byte(text("SDO_KEY")),
		TokenLife:   time.Duration(variable("TOKEN_MINUTES", 60, 0.001) * float64(time.Minute)),
		LinkLife:    time.Duration(variable("LINK_DAYS", 0, 0) * 24 * float64(time.Hour)),
		Patience:    patience,
		AllowOrigin: text("ALLOW_ORIGIN"),
		Pause:       pause,
		Log:         func(line string) { fmt.Println("sdo: " + line) },
		Caller:      func(r *http.Request) string { return r.Header.Get("CF-Connecting-IP") },
	}
	if there("LORAS") {
		o.LoRAs = bucket{cloudflare.GetBinding("LORAS")}
	}
	if there("LINKS") {
		o.Links = links{cloudflare.GetBinding("LINKS")}
	}
	if there("LIMITER") {
		o.Limit = limiter{cloudflare.GetBinding("LIMITER")}.take
	}
	return o
}

func there(binding string) bool { return cloudflare.GetBinding(binding).Truthy() }

// text is a variable or a secret; empty where there is none.
func text(name string) string {
	if v := cloudflare.GetBinding(name); v.Type() == js.TypeString {
		return v.String()
	}
	return ""
}

// variable is a number, which may be written as text, and is at least so much.
func variable(name string, standard, least float64) float64 {
	n, err := standard, error(nil)
	v := cloudflare.GetBinding(name)
	switch v.Type() {
	case js.TypeUndefined:
		return standard
	case js.TypeNumber:
		n = v.Float()
	default:
		n, err = strconv.ParseFloat(v.String(), 64)
	}
	if err != nil || !(n >= least) || math.IsInf(n, 0) {
		fmt.Printf("sdo: the variable %s is %v, want a number, %g or more; %g is used\n", name, v, least, standard)
		return standard
	}
	return n
}

// serve answers one request.
func serve(server http.Handler, w http.ResponseWriter, r *http.Request) {
	visit := begin(r.Context(), glue.Get("request"))
	defer visit.end()
	r = r.WithContext(visit)
	for name, parts := range r.Header { // the library takes them apart at every comma
		r.Header[name] = []string{strings.Join(parts, ",")}
	}
	out := &response{library: w.(libraryWriter), visit: visit, head: r.Method == http.MethodHead, status: http.StatusOK}
	defer out.finish()
	r.Body = bodyOf(r, visit)
	defer r.Body.Close() // while the answer has not left
	server.ServeHTTP(out, r)
}

// pause lets other requests run.
func pause(ctx context.Context, d time.Duration) error {
	_, err := await(ctx, js.Global().Get("scheduler").Call("wait", d.Milliseconds()))
	return err
}
