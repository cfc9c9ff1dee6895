package benchmark

import (
	"fmt"
	"strconv"

	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
)

// Setting is a method under the name the results call it by, in a recipe's
// words.
type Setting struct {
	Name   string
	Method recipes.Method
	Betas  [2]float64 // of Adam; zero for the variable's usual ones
}

// staleSetting makes r calls again at every update and all each so many.
func staleSetting(name string, calls, every int, carry bool) Setting {
	return Setting{Name: name, Method: recipes.Method{Name: fmt.Sprintf("stale-%d", calls),
		Refresh: &recipes.Refresh{Calls: calls, Every: every, Carry: carry}}}
}

func named(name string) Setting { return Setting{Name: name, Method: recipes.Method{Name: name}} }

func share(x float64) *float64 { return &x }

// latentSettings are the ways to steer a latent, the reference first.
var latentSettings = []Setting{
	named("full"),
	named("sdo"),
	{Name: "sdo, v", Method: recipes.Method{Name: "sdo", Freeze: "v"}},
	named("identity"),
	named("jump"),
	{Name: "last call", Method: recipes.Method{Name: "sdo", Freeze: "solver", Active: "last", Bridge: share(1)}},
	named("stale-2"),
	named("stale-4"),
	staleSetting("stale-4, not carried", 4, 10, false),
	staleSetting("stale-2, never all", 2, 0, true),
	staleSetting("stale-4, never all", 4, 0, true),
	staleSetting("stale-4, all each 25", 4, 25, true),
}

// parameterSettings are the ways to tune parameters, the reference first.
var parameterSettings = []Setting{
	named("full"),
	named("sdo"),
	{Name: "sdo, uniform", Method: recipes.Method{Name: "sdo", Active: "uniform"}},
	{Name: "sdo, first", Method: recipes.Method{Name: "sdo", Active: "first"}},
	named("draft-1"),
	named("draft-5"),
	named("draft-lv"),
	named("drtune-5"),
	named("refl"),
	named("alignprop"),
	named("leapalign"),
	named("flowbp-sparse-4"),
}

// setting finds a method by the name the results call it by.
func setting(vary sdo.Variable, name string) (Setting, error) {
	settings := latentSettings
	if vary == sdo.Parameters {
		settings = parameterSettings
	}
	for _, s := range settings {
		if s.Name == name {
			return s, nil
		}
	}
	return Setting{}, fmt.Errorf("benchmark: no method %q of %s", name, vary)
}

// optimizer is how a cell moves its variable.
func (s Setting) optimizer(c Cell) sdo.Optimizer {
	o := sdo.DefaultOptimizer()
	o.LR = c.LR
	if c.Vary == sdo.Parameters {
		o.Beta2 = 0.999
	}
	if s.Betas != [2]float64{} {
		o.Beta1, o.Beta2 = s.Betas[0], s.Betas[1]
	}
	return o
}

// surrogate is what package engine makes of the same words.
func (s Setting) surrogate(vary sdo.Variable, seed uint64) (sdo.Surrogate, error) {
	g, err := sdo.Method(s.Method.Name).Surrogate(vary)
	if err != nil {
		return g, err
	}
	if s.Method.Freeze != "" {
		g.Freeze = sampler.Freeze(s.Method.Freeze)
	}
	if calls, err := strconv.Atoi(s.Method.Active); err == nil {
		g.Active, g.Calls = sdo.ActiveUniform, calls
	} else if s.Method.Active != "" {
		g.Active, g.Calls = sdo.Active(s.Method.Active), 1
	}
	if s.Method.Bridge != nil {
		g.Bridge = *s.Method.Bridge
	}
	if f := s.Method.Refresh; f != nil {
		g.Refresh = sdo.Refresh{Calls: f.Calls, Every: f.Every, Tolerance: f.Tolerance, Carry: f.Carry, Batched: f.Batched}
	}
	g.Seed = seed
	return g, nil
}
