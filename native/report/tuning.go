package report

import (
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"time"

	"golang.org/x/image/draw"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	vgdraw "gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// Tuning is a finished training of a network's parameters.
type Tuning struct {
	Recipe  *recipes.Recipe
	Device  graph.Device
	Why     string   // why this device was taken
	Command []string // as typed
	Program Program
	Started time.Time
	Seconds float64 // of all updates, over all resumes

	Channels      int // 1, grey, or 3
	Width, Height int

	JudgeLabel    string // empty where the judge was asked nothing
	Log           []TuningLine
	Before, After *Look
	Stopped       string // by which guard; empty where all updates were made
	Updates       int    // made; After may be of fewer
	Trained       int    // numbers
	File          string // of the trained numbers
	Bytes         int64  // of the file

	PlannedBytes int64 // activations by the memory plan
	PeakBytes    int64 // activations by the executor's ledger
	Counters     sdo.Counters
}

// TuningLine is a line of log.jsonl. Keys are stable.
type TuningLine struct {
	Update   int     `json:"update"`
	Loss     float64 `json:"loss"`      // mean over the update's pictures, before it
	GradNorm float64 `json:"grad_norm"` // of the mean's gradient, before it is clipped
	Seconds  float64 `json:"seconds"`   // of the tuning so far, over all resumes
	Device   string  `json:"device"`
	HeldOut  *Look   `json:"held_out,omitempty"` // after it, where a look was due
}

// Look is what the network made of the held-out latents after some updates. Keys
// are stable.
type Look struct {
	Update     int      `json:"update"`
	Loss       float64  `json:"loss"`
	Drift      float64  `json:"drift"`      // mean root mean square change of a picture since update 0
	Judge      *float64 `json:"judge"`      // share that has what is wanted; null without a judge
	Attributes []Shares `json:"attributes"` // by the judge

	Approved []bool    `json:"-"` // per picture; nil without a judge
	Images   []float64 `json:"-"`
}

// Shares is how often the judge reads each value of an attribute.
type Shares struct {
	Attribute string    `json:"attribute"`
	Values    []string  `json:"values"`
	Shares    []float64 `json:"shares"`
	Shift     float64   `json:"shift"` // total variation distance from update 0
}

// TuningSummary is the object `sdo tune --json` prints and the heart of run.json.
// Keys are stable.
type TuningSummary struct {
	Name         string             `json:"name"`
	Updates      int                `json:"updates"`      // made
	Update       int                `json:"update"`       // of what is kept
	Stopped      string             `json:"stopped"`      // drift, judge, objective, or empty
	JudgeLabel   string             `json:"judge_label"`  //
	JudgeBefore  *float64           `json:"judge_before"` // shares of held-out pictures, null without a judge
	JudgeAfter   *float64           `json:"judge_after"`
	LossBefore   float64            `json:"loss_before"`
	LossAfter    float64            `json:"loss_after"`
	Drift        float64            `json:"drift"`
	Shift        map[string]float64 `json:"shift"` // by attribute
	Trained      int                `json:"trained"`
	File         string             `json:"file"`
	Bytes        int64              `json:"file_bytes"`
	Seconds      float64            `json:"seconds"`
	Device       string             `json:"device"`
	PlannedBytes int64              `json:"activation_bytes_planned"`
	PeakBytes    int64              `json:"activation_bytes_measured"`
	Counters     sdo.Counters       `json:"counters"` // of this command, not of what it continued
}

// Summary reduces the tuning to one line of numbers.
func (t *Tuning) Summary() TuningSummary {
	s := TuningSummary{
		Name: t.Recipe.Name, Updates: t.Updates, Update: t.After.Update, Stopped: t.Stopped,
		JudgeLabel: t.JudgeLabel, JudgeBefore: t.Before.Judge, JudgeAfter: t.After.Judge,
		LossBefore: t.Before.Loss, LossAfter: t.After.Loss, Drift: t.After.Drift, Shift: map[string]float64{},
		Trained: t.Trained, File: t.File, Bytes: t.Bytes, Seconds: t.Seconds, Device: t.Device.Name,
		PlannedBytes: t.PlannedBytes, PeakBytes: t.PeakBytes, Counters: t.Counters,
	}
	for _, a := range t.After.Attributes {
		s.Shift[a.Attribute] = a.Shift
	}
	return s
}

// WriteTuning fills dir with what a tuning leaves beside the trained numbers,
// run.json last, and returns the names of the files.
func WriteTuning(dir string, t *Tuning) ([]string, error) {
	if t.Channels != 1 && t.Channels != 3 {
		return nil, fmt.Errorf("report: pictures of %d channels cannot be drawn, want 1 or 3", t.Channels)
	}
	return writeAll(dir, []file{
		{"before-after.png", t.writeSheet},
		{"curve.png", t.writeCurve},
		{"run.json", func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			return e.Encode(tuningRecord{
				origin:  originOf(t.Program, t.Command, t.Started, t.Device, t.Why, t.Recipe),
				Summary: t.Summary(), Before: t.Before, After: t.After,
			})
		}},
	})
}

// tuningRecord is run.json of a tuning.
type tuningRecord struct {
	origin
	Summary TuningSummary `json:"summary"`
	Before  *Look         `json:"before"`
	After   *Look         `json:"after"`
}

// shown is how many held-out pictures the sheet shows at the most.
const shown = 32

// writeSheet draws held-out pictures in pairs, what the network made before any
// update above what it makes of the same latent now.
func (t *Tuning) writeSheet(w io.Writer) error {
	n := len(t.Before.Images) / (t.Channels * t.Width * t.Height)
	before, err := pictures(t.Before.Images, n, t.Channels, t.Width, t.Height)
	if err != nil {
		return err
	}
	after, err := pictures(t.After.Images, n, t.Channels, t.Width, t.Height)
	if err != nil {
		return err
	}
	n = min(n, shown)
	pairs := make([]*image.NRGBA, n)
	for i := range pairs {
		pairs[i] = image.NewNRGBA(image.Rect(0, 0, t.Width, 2*t.Height))
		draw.Copy(pairs[i], image.Point{}, before[i], before[i].Bounds(), draw.Src, nil)
		draw.Copy(pairs[i], image.Pt(0, t.Height), after[i], after[i].Bounds(), draw.Src, nil)
	}
	s := sheet{heading: t.Recipe.Name + ", before above after", note: count(t.After.Update, "update"), scale: scaleFor(t.Width, 96), done: -1}
	if t.After.Approved != nil {
		s.note = tally(t.JudgeLabel, t.After.Approved)
		s.caption = make([]caption, n)
		for i := range s.caption {
			s.caption[i].mark = t.After.Approved[i]
		}
	}
	canvas, err := s.draw(pairs)
	if err != nil {
		return err
	}
	return png.Encode(w, canvas)
}

// writeCurve draws the loss over the updates and, below, what the looks saw: the
// judge's share and the drift.
func (t *Tuning) writeCurve(w io.Writer) error {
	last := math.Max(1, float64(t.Updates))
	var training, heldOut, judge, drift plotter.XYs
	add := func(to *plotter.XYs, x int, y float64) { *to = append(*to, plotter.XY{X: float64(x), Y: y}) }
	look := func(l *Look) {
		add(&heldOut, l.Update, l.Loss)
		add(&drift, l.Update, l.Drift)
		if l.Judge != nil {
			add(&judge, l.Update, *l.Judge)
		}
	}
	for _, line := range t.Log {
		if line.Update > 0 {
			add(&training, line.Update-1, line.Loss) // before the update
		}
		if line.HeldOut != nil {
			look(line.HeldOut)
		}
	}
	faint := vgdraw.LineStyle{Color: color.NRGBA{brand.R, brand.G, brand.B, 90}, Width: vg.Points(0.8)}
	bold := vgdraw.LineStyle{Color: brand, Width: vg.Points(2.4)}
	panel := func(label string, lines map[string]plotter.XYs, order []string, styles []vgdraw.LineStyle) (*plot.Plot, error) {
		p := newPlot()
		p.X.Label.Text, p.Y.Label.Text = "update", label
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, last, 0, 1e-12
		for i, name := range order {
			if len(lines[name]) == 0 {
				continue
			}
			for _, xy := range lines[name] {
				p.Y.Max = math.Max(p.Y.Max, xy.Y)
			}
			if err := addLine(p, lines[name], styles[i]); err != nil {
				return nil, err
			}
			p.Legend.Add(name, &plotter.Line{LineStyle: styles[i]})
		}
		p.Legend.Top = true
		p.Y.Max *= 1.25 // the legend stands above the curves
		return p, nil
	}
	top, err := panel("loss", map[string]plotter.XYs{"fresh latents": training, "held-out latents": heldOut},
		[]string{"fresh latents", "held-out latents"}, []vgdraw.LineStyle{faint, bold})
	if err != nil {
		return err
	}
	top.Title.Text = t.Recipe.Name
	said := "judge: " + t.JudgeLabel
	bottom, err := panel("held-out latents", map[string]plotter.XYs{said: judge, "drift": drift}, []string{said, "drift"},
		[]vgdraw.LineStyle{{Color: good, Width: vg.Points(2.4)}, {Color: curveColors[1], Width: vg.Points(2.4)}})
	if err != nil {
		return err
	}
	bottom.Legend.Top, bottom.Legend.YOffs = false, vg.Points(22)
	canvas := vgimg.NewWith(vgimg.UseWH(7.5*vg.Inch, 7*vg.Inch), vgimg.UseDPI(150), vgimg.UseBackgroundColor(paper))
	tiles := vgdraw.Tiles{Rows: 2, Cols: 1, PadY: vg.Points(18), PadTop: vg.Points(10), PadBottom: vg.Points(12), PadLeft: vg.Points(14), PadRight: vg.Points(18)}
	plots := [][]*plot.Plot{{top}, {bottom}}
	for i, row := range plot.Align(plots, tiles, vgdraw.New(canvas)) {
		plots[i][0].Draw(row[0])
	}
	_, err = vgimg.PngCanvas{Canvas: canvas}.WriteTo(w)
	return err
}
