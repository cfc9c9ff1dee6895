package benchmark

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/native/report"
	"github.com/sdo-go/sdo/sdo"
)

// Write fills a folder with README.md and its charts from whatever is made, and
// returns their names. command is what was typed.
func Write(dir string, g Grid, s *Store, command string) ([]string, error) {
	r := &results{g, s}
	var files []report.File
	for _, model := range r.models() {
		for _, c := range r.charts(model) {
			files = append(files, report.File{Name: c.name, Write: c.draw})
		}
	}
	files = append(files, report.File{Name: "README.md", Write: func(w io.Writer) error {
		_, err := io.WriteString(w, r.page(command))
		return err
	}})
	return report.WriteFiles(dir, files)
}

func (r *results) page(command string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Results\n\nEvery gradient method on the same problems. Written by `%s`, which makes the runs that are missing and then this page; do not edit it.\n\n", command)
	if r.Quick {
		b.WriteString("This is a `--quick` run: it shows that everything works, and its numbers mean nothing.\n\n")
	}
	made := 0
	for _, model := range r.models() {
		for c := range r.store.cells {
			if c.Model == model {
				made++
			}
		}
	}
	fmt.Fprintf(&b, "%d runs.", made)
	if missing := len(r.missing(r.store)); missing > 0 {
		fmt.Fprintf(&b, " %d of those planned are not made yet; the least wanted come last.", missing)
	}
	b.WriteString("\n\n## Verdicts\n\n")
	for _, v := range r.verdicts() {
		b.WriteString(v.markdown() + "\n")
	}
	b.WriteString(r.reading())
	for _, model := range r.models() {
		b.WriteString(r.chapter(model))
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// reading explains the numbers once.
func (r *results) reading() string {
	return fmt.Sprintf(`## How to read this

- **Compute** is counted in forward calls of the network, of a whole batch: a forward is 1, a backward %v, so an update of plain full back-propagation over N steps is 3N. With a checkpoint at each step it would be 4N. Where a measured cost of a backward call is quoted, it is that of this machine. Looks at samples that a method does not make itself are in no count; loss and judge are not either.
- **Learning rate**: each method at its best of all that were tried, by the loss after as many updates as full back-propagation makes; where several rates leave next to nothing, by speed for latents and by least drift for parameters. On a trained network one seed finds it and the others measure. "edge" marks a best rate that is the lowest or highest tried.
- **Loss** is that of true samples, also for methods that work on stale ones: the median over rows and seeds, and from the lowest to the highest seed's median. For parameters it is the mean over held-out latents.
- **Saved**: how much less compute was spent until the median loss came down to where full back-propagation ended, or to %v %% of where it began, if that is higher. In brackets the same row by row, of rows that had to move: the median row, the tenth of rows that saved least, and how many came there at all.
- **Judged** is the share of samples that the judge, a classifier no gradient passes, takes for what was asked. **Drift** is how far a sample moved, root mean square over its numbers. **Norm** is that of the latent over that of noise. **Surprise**, of the mixture, is minus the log-density of the data.
- **p** is that of Wilcoxon's signed-rank test on pairs of equal seed and row, of the ratio of losses (%v %% of the first loss added to both), two sides. In a verdict a difference counts where p is below %v and the losses are more than %.0f %% apart; what cannot be told apart counts as at least as good, with as few pairs as there are.

`, theory, 100*reached, 100*negligible, significant, 100*(matters-1))
}

// table writes rows under heads, numbers to the right.
func table(heads []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(heads)
	rule := make([]string, len(heads))
	for i := range rule {
		rule[i] = "---:"
	}
	rule[0] = "---"
	line(rule)
	for _, row := range rows {
		line(row)
	}
	return b.String() + "\n"
}

func (r *results) chapter(model string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n", model)
	b.WriteString(r.setup(model))
	charts := r.charts(model)
	picture := func(part string) {
		for _, c := range charts {
			if c.name == model+"-"+part+".png" {
				fmt.Fprintf(&b, "![%s](%s)\n\n", c.what, c.name)
			}
		}
	}
	contests := r.contests(model, sdo.Latents)
	if len(contests) > 0 {
		b.WriteString("### Latents\n\n")
		picture("latents")
		for _, c := range contests {
			b.WriteString(c.latentTable())
		}
		picture("rates")
	}
	if t := r.stepsTable(model); t != "" {
		b.WriteString("### Over the number of steps\n\n" + t)
		picture("steps")
	}
	if cs := r.contests(model, sdo.Parameters); len(cs) > 0 {
		b.WriteString("### Parameters\n\n")
		picture("parameters")
		for _, c := range cs {
			b.WriteString(c.parameterTable())
		}
	}
	return b.String()
}

// setup says what was run of a model, and on what.
func (r *results) setup(model string) string {
	var b strings.Builder
	at := r.scale(model)
	if model == Mixture {
		b.WriteString("Six Gaussians in eight dimensions, exact in every number (package sdo/mixture), another mixture for every seed; DDIM on the scaled-linear schedule; latents free of any guard. Losses: `target`, a sample of the data for each row; `mode`, the cross entropy of one Gaussian; `mode, margin`, which stops once it is ahead by 4 in log-odds; `brightness`, one coordinate at 2; `gram`, the outer product of a sample with itself. Parameters: 216 numbers of affine maps of the noise prediction.\n\n")
	} else {
		b.WriteString("DDIM, trailing spacing, latents projected to the norm of noise. Losses:\n\n")
		for _, t := range tasks[model] {
			fmt.Fprintf(&b, "- `%s`: %s\n", t.name, t.label)
		}
		fmt.Fprintf(&b, "\nParameters: a LoRA of rank %d on every linear layer and convolution.\n\n", loraRank)
	}
	fmt.Fprintf(&b, "%d rows at once, seeds %s; Adam, betas (0.9, 0.9) for latents and (0.9, 0.999) for parameters, %d rows a batch.", at.rows, list(at.seeds), at.tuneBatch)
	if rates := r.store.rates[model]; rates != nil {
		fmt.Fprintf(&b, " Device: %s. A backward call costs %.1f forward calls there (%s), the loss with its gradient %.1f.",
			rates.Device, rates.Ratio(), "a kept call's extra cost counted to it", rates.Objective/rates.Forward)
	}
	b.WriteString("\n\n")
	return b.String()
}

func list[T any](xs []T) string {
	var words []string
	for _, x := range xs {
		words = append(words, fmt.Sprint(x))
	}
	return strings.Join(words, ", ")
}

// spread is the centre of all rows and the range of the runs'.
func (c *contest) spread(runs []*Record, of func(*Record) []float64) string {
	var all, each []float64
	for _, r := range runs {
		x := of(r)
		all, each = append(all, x...), append(each, centre(c.vary, x))
	}
	if len(each) < 2 {
		return short(centre(c.vary, all))
	}
	return fmt.Sprintf("%s (%s–%s)", short(centre(c.vary, all)), short(slices.Min(each)), short(slices.Max(each)))
}

func (e *entry) rate() string {
	if e.edge {
		return fmt.Sprintf("%g, edge", e.lr)
	}
	return fmt.Sprintf("%g", e.lr)
}

func (c *contest) latentTable() string {
	trained := c.model != Mixture
	judged := !math.IsNaN(average(c.full().runs, c.updates, judgedOf))
	heads := []string{"method", "learning rate", fmt.Sprintf("loss after %d updates", c.updates), "worst tenth", "at a quarter of full's compute", "saved (rows: median; worst tenth; came there)"}
	if judged {
		heads = append(heads, "judged")
	}
	heads = append(heads, "drift")
	if !trained {
		heads = append(heads, "norm", "surprise")
	}
	heads = append(heads, "compute of an update", fmt.Sprintf("loss at %g", defaultLR))
	budget := c.budget()
	var rows [][]string
	for _, e := range c.entries {
		s := c.saved(e, theory)
		row := []string{e.method, e.rate(),
			c.spread(e.runs, func(r *Record) []float64 { return r.final(c.updates) }),
			short(quantile(finals(e.runs, c.updates), 0.9)),
			short(centre(c.vary, withins(e.runs, budget))),
			fmt.Sprintf("%s (%s; %s; %s)", percent(s.whole), percent(quantile(s.rows, 0.5)), percent(s.worst), percent(s.arrived))}
		if e == c.full() {
			row[len(row)-1] = "–"
		}
		if judged {
			row = append(row, percent(average(e.runs, c.updates, judgedOf)))
		}
		row = append(row, short(average(e.runs, c.updates, driftOf)))
		if !trained {
			row = append(row, short(average(e.runs, c.updates, normOf)), short(average(e.runs, c.updates, surpriseOf)))
		}
		usual := "–"
		if len(e.usual) > 0 {
			usual = c.spread(e.usual, func(r *Record) []float64 { return r.final(c.updates) })
		}
		rows = append(rows, append(row, short(c.perUpdate(e, theory)), usual))
	}
	began := centre(c.vary, finals(c.full().runs, 0))
	text := fmt.Sprintf("**%s**, N = %d, %d seeds of %d rows; the loss begins at %s", c.loss, c.steps, len(c.full().runs), c.full().runs[0].Rows, short(began))
	if judged {
		text += fmt.Sprintf(", %s are judged so from the start", percent(average(c.full().runs, 0, judgedOf)))
	}
	return text + ".\n\n" + table(heads, rows)
}

func (c *contest) parameterTable() string {
	judged := !math.IsNaN(average(c.full().runs, c.updates, judgedOf))
	heads := []string{"method", "learning rate", fmt.Sprintf("held-out loss after %d updates", c.updates), "at a quarter of full's compute", "saved"}
	if judged {
		heads = append(heads, "judged")
	}
	heads = append(heads, "drift", "compute of an update", "kept alive at most", fmt.Sprintf("loss, drift at %g", defaultTuneLR))
	budget := c.budget()
	var rows [][]string
	for _, e := range c.entries {
		row := []string{e.method, e.rate(),
			c.spread(e.runs, func(r *Record) []float64 { return r.final(c.updates) }),
			short(centre(c.vary, withins(e.runs, budget))), percent(c.saved(e, theory).whole)}
		if e == c.full() {
			row[len(row)-1] = "–"
		}
		if judged {
			row = append(row, percent(average(e.runs, c.updates, judgedOf)))
		}
		usual := "–"
		if len(e.usual) > 0 {
			usual = fmt.Sprintf("%s, %s", c.spread(e.usual, func(r *Record) []float64 { return r.final(c.updates) }), short(average(e.usual, c.updates, driftOf)))
		}
		rows = append(rows, append(row, short(average(e.runs, c.updates, driftOf)), short(c.perUpdate(e, theory)), engine.Bytes(e.runs[0].PeakBytes), usual))
	}
	began := centre(c.vary, finals(c.full().runs, 0))
	text := fmt.Sprintf("**%s**, N = %d, %d seeds, %d held-out latents each; the loss begins at %s", c.loss, c.steps, len(c.full().runs), len(c.full().runs[0].start()), short(began))
	if judged {
		text += fmt.Sprintf(", %s are judged so from the start", percent(average(c.full().runs, 0, judgedOf)))
	}
	return text + ".\n\n" + table(heads, rows)
}

// stepsTable compares the methods at every number of steps.
func (r *results) stepsTable(model string) string {
	var rows [][]string
	for _, loss := range losses(model) {
		contests := r.overSteps(model, loss)
		if len(contests) < 2 {
			continue
		}
		for _, c := range contests {
			for _, e := range c.entries {
				s := c.saved(e, theory)
				text := fmt.Sprintf("%s (%s; %s; %s)", percent(s.whole), percent(quantile(s.rows, 0.5)), percent(s.worst), percent(s.arrived))
				if e == c.full() {
					text = "–"
				}
				rows = append(rows, []string{loss, fmt.Sprint(c.steps), e.method, short(centre(c.vary, finals(e.runs, c.updates))),
					text, short(average(e.runs, c.updates, driftOf)), short(c.perUpdate(e, theory)), engine.Bytes(e.runs[0].PeakBytes)})
			}
		}
	}
	if rows == nil {
		return ""
	}
	return fmt.Sprintf("At the learning rates found at N = %d.\n\n", r.scale(model).steps[0]) +
		table([]string{"loss", "N", "method", "loss after equal updates", "saved (rows: median; worst tenth; came there)", "drift", "compute of an update", "kept alive at most"}, rows)
}
