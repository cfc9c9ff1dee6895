//go:build !js

package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/sdo-go/sdo/wasm/edge/edgetest"
)

// The Go program ends where its memory does, with everything it was at: each of
// its callers is told, and the next one starts it anew.
func TestTheProgramEnds(t *testing.T) {
	w := start(t, options{vars: map[string]any{"MEMORY_MIB": 4096, "CPU_SECONDS": 1e6}})
	c := edgetest.NewClient(t, w.url)
	huge, _ := json.Marshal(edgetest.Small("dark-glasses", map[string]any{"num_images": 256}))
	small, _ := json.Marshal(edgetest.Small("dark-glasses", nil))
	for range 2 {
		beside := w.begin(t, long, "update")
		defer beside.Close()
		broken := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, beside)
			broken <- err
		}()
		a := c.Do(t, http.MethodPost, "/v1/steer", huge)
		a.Refused(t, http.StatusServiceUnavailable, "stopped", "starts anew with the next request")
		if a.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		if a := c.Do(t, http.MethodPost, "/v1/steer", small, "Accept", "application/json"); a.Status != http.StatusOK {
			t.Errorf("the next request: %d %s", a.Status, a.Body)
		}
		select {
		case err := <-broken:
			if err == nil {
				t.Error("a stream that broke off looks like one that is whole")
			}
		case <-time.After(10 * time.Second):
			t.Error("the stream of a program that has ended stays open")
		}
		w.idle(t, soon)
	}
}
