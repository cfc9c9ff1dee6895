package demo_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/engine/enginetest"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// tolerance is how far losses may differ between places, as a share of the first.
const tolerance = enginetest.Tolerance

// golden reads an embedded recipe at a size that SwiftShader runs in seconds.
func golden(t *testing.T, name string, set ...string) *recipes.Recipe {
	t.Helper()
	return enginetest.Golden{Name: name, Set: set}.Recipe(t)
}

// native runs a recipe on the CPU executor. Its adapter lies in a folder, where
// it has one.
func native(t *testing.T, r *recipes.Recipe, adapters ...string) (*sdo.Result, *engine.Session) {
	t.Helper()
	var adapter fs.FS
	if len(adapters) > 0 {
		adapter = os.DirFS(adapters[0])
	}
	return enginetest.Steer(t, r, adapter)
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
	compare := func(t *testing.T, g enginetest.Golden) {
		p := p.under(t)
		r := g.Recipe(t)
		want, _ := native(t, r)
		began := time.Now()
		got := request[steered](p, "steer", map[string]any{"recipe": r})
		worst := enginetest.Apart(got.Losses, want.Losses)
		if worst > tolerance {
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
	for _, g := range enginetest.Goldens {
		t.Run("webgpu/"+g.String(), func(t *testing.T) { compare(t, g) })
	}
	request[any](p, "open", map[string]any{"device": "cpu"})
	t.Run("cpu/dark-glasses", func(t *testing.T) { compare(t, enginetest.Golden{Name: "dark-glasses"}) })
}
