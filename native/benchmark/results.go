package benchmark

import (
	"fmt"
	"math"
	"slices"

	"github.com/sdo-go/sdo/sdo"
)

// theory is the cost of a backward call in forward ones that compute is counted
// by: one pass for the state and one for whatever else is asked for.
const theory = 2.0

// results reads a store for one grid.
type results struct {
	Grid
	store *Store
}

// scoring are the seeds a method is measured on: not the one that found its
// learning rate, where that was not found on all.
func (r *results) scoring(model string) []uint64 {
	seeds := r.scale(model).seeds
	if model == Mixture || len(seeds) == 1 {
		return seeds
	}
	return seeds[1:]
}

// contest is the runs of all methods for one loss at one number of steps.
type contest struct {
	model, loss string
	vary        sdo.Variable
	steps       int
	updates     int // methods are compared after
	ratio       float64
	entries     []*entry // that have been run, the reference first
}

// entry is a method in a contest, at its best learning rate and at the default
// one.
type entry struct {
	method string
	lr     float64
	edge   bool      // the best rate is the first or last that was tried
	runs   []*Record // at lr, by scoring seed
	usual  []*Record // at the default rate
	found  []*Record // by rate, of the seed that finds it, where that is one
}

// contest collects what is made. It is nil without a reference.
func (r *results) contest(model, loss string, vary sdo.Variable, steps int) *contest {
	c := &contest{model: model, loss: loss, vary: vary, steps: steps, updates: r.equalUpdates(model, vary), ratio: r.store.ratio(model)}
	at, settings, usual := r.scale(model), latentSettings, defaultLR
	rates := at.rates
	if vary == sdo.Parameters {
		settings, usual, rates = parameterSettings, defaultTuneLR, at.tuneRates
	}
	for _, s := range settings {
		lr, ok := r.bestLR(r.store, model, loss, vary, s.Name, at)
		if !ok {
			continue
		}
		e := &entry{method: s.Name, lr: lr, edge: lr == rates[0] || lr == rates[len(rates)-1]}
		for _, seed := range r.scoring(model) {
			if run := r.store.cells[r.cell(model, loss, vary, s.Name, steps, lr, seed)]; run != nil {
				e.runs = append(e.runs, run)
			}
			if run := r.store.cells[r.cell(model, loss, vary, s.Name, steps, usual, seed)]; run != nil {
				e.usual = append(e.usual, run)
			}
		}
		for _, lr := range rates {
			if run := r.store.cells[r.cell(model, loss, vary, s.Name, steps, lr, at.seeds[0])]; run != nil {
				e.found = append(e.found, run)
			}
		}
		if len(e.runs) > 0 {
			c.entries = append(c.entries, e)
		}
	}
	if len(c.entries) == 0 || c.entries[0].method != "full" {
		return nil
	}
	return c
}

// ratio is the measured cost of a backward call of a model in forward ones.
func (s *Store) ratio(model string) float64 {
	if r := s.rates[model]; r != nil {
		return r.Ratio()
	}
	return theory
}

func (c *contest) full() *entry { return c.entries[0] }

func (c *contest) of(method string) *entry {
	for _, e := range c.entries {
		if e.method == method {
			return e
		}
	}
	return nil
}

// both pairs the runs of two methods by seed.
func both(a, b []*Record) (as, bs []*Record) {
	for _, x := range a {
		for _, y := range b {
			if x.Seed == y.Seed {
				as, bs = append(as, x), append(bs, y)
			}
		}
	}
	return as, bs
}

// compare pairs the rows of two methods after so many updates.
func compare(a, b []*Record, updates int) paired {
	var first, second, start []float64
	as, bs := both(a, b)
	for i := range as {
		first = append(first, as[i].final(updates)...)
		second = append(second, bs[i].final(updates)...)
		start = append(start, bs[i].start()...)
	}
	return pair(first, second, start)
}

// finals are the rows of all runs after so many updates.
func finals(runs []*Record, updates int) (all []float64) {
	for _, r := range runs {
		all = append(all, r.final(updates)...)
	}
	return all
}

// budget is a quarter of what the reference spends.
func (c *contest) budget() float64 {
	p := c.full().runs[0].at(c.updates)
	return p.Cost(theory) / 4
}

func withins(runs []*Record, budget float64) (all []float64) {
	for _, r := range runs {
		all = append(all, r.within(budget, theory)...)
	}
	return all
}

// of a field of the last look before an update, the mean of the runs; NaN where
// no run has it.
func average(runs []*Record, updates int, field func(Point) *number) float64 {
	var all []float64
	for _, r := range runs {
		if v := field(r.at(updates)); v != nil {
			all = append(all, float64(*v))
		}
	}
	if len(all) == 0 {
		return math.NaN()
	}
	return mean(all)
}

func judgedOf(p Point) *number   { return p.Judged }
func driftOf(p Point) *number    { return &p.Drift }
func normOf(p Point) *number     { return &p.Norm }
func surpriseOf(p Point) *number { return p.Surprise }

// saved is how much less compute a method took than full back-propagation to
// come to where that ended.
type saved struct {
	whole   float64   // of the losses' median (of parameters, mean); minus infinity where it never got there
	rows    []float64 // of each row; empty for parameters
	arrived float64   // share of rows that got there
	worst   float64   // tenth of the rows that saved least
	updates int       // that full back-propagation needed
	bound   float64   // what a method can save at most that samples once
}

func (c *contest) saved(e *entry, backward float64) saved {
	runs, references := both(e.runs, c.full().runs)
	full, own := curve(references, c.vary, backward), curve(runs, c.vary, backward)
	if len(full) == 0 || len(own) == 0 {
		return saved{whole: math.Inf(-1), worst: math.Inf(-1)}
	}
	target := reached * full[0].loss
	for _, p := range full {
		if p.update <= c.updates {
			target = max(reached*full[0].loss, p.loss)
		}
	}
	cost, whole := reachOf(full, target), reachOf(own, target)
	s := saved{whole: 1 - whole/cost, bound: 1 - float64(c.steps)/cost}
	for _, p := range full {
		if p.cost == cost {
			s.updates = p.update
		}
	}
	if c.vary == sdo.Parameters {
		return s
	}
	for i := range runs {
		s.rows = append(s.rows, saving(runs[i], references[i], c.updates, backward)...)
	}
	for _, row := range s.rows {
		if !math.IsInf(row, -1) {
			s.arrived += 1 / float64(len(s.rows))
		}
	}
	s.worst = quantile(s.rows, 0.1)
	return s
}

// perUpdate is the compute of one update of a method, on average.
func (c *contest) perUpdate(e *entry, backward float64) float64 {
	sum, updates := 0.0, 0
	for _, r := range e.runs {
		p := r.at(c.updates)
		sum, updates = sum+p.Cost(backward), updates+p.Update
	}
	if updates == 0 {
		return math.NaN()
	}
	return sum / float64(updates)
}

// percent writes a share, or a dash where there is none.
func percent(x float64) string {
	switch {
	case math.IsNaN(x):
		return "–"
	case math.IsInf(x, -1):
		return "never"
	}
	return fmt.Sprintf("%.0f %%", 100*x)
}

// short writes a loss in two digits, or three above 10.
func short(x float64) string {
	switch {
	case math.IsNaN(x):
		return "–"
	case math.IsInf(x, 0):
		return "∞"
	case x == 0:
		return "0"
	case math.Abs(x) >= 10:
		return fmt.Sprintf("%.0f", x)
	case math.Abs(x) < 1e-9:
		return "<1e-9"
	case math.Abs(x) < 0.001:
		return fmt.Sprintf("%.0e", x)
	}
	return fmt.Sprintf("%.2g", x)
}

// models that anything is known of.
func (r *results) models() (known []string) {
	for _, m := range r.Models {
		for c := range r.store.cells {
			if c.Model == m {
				known = append(known, m)
				break
			}
		}
	}
	return known
}

// contests of a variable at the number of steps that most is measured at.
func (r *results) contests(model string, vary sdo.Variable) (all []*contest) {
	steps, of := r.scale(model).steps[0], losses(model)
	if vary == sdo.Parameters {
		steps, of = r.scale(model).tuneSteps, tuneLosses(model)
	}
	for _, loss := range of {
		if c := r.contest(model, loss, vary, steps); c != nil {
			all = append(all, c)
		}
	}
	return all
}

// overSteps are the contests for one loss at every number of steps, rising.
func (r *results) overSteps(model, loss string) (all []*contest) {
	for _, n := range slices.Sorted(slices.Values(r.scale(model).steps)) {
		if c := r.contest(model, loss, sdo.Latents, n); c != nil {
			all = append(all, c)
		}
	}
	return all
}
