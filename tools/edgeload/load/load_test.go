package load_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/engine/enginetest"
	"github.com/sdo-go/sdo/tools/edgeload/load"
	"github.com/sdo-go/sdo/wasm/edge"
	"github.com/sdo-go/sdo/wasm/edge/edgetest"
)

// spoils answer in place of a server, by the seeds of runs.
type spoils map[uint64]func(http.ResponseWriter, http.Handler, *http.Request)

// What is lost and what is wrong must not pass for right.
func TestRun(t *testing.T) {
	recipe := enginetest.Golden{Name: "dark-glasses", Set: []string{"num_images=1", "sampler.num_inference_steps=2", "updates=3", "seed=100"}}.Recipe(t)
	for name, c := range map[string]struct {
		seconds            float64
		spoil              spoils
		right, wrong, lost int
		problem            string
	}{
		"right":     {20, nil, 4, 0, 0, ""},
		"in slices": {edgetest.SliceSeconds, nil, 4, 0, 0, ""},
		"wrong": {20, spoils{101: func(w http.ResponseWriter, next http.Handler, r *http.Request) {
			kept := httptest.NewRecorder()
			next.ServeHTTP(kept, r)
			w.Write(bytes.Replace(kept.Body.Bytes(), []byte(`"losses":[[`), []byte(`"losses":[[1`), -1))
		}}, 3, 1, 0, "seed 101: losses are"},
		"of another length": {20, spoils{102: func(w http.ResponseWriter, next http.Handler, r *http.Request) {
			kept := httptest.NewRecorder()
			next.ServeHTTP(kept, r)
			w.Write(bytes.Replace(kept.Body.Bytes(), []byte(`"losses":[[`), []byte(`"losses":[[1],[`), -1))
		}}, 3, 1, 0, "seed 102: losses are +Inf"},
		"refused": {20, spoils{100: func(w http.ResponseWriter, _ http.Handler, _ *http.Request) {
			http.Error(w, "no room", http.StatusServiceUnavailable)
		}}, 3, 0, 1, "seed 100: 503 Service Unavailable: no room"},
		"cut off": {20, spoils{103: func(w http.ResponseWriter, next http.Handler, r *http.Request) {
			kept := httptest.NewRecorder()
			next.ServeHTTP(kept, r)
			whole, _, _ := strings.Cut(kept.Body.String(), "event: result")
			io.WriteString(w, whole)
		}}, 3, 0, 1, "seed 103: the stream ended without a last event"},
	} {
		t.Run(name, func(t *testing.T) {
			next := edge.New(edge.Options{Budget: edge.Budget{Seconds: c.seconds, Rate: 500e6, Bytes: 48 << 20}, Key: []byte("key")})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(bytes.NewReader(body))
				var request struct{ Recipe struct{ Seed uint64 } }
				json.Unmarshal(body, &request) // GET has none
				if spoil := c.spoil[request.Recipe.Seed]; spoil != nil {
					spoil(w, next, r)
				} else {
					next.ServeHTTP(w, r)
				}
			}))
			defer server.Close()
			r, err := load.Run(t.Context(), load.Options{URL: server.URL, Requests: 4, Parallel: 2, Recipe: recipe})
			if err != nil {
				t.Fatal(err)
			}
			if r.Right != c.right || r.Wrong != c.wrong || r.Lost != c.lost || r.OK() != (c.right == 4) {
				t.Errorf("%d right, %d wrong, %d lost, want %d, %d, %d", r.Right, r.Wrong, r.Lost, c.right, c.wrong, c.lost)
			}
			if told := strings.Join(r.Problems, "\n"); !strings.HasPrefix(told, c.problem) || (told == "") != (c.problem == "") {
				t.Errorf("told %q, want %q", told, c.problem)
			}
			if sliced := r.Slices > 4; sliced != (c.seconds < 1) {
				t.Errorf("%d requests for 4 runs of %g s", r.Slices, c.seconds)
			}
			q := r.Result
			if !(0 < r.FirstEvent.P50 && r.FirstEvent.P50 <= q.P50 && q.P50 <= q.P95 && q.P95 <= q.Max && q.Max <= r.Seconds) {
				t.Errorf("times %+v and %+v of %g s", r.FirstEvent, q, r.Seconds)
			}
			if r.Before.Heap == 0 || r.After.System == 0 || r.Health[1] == 0 {
				t.Errorf("memory %+v and %+v, health %v", r.Before, r.After, r.Health)
			}
			if _, err := json.Marshal(r); err != nil {
				t.Error(err)
			}
		})
	}
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	if _, err := load.Run(t.Context(), load.Options{URL: server.URL, Requests: 1, Parallel: 1, Recipe: recipe}); err == nil || !strings.Contains(err.Error(), "is no edge worker: 404") {
		t.Errorf("a server that is none: %v", err)
	}
}
