package benchmark

import (
	"cmp"
	"math"
	"slices"

	"github.com/sdo-go/sdo/sdo"
)

// at is the last look at or before an update.
func (r *Record) at(update int) Point {
	found := r.Points[0]
	for _, p := range r.Points {
		if p.Update <= update {
			found = p
		}
	}
	return found
}

// final is each row's loss after so many updates; of a run that failed before,
// infinite.
func (r *Record) final(updates int) []float64 {
	p := r.at(updates)
	losses := make([]float64, len(p.Losses))
	for i, l := range p.Losses {
		losses[i] = float64(l)
		if r.Failed != "" && p.Update < min(updates, r.Updates) {
			losses[i] = math.Inf(1)
		}
	}
	return losses
}

// start is each row's loss before any update.
func (r *Record) start() []float64 { return r.final(0) }

// within is each row's loss when so much compute was spent.
func (r *Record) within(budget, backward float64) []float64 {
	update := 0
	for _, p := range r.Points {
		if p.Cost(backward) <= budget {
			update = p.Update
		}
	}
	return r.final(update)
}

// reach is the compute after which row's loss was first at or below a target;
// infinite where it never was.
func (r *Record) reach(row int, target, backward float64) float64 {
	for _, p := range r.Points {
		if float64(p.Losses[row]) <= target {
			return p.Cost(backward)
		}
	}
	return math.Inf(1)
}

// reached is the share of a row's start loss below which it is as good as any: a
// method is not asked to follow another to the last digit.
const reached = 0.01

// saving is how much less compute a run took than a reference run of the same
// seed until each row's loss came down to the reference's last one, or to reached
// of where it began. 1 saves all, 0 nothing; minus infinity where the row did not
// get there. Rows that were there before any update are left out.
func saving(run, reference *Record, updates int, backward float64) []float64 {
	start, goal := reference.start(), reference.final(updates)
	var saved []float64
	for row := range start {
		target := max(goal[row], reached*start[row])
		if spent := reference.reach(row, target, backward); spent > 0 {
			saved = append(saved, 1-run.reach(row, target, backward)/spent)
		}
	}
	return saved
}

// curve is the loss of all rows of some runs together, by update.
type curvePoint struct {
	update int
	cost   float64 // mean of the runs
	loss   float64 // centre of the rows
}

func curve(runs []*Record, vary sdo.Variable, backward float64) (points []curvePoint) {
	if len(runs) == 0 {
		return nil
	}
	for i, p := range runs[0].Points {
		all, cost := []float64(nil), 0.0
		for _, r := range runs {
			if i >= len(r.Points) || r.Points[i].Update != p.Update {
				return points // a run that failed
			}
			all = append(all, r.final(p.Update)...)
			cost += r.Points[i].Cost(backward) / float64(len(runs))
		}
		points = append(points, curvePoint{p.Update, cost, centre(vary, all)})
	}
	return points
}

// reachOf is the compute after which a curve is first at or below a target.
func reachOf(points []curvePoint, target float64) float64 {
	for _, p := range points {
		if p.loss <= target {
			return p.cost
		}
	}
	return math.Inf(1)
}

// centre sums losses up: of latents, which are problems of their own, by the
// median; of parameters, which serve all rows, by the mean.
func centre(vary sdo.Variable, losses []float64) float64 {
	if vary == sdo.Parameters {
		return mean(losses)
	}
	return quantile(losses, 0.5)
}

// quantile interpolates between the sorted numbers; NaN of none.
func quantile(x []float64, share float64) float64 {
	if len(x) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(x))
	at := share * float64(len(s)-1)
	low := int(at)
	switch {
	case at == float64(low):
		return s[low]
	case math.IsInf(s[low], 0) || math.IsInf(s[low+1], 0): // no way in between
		return s[int(math.Round(at))]
	}
	return s[low] + (at-float64(low))*(s[low+1]-s[low])
}

// paired compares two methods on the same problems.
type paired struct {
	pairs  int
	better float64 // share of pairs in which the first was lower; ties count half
	ratio  float64 // median of first over second
	p      float64 // that there is no difference: Wilcoxon's signed ranks, two sides
}

// negligible is the share of the start loss that is added to both losses of a
// pair, so that ratios of next to nothing do not decide.
const negligible = 1e-3

// pair compares losses by their ratio.
func pair(first, second, start []float64) paired {
	var logs []float64
	c := paired{pairs: len(first), p: 1}
	for i := range first {
		e := negligible * start[i]
		a, b := first[i]+e, second[i]+e
		log := 0.0
		switch {
		case a == b: // both infinite or, where the start was perfect, both zero
		case math.IsInf(a, 1):
			log = math.MaxFloat64
		case math.IsInf(b, 1):
			log = -math.MaxFloat64
		default:
			log = math.Log(a / b)
		}
		logs = append(logs, log)
		switch {
		case math.Abs(log) < 1e-9:
			c.better += 0.5 / float64(len(first))
		case log < 0:
			c.better += 1 / float64(len(first))
		}
	}
	c.ratio = math.Exp(quantile(logs, 0.5))
	c.p = signedRank(logs)
	return c
}

// signedRank is the two-sided p of Wilcoxon's signed-rank test that the
// differences are centred at zero, by the normal approximation with corrections
// for ties and continuity. Zeros, and what is no number, are dropped. 1 where
// fewer than six remain.
func signedRank(differences []float64) float64 {
	d := slices.DeleteFunc(slices.Clone(differences), func(x float64) bool { return !(math.Abs(x) >= 1e-9) })
	n := float64(len(d))
	if n < 6 {
		return 1
	}
	slices.SortFunc(d, func(a, b float64) int { return cmp.Compare(math.Abs(a), math.Abs(b)) })
	positive, ties := 0.0, 0.0
	for from := 0; from < len(d); {
		to := from
		for to < len(d) && math.Abs(d[to]) == math.Abs(d[from]) {
			to++
		}
		rank := float64(from+1+to) / 2
		for _, x := range d[from:to] {
			if x > 0 {
				positive += rank
			}
		}
		t := float64(to - from)
		ties += t*t*t - t
		from = to
	}
	variance := n*(n+1)*(2*n+1)/24 - ties/48
	z := max(0, math.Abs(positive-n*(n+1)/4)-0.5) / math.Sqrt(variance)
	return math.Erfc(z / math.Sqrt2)
}

// slope is that of the least-squares line through the points, over their mean
// height: 0.01 is one per cent for each step along x.
func slope(x, y []float64) float64 {
	mx, my := mean(x), mean(y)
	num, den := 0.0, 0.0
	for i := range x {
		num += (x[i] - mx) * (y[i] - my)
		den += (x[i] - mx) * (x[i] - mx)
	}
	if num == 0 {
		return 0
	}
	return num / den / my
}
