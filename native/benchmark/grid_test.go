package benchmark

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/sdo"
)

func store(t *testing.T, path string) *Store {
	t.Helper()
	s, err := OpenStore(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A whole quick bench of the mixture: an ended one continues, a finished one runs
// nothing again, and the page and its charts come out.
func TestQuickGrid(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cells.jsonl")
	g, lab, s := Grid{Models: []string{Mixture}, Quick: true}, &Lab{}, store(t, filepath.Join(dir, "cells.jsonl"))

	ctx, cancel := context.WithCancel(t.Context())
	told := 0
	err := g.Fill(ctx, lab, s, func(made, missing int, _ time.Duration, _ Cell) {
		if told++; told == 5 {
			cancel()
		}
	})
	if ctx.Err() == nil || err == nil || s.Len() != 4 {
		t.Fatalf("ended at the fifth run with %d runs and error %v, want 4 and the context's", s.Len(), err)
	}
	// It was killed while it wrote.
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	file.WriteString(`{"model":"mixture","lo`)
	file.Close()

	s = store(t, path)
	if s.Len() != 4 {
		t.Fatalf("%d runs were kept, want 4", s.Len())
	}
	if err := g.Fill(t.Context(), lab, s, func(int, int, time.Duration, Cell) {}); err != nil {
		t.Fatal(err)
	}
	all := s.Len()
	s = store(t, path)
	if s.Len() != all {
		t.Fatalf("%d runs are read back of %d", s.Len(), all)
	}
	if err := g.Fill(t.Context(), lab, s, func(_, _ int, _ time.Duration, c Cell) { t.Errorf("%+v is run again", c) }); err != nil {
		t.Fatal(err)
	}

	out := filepath.Join(dir, "results")
	names, err := Write(out, g, s, "sdo bench method --quick")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "mixture-latents.png", "mixture-rates.png", "mixture-steps.png", "mixture-parameters.png"} {
		if !slices.Contains(names, name) {
			t.Errorf("no %s among %v", name, names)
		}
	}
	page, err := os.ReadFile(filepath.Join(out, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"(e) Activations kept alive do not grow with the number of steps: holds", "| stale-4 |", "| flowbp-sparse-4 |", "(mixture-steps.png)"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(string(page), "NaN") {
		t.Error("the page says NaN")
	}
}

// What an update costs in calls is known for every method; what a run left must
// agree.
func TestComputeOfAnUpdate(t *testing.T) {
	const n = 10
	for method, want := range map[string]float64{
		"full": 3 * n, "sdo": n + 2, "identity": n, "jump": 3, "last call": n + 2,
		// Ten updates: the first all calls, nine times the first and r others.
		"stale-4, never all": (n + 9*5 + 10*2) / 10.0, "stale-2, never all": (n + 9*3 + 10*2) / 10.0,
	} {
		c := Cell{Mixture, "target", sdo.Latents, method, n, 0.05, 1, 2, 10}
		r, err := (&Lab{}).Run(t.Context(), c)
		if err != nil {
			t.Errorf("%s: %v", method, err)
			continue
		}
		if got := r.at(10).Cost(theory) / 10; got != want {
			t.Errorf("%s: an update costs %v, want %v", method, got, want)
		}
	}
	c := Cell{Mixture, "brightness", sdo.Parameters, "draft-5", n, 0.003, 1, 2, 6}
	r, err := (&Lab{}).Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.at(6).Cost(theory) / 6; got != n+2*5 {
		t.Errorf("draft-5: an update costs %v, want %v", got, n+2*5)
	}
}

// Every loss of every known network is a recipe that a user could write, and
// every method one that it can be planned with.
func TestRecipes(t *testing.T) {
	lab := &Lab{Open: engine.OpenBuiltin}
	for _, model := range Trained() {
		for _, loss := range losses(model) {
			c := Cell{model, loss, sdo.Latents, "sdo", 20, 0.05, 1, 2, 3}
			for vary, settings := range map[sdo.Variable][]Setting{sdo.Latents: latentSettings, sdo.Parameters: parameterSettings} {
				for _, s := range settings {
					c.Vary, c.Method = vary, s.Name
					r, err := recipe(c, s, s.optimizer(c))
					if err != nil {
						t.Fatal(err)
					}
					if s.Name == "sdo" || loss == losses(model)[0] && model == "avatars-16-s" {
						plan, err := lab.plan(c)
						if err != nil {
							t.Fatalf("%s: %v", s.Name, err)
						}
						own, err := s.surrogate(vary, c.Seed)
						if err != nil {
							t.Fatal(err)
						}
						if got, _ := plan.Surrogate(); got != own {
							t.Errorf("%s: the engine makes %+v of it, the mixture is run with %+v", s.Name, got, own)
						}
					}
					if got := r.OptimizerOf(string(vary)).LR; got != c.LR {
						t.Errorf("%s: the learning rate is %v", s.Name, got)
					}
				}
			}
		}
	}
}

func TestATrainedCell(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a network")
	}
	lab := &Lab{Exec: cpu.New[float32](cpu.Options{}), Open: engine.OpenBuiltin}
	defer lab.Exec.Close()
	for _, c := range []Cell{
		{"avatars-16-s", "glasses", sdo.Latents, "stale-2", 5, 0.1, 1, 2, 3},
		{"avatars-16-s", "glasses", sdo.Parameters, "sdo", 5, 0.003, 1, 2, 1},
	} {
		r, err := lab.Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		last := r.at(c.Updates)
		if last.Update != c.Updates || last.Judged == nil || len(last.Losses) < 2 || r.PeakBytes == 0 {
			t.Errorf("%s: %+v", c.Method, r)
		}
	}
}
