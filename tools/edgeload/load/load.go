// Package load sends an edge worker many runs at once and holds every answer
// against the same run on this machine.
package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/engine/enginetest"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/wasm/edge/edgetest"
)

// Options say what is sent.
type Options struct {
	URL      string          // of the worker
	Requests int             // runs, each with a seed of its own
	Parallel int             // of them at a time
	Recipe   *recipes.Recipe // whose seed is the first one's
	Process  int             // the worker's; 0 looks for a workerd that listens at the address
}

// Report is how it went.
type Report struct {
	Requests int      `json:"requests"`
	Parallel int      `json:"parallel"`
	Right    int      `json:"right"`
	Wrong    int      `json:"wrong"` // losses beyond the tolerance
	Lost     int      `json:"lost"`  // no result came
	Problems []string `json:"problems,omitempty"`
	Apart    float64  `json:"apart"`  // right losses from native ones at most, as a share of the first
	Slices   int      `json:"slices"` // requests that the runs took
	Seconds  float64  `json:"seconds"`
	// Seconds from a run's request to its first event and to its result.
	FirstEvent Quantiles `json:"first_event_seconds"`
	Result     Quantiles `json:"result_seconds"`
	// Seconds of GET /v1/health at the beginning, which may start the program,
	// and again.
	Health [2]float64 `json:"health_seconds"`
	Before Memory     `json:"before"`
	After  Memory     `json:"after"`
}

// Quantiles are of the runs that gave a result.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	Max float64 `json:"max"`
}

// Memory is in bytes.
type Memory struct {
	Heap     int64 `json:"heap"`               // of Go, in use
	System   int64 `json:"system"`             // of Go, taken
	Resident int64 `json:"resident,omitempty"` // of the runtime; 0 where it is not known
}

// OK reports whether every run gave the right result.
func (r *Report) OK() bool { return r.Right == r.Requests }

// answered is a run as its caller saw it.
type answered struct {
	seed          uint64
	first, result time.Duration
	slices        int
	losses        [][]float64
	err           error
}

// Run sends the runs and checks what comes. Its error is of what keeps it from
// sending or checking any; a run that fails is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	s := &sender{url: strings.TrimSuffix(o.URL, "/"), http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: o.Parallel}}}
	defer s.http.CloseIdleConnections()
	r := &Report{Requests: o.Requests, Parallel: o.Parallel}
	var err error
	for i := range r.Health {
		began := time.Now()
		if r.Before, err = s.memory(ctx, o.Process); err != nil {
			return nil, err
		}
		r.Health[i] = time.Since(began).Seconds()
	}

	runs := make([]answered, o.Requests)
	next := make(chan int)
	var senders sync.WaitGroup
	began := time.Now()
	for range o.Parallel {
		senders.Go(func() {
			for i := range next {
				recipe := o.Recipe.Clone()
				recipe.Seed += uint64(i)
				runs[i] = s.steer(ctx, recipe)
			}
		})
	}
	for i := range runs {
		next <- i
	}
	close(next)
	senders.Wait()
	r.Seconds = time.Since(began).Seconds()
	if r.After, err = s.memory(ctx, o.Process); err != nil {
		return nil, err
	}
	return r, r.check(ctx, o.Recipe, runs)
}

type sender struct {
	url  string
	http *http.Client
}

// memory asks the worker for what it has taken.
func (s *sender) memory(ctx context.Context, process int) (m Memory, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/v1/health", nil)
	if err != nil {
		return m, err
	}
	answer, err := s.http.Do(r)
	if err != nil {
		return m, err
	}
	defer answer.Body.Close()
	var health struct {
		Service string
		Memory  struct {
			Heap   int64 `json:"heap_bytes"`
			System int64 `json:"system_bytes"`
		}
	}
	if err := json.NewDecoder(answer.Body).Decode(&health); err != nil || health.Service != "sdo-edge" {
		return m, fmt.Errorf("%s is no edge worker: %s, %v", s.url, answer.Status, err)
	}
	return Memory{health.Memory.Heap, health.Memory.System, resident(s.url, process)}, nil
}

// steer sends a run and goes on with it until its result.
func (s *sender) steer(ctx context.Context, recipe *recipes.Recipe) (a answered) {
	a.seed = recipe.Seed
	began := time.Now()
	defer func() { a.result = time.Since(began) }()
	for request := map[string]any{"recipe": recipe, "previews": 0}; request != nil && a.err == nil; {
		a.slices++
		request, a.err = s.slice(ctx, request, func(e edgetest.Event) error {
			if a.first == 0 {
				a.first = time.Since(began)
			}
			if e.Name != "result" {
				return nil
			}
			var result edgetest.Result
			err := json.Unmarshal(e.Data, &result)
			a.losses = result.Losses
			return err
		})
	}
	return a
}

// slice sends one request of a run and returns the next; nil where there is none.
func (s *sender) slice(ctx context.Context, request map[string]any, see func(edgetest.Event) error) (map[string]any, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/steer", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	answer, err := s.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body)
		return nil, fmt.Errorf("%s: %s", answer.Status, bytes.TrimSpace(text))
	}
	for e, err := range edgetest.ReadEvents(answer.Body) {
		if err != nil {
			return nil, err
		}
		if err := see(e); err != nil {
			return nil, err
		}
		switch e.Name {
		case "result":
			return nil, nil
		case "error":
			return nil, fmt.Errorf("event error: %s", bytes.TrimSpace(e.Data))
		case "continue":
			var next edgetest.Continue
			err := json.Unmarshal(e.Data, &next)
			return map[string]any{"resume": next.Token, "previews": 0}, err
		}
	}
	return nil, errors.New("the stream ended without a last event")
}

// mostProblems are told.
const mostProblems = 10

// check computes every run anew and counts.
func (r *Report) check(ctx context.Context, recipe *recipes.Recipe, runs []answered) error {
	networks, err := engine.LoadNetworks(recipe, engine.OpenBuiltin)
	if err != nil {
		return err
	}
	problem := func(format string, args ...any) {
		if len(r.Problems) < mostProblems {
			r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
		}
	}
	var firsts, results []float64
	for _, run := range runs {
		r.Slices += run.slices
		if run.err != nil {
			r.Lost++
			problem("seed %d: %v", run.seed, run.err)
			continue
		}
		firsts, results = append(firsts, run.first.Seconds()), append(results, run.result.Seconds())
		its := recipe.Clone()
		its.Seed = run.seed
		want, err := losses(ctx, its, networks)
		if err != nil {
			return err
		}
		apart := enginetest.Apart(run.losses, want)
		if apart > enginetest.Tolerance {
			r.Wrong++
			problem("seed %d: losses are %.2g of the first apart: %v, natively %v", run.seed, apart, run.losses, want)
			continue
		}
		r.Right++
		r.Apart = max(r.Apart, apart)
	}
	r.FirstEvent, r.Result = quantiles(firsts), quantiles(results)
	return nil
}

// losses are a run's on this machine's CPU executor.
func losses(ctx context.Context, r *recipes.Recipe, n *engine.Networks) ([][]float64, error) {
	m, err := n.Model(r)
	if err != nil {
		return nil, err
	}
	p, err := engine.NewPlan(r, m, nil, m.Options())
	if err != nil {
		return nil, err
	}
	exec := cpu.New[float32](cpu.Options{})
	defer exec.Close()
	s, err := engine.NewSession(exec, p)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	result, err := s.Steer(ctx, nil)
	if err != nil {
		return nil, err
	}
	return result.Losses, nil
}

// quantiles are values at which so much of all is not larger.
func quantiles(all []float64) (q Quantiles) {
	if len(all) == 0 {
		return q
	}
	slices.Sort(all)
	at := func(share float64) float64 { return all[int(share*float64(len(all)-1)+0.5)] }
	return Quantiles{at(0.5), at(0.95), at(1)}
}
