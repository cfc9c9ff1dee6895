//go:build !js

package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/sdo-go/sdo/demo/sitetest"
	"github.com/sdo-go/sdo/engine/enginetest"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/wasm/edge/edgetest"
)

// What every server of the interface must do, and every server of the page.
func TestTheInterface(t *testing.T) {
	w := common(t)
	for name, test := range map[string]func(*testing.T, string){"runs": edgetest.Runs, "loras": edgetest.LoRAs, "links": edgetest.Links} {
		t.Run(name, func(t *testing.T) { test(t, w.url) })
	}
}

func TestThePage(t *testing.T) { sitetest.Run(t, common(t).url) }

func TestSlices(t *testing.T) {
	edgetest.Slices(t, start(t, options{vars: map[string]any{"CPU_SECONDS": edgetest.SliceSeconds}}).url)
}

// What a deployment has is what it says it has.
func TestHealth(t *testing.T) {
	h := common(t).health(t)
	if h.Service != "sdo-edge" || h.Platform != "js/wasm" || h.Version == "" || !h.Slices || !h.LoRAs || !h.Uploads || !h.Links {
		t.Errorf("health is %+v", h)
	}
	// Variables that are written as text count as well, and a secret may be missing.
	h = start(t, options{vars: map[string]any{"MEMORY_MIB": "7", "CPU_SECONDS": "many", "SDO_SECRET": "", "SDO_KEY": ""}}).health(t)
	if want := `{"cpu_seconds":20,"multiply_adds_per_second":500000000,"bytes":7340032}`; string(h.Budget) != want || h.Slices || h.Uploads || !h.LoRAs {
		t.Errorf("the budget is %s, want %s; health is %+v", h.Budget, want, h)
	}
}

// One recipe gives the same losses natively and at the edge.
func TestLossesAreNative(t *testing.T) {
	c := edgetest.NewClient(t, common(t).url)
	for _, g := range enginetest.Goldens {
		t.Run(g.String(), func(t *testing.T) {
			r := g.Recipe(t)
			want, _ := enginetest.Steer(t, r, nil)
			began := time.Now()
			got, _, plans := c.Steer(t, map[string]any{"recipe": r})
			worst := enginetest.Apart(got.Losses, want.Losses)
			if worst > enginetest.Tolerance {
				t.Errorf("losses differ by %.2g of the first, allowed are %g: %v, natively %v", worst, enginetest.Tolerance, got.Losses, want.Losses)
			}
			if len(plans) == 1 && got.Counters != want.Counters {
				t.Errorf("calls %+v, natively %+v", got.Counters, want.Counters)
			}
			t.Logf("worst %.1e, %d network calls in %d requests and %v", worst, got.Counters.NetworkCalls, len(plans), time.Since(began).Round(100*time.Millisecond))
		})
	}
}

// Runs beside each other share a thread and a memory, and nothing else.
func TestRunsBesideEachOther(t *testing.T) {
	w := common(t)
	c := edgetest.NewClient(t, w.url)
	const beside = 8
	recipe := func(i int) *recipes.Recipe {
		name := []string{"dark-glasses", "happy-mood", "ankle-boots"}[i%3]
		return enginetest.Golden{Name: name, Set: []string{"num_images=1", "sampler.num_inference_steps=3", "updates=2", fmt.Sprintf("seed=%d", i)}}.Recipe(t)
	}
	var streams [beside][]edgetest.Event
	var faults [beside]error
	var all sync.WaitGroup
	for i := range beside {
		body, err := json.Marshal(map[string]any{"recipe": recipe(i)})
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() { streams[i], faults[i] = c.Events(t.Context(), "/v1/steer", body, "application/json") })
	}
	all.Wait()
	for i, events := range streams {
		if faults[i] != nil || len(events) == 0 || events[len(events)-1].Name != "result" {
			t.Errorf("run %d ends after %d events: %v", i, len(events), faults[i])
			continue
		}
		var got edgetest.Result
		if err := json.Unmarshal(events[len(events)-1].Data, &got); err != nil {
			t.Fatal(err)
		}
		want, _ := enginetest.Steer(t, recipe(i), nil)
		edgetest.Near(t, got, want)
	}
	w.idle(t, 0)
}

func TestCallersAreLimited(t *testing.T) {
	w := start(t, options{rate: 3})
	c := edgetest.NewClient(t, w.url)
	for i := range 3 {
		if a := c.Do(t, http.MethodPost, "/v1/recipes", nil); a.Status != http.StatusBadRequest {
			t.Errorf("request %d: %d %s", i, a.Status, a.Body)
		}
	}
	c.Do(t, http.MethodPost, "/v1/recipes", nil).Refused(t, http.StatusTooManyRequests, "too_many_requests", "your address")
	if a := c.Do(t, http.MethodGet, "/v1/models", nil); a.Status != http.StatusOK {
		t.Errorf("what costs nothing: %d %s", a.Status, a.Body)
	}
}
