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
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
)

// Audit is how far one-step gradients agree with full back-propagation, over
// the states of the rollout. Rows come by number of steps, then by state.
type Audit struct {
	Recipe      *recipes.Recipe
	Rows        []AuditRow
	Device      graph.Device
	Why         string   // why this device was taken
	Command     []string // as typed
	Program     Program
	Started     time.Time
	Seconds     float64
	Batches     int  // asked for
	Interrupted bool // rows may lack pictures, or be missing
}

// AuditRow is one element of what `sdo audit --json` prints: one gradient at
// one state, over all pictures that have a full gradient there. Keys are
// stable.
type AuditRow struct {
	Steps            int     `json:"steps"`
	StepIndex        int     `json:"step_index"` // 0 is the start latent
	Method           string  `json:"method"`
	Freeze           string  `json:"freeze"`
	CosineMean       float64 `json:"cosine_mean"`
	CosineMin        float64 `json:"cosine_min"`
	RelativeNormMean float64 `json:"relative_norm_mean"`
	NegativeShare    float64 `json:"negative_share"`
	KeptOverIdentity float64 `json:"kept_over_identity"`
	Pictures         int     `json:"pictures"`
	LeftOut          int     `json:"left_out"`
	Device           string  `json:"device"`
}

// WriteAudit fills dir with audit.png and then audit.json, each complete or
// absent, and returns their names.
func WriteAudit(dir string, a *Audit) ([]string, error) {
	return writeAll(dir, []file{
		{"audit.png", a.writeChart},
		{"audit.json", func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			return e.Encode(a.record())
		}},
	})
}

// auditRecord is audit.json.
type auditRecord struct {
	Format      int             `json:"format"`
	Program     Program         `json:"program"`
	Command     []string        `json:"command"`
	Started     time.Time       `json:"started"`
	Seconds     float64         `json:"seconds"`
	Device      device          `json:"device"`
	Recipe      *recipes.Recipe `json:"recipe"`
	Batches     int             `json:"batches"`
	Interrupted bool            `json:"interrupted"`
	Rows        []AuditRow      `json:"rows"`
}

func (a *Audit) record() auditRecord {
	return auditRecord{
		Format: Format, Program: a.Program, Command: a.Command, Started: a.Started.UTC().Truncate(time.Second), Seconds: a.Seconds,
		Device: device{a.Device.Kind, a.Device.Name, a.Device.Driver, a.Device.Software, a.Why},
		Recipe: a.Recipe, Batches: a.Batches, Interrupted: a.Interrupted, Rows: a.Rows,
	}
}

// curve is the mean cosine of one method over the states, for every freeze
// that gives the same.
type curve struct {
	method  string
	freezes []string
	points  plotter.XYs
}

// panel is the curves at one number of steps.
type panel struct {
	steps  int
	curves []*curve
}

// sameCosine is how close curves of one method must be everywhere to be drawn
// as one: less than a line's width. With a one-step solver the freeze of a
// latent only sets the scale, so most are.
const sameCosine = 0.005

func (c *curve) same(other *curve) bool {
	if c.method != other.method || len(c.points) != len(other.points) {
		return false
	}
	for i, at := range c.points {
		if at.X != other.points[i].X || math.Abs(at.Y-other.points[i].Y) > sameCosine {
			return false
		}
	}
	return true
}

func (c *curve) label() string { return c.method + ", " + strings.Join(c.freezes, " or ") + " frozen" }

// panels sorts the rows into curves.
func (a *Audit) panels() []panel {
	var all []panel
	for _, row := range a.Rows {
		if len(all) == 0 || all[len(all)-1].steps != row.Steps {
			all = append(all, panel{steps: row.Steps})
		}
		p := &all[len(all)-1]
		i := slices.IndexFunc(p.curves, func(c *curve) bool { return c.method == row.Method && c.freezes[0] == row.Freeze })
		if i < 0 {
			i = len(p.curves)
			p.curves = append(p.curves, &curve{method: row.Method, freezes: []string{row.Freeze}})
		}
		p.curves[i].points = append(p.curves[i].points, plotter.XY{X: float64(row.StepIndex), Y: row.CosineMean})
	}
	for i := range all {
		var distinct []*curve
		for _, c := range all[i].curves {
			if j := slices.IndexFunc(distinct, c.same); j >= 0 {
				distinct[j].freezes = append(distinct[j].freezes, c.freezes...)
			} else {
				distinct = append(distinct, c)
			}
		}
		all[i].curves = distinct
	}
	return all
}

// curveColors are the curves' colours by order of appearance.
var curveColors = []color.RGBA{brand, {217, 119, 6, 255}, {13, 148, 136, 255}, {190, 24, 93, 255}, ink}

// style draws the kept methods solid and the one that keeps nothing dashed.
func (c *curve) style(i int) draw.LineStyle {
	style := draw.LineStyle{Color: curveColors[i%len(curveColors)], Width: vg.Points(2.2)}
	if c.method == "identity" {
		style.Dashes = []vg.Length{vg.Points(6), vg.Points(3)}
	}
	return style
}

// writeChart draws the cosine over the states, a panel for every number of
// steps, at most two side by side.
func (a *Audit) writeChart(w io.Writer) error {
	panels := a.panels()
	columns := min(2, max(1, len(panels)))
	rows := max(1, (len(panels)+columns-1)/columns)
	lowest := 0.0
	for _, row := range a.Rows {
		lowest = min(lowest, row.CosineMean)
	}
	plots := make([][]*plot.Plot, rows)
	for i := range plots {
		plots[i] = make([]*plot.Plot, columns)
	}
	for i, panel := range panels {
		p, err := panel.plot(lowest)
		if err != nil {
			return err
		}
		p.Title.Text = fmt.Sprintf("%d sampler steps", panel.steps)
		if panel.steps == 1 {
			p.Title.Text = "1 sampler step"
		}
		if len(panels) == 1 {
			p.Title.Text = a.Recipe.Name + ", " + p.Title.Text
		}
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

// plot draws one panel; all panels of a chart share the lower end of the
// cosine.
func (n panel) plot(lowest float64) (*plot.Plot, error) {
	p := newPlot()
	p.X.Label.Text = "step index of the state, 0 is the start latent"
	p.Y.Label.Text = "cosine to full back-propagation"
	p.X.Min, p.X.Max = 0, max(1, float64(n.steps-1))
	p.Y.Min, p.Y.Max = lowest-0.05, 1.05
	zero := plotter.XYs{{X: p.X.Min}, {X: p.X.Max}}
	if err := addLine(p, zero, draw.LineStyle{Color: color.NRGBA{muted.R, muted.G, muted.B, 140}, Width: vg.Points(0.8)}); err != nil {
		return nil, err
	}
	p.Legend.YOffs = vg.Points(22) // above the zero line, under curves that end at 1
	for i, c := range n.curves {
		style := c.style(i)
		if err := addLine(p, c.points, style); err != nil {
			return nil, err
		}
		if len(c.points) == 1 { // a line of one point is invisible
			dot, err := plotter.NewScatter(c.points)
			if err != nil {
				return nil, fmt.Errorf("chart: %w", err)
			}
			dot.GlyphStyle = draw.GlyphStyle{Color: style.Color, Radius: vg.Points(3), Shape: draw.CircleGlyph{}}
			p.Add(dot)
		}
		p.Legend.Add(c.label(), &plotter.Line{LineStyle: style})
	}
	return p, nil
}
