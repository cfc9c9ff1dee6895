package demo_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// tolerance is how far losses may differ between places, as a share of the first.
const tolerance = 1e-4

// goldens are embedded recipes at a size that SwiftShader runs in seconds: every
// kind of term, guidance, a start from a picture, every way of keeping calls.
var goldens = []struct {
	recipe string
	set    []string
}{
	{"dark-glasses", nil},
	{"dark-glasses", []string{"method.name=full"}},
	{"dark-glasses", []string{"method.name=stale-2", "method.freeze=v"}},
	{"happy-mood", nil},
	{"match-sketch", []string{"sampler.name=dpmpp-2m"}},
	{"red-shirt-blue-background", []string{"variables=[latents, noises]", "sampler.eta=0.5"}},
	{"restore-half", []string{"method.name=identity", "method.freeze=v"}},
	{"same-person-in-glasses", nil},
	{"ankle-boots", []string{"num_images=1", "sampler.num_inference_steps=3"}},
}

// golden reads an embedded recipe with 2 pictures, 5 steps and 3 updates, and
// what is set on top.
func golden(t *testing.T, name string, set ...string) *recipes.Recipe {
	t.Helper()
	overrides := []recipes.Override{}
	for _, s := range append([]string{"num_images=2", "sampler.num_inference_steps=5", "updates=3", "guards.early_stop=false"}, set...) {
		path, value, _ := strings.Cut(s, "=")
		if path == "method.name" { // the words that the recipe gives its own method go
			path, value = "method", "{name: "+value+"}"
		}
		overrides = append(overrides, recipes.Override{Path: path, Value: value, From: s})
	}
	r, err := recipes.Find(name, nil, overrides...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// native runs a recipe on the CPU executor. Its adapter lies in a folder, where
// it has one.
func native(t *testing.T, r *recipes.Recipe, adapters ...string) (*sdo.Result, *engine.Session) {
	t.Helper()
	m, err := engine.LoadModel(r, func(name string) (fs.FS, error) {
		if name == "." && len(adapters) > 0 {
			return os.DirFS(adapters[0]), nil
		}
		return engine.OpenBuiltin(name)
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := engine.NewPlan(r, m, nil, m.Storage())
	if err != nil {
		t.Fatal(err)
	}
	exec := cpu.New[float32](cpu.Options{})
	t.Cleanup(func() { exec.Close() })
	s, err := engine.NewSession(exec, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	result, err := s.Steer(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return result, s
}

// steered is what a test reads of a run in the page.
type steered struct {
	Losses      [][]float64  `json:"losses"`
	JudgeBefore []bool       `json:"judge_before"`
	JudgeAfter  []bool       `json:"judge_after"`
	RowUpdates  []int        `json:"row_updates"`
	Counters    sdo.Counters `json:"counters"`
	Seconds     float64      `json:"seconds"`
	Planned     int64        `json:"planned_bytes"`
	Peak        int64        `json:"peak_bytes"`
}

// request makes a request of the core in the page, on the device that it has
// open, once a job of the page itself is over.
func request[T any](p *page, method string, params any) T {
	p.Helper()
	text, err := json.Marshal(params)
	if err != nil {
		p.Fatal(err)
	}
	return evaluate[T](p, fmt.Sprintf(`
		for (;;) {
			try {
				return await sdo.call(%q, %s)
			} catch (error) {
				if (!error.message.includes('another run is going on')) throw error
				await new Promise((r) => setTimeout(r, 100))
			}
		}`, method, text))
}

// ready waits until the page's core and device are there and its own first look
// is over.
func (p *page) ready() {
	p.Helper()
	p.waitFor("return performance.getEntriesByName('first-picture').length > 0")
	p.waitText("device-chip", p.adapter())
}

// under is the page in a subtest.
func (p *page) under(t *testing.T) *page {
	narrow := *p
	narrow.T = t
	return &narrow
}

// One recipe gives the same losses natively and in the browser, on WebGPU and on
// its CPU executor.
func TestLossesAreNative(t *testing.T) {
	p := openPage(t, options{patience: 5 * time.Minute})
	p.ready()
	compare := func(t *testing.T, name string, set ...string) {
		p := p.under(t)
		r := golden(t, name, set...)
		want, _ := native(t, r)
		began := time.Now()
		got := request[steered](p, "steer", map[string]any{"recipe": r})
		if len(got.Losses) != len(want.Losses) {
			t.Fatalf("%d losses, want %d", len(got.Losses), len(want.Losses))
		}
		worst := 0.0
		for u := range want.Losses {
			for row, loss := range want.Losses[u] {
				worst = math.Max(worst, math.Abs(got.Losses[u][row]-loss)/math.Abs(want.Losses[0][row]))
			}
		}
		if !(worst <= tolerance) {
			t.Errorf("losses differ by %.2g of the first, allowed are %g: %v, natively %v", worst, tolerance, got.Losses, want.Losses)
		}
		if got.Counters != want.Counters {
			t.Errorf("calls %+v, natively %+v", got.Counters, want.Counters)
		}
		if got.Peak != got.Planned || got.Peak == 0 {
			t.Errorf("%d bytes of activations, planned %d", got.Peak, got.Planned)
		}
		t.Logf("worst %.1e, %d network calls in %v", worst, got.Counters.NetworkCalls, time.Since(began).Round(100*time.Millisecond))
	}
	for _, g := range goldens {
		t.Run("webgpu/"+strings.Join(append([]string{g.recipe}, g.set...), " "), func(t *testing.T) { compare(t, g.recipe, g.set...) })
	}
	request[any](p, "open", map[string]any{"device": "cpu"})
	t.Run("cpu/dark-glasses", func(t *testing.T) { compare(t, "dark-glasses") })
}
