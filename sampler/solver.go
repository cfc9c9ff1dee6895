package sampler

import (
	"fmt"
	"slices"
	"strings"
)

// Solver names a rule that fills a Table. Its constant stands in the file of
// the rule.
type Solver string

// Solvers lists every solver, sorted by name. A new one is a file that fills a
// table and registers itself; the lists and the refusals follow.
var Solvers []Solver

// rule is a solver as its file registers it.
type rule struct {
	// fill makes the table of n steps. eta is 0 unless the rule takes one.
	fill        func(config Config, n int, eta float64) (*Table, error)
	predictions []Prediction // of the networks that it can ask
	eta         bool         // has a share of fresh noise to choose
	karras      bool         // can walk Karras' noise levels
}

var rules = map[Solver]rule{}

func register(s Solver, r rule) {
	rules[s] = r
	Solvers = append(Solvers, s)
	slices.Sort(Solvers)
}

// withoutEta is the fill of a solver that has no share of noise to choose.
func withoutEta(fill func(Config, int) (*Table, error)) func(Config, int, float64) (*Table, error) {
	return func(config Config, n int, _ float64) (*Table, error) { return fill(config, n) }
}

// TakesEta reports whether the solver has a share of fresh noise to choose.
func (s Solver) TakesEta() bool { return rules[s].eta }

// TakesKarras reports whether the solver can walk Karras' noise levels.
func (s Solver) TakesKarras() bool { return rules[s].karras }

// Takes reports whether the solver can ask a network of this prediction type.
func (s Solver) Takes(p Prediction) bool { return slices.Contains(rules[s].predictions, p) }

// Table fills the solver's table for n steps. eta is the share of fresh noise
// of a solver that takes one, 0 for every other.
func (s Solver) Table(config Config, n int, eta float64) (*Table, error) {
	r, known := rules[s]
	switch {
	case !known:
		return nil, fmt.Errorf("sampler: solver is %q, want one of %v", s, Solvers)
	case eta != 0 && !r.eta:
		return nil, fmt.Errorf("sampler: %s takes no eta, got %v; leave it at 0 or use %s", s, eta, solversThat(Solver.TakesEta))
	case config.UseKarrasSigmas && !r.karras:
		return nil, fmt.Errorf("sampler: %s takes no Karras sigmas; turn use_karras_sigmas off or use %s", s, solversThat(Solver.TakesKarras))
	}
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if p := config.PredictionType; !s.Takes(p) {
		return nil, fmt.Errorf("sampler: %s asks networks that predict %s, this one predicts %s; use %s", s,
			either(r.predictions), p, solversThat(func(s Solver) bool { return s.Takes(p) }))
	}
	return r.fill(config, n, eta)
}

// solversThat names the solvers with a property, for a sentence.
func solversThat(have func(Solver) bool) string {
	return either(slices.DeleteFunc(slices.Clone(Solvers), func(s Solver) bool { return !have(s) }))
}

// either writes words as "a, b or c".
func either[W ~string](words []W) string {
	var sentence strings.Builder
	for i, word := range words {
		switch {
		case i > 0 && i == len(words)-1:
			sentence.WriteString(" or ")
		case i > 0:
			sentence.WriteString(", ")
		}
		sentence.WriteString(string(word))
	}
	return sentence.String()
}
