package edge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sdo-go/sdo/wasm/edge"
	"github.com/sdo-go/sdo/wasm/edge/edgetest"
)

// budget is that of wrangler.jsonc.
var budget = edge.Budget{Seconds: 20, Rate: 500e6, Bytes: 48 << 20}

// scarce makes every update a request of its own.
var scarce = edge.Budget{Seconds: edgetest.SliceSeconds, Rate: 500e6, Bytes: 48 << 20}

func TestRuns(t *testing.T) {
	server := httptest.NewServer(edge.New(edge.Options{
		Budget: budget, Key: []byte("key"), Secret: edgetest.Secret, LoRAs: newBucket(), Links: newLinks(time.Now),
	}))
	defer server.Close()
	edgetest.Runs(t, server.URL)
}

func TestSlices(t *testing.T) {
	server := httptest.NewServer(edge.New(edge.Options{Budget: scarce, Key: []byte("key")}))
	defer server.Close()
	edgetest.Slices(t, server.URL)
}

func post(s http.Handler, path string, request any, more ...string) edgetest.Answer {
	body, err := json.Marshal(request)
	if err != nil {
		panic(err)
	}
	return serve(s, "POST", path, bytes.NewReader(body), append([]string{"Accept", "application/json"}, more...)...)
}

func continued(t *testing.T, s http.Handler, request any) (c edgetest.Continue) {
	t.Helper()
	post(s, "/v1/steer", request).Decode(t, http.StatusAccepted, &c)
	return c
}

func TestTokensExpire(t *testing.T) {
	now := time.Unix(1e9, 0)
	s := edge.New(edge.Options{Budget: scarce, Key: []byte("key"), TokenLife: time.Minute, Now: func() time.Time { return now }})
	next := continued(t, s, edgetest.Small("dark-glasses", nil))
	if next.Expires != 1e9+60 {
		t.Errorf("expires at %d", next.Expires)
	}
	resume := map[string]any{"resume": next.Token}
	now = now.Add(59 * time.Second)
	if a := post(s, "/v1/steer", resume); a.Status != http.StatusOK {
		t.Errorf("in time: %d %s", a.Status, a.Body)
	}
	now = now.Add(time.Second)
	post(s, "/v1/steer", resume).Refused(t, http.StatusGone, "token_expired", "2001-09-09T01:47:40Z")
}

// A token is good at every deployment with its key, and only there.
func TestTokensAreOfTheirKey(t *testing.T) {
	at := func(key string) http.Handler { return edge.New(edge.Options{Budget: scarce, Key: []byte(key)}) }
	resume := map[string]any{"resume": continued(t, at("key"), edgetest.Small("dark-glasses", nil)).Token}
	if a := post(at("key"), "/v1/steer", resume); a.Status != http.StatusOK {
		t.Errorf("the same key: %d %s", a.Status, a.Body)
	}
	post(at("another"), "/v1/steer", resume).Refused(t, http.StatusForbidden, "bad_token", "not made here")
	post(at(""), "/v1/steer", resume).Refused(t, http.StatusNotImplemented, "no_slices", "SDO_KEY")
	post(at(""), "/v1/steer", edgetest.Small("dark-glasses", nil)).Refused(t, http.StatusUnprocessableEntity, "too_large", "no key")
}

func TestARunGoesOnWithItsAdapterOnly(t *testing.T) {
	s := edge.New(edge.Options{Budget: scarce, Key: []byte("key"), Secret: edgetest.Secret, LoRAs: newBucket()})
	put := func(alpha float64) {
		file := edgetest.Kohya(t, edgetest.Adapter(t, "avatars-16-s", 1, alpha, "conv_in"))
		serve(s, "PUT", "/v1/loras/mine", bytes.NewReader(file), "Authorization", authorization)
	}
	put(1)
	request := edgetest.Small("dark-glasses", map[string]any{"lora": map[string]any{"path": "loras/mine.safetensors"}})
	resume := map[string]any{"resume": continued(t, s, request).Token}
	put(2)
	post(s, "/v1/steer", resume).Refused(t, http.StatusConflict, "lora_changed", "loras/mine.safetensors")
	put(1)
	if a := post(s, "/v1/steer", resume); a.Status != http.StatusOK {
		t.Errorf("the old one again: %d %s", a.Status, a.Body)
	}
}

func live(t *testing.T, s http.Handler) (n struct {
	Live   int
	Memory struct {
		Held int64 `json:"held_bytes"`
	}
}) {
	t.Helper()
	if err := json.Unmarshal(serve(s, "GET", "/v1/health", nil).Body, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// hold makes runs wait at their first event until let is called.
func hold() (pause func(context.Context, time.Duration) error, waiting <-chan bool, let func()) {
	at, free := make(chan bool, 100), make(chan struct{})
	return func(ctx context.Context, _ time.Duration) error {
		select {
		case at <- true:
		default: // nobody counts any more
		}
		select {
		case <-free:
			time.Sleep(time.Millisecond)
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}, at, sync.OnceFunc(func() { close(free) })
}

// The run of a caller who goes stops, and gives back what it held.
func TestARunEndsWithItsCaller(t *testing.T) {
	pause, waiting, let := hold()
	defer let()
	s := edge.New(edge.Options{Budget: budget, Pause: pause})
	ctx, leave := context.WithCancel(context.Background())
	over := make(chan *httptest.ResponseRecorder)
	go func() {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", "/v1/steer", body(edgetest.Small("dark-glasses", nil))))
		over <- w
	}()
	<-waiting
	if n := live(t, s); n.Live != 1 || n.Memory.Held == 0 {
		t.Fatalf("while it runs: %+v", n)
	}
	leave()
	w := <-over
	if n := live(t, s); n.Live != 0 || n.Memory.Held != 0 {
		t.Errorf("after it: %+v", n)
	}
	if text := w.Body.String(); strings.Contains(text, "event: update") || strings.Contains(text, "event: error") {
		t.Errorf("told nobody: %s", text)
	}
}

// takes is what a run is booked with.
func takes(t *testing.T, request any) int64 {
	t.Helper()
	for line := range strings.Lines(string(serve(edge.New(edge.Options{Budget: budget}), "POST", "/v1/steer", body(request)).Body)) {
		if text, ok := strings.CutPrefix(line, "data: "); ok {
			var plan edgetest.Plan
			if err := json.Unmarshal([]byte(text), &plan); err != nil {
				t.Fatal(err)
			}
			return plan.Estimate.Bytes
		}
	}
	t.Fatal("no plan was told")
	return 0
}

// Runs wait for room beside others, and not for ever.
func TestRunsTakeTheRoomThereIs(t *testing.T) {
	request := edgetest.Small("dark-glasses", nil)
	pause, waiting, let := hold()
	var mu sync.Mutex
	now := time.Unix(1e9, 0)
	one := budget
	size := takes(t, request)
	one.Bytes = size * 3 / 2 // room for one
	s := edge.New(edge.Options{Budget: one, Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now },
		Pause: func(ctx context.Context, d time.Duration) error {
			if d == 0 {
				return pause(ctx, d)
			}
			mu.Lock()
			defer mu.Unlock()
			now = now.Add(d)
			return nil
		}})
	first := make(chan edgetest.Answer)
	go func() { first <- post(s, "/v1/steer", request) }()
	<-waiting
	a := post(s, "/v1/steer", request)
	a.Refused(t, http.StatusServiceUnavailable, "busy", "other runs")
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	let()
	if a := <-first; a.Status != http.StatusOK {
		t.Errorf("the first run: %d %s", a.Status, a.Body)
	}
	if a := post(s, "/v1/steer", request); a.Status != http.StatusOK {
		t.Errorf("when there is room again: %d %s", a.Status, a.Body)
	}

	one.Bytes = size - 1
	post(edge.New(edge.Options{Budget: one}), "/v1/steer", request).Refused(t, http.StatusUnprocessableEntity, "too_large", "fewer pictures")
}

func body(request any) *bytes.Reader {
	text, _ := json.Marshal(request)
	return bytes.NewReader(text)
}

// A processor that is slower than the plan thought ends a share early.
func TestTheClockEndsAShare(t *testing.T) {
	now := time.Unix(1e9, 0)
	s := edge.New(edge.Options{Budget: budget, Key: []byte("key"), Now: func() time.Time { return now },
		Pause: func(context.Context, time.Duration) error { now = now.Add(time.Second * 6 / 5); return nil }})
	// Three steps, the look before the first update; then a way back and three steps for each.
	next := continued(t, s, edgetest.Small("dark-glasses", map[string]any{"updates": 20}))
	if next.Update != 3 {
		t.Errorf("the share ends after update %d of 20 s, each of which takes 6", next.Update)
	}
}

func TestCallersAreLimited(t *testing.T) {
	left := map[string]int{"1.1.1.1": 1}
	var fault error
	var kept log
	s := edge.New(edge.Options{Budget: budget, Log: kept.add,
		Caller: func(r *http.Request) string { return r.Header.Get("X-Caller") },
		Limit: func(_ context.Context, caller string) (bool, error) {
			left[caller]--
			return left[caller] >= 0, fault
		}})
	ask := func(method, path, caller string) edgetest.Answer {
		return serve(s, method, path, body(edgetest.Small("dark-glasses", nil)), "X-Caller", caller, "Accept", "application/json")
	}
	if a := ask("POST", "/v1/sample", "1.1.1.1"); a.Status != http.StatusOK {
		t.Errorf("the first: %d %s", a.Status, a.Body)
	}
	a := ask("POST", "/v1/sample", "1.1.1.1")
	a.Refused(t, http.StatusTooManyRequests, "too_many_requests", "your address")
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	ask("POST", "/v1/sample", "2.2.2.2").Refused(t, http.StatusTooManyRequests, "too_many_requests", "your address")
	if a := ask("GET", "/v1/health", "1.1.1.1"); a.Status != http.StatusOK {
		t.Errorf("what costs nothing: %d %s", a.Status, a.Body)
	}
	fault = errors.New("the limiter is down")
	ask("POST", "/v1/sample", "1.1.1.1").Refused(t, http.StatusInternalServerError, "fault", "the limiter is down")
	if len(kept.lines) != 1 || !strings.Contains(kept.lines[0], "POST /v1/sample: the limiter is down") {
		t.Errorf("logged %q", kept.lines)
	}
}

func TestPagesFromElsewhere(t *testing.T) {
	closed := serve(edge.New(edge.Options{Budget: budget}), "GET", "/v1/health", nil, "Origin", "https://elsewhere.example")
	if got := closed.Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("allowed %q without being told to", got)
	}
	s := edge.New(edge.Options{Budget: budget, AllowOrigin: "https://elsewhere.example"})
	before := serve(s, "OPTIONS", "/v1/steer", nil, "Origin", "https://elsewhere.example", "Access-Control-Request-Method", "POST")
	if before.Status != http.StatusNoContent || !strings.Contains(before.Header.Get("Access-Control-Allow-Headers"), "Content-Type") {
		t.Errorf("asked before: %d %v", before.Status, before.Header)
	}
	for _, path := range []string{"/v1/health", "/v1/nothing"} {
		if got := serve(s, "GET", path, nil).Header.Get("Access-Control-Allow-Origin"); got != "https://elsewhere.example" {
			t.Errorf("%s: allowed %q", path, got)
		}
	}
}

// A body must come within the patience, and a run may last longer.
func TestBodiesComeInTime(t *testing.T) {
	const patience = 200 * time.Millisecond
	ample := budget
	ample.Seconds = 1e6
	server := httptest.NewServer(edge.New(edge.Options{Budget: ample, Patience: patience}))
	defer server.Close()
	send := func(body io.Reader) edgetest.Answer {
		response, err := http.Post(server.URL+"/v1/steer?", "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return edgetest.Answer{Status: response.StatusCode, Header: response.Header, Body: text}
	}
	slow, begun := io.Pipe()
	defer begun.Close()
	go begun.Write([]byte("{"))
	send(slow).Refused(t, http.StatusRequestTimeout, "too_slow", "200ms")
	for updates, took := 8, time.Duration(0); took < 2*patience; updates *= 4 {
		began := time.Now()
		a := send(body(edgetest.Small("dark-glasses", map[string]any{"updates": updates})))
		if !strings.Contains(string(a.Body), "event: result") {
			t.Errorf("a run of %d updates ends with %.300s", updates, a.Body[max(0, len(a.Body)-300):])
		}
		took = time.Since(began)
	}
}

// A caller who takes nothing ends the run.
func TestARunEndsWhereNobodyReads(t *testing.T) {
	s := edge.New(edge.Options{Budget: budget})
	w := &broken{httptest.NewRecorder(), 3}
	s.ServeHTTP(w, httptest.NewRequest("POST", "/v1/steer", body(edgetest.Small("dark-glasses", nil))))
	if n := live(t, s); n.Live != 0 {
		t.Errorf("%d runs go on", n.Live)
	}
	if got := strings.Count(w.Body.String(), "event: "); got != 3 {
		t.Errorf("%d events reached a caller who takes three", got)
	}
}

type broken struct {
	*httptest.ResponseRecorder
	left int
}

func (w *broken) Write(data []byte) (int, error) {
	if w.left--; w.left < 0 {
		return 0, errors.New("the caller reads too slowly")
	}
	return w.ResponseRecorder.Write(data)
}

// A run whose numbers grow beyond all bounds is its recipe's to mend.
func TestARunThatDiverges(t *testing.T) {
	var kept log
	s := edge.New(edge.Options{Budget: budget, Log: kept.add})
	request := edgetest.Small("dark-glasses", map[string]any{"optimizer.lr": 1e300, "guards.latent_norm": "none"})
	post(s, "/v1/steer", request).Refused(t, http.StatusUnprocessableEntity, "not_finite", "norm +Inf")
	if kept.lines != nil {
		t.Errorf("logged %q", kept.lines)
	}
}

// A fault in the midst of a run ends its stream with an error, gives back what the
// run held, and tells its reasons to the log alone.
func TestAFaultEndsAStream(t *testing.T) {
	var kept log
	pauses := 0
	s := edge.New(edge.Options{Budget: budget, Log: kept.add, Pause: func(context.Context, time.Duration) error {
		if pauses++; pauses == 3 {
			panic("the innermost secret")
		}
		return nil
	}})
	a := serve(s, "POST", "/v1/steer", body(edgetest.Small("dark-glasses", nil)))
	text := string(a.Body)
	if !strings.HasSuffix(text, "\n\n") || strings.Count(text, "event: error\n") != 1 || strings.Count(text, "event: step\n") != 2 || strings.Contains(text, "secret") {
		t.Errorf("the stream is %s", text)
	}
	if n := live(t, s); n.Live != 0 || n.Memory.Held != 0 {
		t.Errorf("after it: %+v", n)
	}
	if len(kept.lines) == 0 || !strings.Contains(kept.lines[0], "the innermost secret") {
		t.Errorf("logged %q", kept.lines)
	}
}

// Who waits holds something, too, so only so many may.
func TestFewWait(t *testing.T) {
	pause, waiting, let := hold()
	defer let()
	tight := budget
	tight.Bytes = takes(t, edgetest.Small("dark-glasses", nil)) * 3 / 2
	s := edge.New(edge.Options{Budget: tight, Pause: pause})
	answers := make(chan edgetest.Answer, 10)
	for range 1 + 8 {
		go func() { answers <- post(s, "/v1/steer", edgetest.Small("dark-glasses", nil)) }()
		<-waiting
	}
	post(s, "/v1/steer", edgetest.Small("dark-glasses", nil)).Refused(t, http.StatusServiceUnavailable, "busy", "try again")
	let()
	for range 1 + 8 {
		if a := <-answers; a.Status != http.StatusOK {
			t.Errorf("one that waited: %d %s", a.Status, a.Body)
		}
	}
}

// JSON is for callers who ask for it and for no stream.
func TestWhatIsAccepted(t *testing.T) {
	s := edge.New(edge.Options{Budget: budget})
	for accept, want := range map[string]string{
		"": "text/event-stream", "*/*": "text/event-stream", "application/json": "application/json",
		"text/event-stream, application/json": "text/event-stream", "application/json;q=0": "text/event-stream",
		"image/png, application/json;q=0.5": "application/json",
	} {
		a := serve(s, "POST", "/v1/steer", body(edgetest.Small("dark-glasses", map[string]any{"updates": 1})), "Accept", accept)
		if got := a.Header.Get("Content-Type"); got != want {
			t.Errorf("Accept %q: %s, want %s", accept, got, want)
		}
	}
}
