package demo_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// oddsAndEnds is a page of one of everything, to test the tests' own hands.
func oddsAndEnds(t *testing.T, o options) *page {
	t.Helper()
	o.handler = http.FileServer(http.Dir("testdata"))
	o.at = "odds.html"
	p := openPage(t, o)
	p.waitText("said", "worker")
	return p
}

func TestHands(t *testing.T) {
	for name, o := range map[string]options{"desktop": {}, "phone": {phone: true, dark: true}} {
		t.Run(name, func(t *testing.T) {
			p := oddsAndEnds(t, o)
			did := func(want string) {
				t.Helper()
				p.waitText("said", want)
			}
			p.click("go")
			did("go")
			p.click("Cancel")
			did("cancel")
			p.click("Late")
			did("late")
			p.within("row-2").click("Remove")
			did("second")
			p.set("Seed", "7")
			did("seed=7")
			if got := p.value("Seed"); got != "7" {
				t.Errorf("the field holds %q", got)
			}
			p.set("Method", "Full")
			did("full")
			p.click("Film")
			did("true")
			p.draw("canvas", point{0.2, 0.2}, point{0.6, 0.2}, point{0.6, 0.9})
			did("drew 2,2 6,2 6,9")
			path := filepath.Join(t.TempDir(), "model.bin")
			if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
			p.upload("files", path)
			did("model.bin")
			if p.visible("Never") || !p.visible("go") || p.count("Remove") != 2 {
				t.Errorf("Never is visible: %v, go: %v, Remove %d times", p.visible("Never"), p.visible("go"), p.count("Remove"))
			}
			if got := evaluateInWorker[int](p, "return self.kept + 1"); got != 42 {
				t.Errorf("the worker says %d", got)
			}
			colour := evaluate[string](p, "return getComputedStyle(document.body).backgroundColor")
			width := evaluate[int](p, "return innerWidth")
			if o.dark != (colour == "rgb(0, 0, 0)") || o.phone != (width == 390) {
				t.Errorf("background %s at a width of %d", colour, width)
			}
		})
	}
}

// A test that cannot see what went wrong would pass for the wrong reason.
func TestNothingGoesWrongUnseen(t *testing.T) {
	p := oddsAndEnds(t, options{})
	p.expect(".") // all of it is on purpose
	evaluate[any](p, `
		console.error('told', { by: 'page' }, 7)
		setTimeout(() => { throw new Error('thrown by the page') })
		Promise.reject(new Error('rejected by the page'))
		fetch('missing-from-page.bin')
		fetch('http://127.0.0.1:9/').catch(() => {})
		for (const word of ['tell', 'throw', 'fetch']) worker.postMessage(word)
		return null`)
	for _, want := range []string{
		"page: console.error: told Object 7",
		"thrown by the page",
		"rejected by the page",
		"status 404 for /missing-from-page.bin",
		"page: a request failed: net::ERR_",
		"worker: console.error: told Object 7",
		"thrown by the worker",
		"status 404 for /missing-from-worker.bin",
	} {
		p.until(want, func() (bool, string) {
			p.heard.mu.Lock()
			defer p.heard.mu.Unlock()
			has := func(line string) bool { return strings.Contains(line, want) }
			return slices.ContainsFunc(p.heard.problems, has), "heard " + strings.Join(p.heard.problems, " | ")
		})
	}
}

func TestLongTasksAreMeasured(t *testing.T) {
	p := oddsAndEnds(t, options{})
	evaluate[any](p, "await new Promise((r) => setTimeout(() => { for (const t = performance.now(); performance.now() - t < 200;); r() })); return null")
	if got := p.longestTask(); got < 200*time.Millisecond || got > 10*time.Second {
		t.Errorf("a task of 200 ms is measured as %v", got)
	}
	p.forgetTasks()
	if got := p.longestTask(); got >= 200*time.Millisecond {
		t.Errorf("forgotten, the longest task is %v", got)
	}
}

// What people without WebGPU have, to show them a page that still works.
func TestBrowsersWithoutWebGPU(t *testing.T) {
	for name, c := range map[string]struct {
		o    options
		want string
	}{
		"an adapter":        {options{}, "object adapter"},
		"no adapter":        {options{noAdapter: true}, "object none"},
		"no secure context": {options{insecure: true}, "undefined none"},
	} {
		t.Run(name, func(t *testing.T) {
			p := oddsAndEnds(t, c.o)
			const ask = "const a = await navigator.gpu?.requestAdapter(); return typeof navigator.gpu + (a ? ' adapter' : ' none')"
			p.expect("(?i)gpu") // the browser's own complaint
			if got := evaluate[string](p, ask); got != c.want {
				t.Errorf("the page has %q, want %q", got, c.want)
			}
			if got := evaluateInWorker[string](p, ask); got != c.want {
				t.Errorf("the worker has %q, want %q", got, c.want)
			}
		})
	}
}
