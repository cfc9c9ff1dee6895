package benchmark

import (
	"fmt"
	"io"
	"math"

	"github.com/sdo-go/sdo/native/report"
	"github.com/sdo-go/sdo/sdo"
)

// shown are the methods of the charts of curves: more would hide each other.
var shown = []string{"full", "sdo", "identity", "stale-4", "stale-4, not carried", "jump"}

// tuned are those of the charts of tuning.
var tuned = []string{"full", "sdo", "draft-1", "draft-5", "drtune-5", "alignprop", "flowbp-sparse-4", "refl"}

// lowest is where curves end at the bottom, as a share of where they begin: below
// it all are as good as each other.
const lowest = 1e-4

// curves draws the loss over updates and over compute, a row of two panels for
// every contest.
func curves(contests []*contest, order []string) func(io.Writer) error {
	var panels []report.Panel
	for _, c := range contests {
		loss := whatIs(c.vary)
		updates := report.Panel{Title: c.title(), X: "update", Y: loss, LogY: true}
		compute := report.Panel{Title: c.title(), X: "compute, forward calls", Y: loss, LogX: true, LogY: true}
		for _, method := range order {
			e := c.of(method)
			if e == nil {
				continue
			}
			points := curve(e.runs, c.vary, theory)
			if len(points) == 0 {
				continue
			}
			floor := lowest * points[0].loss
			a, b := report.Line{Name: method}, report.Line{Name: method}
			for _, p := range points {
				y := max(floor, p.loss)
				if p.update <= 2*c.updates {
					a.Points = append(a.Points, [2]float64{float64(p.update), y})
				}
				b.Points = append(b.Points, [2]float64{p.cost, y})
				if p.loss <= floor {
					break // what follows is as good
				}
			}
			updates.Lines, compute.Lines = append(updates.Lines, a), append(compute.Lines, b)
		}
		panels = append(panels, updates, compute)
	}
	return func(w io.Writer) error { return report.WritePanels(w, 2, order, panels) }
}

// overRates draws the loss after equal updates over the learning rate, where that
// makes a difference.
func overRates(contests []*contest, order []string) func(io.Writer) error {
	var panels []report.Panel
	for _, c := range contests {
		low, high := math.Inf(1), 0.0
		p := report.Panel{Title: fmt.Sprintf("%s, after %d updates", c.title(), c.updates), X: "learning rate", Y: whatIs(c.vary), LogX: true, LogY: true}
		for _, method := range order {
			e := c.of(method)
			if e == nil {
				continue
			}
			line := report.Line{Name: method}
			for _, run := range e.found {
				floor := lowest * centre(c.vary, run.start())
				y := max(floor, centre(c.vary, run.final(c.updates)))
				line.Points = append(line.Points, [2]float64{run.LR, y})
				low, high = min(low, y), max(high, y)
			}
			p.Lines = append(p.Lines, line)
		}
		if high > 1.1*low { // else every rate does
			panels = append(panels, p)
		}
	}
	return func(w io.Writer) error { return report.WritePanels(w, 2, order, panels) }
}

// overN draws what is saved and what is kept alive over the number of steps.
func (r *results) overN(model string) func(io.Writer) error {
	var panels []report.Panel
	for _, loss := range losses(model) {
		contests := r.overSteps(model, loss)
		if len(contests) < 2 {
			continue
		}
		p := report.Panel{Title: model + ", " + loss, X: "sampler steps N", Y: "compute saved until full's last loss", Percent: true, LogX: true}
		for _, method := range shown[1:] {
			line := report.Line{Name: method}
			for _, c := range contests {
				if e := c.of(method); e != nil {
					if s := c.saved(e, theory).whole; !math.IsInf(s, 0) {
						line.Points = append(line.Points, [2]float64{float64(c.steps), max(-1, s)})
					}
				}
			}
			p.Lines = append(p.Lines, line)
		}
		panels = append(panels, p)
	}
	bytes := report.Panel{Title: model + ", activations kept alive", X: "sampler steps N", Y: "MiB at most", LogX: true, LogY: true}
	for _, method := range []string{"full", "sdo", "stale-4"} {
		steps, peaks := r.peaks(model, method)
		line := report.Line{Name: method}
		for i := range steps {
			line.Points = append(line.Points, [2]float64{steps[i], peaks[i] / (1 << 20)})
		}
		bytes.Lines = append(bytes.Lines, line)
	}
	panels = append(panels, bytes)
	return func(w io.Writer) error { return report.WritePanels(w, 2, shown, panels) }
}

// chart is a picture of the page.
type chart struct {
	name, what string
	draw       func(io.Writer) error
}

func (r *results) charts(model string) (all []chart) {
	if cs := r.contests(model, sdo.Latents); len(cs) > 0 {
		all = append(all, chart{model + "-latents.png", "Loss over updates and over compute, each method at its best learning rate", curves(cs[:min(4, len(cs))], shown)},
			chart{model + "-rates.png", "Loss over the learning rate", overRates(cs[:min(4, len(cs))], shown)})
		if len(r.overSteps(model, steppedLoss(model))) > 1 {
			all = append(all, chart{model + "-steps.png", "Over the number of steps", r.overN(model)})
		}
	}
	if cs := r.contests(model, sdo.Parameters); len(cs) > 0 {
		all = append(all, chart{model + "-parameters.png", "Held-out loss of tuned parameters over updates and over compute", curves(cs, tuned)})
	}
	return all
}
