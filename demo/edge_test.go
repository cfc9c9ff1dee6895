package demo_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/sdo-go/sdo/demo"
	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/wasm/edge"
)

// edgeSite serves the page and, behind it, an edge, as wasm/worker does. What
// runs answered is kept, for tests to compare with what the page shows.
type edgeSite struct {
	page, edge http.Handler

	mu      sync.Mutex
	answers []*answer
	spoils  []spoil // of the answers that come next; nil leaves one as it is
}

func newEdgeSite(t *testing.T, b edge.Budget) *edgeSite {
	return &edgeSite{page: demo.Handler(built(t)), edge: edge.New(edge.Options{Budget: b, Key: []byte("a test's"), Log: func(line string) { t.Log(line) }})}
}

func (s *edgeSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/v1/steer":
		a := &answer{ResponseWriter: w}
		s.mu.Lock()
		s.answers = append(s.answers, a)
		if len(s.spoils) > 0 {
			if s.spoils[0] != nil {
				a.ResponseWriter = s.spoils[0](w)
			}
			s.spoils = s.spoils[1:]
		}
		s.mu.Unlock()
		s.edge.ServeHTTP(a, r)
	case strings.HasPrefix(r.URL.Path, "/v1/"):
		s.edge.ServeHTTP(w, r)
	default:
		w.Header().Set("Server-Timing", "sdo-edge")
		s.page.ServeHTTP(w, r)
	}
}

// spoil changes the answers that come next.
func (s *edgeSite) spoil(how ...spoil) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoils = how
}

// runs is how many requests for runs there were.
func (s *edgeSite) runs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.answers)
}

// live is how many runs the edge has now.
func (s *edgeSite) live(t *testing.T) int {
	t.Helper()
	w := httptest.NewRecorder()
	s.edge.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/health", nil))
	var health struct{ Live *int }
	if err := json.Unmarshal(w.Body.Bytes(), &health); err != nil || health.Live == nil {
		t.Fatalf("health is %s: %v", w.Body, err)
	}
	return *health.Live
}

// result is the last event of the latest run.
func (s *edgeSite) result(t *testing.T) (r edgeResult) {
	t.Helper()
	s.mu.Lock()
	a := s.answers[len(s.answers)-1]
	s.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	_, last, found := strings.Cut(a.told.String(), "event: result\ndata: ")
	if !found {
		t.Fatalf("the edge told no result: %.500s", a.told.String())
	}
	if err := json.Unmarshal([]byte(last), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

type edgeResult struct {
	Losses        [][]float64
	Before, After struct{ PNG []string }
}

// answer is a response that is kept.
type answer struct {
	http.ResponseWriter
	mu   sync.Mutex
	told bytes.Buffer
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) Write(b []byte) (int, error) {
	a.mu.Lock()
	a.told.Write(b)
	a.mu.Unlock()
	return a.ResponseWriter.Write(b)
}

// spoil is what goes wrong with an answer.
type spoil func(http.ResponseWriter) http.ResponseWriter

// breakOff ends the connection where the answer would come to the words.
func breakOff(words string) spoil {
	return func(w http.ResponseWriter) http.ResponseWriter {
		return &spoiled{w, words, func() error {
			time.Sleep(300 * time.Millisecond) // a browser drops what its page has not read by then
			connection, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return err
			}
			return connection.Close()
		}}
	}
}

// failAt ends the answer there, with an error event.
func failAt(words, message string) spoil {
	return func(w http.ResponseWriter) http.ResponseWriter {
		return &spoiled{w, words, func() error {
			_, err := fmt.Fprintf(w, "event: error\ndata: {\"code\":\"fault\",\"message\":%q}\n\n", message)
			return err
		}}
	}
}

// spoiled does something else than to write the words and what follows.
type spoiled struct {
	http.ResponseWriter
	words string
	do    func() error
}

func (s *spoiled) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *spoiled) Write(data []byte) (int, error) {
	if !bytes.Contains(data, []byte(s.words)) {
		return s.ResponseWriter.Write(data)
	}
	return 0, errors.Join(net.ErrClosed, s.do())
}

// outOfOrder answers as what stands before a server that does not.
func outOfOrder(w http.ResponseWriter) http.ResponseWriter {
	w.WriteHeader(http.StatusServiceUnavailable)
	return httptest.NewRecorder() // for what nobody hears
}

// roomy is a budget that every run of these tests fits.
var roomy = edge.Budget{Seconds: 30, Rate: 1e9, Bytes: 24 << 20}

// slicing is a budget by which a recipe's run takes so many updates a request.
// Its clock is far too slow to end a request before its plan does.
func slicing(t *testing.T, r *recipes.Recipe, updates int) edge.Budget {
	t.Helper()
	m, err := engine.LoadModel(r, engine.OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	p, err := engine.NewPlan(r, m, nil, m.Options())
	if err != nil {
		t.Fatal(err)
	}
	const rate = 1e6
	e := p.Efforts()
	most := e.Inversion.Plus(e.Rollout).Plus(e.Update.Plus(e.Rollout).Times(updates)).MultiplyAdds
	return edge.Budget{Seconds: 1.001 * float64(most) / rate, Rate: rate, Bytes: 64 << 20}
}

// openEdge opens the page with a recipe and waits until it knows the edge.
// chosen is where it is to steer, as this session left it.
func openEdge(t *testing.T, site *edgeSite, r *recipes.Recipe, chosen string) *page {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	p := openPage(t, options{
		handler: site, at: "#steer?r=." + base64.RawURLEncoding.EncodeToString(text), patience: 2 * time.Minute,
		before: fmt.Sprintf("sessionStorage['sdo.place'] ??= %q", strconv.Quote(chosen)),
	})
	p.ready()
	p.waitFor("return document.querySelector('[data-testid=place-" + chosen + "] input').checked")
	return p
}

// pixels are the pictures on the stage, each as it was before and is after.
func (p *page) pixels() (before, after []*image.NRGBA) {
	p.Helper()
	for i, url := range p.painted("stage-pictures") {
		data, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(url, "data:image/png;base64,"))
		if err != nil {
			p.Fatal(err)
		}
		picture := decoded(p.T, data)
		if i%2 == 0 { // after lies under before
			after = append(after, picture)
		} else {
			before = append(before, picture)
		}
	}
	return before, after
}

func decoded(t *testing.T, data []byte) *image.NRGBA {
	t.Helper()
	m, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if plain, ok := m.(*image.NRGBA); ok {
		return plain
	}
	plain := image.NewNRGBA(m.Bounds())
	draw.Draw(plain, plain.Bounds(), m, m.Bounds().Min, draw.Src)
	return plain
}

// apart is by how many levels pictures differ at most.
func apart(t *testing.T, a, b []*image.NRGBA) (most int) {
	t.Helper()
	if len(a) != len(b) || len(a) == 0 {
		t.Fatalf("%d pictures and %d", len(a), len(b))
	}
	for i := range a {
		if a[i].Bounds() != b[i].Bounds() {
			t.Fatalf("picture %d has bounds %v and %v", i, a[i].Bounds(), b[i].Bounds())
		}
		for j, v := range a[i].Pix {
			most = max(most, int(math.Abs(float64(v)-float64(b[i].Pix[j]))))
		}
	}
	return most
}

// rendered are images [N C H W] in -1..1 as the page shows them.
func rendered(images []float64, shape graph.Shape) (all []*image.NRGBA) {
	height, width := shape[2], shape[3]
	for size := 3 * height * width; len(images) > 0; images = images[size:] {
		m := image.NewNRGBA(image.Rect(0, 0, width, height))
		for i := range height * width {
			for c := range 3 {
				m.Pix[4*i+c] = byte(math.Round(255 * min(1, max(0, (images[c*height*width+i]+1)/2))))
			}
			m.Pix[4*i+3] = 255
		}
		all = append(all, m)
	}
	return all
}

// expectWhole compares what the page shows of a run on the edge with a native
// one, and with what the edge said.
func (p *page) expectWhole(s *edgeSite, r *recipes.Recipe) {
	p.Helper()
	p.expectNative(r)
	want, _ := native(p.T, r)
	got := s.result(p.T)
	for u := range want.Losses {
		for i, loss := range want.Losses[u] {
			if math.Abs(got.Losses[u][i]-loss) > tolerance*want.Losses[0][i] {
				p.Errorf("the loss of picture %d at update %d is %g, natively %g", i, u, got.Losses[u][i], loss)
			}
		}
	}
	before, after := p.pixels()
	for i, side := range []struct {
		shown []*image.NRGBA
		sent  []string
	}{{before, got.Before.PNG}, {after, got.After.PNG}} {
		var sent []*image.NRGBA
		for _, text := range side.sent {
			data, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				p.Fatal(err)
			}
			sent = append(sent, decoded(p.T, data))
		}
		if n := apart(p.T, side.shown, sent); n != 0 {
			p.Errorf("pictures %d are shown up to %d levels beside what was sent", i, n)
		}
	}
}

// A recipe gives the same on the edge as on the device, and the page shows it so.
func TestSteerOnTheEdge(t *testing.T) {
	r := golden(t, "dark-glasses")
	site := newEdgeSite(t, roomy)
	p := openEdge(t, site, r, "device")
	p.steer()
	p.expectNative(r)
	if text := p.text("counters"); strings.Contains(text, "edge") || site.runs() != 0 {
		t.Errorf("what ran on the device says %q, and the edge had %d runs", text, site.runs())
	}
	firstHere, lastHere := p.pixels()

	p.focus("on my CPU") // SwiftShader's
	p.key(kb.ArrowRight)
	p.waitText("place-says", "Your recipe is sent there, nothing else.")
	if said := p.text("place-says"); !regexp.MustCompile(`^About [\d.]+ m?s\. `).MatchString(said) {
		t.Errorf("the page says of the edge %q", said)
	}
	p.focus("start")
	p.key(kb.Enter)
	p.waitText("counters", "in all, on the edge")
	p.expectWhole(site, r)
	firstThere, lastThere := p.pixels()
	if n := max(apart(t, firstHere, firstThere), apart(t, lastHere, lastThere)); n > 1 {
		t.Errorf("pictures of the edge are up to %d levels beside those of the device", n)
	}
	if n := site.runs(); n != 1 {
		t.Errorf("the run took %d requests", n)
	}
	p.screenshots("steer-edge")
	p.panel("share")
	if name, film := p.download(func() { p.click("save-gif") }); name != "dark-glasses.gif" || len(film) == 0 {
		t.Errorf("the film %s has %d bytes", name, len(film))
	}

	p.reload()
	p.ready()
	p.waitFor("return document.querySelector('[data-testid=place-edge] input').checked") // remembered
	p.panel("goal")
	p.set("pictures", "40")
	p.waitText("place-says", "Not on the edge: the run needs about")
	if evaluate[bool](p, "return document.querySelector('[data-testid=place-edge] input').checked") {
		t.Error("what the edge has no room for is still to run there")
	}
	p.click("Make it fit")
	p.waitText("place-says", "nothing else")
	if got := p.value("pictures"); got != "4" || p.value("updates") != "3" || p.visible("place-fit") {
		t.Errorf("of what fits there are %s pictures and %s updates, and it can be made to fit: %v", got, p.value("updates"), p.visible("place-fit"))
	}
}

// A run that takes several requests is one run to a person, and an accident
// costs no more than the request it happens in.
func TestSlicesOfTheEdge(t *testing.T) {
	r := golden(t, "dark-glasses", "updates=5")
	site := newEdgeSite(t, slicing(t, r, 2))
	p := openEdge(t, site, r, "edge")
	p.waitText("place-says", "in 3 slices")
	p.steer()
	if n := site.runs(); n != 3 {
		t.Errorf("the run took %d requests, want 3", n)
	}
	p.expectWhole(site, r)

	// In the second slice, which begins after update 2, and when it is made again.
	site.spoil(nil, breakOff(`"update":4,`), breakOff(`"update":3,`))
	p.expect("ERR_INCOMPLETE_CHUNKED_ENCODING")
	p.begin()
	p.waitText("trouble", "The connection to the edge broke off.")
	p.click("Go on from update 2")
	p.waitGone("trouble")
	p.waitText("trouble", "The connection to the edge broke off.")
	var told []string // what had come after update 2 is no longer part of the run
	for _, row := range p.table("loss-chart") {
		told = append(told, row[0])
	}
	if got := strings.Join(told, " "); got != "0 1 2" {
		t.Errorf("the chart has updates %s, want 0 1 2", got)
	}
	p.click("Go on from update 2")
	p.waitText("counters", "updates, resumed at 2")
	p.waitText("counters", "in all, on the edge")
	if p.visible("trouble") {
		t.Errorf("after it went on the page says %q", p.text("trouble"))
	}
	p.expectWhole(site, r)
	if n := site.runs(); n != 3+5 {
		t.Errorf("both runs took %d requests, want 8", n)
	}
}

// What goes wrong at the beginning is said, and can be tried again; a run that
// is ended leaves what it has found, and nothing behind it.
func TestTroubleOnTheEdge(t *testing.T) {
	r := golden(t, "match-sketch", "updates=400", "optimizer.lr=3") // so fast that the latest pictures are not the best
	site := newEdgeSite(t, roomy)
	p := openEdge(t, site, r, "edge")
	site.spoil(failAt(`"update":1,`, "a wheel came off"), outOfOrder)
	p.expect("503")
	p.begin()
	p.waitText("trouble", "A wheel came off.")
	p.waitText("again", "Try again")
	p.click("again")
	p.waitText("trouble", "The edge is out of order (status 503)")
	p.click("again")
	p.waitUpdate(12)
	if p.visible("pause") {
		t.Error("a run on the edge offers to pause")
	}
	if n := site.live(t); n != 1 {
		t.Errorf("the edge has %d runs, want 1", n)
	}
	p.click("cancel")
	p.waitGone("job-bar")
	p.until("the run to end on the edge", func() (bool, string) {
		n := site.live(t)
		return n == 0, strconv.Itoa(n) + " runs"
	})
	p.waitText("counters", "updates, then ended by you")
	before, after := p.pixels()
	if apart(t, before, after) == 0 {
		t.Error("a run that was ended shows what it began with")
	}
	if p.visible("continue") {
		t.Error("the page offers to go on from a checkpoint that there is not")
	}
	made := regexp.MustCompile(`^(\d+) of 400`).FindStringSubmatch(p.text("counters"))
	if made == nil {
		t.Fatalf("the counters are %q", p.text("counters"))
	}
	r.Updates, _ = strconv.Atoi(made[1]) // digits always are a number
	want, session := native(t, r)        // so many updates and no more
	if n := apart(t, after, rendered(want.Samples, session.Shape)); n > 1 {
		t.Errorf("the pictures of an ended run are up to %d levels beside the best of so many updates", n)
	}
}

// A page whose server is no edge asks for none.
func TestWithoutAnEdge(t *testing.T) {
	var mu sync.Mutex
	asked := []string{}
	site := demo.Handler(built(t))
	p := openPage(t, options{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			mu.Lock()
			asked = append(asked, r.URL.Path)
			mu.Unlock()
		}
		site.ServeHTTP(w, r)
	})})
	p.ready()
	p.wait("plan")
	mu.Lock()
	defer mu.Unlock()
	if len(asked) > 0 || p.visible("place-edge") {
		t.Errorf("the page asks for %v and shows a choice: %v", asked, p.visible("place-edge"))
	}
}

// On a narrow phone the choice fits; where only the CPU computes, the page says
// that the edge takes less, if it does.
func TestEdgeOnAPhone(t *testing.T) {
	site := newEdgeSite(t, edge.Budget{Seconds: 30, Rate: 1e12, Bytes: 64 << 20}) // faster than any phone
	p := openPage(t, options{handler: site, phone: true, noAdapter: true})
	p.do(chromedp.EmulateViewport(360, 740, chromedp.EmulateScale(2), chromedp.EmulateMobile, chromedp.EmulateTouch))
	p.waitText("place-says", "; the edge takes about")
	p.click("place-edge")
	p.waitText("place-says", "nothing else")
	if width := evaluate[int](p, "return document.scrollingElement.scrollWidth"); width > 360 {
		t.Errorf("the page is %d pixels wide", width)
	}
	p.screenshot("steer-edge-narrow")
}
