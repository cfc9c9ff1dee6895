package benchmark

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/sdo-go/sdo/sdo"
)

// Verdict is a claim and what the numbers say of it.
type Verdict struct {
	Claim   string   `json:"claim"`
	Ruling  string   `json:"ruling"`
	Because []string `json:"because"`
}

// Verdicts are those of the page.
func Verdicts(g Grid, s *Store) []Verdict { return (&results{g, s}).verdicts() }

// A difference counts where it is unlikely to be chance and large enough to care.
const (
	significant = 0.05
	matters     = 1.05 // ratio of losses, or its inverse
)

func (p paired) higher() bool { return p.p < significant && p.ratio > matters }
func (p paired) lower() bool  { return p.p < significant && p.ratio < 1/matters }

// outcome of a claim that was asked of several contests.
func ruling(held, failed int) string {
	switch {
	case held+failed == 0:
		return "not measured"
	case failed == 0:
		return "holds"
	case held == 0:
		return "does not hold"
	}
	return fmt.Sprintf("holds in %d of %d", held, held+failed)
}

func (r *results) verdicts() []Verdict {
	return []Verdict{r.asGoodAsFull(sdo.Latents, "(a) For latents SDO is at least as good as full back-propagation after as many updates"),
		r.asGoodAsFull(sdo.Parameters, "(b) So it is for parameters: a LoRA of a network, an affine adapter of the mixture"),
		r.keptStep(), r.ninetyPercent(), r.memory()}
}

func (c *contest) title() string {
	return fmt.Sprintf("%s, %s, N = %d", c.model, c.loss, c.steps)
}

// asGoodAsFull holds in a contest where SDO's losses are not significantly
// higher.
func (r *results) asGoodAsFull(vary sdo.Variable, claim string) Verdict {
	v := Verdict{Claim: claim}
	held, failed := 0, 0
	for _, model := range r.models() {
		for _, c := range r.contests(model, vary) {
			e := c.of("sdo")
			if e == nil {
				continue
			}
			p := compare(e.runs, c.full().runs, c.updates)
			word := "not told apart"
			switch {
			case p.higher():
				word = "worse"
				failed++
			case p.lower():
				word = "better"
				held++
			default:
				held++
			}
			v.Because = append(v.Because, fmt.Sprintf("%s: %s, %s against %s (%s; lower in %s of %d pairs, p = %s)", c.title(), word,
				short(centre(vary, finals(e.runs, c.updates))), short(centre(vary, finals(c.full().runs, c.updates))), whatIs(vary), percent(p.better), p.pairs, short(p.p)))
		}
	}
	v.Ruling = ruling(held, failed)
	return v
}

func whatIs(vary sdo.Variable) string {
	if vary == sdo.Parameters {
		return "mean held-out loss"
	}
	return "median loss"
}

// keptStep asks whether the one call that SDO differentiates earns its place.
func (r *results) keptStep() Verdict {
	v := Verdict{Claim: "(c) The kept call is worth something: SDO for latents is better than the identity rule"}
	better, not := 0, 0
	for _, model := range r.models() {
		for _, c := range r.contests(model, sdo.Latents) {
			own, plain := c.of("sdo"), c.of("identity")
			if own == nil || plain == nil {
				continue
			}
			early, late := compare(own.runs, plain.runs, c.updates/4), compare(own.runs, plain.runs, c.updates)
			if early.lower() || late.lower() {
				better++
			} else {
				not++
			}
			v.Because = append(v.Because, fmt.Sprintf("%s: SDO's loss is %s of identity's after %d updates (median of %d pairs, p = %s) and %s after %d (p = %s)",
				c.title(), times(early.ratio), c.updates/4, early.pairs, short(early.p), times(late.ratio), c.updates, short(late.p)))
		}
	}
	v.Ruling = ruling(better, not)
	return v
}

func count(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}

func times(ratio float64) string { return fmt.Sprintf("%.2f", ratio) }

// wanted is the saving that is claimed.
const wanted = 0.9

// ninetyPercent asks of every trained network whether any setting comes to full
// back-propagation's last loss for a tenth of its compute.
func (r *results) ninetyPercent() Verdict {
	v := Verdict{Claim: "(d) On a trained network some setting needs 90 % less compute than plain full back-propagation to come to its last loss"}
	held, failed := 0, 0
	for _, model := range r.models() {
		if model == Mixture {
			continue
		}
		for _, c := range r.everyLatent(model) {
			var best *entry
			var most saved
			for _, e := range c.entries[1:] {
				if e.method == string(sdo.MethodJump) {
					continue // it makes no sample to see that it is there, and a look would be N calls
				}
				if s := c.saved(e, theory); best == nil || s.whole > most.whole {
					best, most = e, s
				}
			}
			if best == nil {
				continue
			}
			if most.whole >= wanted {
				held++
			} else {
				failed++
			}
			if math.IsInf(most.whole, -1) {
				v.Because = append(v.Because, fmt.Sprintf("%s, which takes full back-propagation %s: no other setting came there, of single rows %s by %s", c.title(), count(most.updates, "update"), percent(most.arrived), best.method))
				continue
			}
			v.Because = append(v.Because, fmt.Sprintf("%s, which takes full back-propagation %s: %s saves %s of the compute, where the first sample alone leaves at most %s; of single rows the median saves %s, the worst tenth %s or less, %s come there at all; %s by the measured cost of a backward call",
				c.title(), count(most.updates, "update"), best.method, percent(most.whole), percent(most.bound), percent(quantile(most.rows, 0.5)), percent(most.worst), percent(most.arrived), percent(c.saved(best, c.ratio).whole)))
		}
	}
	v.Ruling = ruling(held, failed)
	v.Because = append(v.Because, "jump is left out: it never makes the sample, so that it does not know when it is there, and each look would be N calls")
	return v
}

// everyLatent lists the contests of all losses and numbers of steps.
func (r *results) everyLatent(model string) (all []*contest) {
	for _, loss := range losses(model) {
		all = append(all, r.overSteps(model, loss)...)
	}
	return all
}

// memory asks whether the activations kept alive grow with the steps.
func (r *results) memory() Verdict {
	v := Verdict{Claim: "(e) Activations kept alive do not grow with the number of steps"}
	held, failed := 0, 0
	for _, model := range r.models() {
		for _, method := range []string{"sdo", "stale-4", "full"} {
			steps, bytes := r.peaks(model, method)
			if len(steps) < 2 {
				continue
			}
			s := slope(steps, bytes)
			if method != "full" {
				if math.Abs(s) < 1e-4 {
					held++
				} else {
					failed++
				}
			}
			v.Because = append(v.Because, fmt.Sprintf("%s, %s: %s of the mean more for each step, N = %.0f to %.0f", model, method,
				fmt.Sprintf("%.2g %%", 100*s), slices.Min(steps), slices.Max(steps)))
		}
	}
	v.Ruling = ruling(held, failed)
	return v
}

// peaks are the most bytes kept alive by a method, by number of steps.
func (r *results) peaks(model, method string) (steps, bytes []float64) {
	for _, c := range r.overSteps(model, steppedLoss(model)) {
		if e := c.of(method); e != nil {
			steps, bytes = append(steps, float64(c.steps)), append(bytes, float64(e.runs[0].PeakBytes))
		}
	}
	return steps, bytes
}

func (v Verdict) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s: %s.**\n\n", v.Claim, v.Ruling)
	for _, line := range v.Because {
		fmt.Fprintf(&b, "- %s.\n", line)
	}
	return b.String()
}
