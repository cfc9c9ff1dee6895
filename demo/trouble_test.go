package demo_test

import (
	"bytes"
	"io/fs"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sdo-go/sdo/demo"
	"github.com/sdo-go/sdo/recipes"
)

// sketch makes the recipe a long run of quick updates that ends at the last one.
func (p *page) sketch(updates int) *recipes.Recipe {
	p.Helper()
	p.click("library-match-sketch")
	p.size(2, 5, updates)
	return p.waitRecipe("a sketch", func(r *recipes.Recipe) bool { return r.Name == "match-sketch" && r.Updates == updates })
}

var updateOf = regexp.MustCompile(`update (\d+) of`)

// waitUpdate waits until the run has made so many updates, and returns how many
// there are.
func (p *page) waitUpdate(least int) (made int) {
	p.Helper()
	p.until("update "+strconv.Itoa(least), func() (bool, string) {
		said, err := query[string](p, "page.tidy(page.one(name, scope).innerText)", "job-bar")
		if err != nil {
			return false, plain(err)
		}
		if found := updateOf.FindStringSubmatch(said); found != nil {
			made, _ = strconv.Atoi(found[1]) // digits always are a number
		}
		return made >= least, said
	})
	return made
}

// waitCheckpoint waits until so many updates of a steering run are kept.
func (p *page) waitCheckpoint(least int) {
	p.Helper()
	p.waitFor("return (await sdo.call('checkpoints', {})).some((c) => c.name === 'steer' && c.update >= " + strconv.Itoa(least) + ")")
}

// expectNative compares the losses in the chart with those of a native run,
// which nobody interrupted.
func (p *page) expectNative(r *recipes.Recipe, adapters ...string) {
	p.Helper()
	want, _ := native(p.T, r, adapters...)
	p.waitText("counters", strconv.Itoa(want.Updates)+" of "+strconv.Itoa(r.Updates))
	got := p.chart("loss-chart", 1)
	if _, whole := got[want.Updates]; !whole || len(got) < min(want.Updates, 10) {
		p.Errorf("the chart has %v", got)
	}
	for update, loss := range got {
		if native := mean(want.Losses[update]); math.Abs(loss-native) > 0.01*mean(want.Losses[0]) {
			p.Errorf("the loss of update %d is %g, natively %g", update, loss, native)
		}
	}
}

func TestPauseAndCancel(t *testing.T) {
	p := openPage(t, options{patience: 3 * time.Minute})
	p.ready()
	r := p.sketch(24)
	p.begin()
	p.waitUpdate(2)
	p.click("pause")
	p.waitText("job-bar", "Paused")
	p.waitText("counters", "so far, paused")
	// The call under way ends; then nothing moves.
	const calls = "document.querySelector('[data-testid=counters]').innerText"
	p.waitFor("const before = " + calls + "; await new Promise((r) => setTimeout(r, 1000)); return before === " + calls)
	at := p.waitUpdate(2)
	p.click("resume")
	p.waitUpdate(at + 1)
	p.click("cancel")
	p.waitGone("job-bar")
	p.waitText("counters", "updates, then ended by you")
	said := p.text("judged")
	found := regexp.MustCompile(`Mean loss ([\d.]+),? ([\d.]+) before`).FindStringSubmatch(said)
	if found == nil {
		t.Fatalf("the headline is %q", said)
	}
	best, _ := strconv.ParseFloat(found[1], 64)
	first, _ := strconv.ParseFloat(found[2], 64)
	if !(best < first) {
		t.Errorf("a cancelled run keeps a loss of %g, and began with %g", best, first)
	}
	p.panel("share")
	if name, _ := p.download(func() { p.click("save-png") }); name != "match-sketch.png" {
		t.Errorf("what was kept is saved as %s", name)
	}

	p.waitText("continue", "Go on from update")
	p.click("continue")
	p.wait("job-bar")
	p.waitGone("job-bar")
	p.expectNative(r)
	if p.visible("continue") {
		t.Error("a run that has ended offers to go on")
	}
}

// A tab that is closed in the middle of a run loses nothing.
func TestReload(t *testing.T) {
	p := openPage(t, options{patience: 3 * time.Minute})
	p.ready()
	r := p.sketch(24)
	p.begin()
	p.waitCheckpoint(2)
	p.reload()
	p.waitText("unfinished", "of 24 of “Match sketch”")
	p.click("continue")
	p.wait("job-bar")
	p.waitText("counters", "resumed at")
	p.waitGone("job-bar")
	p.expectNative(r)
	if p.visible("unfinished") {
		t.Error("a run that has ended is offered again")
	}

	p.begin()
	p.waitCheckpoint(0)
	p.reload()
	p.wait("unfinished")
	p.click("discard")
	p.waitGone("unfinished")
	p.reload()
	p.ready()
	if p.visible("unfinished") {
		t.Error("what was discarded is offered again")
	}
}

// A device that goes away takes nothing along.
func TestDeviceLost(t *testing.T) {
	p := openPage(t, options{patience: 3 * time.Minute})
	p.ready()
	r := p.sketch(16)
	p.begin()
	p.waitCheckpoint(1)
	evaluate[any](p, "return await sdo.call('lose_device', {})")
	p.waitText("trouble", "The device was lost")
	p.waitText("trouble", "what the run had found is kept")
	p.waitText("halve", "Half the pictures")
	p.click("continue")
	p.wait("job-bar")
	p.waitGone("trouble")
	p.waitGone("job-bar")
	p.panel("run")
	p.expectNative(r)

	evaluate[any](p, "return await sdo.call('lose_device', {})") // at rest
	p.waitText("trouble", "The device was lost")
	if p.visible("continue") {
		t.Error("there is nothing to go on with")
	}
	p.click("halve")
	p.waitGone("trouble")
	p.panel("goal")
	if got := p.value("pictures"); got != "1" {
		t.Errorf("half of 2 pictures are %s", got)
	}
	p.set("updates", "2")
	p.steer()
	p.waitText("counters", "2 of 2")
}

// What does not fit the device is refused before anything is allocated. How much
// a page may use is known of the CPU alone.
func TestTooLarge(t *testing.T) {
	p := openPage(t, options{noAdapter: true, patience: 2 * time.Minute})
	p.ready()
	p.size(256, 1000, 2)
	p.panel("goal")
	p.set("method", "full")
	p.wait("refusal")
	p.waitText("refusal", "the CPU executor of a page has at most 3 GiB")
	if !evaluate[bool](p, "return document.querySelector('[data-testid=start]').disabled") {
		t.Error("a run that does not fit can be started")
	}
	p.click("halve")
	p.until("128 pictures", func() (bool, string) { return p.value("pictures") == "128", p.value("pictures") })
	p.set("method", "sdo")
	p.set("pictures", "1")
	p.set("steps", "3")
	p.waitGone("refusal")
	p.steer()
}

// Without WebGPU the page says what is missing, and steers all the same.
func TestWithoutWebGPU(t *testing.T) {
	for name, c := range map[string]struct {
		o     options
		says  string
		keeps bool
	}{
		"no adapter":        {options{noAdapter: true}, "chrome://flags/#enable-unsafe-webgpu", true},
		"no secure context": {options{insecure: true}, "open this page by https:// or from localhost", false},
	} {
		t.Run(name, func(t *testing.T) {
			o := c.o
			o.patience = 3 * time.Minute
			p := openPage(t, o)
			p.waitText("no-webgpu", "offers no WebGPU, so everything runs on the CPU")
			p.waitText("no-webgpu", c.says)
			p.waitText("device-chip", "CPU, no WebGPU")
			p.ready()
			if got := p.visible("This window keeps nothing"); got == c.keeps {
				t.Errorf("the page says that nothing is kept: %v", got)
			}
			p.panel("goal")
			if got := p.value("pictures"); got != "4" {
				t.Errorf("the recipe begins with %s pictures", got)
			}
			p.size(2, 5, 2)
			r := p.waitRecipe("two updates", func(r *recipes.Recipe) bool { return r.Updates == 2 })
			p.steer()
			p.expectNative(r)
			if c.keeps {
				return
			}
			p.begin()
			p.waitCheckpoint(0)
			p.reload()
			p.wait("This window keeps nothing")
			p.ready()
			if p.visible("You were at update") {
				t.Error("a window that keeps nothing has kept a run")
			}
		})
	}
}

// A core that could not be loaded says so, and can be started again.
func TestCoreStartsAgain(t *testing.T) {
	var failed atomic.Bool
	site := demo.Handler(built(t))
	p := openPage(t, options{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "sdo.wasm") && !failed.Swap(true) {
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		site.ServeHTTP(w, r)
	})})
	p.expect("503")
	p.waitText("core-state", "sdo.wasm could not be loaded: the server said 503")
	p.waitText("device-chip", "stopped")
	p.click("Restart it")
	p.ready()
	p.size(1, 3, 1)
	p.steer()
}

// altered serves a built page with the last byte of a file flipped, which
// nothing that reads the file would notice: in its first answers, or in all of
// them for a negative number. It lets browsers keep them.
func altered(t *testing.T, name string, answers int64) http.Handler {
	t.Helper()
	site := built(t)
	data, err := fs.ReadFile(site, name)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	var given atomic.Int64
	whole := demo.Handler(site)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/"+name) || answers >= 0 && given.Add(1) > answers {
			whole.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(data))
	})
}

const (
	core    = "sdo.wasm"
	glue    = "wasm_exec.js"
	weights = "models/avatars-16-s/diffusion_pytorch_model.fp16.safetensors"
)

// notBuilt is how the page says that a file has other bytes than it was built
// with.
func notBuilt(name string) string {
	return name + " is not used, because it is not the file this page was built with: its SHA-256 is "
}

// What comes in other bytes than the page was built with, from a proxy or a
// bucket, is named in a sentence, and nothing of it runs.
func TestAlteredFiles(t *testing.T) {
	for _, name := range []string{core, glue} {
		t.Run(name, func(t *testing.T) {
			p := openPage(t, options{handler: altered(t, name, -1)})
			p.waitText("core-state", notBuilt(name))
			p.waitText("device-chip", "stopped")
			p.click("Restart it")
			p.waitText("core-state", notBuilt(name))
			if evaluate[bool](p, "return performance.getEntriesByName('core-ready').length > 0") {
				t.Error("the core has run")
			}
		})
	}
	t.Run(weights, func(t *testing.T) {
		p := openPage(t, options{handler: altered(t, weights, -1)})
		p.waitText("trouble", "model avatars-16-s: "+notBuilt(weights))
		if p.visible("start") || evaluate[bool](p, "return performance.getEntriesByName('first-picture').length > 0") {
			t.Error("the page works with it")
		}
	})
	// Without https a page cannot hash, and the browser does not say what it found.
	t.Run("no secure context", func(t *testing.T) {
		p := openPage(t, options{handler: altered(t, weights, -1), insecure: true, noAdapter: true})
		p.expect("integrity|(?i)gpu") // the browser's own complaints
		p.waitText("trouble", weights+" could not be loaded: the network or the server did not answer, or with another file than this page was built with")
		if p.visible("start") || evaluate[bool](p, "return performance.getEntriesByName('first-picture').length > 0") {
			t.Error("the page works with it")
		}
	})
}

// A browser that has kept other bytes for good gets rid of them by itself.
func TestAlteredFilesInTheCache(t *testing.T) {
	for _, name := range []string{core, glue, weights} {
		t.Run(name, func(t *testing.T) {
			p := openPage(t, options{handler: altered(t, name, 1)})
			p.ready()
			p.wait("stage-pictures")
			p.waitFor("return performance.getEntriesByName('first-picture').length > 0")
			if p.visible("trouble") {
				t.Errorf("the page says %q", p.text("trouble"))
			}
		})
	}
}
