// Package enginetest holds the runs that every place the core runs at is
// compared by, and what they give natively.
package enginetest

import (
	"context"
	"io/fs"
	"math"
	"path"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// Tolerance is how far losses may differ between places, as a share of the first.
const Tolerance = 1e-4

// Golden is an embedded recipe with 2 pictures, 5 steps and 3 updates, and with
// what is set on top, each as key=value.
type Golden struct {
	Name string
	Set  []string
}

// Goldens have every kind of term, guidance, a start from a picture, every way of
// keeping calls and both models.
var Goldens = []Golden{
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

func (g Golden) String() string { return strings.Join(append([]string{g.Name}, g.Set...), " ") }

// Recipe reads the recipe.
func (g Golden) Recipe(t testing.TB) *recipes.Recipe {
	t.Helper()
	var overrides []recipes.Override
	for _, s := range append([]string{"num_images=2", "sampler.num_inference_steps=5", "updates=3", "guards.early_stop=false"}, g.Set...) {
		path, value, _ := strings.Cut(s, "=")
		if path == "method.name" { // the words that the recipe gives its own method go
			path, value = "method", "{name: "+value+"}"
		}
		overrides = append(overrides, recipes.Override{Path: path, Value: value, From: s})
	}
	r, err := recipes.Find(g.Name, nil, overrides...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Steer runs a recipe on this machine's CPU executor. Its adapter is in a folder,
// where it has one.
func Steer(t testing.TB, r *recipes.Recipe, adapter fs.FS) (*sdo.Result, *engine.Session) {
	t.Helper()
	return Run(t, r, func(name string) (fs.FS, error) {
		if adapter != nil && name == path.Dir(r.LoRA.Path) {
			return adapter, nil
		}
		return engine.OpenBuiltin(name)
	})
}

// Run is Steer of folders that open finds.
func Run(t testing.TB, r *recipes.Recipe, open engine.Open) (*sdo.Result, *engine.Session) {
	t.Helper()
	m, err := engine.LoadModel(r, open)
	if err != nil {
		t.Fatal(err)
	}
	p, err := engine.NewPlan(r, m, nil, m.Options())
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

// Apart is how far losses are from others, as a share of the first of each
// picture. Losses of another shape, or that are no numbers, are infinitely far.
func Apart(got, want [][]float64) (worst float64) {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	for u := range want {
		if len(got[u]) != len(want[u]) {
			return math.Inf(1)
		}
		for row, loss := range want[u] {
			if got[u][row] == loss { // a first loss of 0 is a share of nothing
				continue
			}
			off := math.Abs(got[u][row]-loss) / math.Abs(want[0][row])
			if math.IsNaN(off) {
				return math.Inf(1)
			}
			worst = max(worst, off)
		}
	}
	return worst
}
