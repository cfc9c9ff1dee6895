package sdo

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/sdo-go/sdo/sampler"
)

// Advice is the freeze and the active calls that an audit speaks for at a
// variable, of those that keep one call or none, and the numbers it rests on.
type Advice struct {
	Variable Variable
	Freeze   sampler.Freeze
	Active   Active
	Units    int     // pictures, of parameters batches
	Summary  Summary // of the units
	Error    float64 // standard error of the mean cosine; 0 with one unit
	Others   []Rival // the other choices of active calls, the best freeze of each, best first
}

// Rival is a choice that was not taken.
type Rival struct {
	Active Active
	Cosine float64
	Tied   bool // within the noise of the best
}

// candidate is a setting that may be advised.
type candidate struct {
	Comparison
	active  Active
	summary Summary
}

// Advise picks the setting with the highest mean cosine, over all draws where it
// draws. Settings count as tied with the best where their difference to it, unit
// by unit, is less than two standard errors or than a hundredth; of one unit,
// whose error nobody knows, than a tenth. Among those a kept call must earn its
// cost, so none goes first; then the method's own choice of calls, which for
// condition and parameters is unbiased; then the freeze whose gradient is nearest
// to full back-propagation's in length. ok is false where nothing was compared.
func Advise(v Variable, comparisons []Comparison) (a Advice, ok bool) {
	all := candidates(v, comparisons)
	if len(all) == 0 {
		return Advice{}, false
	}
	best := slices.MaxFunc(all, func(a, b candidate) int { return cmp.Compare(a.summary.CosineMean, b.summary.CosineMean) })
	ranks := []Active{ActiveNone, ActiveImportance, ActiveFirst, ActiveUniform, ActiveLast}
	chosen, found := best, false
	for _, c := range all {
		if !c.ties(best) {
			continue
		}
		by := slices.Index(ranks, c.active) - slices.Index(ranks, chosen.active)
		if !found || by < 0 || by == 0 && c.stretch() < chosen.stretch() {
			chosen, found = c, true
		}
	}
	a = Advice{Variable: v, Freeze: chosen.Freeze, Active: chosen.active, Units: len(chosen.Units), Summary: chosen.summary}
	_, a.Error = spread(a.Units, func(i int) float64 { return chosen.Units[i].Cosine })
	for _, c := range all {
		i := slices.IndexFunc(a.Others, func(r Rival) bool { return r.Active == c.active })
		rival := Rival{c.active, c.summary.CosineMean, c.ties(best)}
		switch {
		case c.active == chosen.active:
		case i < 0:
			a.Others = append(a.Others, rival)
		case rival.Cosine > a.Others[i].Cosine:
			a.Others[i] = rival
		}
	}
	slices.SortStableFunc(a.Others, func(a, b Rival) int { return cmp.Compare(b.Cosine, a.Cosine) })
	return a, true
}

// candidates are the settings that cost at most one kept call, at the start for
// latents, as a whole for the others.
func candidates(v Variable, comparisons []Comparison) (all []candidate) {
	step := AllCalls
	if v == Latents {
		step = 0
	}
	for _, c := range comparisons {
		summary, ok := c.Summary()
		s, err := c.Method.Surrogate(v)
		if c.Variable != v || c.Step != step || !ok || err != nil || s.chained() {
			continue
		}
		active := c.Active
		if active == "" {
			active = s.Active
		}
		if active != ActiveAll {
			all = append(all, candidate{c, active, summary})
		}
	}
	return all
}

// ties reports whether a candidate is no worse than the best but for noise.
func (c candidate) ties(best candidate) bool {
	both := min(len(c.Units), len(best.Units)) // an audit that failed half way
	mean, deviation := spread(both, func(i int) float64 { return best.Units[i].Cosine - c.Units[i].Cosine })
	if both == 1 {
		return mean <= 0.1
	}
	return mean <= max(0.01, 2*deviation)
}

// stretch is how far, in log-lengths, a gradient is from the true one's length.
func (c candidate) stretch() float64 { return math.Abs(math.Log(c.summary.RelativeNormMean)) }

// spread is the mean of n numbers and its standard error.
func spread(n int, number func(i int) float64) (mean, deviation float64) {
	for i := range n {
		mean += number(i) / float64(n)
	}
	for i := range n {
		deviation += (number(i) - mean) * (number(i) - mean)
	}
	if n < 2 {
		return mean, 0
	}
	return mean, math.Sqrt(deviation / float64(n-1) / float64(n))
}

// enoughUnits is below how many units a mean cosine and its error say little.
const enoughUnits = 8

// String says what is advised, on what it rests, and how thin that is.
func (a Advice) String() string {
	unit, plural := "picture", "pictures"
	if a.Variable == Parameters {
		unit, plural = "batch", "batches"
	}
	number := fmt.Sprintf("%d %s", a.Units, plural)
	if a.Units == 1 {
		number = "1 " + unit
	}
	var s strings.Builder
	what := fmt.Sprintf("freeze %s, active %s", a.Freeze, a.Active)
	if a.Active == ActiveNone {
		what += " (the method identity)"
	}
	fmt.Fprintf(&s, "%s: %s; its mean cosine is %.3f", a.Variable, what, a.Summary.CosineMean)
	if a.Error > 0 {
		fmt.Fprintf(&s, " ± %.3f", a.Error)
	}
	fmt.Fprintf(&s, " over %s", number)
	for i, r := range a.Others {
		joint := ", "
		if i == 0 {
			joint = ", against "
		}
		fmt.Fprintf(&s, "%s%.3f of %s", joint, r.Cosine, r.Active)
		if r.Tied {
			s.WriteString(" (no difference to speak of)")
		}
	}
	fmt.Fprintf(&s, ", and its length %.2g times the true gradient's.", a.Summary.RelativeNormMean)
	if a.Summary.NegativeShare >= 0.005 {
		of := plural
		if a.Active.draws() {
			of = "draws"
		}
		fmt.Fprintf(&s, " It points the wrong way in %.0f %% of the %s.", 100*a.Summary.NegativeShare, of)
	}
	s.WriteString(" This rests on gradients where a run begins, not on runs")
	if a.Units < enoughUnits {
		fmt.Fprintf(&s, ", and on %s only: too thin to choose by; take more --batches", number)
	}
	s.WriteString(".")
	return s.String()
}
