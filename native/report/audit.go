package report

import (
	"encoding/json"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
)

// Audit is how far one-step gradients agree with full back-propagation. Rows
// come by number of steps, then by variable, then by step index, those of a rule
// as a whole last.
type Audit struct {
	Recipe      *recipes.Recipe
	Rows        []AuditRow
	Advice      []AuditAdvice // by number of steps, then by variable
	Device      graph.Device
	Why         string   // why this device was taken
	Command     []string // as typed
	Program     Program
	Started     time.Time
	Seconds     float64
	Batches     int  // asked for
	Interrupted bool // rows may lack pictures, or be missing
}

// AuditRow is one element of what `sdo audit --json` prints: one gradient, over
// all pictures that have a full gradient. Keys are stable.
type AuditRow struct {
	Variable string `json:"variable"`
	Steps    int    `json:"steps"`
	// StepIndex is, of the latents, that of the state, 0 the start; of the
	// others, that of the one call that is drawn; nil for a rule as a whole.
	StepIndex        *int     `json:"step_index"`
	Method           string   `json:"method"`
	Active           string   `json:"active,omitempty"` // of sdo at condition and parameters
	Freeze           string   `json:"freeze,omitempty"` // none where the gradient is chained
	CosineMean       float64  `json:"cosine_mean"`
	CosineMin        float64  `json:"cosine_min"`
	RelativeNormMean float64  `json:"relative_norm_mean"`
	NegativeShare    float64  `json:"negative_share"`
	KeptOverIdentity *float64 `json:"kept_over_identity,omitempty"` // of the latents
	Pictures         int      `json:"pictures"`
	Batches          int      `json:"batches,omitempty"` // of the parameters, which have one gradient a batch
	LeftOut          int      `json:"left_out"`          // pictures
	Device           string   `json:"device"`
}

// Rule names what a row of condition or parameters keeps: the active calls, or
// the method where that is another than sdo.
func (r AuditRow) Rule() string {
	if r.Active != "" {
		return r.Active
	}
	return r.Method
}

// AuditAdvice is the freeze and the active calls that the numbers speak for.
type AuditAdvice struct {
	Variable string `json:"variable"`
	Steps    int    `json:"steps"`
	Freeze   string `json:"freeze"`
	Active   string `json:"active"`
	Says     string `json:"says"` // with the numbers it rests on
}

// AuditSection is the rows of one variable at one number of steps.
type AuditSection struct {
	Variable string
	Steps    int
	Rows     []AuditRow
}

// Sections splits the rows.
func (a *Audit) Sections() (all []AuditSection) {
	for _, row := range a.Rows {
		last := len(all) - 1
		if last < 0 || all[last].Variable != row.Variable || all[last].Steps != row.Steps {
			all = append(all, AuditSection{Variable: row.Variable, Steps: row.Steps})
			last++
		}
		all[last].Rows = append(all[last].Rows, row)
	}
	return all
}

// Title names the section.
func (s AuditSection) Title() string {
	if s.Steps == 1 {
		return s.Variable + ", 1 sampler step"
	}
	return fmt.Sprintf("%s, %d sampler steps", s.Variable, s.Steps)
}

// Unit is what cosines are means over.
func (s AuditSection) Unit() string {
	if s.Variable == "parameters" {
		return "batches"
	}
	return "pictures"
}

// Calls is the number of network calls of a rollout.
func (s AuditSection) Calls() int {
	calls := s.Steps
	for _, row := range s.Rows {
		if row.StepIndex != nil {
			calls = max(calls, *row.StepIndex+1)
		}
	}
	return calls
}

// Rules are the rows of rules as a whole.
func (s AuditSection) Rules() (rows []AuditRow) {
	for _, row := range s.Rows {
		if row.StepIndex == nil {
			rows = append(rows, row)
		}
	}
	return rows
}

// Draws are the rows of single calls, of the first rule that draws. Others that
// draw have the same cosines.
func (s AuditSection) Draws() (rows []AuditRow) {
	for _, row := range s.Rows {
		if row.StepIndex != nil && (len(rows) == 0 || row.Rule() == rows[0].Rule()) {
			rows = append(rows, row)
		}
	}
	return rows
}

// WriteAudit fills dir with a chart for every variable, audit-VARIABLE.png, and
// then audit.json, each complete or absent, and returns their names.
func WriteAudit(dir string, a *Audit) ([]string, error) {
	var files []file
	for _, variable := range a.variables() {
		files = append(files, file{"audit-" + variable + ".png", func(w io.Writer) error { return a.writeChart(w, variable) }})
	}
	return writeAll(dir, append(files, file{"audit.json", func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(a.record())
	}}))
}

func (a *Audit) variables() (all []string) {
	for _, row := range a.Rows {
		if !slices.Contains(all, row.Variable) {
			all = append(all, row.Variable)
		}
	}
	return all
}

// auditRecord is audit.json.
type auditRecord struct {
	origin
	Seconds     float64       `json:"seconds"`
	Batches     int           `json:"batches"`
	Interrupted bool          `json:"interrupted"`
	Rows        []AuditRow    `json:"rows"`
	Advice      []AuditAdvice `json:"advice"`
}

func (a *Audit) record() auditRecord {
	return auditRecord{
		origin:  originOf(a.Program, a.Command, a.Started, a.Device, a.Why, a.Recipe),
		Seconds: a.Seconds, Batches: a.Batches, Interrupted: a.Interrupted, Rows: a.Rows, Advice: a.Advice,
	}
}

// curve is the mean cosine of one rule over the step indices, for every freeze
// that gives the same.
type curve struct {
	rule    string
	freezes []string
	points  plotter.XYs
}

// sameCosine is how close curves of one rule must be everywhere to be drawn as
// one: less than a line's width. With a one-step solver the freeze of a latent
// only sets the scale, and at one call of the others always, so most are.
const sameCosine = 0.005

func (c *curve) same(other *curve) bool {
	if c.rule != other.rule || len(c.points) != len(other.points) {
		return false
	}
	for i, at := range c.points {
		if at.X != other.points[i].X || math.Abs(at.Y-other.points[i].Y) > sameCosine {
			return false
		}
	}
	return true
}

func (c *curve) label() string { return c.rule + frozen(c.freezes) }

func frozen(freezes []string) string {
	if len(freezes) == 1 && freezes[0] == "" {
		return ""
	}
	return ", " + strings.Join(freezes, " or ") + " frozen"
}

// curves sorts rows with a step index into curves, each rule's name being what
// name says.
func curves(rows []AuditRow, name func(AuditRow) string) (distinct []*curve) {
	var all []*curve
	for _, row := range rows {
		if row.StepIndex == nil {
			continue
		}
		i := slices.IndexFunc(all, func(c *curve) bool { return c.rule == name(row) && c.freezes[0] == row.Freeze })
		if i < 0 {
			i = len(all)
			all = append(all, &curve{rule: name(row), freezes: []string{row.Freeze}})
		}
		all[i].points = append(all[i].points, plotter.XY{X: float64(*row.StepIndex), Y: row.CosineMean})
	}
	for _, c := range all {
		if j := slices.IndexFunc(distinct, c.same); j >= 0 {
			distinct[j].freezes = append(distinct[j].freezes, c.freezes...)
		} else {
			distinct = append(distinct, c)
		}
	}
	return distinct
}

// curves are those that the section's left or only panel draws.
func (s AuditSection) curves() []*curve {
	if s.Variable == "latents" {
		return curves(s.Rows, func(r AuditRow) string { return r.Method })
	}
	return curves(s.Draws(), func(AuditRow) string { return "one call" })
}

// curveColors are the curves' colours by order of appearance.
var curveColors = []color.RGBA{brand, {217, 119, 6, 255}, {13, 148, 136, 255}, {190, 24, 93, 255}, ink}

// style draws the kept methods solid and the one that keeps nothing dashed.
func (c *curve) style(i int) draw.LineStyle {
	style := draw.LineStyle{Color: curveColors[i%len(curveColors)], Width: vg.Points(2.2)}
	if c.rule == "identity" {
		style.Dashes = []vg.Length{vg.Points(6), vg.Points(3)}
	}
	return style
}

// writeChart draws one variable, a section for every number of steps: the latents
// a panel each, at most two side by side; the others two panels, what single
// calls give and what the rules make of it.
func (a *Audit) writeChart(w io.Writer, variable string) error {
	var panels []*plot.Plot
	var sections []AuditSection
	lowest := 0.0
	for _, section := range a.Sections() {
		if section.Variable != variable {
			continue
		}
		sections = append(sections, section)
		for _, row := range section.Rows {
			lowest = min(lowest, row.CosineMean)
		}
		for _, row := range section.Rules() {
			lowest = min(lowest, row.CosineMin)
		}
	}
	for _, section := range sections {
		p, err := section.plot(lowest)
		if err != nil {
			return err
		}
		p.Title.Text = section.Title()
		if len(sections) == 1 {
			p.Title.Text = a.Recipe.Name + ": " + p.Title.Text
		}
		panels = append(panels, p)
		if variable == "latents" {
			continue
		}
		if p, err = section.plotRules(lowest); err != nil {
			return err
		}
		panels = append(panels, p)
	}
	columns := min(2, max(1, len(panels)))
	rows := max(1, (len(panels)+columns-1)/columns)
	plots := make([][]*plot.Plot, rows)
	for i := range plots {
		plots[i] = make([]*plot.Plot, columns)
	}
	for i, p := range panels {
		plots[i/columns][i%columns] = p
	}
	width := 7.5 * vg.Inch
	if columns > 1 {
		width = 11 * vg.Inch
	}
	canvas := vgimg.NewWith(vgimg.UseWH(width, vg.Length(rows)*4.2*vg.Inch), vgimg.UseDPI(150), vgimg.UseBackgroundColor(paper))
	tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: vg.Points(18), PadY: vg.Points(18),
		PadTop: vg.Points(10), PadBottom: vg.Points(12), PadLeft: vg.Points(14), PadRight: vg.Points(18)}
	for i, row := range plot.Align(plots, tiles, draw.New(canvas)) {
		for j, at := range row {
			if plots[i][j] != nil {
				plots[i][j].Draw(at)
			}
		}
	}
	_, err := vgimg.PngCanvas{Canvas: canvas}.WriteTo(w)
	return err
}

// plot draws the cosine over the step index; all panels of a chart share the
// lower end of the cosine.
func (s AuditSection) plot(lowest float64) (*plot.Plot, error) {
	p := newPlot()
	p.X.Label.Text = "step index of the state, 0 is the start latent"
	if s.Variable != "latents" {
		p.X.Label.Text = "index of the call that is kept alone"
	}
	p.Y.Label.Text = "cosine to full back-propagation"
	p.X.Min, p.X.Max = 0, max(1, float64(s.Calls()-1))
	p.Y.Min, p.Y.Max = lowest-0.05, 1.05
	zero := plotter.XYs{{X: p.X.Min}, {X: p.X.Max}}
	if err := addLine(p, zero, zeroLine()); err != nil {
		return nil, err
	}
	p.Legend.YOffs = vg.Points(22) // above the zero line, under curves that end at 1
	for i, c := range s.curves() {
		style := c.style(i)
		if err := addLine(p, c.points, style); err != nil {
			return nil, err
		}
		if len(c.points) == 1 { // a line of one point is invisible
			if err := addDots(p, c.points, style.Color); err != nil {
				return nil, err
			}
		}
		p.Legend.Add(c.label(), &plotter.Line{LineStyle: style})
	}
	return p, nil
}

func zeroLine() draw.LineStyle {
	return draw.LineStyle{Color: color.NRGBA{muted.R, muted.G, muted.B, 140}, Width: vg.Points(0.8)}
}

func addDots(p *plot.Plot, xys plotter.XYs, c color.Color) error {
	dots, err := plotter.NewScatter(xys)
	if err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	dots.GlyphStyle = draw.GlyphStyle{Color: c, Radius: vg.Points(3.5), Shape: draw.CircleGlyph{}}
	p.Add(dots)
	return nil
}

// ruleLine is one line of a panel of rules: the rows of the freezes that give the
// same.
type ruleLine struct {
	AuditRow
	freezes []string
}

// rules joins rows that differ in the freeze and in nothing that can be seen.
func (s AuditSection) rules() (all []ruleLine) {
	for _, row := range s.Rules() {
		i := slices.IndexFunc(all, func(r ruleLine) bool {
			return r.Rule() == row.Rule() && math.Abs(r.CosineMean-row.CosineMean) <= sameCosine && math.Abs(r.CosineMin-row.CosineMin) <= sameCosine
		})
		if i < 0 {
			all = append(all, ruleLine{row, []string{row.Freeze}})
		} else {
			all[i].freezes = append(all[i].freezes, row.Freeze)
		}
	}
	return all
}

// plotRules draws a line for every rule, from the lowest cosine to a dot at the
// mean, with the number beside it.
func (s AuditSection) plotRules(lowest float64) (*plot.Plot, error) {
	p := newPlot()
	p.Title.Text = "rules that choose the calls"
	p.X.Label.Text = "cosine: the mean, and down to the lowest of the " + s.Unit()
	p.X.Min, p.X.Max = lowest-0.05, 1.15
	p.X.Tick.Marker = roundTicks{}
	all := s.rules()
	p.Y.Min, p.Y.Max = -0.7, float64(len(all))-0.3
	var ticks plot.ConstantTicks
	if err := addLine(p, plotter.XYs{{X: 0, Y: p.Y.Min}, {X: 0, Y: p.Y.Max}}, zeroLine()); err != nil {
		return nil, err
	}
	var means plotter.XYs
	var labels plotter.XYLabels
	for i, r := range all {
		y := float64(len(all) - 1 - i)
		ticks = append(ticks, plot.Tick{Value: y, Label: r.Rule() + shortFreezes(r.freezes)})
		line := draw.LineStyle{Color: color.NRGBA{brand.R, brand.G, brand.B, 110}, Width: vg.Points(2)}
		if err := addLine(p, plotter.XYs{{X: r.CosineMin, Y: y}, {X: r.CosineMean, Y: y}}, line); err != nil {
			return nil, err
		}
		means = append(means, plotter.XY{X: r.CosineMean, Y: y})
		labels.XYs = append(labels.XYs, plotter.XY{X: r.CosineMean, Y: y})
		labels.Labels = append(labels.Labels, fmt.Sprintf("%.2f", r.CosineMean))
	}
	p.Y.Tick.Marker = ticks
	if len(all) == 0 {
		return p, nil
	}
	if err := addDots(p, means, brand); err != nil {
		return nil, err
	}
	numbers, err := plotter.NewLabels(labels)
	if err != nil {
		return nil, fmt.Errorf("chart: %w", err)
	}
	for i := range numbers.TextStyle {
		style := &numbers.TextStyle[i]
		style.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Points(10)}
		style.Color, style.YAlign = ink, text.YCenter
	}
	numbers.Offset = vg.Point{X: vg.Points(7), Y: vg.Points(1.5)} // digits have no descenders to centre by
	p.Add(numbers)
	return p, nil
}

// shortFreezes is frozen for an axis.
func shortFreezes(freezes []string) string {
	if len(freezes) == 1 && freezes[0] == "" {
		return ""
	}
	return ", " + strings.Join(freezes, " or ")
}
