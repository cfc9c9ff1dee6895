package report

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"image"
	"image/draw"
	"image/png"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/sdo-go/sdo/engine"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("report").Parse(pageText))

// page is what page.html shows. Pictures travel at their own size, those of films
// at most at filmSide, and small ones are enlarged by the browser.
type page struct {
	Photos            bool         // pictures are too large to be enlarged pixel by pixel
	Layout            template.CSS // the pictures' shape, and how many stand side by side
	Name, Description string
	Interrupted       bool
	Chips             []string
	Hero              *hero
	Cards             []card
	Tiles             []tile
	Film              *strip
	Steps             *strip
	Chart             chart
	Table             []row
	HasJudge          bool
	Facts             []fact
	Recipe            string
}

type hero struct {
	Label               string
	Before, After       string
	BeforeBar, AfterBar float64 // percent
}

type card struct{ Value, Unit, Label string }

type fact struct{ Key, Value string }

type tile struct {
	Before, After template.URL
	Caption       string
	Yes           bool
	Alt           string
}

// strip is frames x pictures in one image.
type strip struct {
	Sprite   template.URL
	Labels   []string
	Frames   int
	Pictures []int
}

type chart struct {
	Each       []string // points of a polyline
	Mean       string
	XTicks     []tick
	YTicks     []tick
	Width      float64
	Height     float64
	Left, Base float64
	Right      float64
}

type tick struct {
	At    float64
	Label string
}

type row struct {
	N                       int
	Updates                 int
	LossBefore, LossAfter   string
	Drift, Norm             string
	JudgeBefore, JudgeAfter bool
}

// SpriteStyle shows cell (picture i, frame f) of a strip.
func (s *strip) SpriteStyle(i, f int) template.CSS {
	at := func(k, n int) float64 {
		if n < 2 {
			return 0
		}
		return 100 * float64(k) / float64(n-1)
	}
	return template.CSS(fmt.Sprintf("background-position:%.4f%% %.4f%%", at(i, len(s.Pictures)), at(f, s.Frames)))
}

// Size is the background size of every cell.
func (s *strip) Size() template.CSS {
	return template.CSS(fmt.Sprintf("background-size:%d%% %d%%", 100*len(s.Pictures), 100*s.Frames))
}

func (r *Run) writePage(w io.Writer) error {
	p, err := r.page()
	if err != nil {
		return err
	}
	return pageTemplate.Execute(w, p)
}

func (r *Run) page() (*page, error) {
	s, rec := r.Summary(), r.Recipe
	p := &page{
		Name: rec.Name, Description: cmp.Or(rec.Description, rec.Prompt), Interrupted: s.Interrupted,
		Recipe: string(rec.Canonical()), HasJudge: r.Judge != nil, Photos: r.photos(),
	}
	across, film := 4, 8
	if p.Photos { // few large pictures have all of the room
		across, film = min(4, r.rows()), max(2, min(8, r.rows()))
	}
	p.Layout = template.CSS(fmt.Sprintf("--shape:%d/%d;--across:%d;--film:%d", r.Width, r.Height, across, film))
	p.Chips = []string{
		rec.Model, rec.Method.Name, fmt.Sprintf("%d steps", rec.Sampler.NumInferenceSteps),
		r.Started.Format("2 January 2006, 15:04"),
	}
	if j := r.Judge; j != nil {
		p.Hero = &hero{Label: j.Label, Before: percent(*s.JudgeBefore), After: percent(*s.JudgeAfter),
			BeforeBar: 100 * *s.JudgeBefore, AfterBar: 100 * *s.JudgeAfter}
	}
	p.Cards = []card{
		{number(s.Updates), "updates", "on average per picture"},
		{number(s.LossAfter), "", fmt.Sprintf("loss, from %s", number(s.LossBefore))},
		{number(s.Drift), "rms", "change of a picture, of its range of 2"},
		{number(s.LatentNorm), "× noise", "norm of the latents"},
		{fmt.Sprint(s.Counters.NetworkCalls), "calls", fmt.Sprintf("of the network, and %d backward", s.Counters.BackwardCalls)},
		{engine.Bytes(r.peak()), "", "activations at the most"},
	}
	before, err := pictures(r.Result.Before, r.rows(), r.Channels, r.Width, r.Height)
	if err != nil {
		return nil, err
	}
	after, err := pictures(r.Result.Samples, r.rows(), r.Channels, r.Width, r.Height)
	if err != nil {
		return nil, err
	}
	drift := Drift(r.Result.Before, r.Result.Samples, r.rows())
	radius := math.Sqrt(float64(r.latent().Size()))
	for i := range before {
		t := tile{Caption: count(r.Result.RowUpdates[i], "update"), Alt: fmt.Sprintf("picture %d", i+1)}
		if t.Before, err = dataURI(before[i]); err != nil {
			return nil, err
		}
		if t.After, err = dataURI(after[i]); err != nil {
			return nil, err
		}
		line := row{N: i + 1, Updates: r.Result.RowUpdates[i], LossAfter: number(r.Result.BestLoss[i]),
			Drift: number(drift[i]), Norm: number(r.Result.LatentNorms[i] / radius)}
		if len(r.Result.Losses) > 0 {
			line.LossBefore = number(r.Result.Losses[0][i])
		}
		if j := r.Judge; j != nil {
			t.Yes = j.After[i]
			line.JudgeBefore, line.JudgeAfter = j.Before[i], j.After[i]
		}
		p.Tiles, p.Table = append(p.Tiles, t), append(p.Table, line)
	}
	frames, err := r.film(32)
	if err != nil {
		return nil, err
	}
	if p.Film, err = r.strip(frames, r.rows(), "update %d"); err != nil {
		return nil, err
	}
	if len(r.Steps) > 1 {
		if p.Steps, err = r.strip(thin(r.Steps, 11), min(4, r.rows()), "step %d"); err != nil {
			return nil, err
		}
	}
	p.Chart = r.chart()
	name := r.Device.Name
	if r.Device.Software {
		name += " (software)"
	}
	p.Facts = []fact{
		{"Device", name}, {"Driver", r.Device.Driver}, {"Chosen because", r.Why},
		{"Time", (time.Duration(r.Seconds*10) * time.Second / 10).String()},
		{"Activations planned", engine.Bytes(r.PlannedBytes)}, {"Activations measured", engine.Bytes(r.PeakBytes)},
		{"Stopped by", r.stoppedBy()}, {"Left alone for drift", r.drifted()}, {"Guidance scale found", r.guidance()},
		{"Network calls", fmt.Sprint(s.Counters.NetworkCalls)}, {"Backward calls", fmt.Sprint(s.Counters.BackwardCalls)},
		{"Program", strings.TrimSpace(r.Program.Version + " " + r.Program.Commit)},
		{"Built with", strings.TrimSpace(r.Program.Go + " " + r.Program.Platform)},
		{"Command", typed(r.Command)},
	}
	kept := p.Facts[:0]
	for _, f := range p.Facts {
		if f.Value != "" {
			kept = append(kept, f)
		}
	}
	p.Facts = kept
	return p, nil
}

// photos reports whether pictures are shown as photographs are.
func (r *Run) photos() bool { return max(r.Width, r.Height) > 64 }

// typed is a command as a shell takes it.
func typed(command []string) string {
	words := slices.Clone(command)
	for i, word := range words {
		if word == "" || strings.IndexFunc(word, special) >= 0 {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// special reports whether a shell may take a character for more than itself.
func special(c rune) bool {
	return !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune("-_./:=,+@%", c)
}

// stoppedBy says that the judge is no second opinion in this run.
func (r *Run) stoppedBy() string {
	if r.Judge == nil || !r.Judge.Stopped {
		return ""
	}
	return "the judge, whose share is therefore no second opinion"
}

// drifted lists the pictures that the drift limit stopped.
func (r *Run) drifted() string {
	var which []string
	for i, drifted := range r.Result.Drifted {
		if drifted {
			which = append(which, fmt.Sprint(i+1))
		}
	}
	if which == nil {
		return ""
	}
	return fmt.Sprintf("pictures %s, at the limit of %v", strings.Join(which, ", "), r.Recipe.Guards.DriftLimit)
}

// guidance lists the scale that was found for each picture, where it varied.
func (r *Run) guidance() string {
	var scales []string
	for _, s := range r.Result.GuidanceScale {
		scales = append(scales, number(s))
	}
	return strings.Join(scales, ", ")
}

func (r *Run) peak() int64 { return max(r.PlannedBytes, r.PeakBytes) }

// strip draws the first n pictures of every frame into one image, a frame per
// row.
func (r *Run) strip(frames []Frame, n int, label string) (*strip, error) {
	s := &strip{Frames: len(frames)}
	cell := within(image.Pt(r.Width, r.Height), filmSide)
	sprite := image.NewNRGBA(image.Rect(0, 0, n*cell.X, len(frames)*cell.Y))
	for f, frame := range frames {
		for i, pic := range frame.Pictures[:n] {
			draw.Draw(sprite, image.Rectangle{Max: cell}.Add(image.Pt(i*cell.X, f*cell.Y)), pic, image.Point{}, draw.Src)
		}
		s.Labels = append(s.Labels, fmt.Sprintf(label, frame.At))
	}
	for i := range n {
		s.Pictures = append(s.Pictures, i)
	}
	var err error
	s.Sprite, err = dataURI(sprite)
	return s, err
}

func dataURI(img image.Image) (template.URL, error) {
	var buf bytes.Buffer
	level := png.BestCompression
	if size := img.Bounds().Size(); size.X*size.Y > 1<<16 { // a photograph, which gets hardly smaller
		level = png.DefaultCompression
	}
	if err := (&png.Encoder{CompressionLevel: level}).Encode(&buf, img); err != nil {
		return "", err
	}
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(buf.Bytes())), nil
}

// chart lays the loss out in a 720 x 300 box.
func (r *Run) chart() chart {
	c := chart{Width: 720, Height: 300, Left: 52, Base: 262, Right: 708}
	average, each := r.series()
	low, high := 0.0, 1e-12
	for _, xy := range flatten(each) {
		low, high = math.Min(low, xy.Y), math.Max(high, xy.Y)
	}
	last := math.Max(1, float64(len(average)-1))
	x := func(v float64) float64 { return c.Left + (c.Right-c.Left)*v/last }
	y := func(v float64) float64 { return c.Base - (c.Base-12)*(v-low)/(high-low) }
	points := func(xys interface {
		Len() int
		XY(int) (float64, float64)
	}) string {
		var b strings.Builder
		for i := range xys.Len() {
			px, py := xys.XY(i)
			fmt.Fprintf(&b, "%.1f,%.1f ", x(px), y(py))
		}
		return b.String()
	}
	for _, xys := range each {
		c.Each = append(c.Each, points(xys))
	}
	c.Mean = points(average)
	for _, t := range (wholeTicks{}).Ticks(0, last) {
		c.XTicks = append(c.XTicks, tick{x(t.Value), t.Label})
	}
	for _, v := range niceTicks(low, high) {
		c.YTicks = append(c.YTicks, tick{y(v), number(v)})
	}
	return c
}

// niceTicks returns about four round values in [low, high].
func niceTicks(low, high float64) []float64 {
	step := math.Pow(10, math.Floor(math.Log10((high-low)/4)))
	for _, f := range []float64{5, 2} {
		if (high-low)/(step*f) >= 3 {
			step *= f
			break
		}
	}
	var ticks []float64
	for k := math.Ceil(low / step); k*step <= high; k++ {
		ticks = append(ticks, k*step)
	}
	return ticks
}

// number prints three significant digits without an exponent where it can.
func number(x float64) string {
	switch a := math.Abs(x); {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return "–"
	case a == 0:
		return "0"
	case a >= 100:
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return trim(fmt.Sprintf("%.1f", x))
	case a >= 1:
		return trim(fmt.Sprintf("%.2f", x))
	case a >= 1e-3:
		return trim(fmt.Sprintf("%.3f", x))
	}
	return fmt.Sprintf("%.1e", x)
}

func trim(s string) string { return strings.TrimRight(strings.TrimRight(s, "0"), ".") }

func percent(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) }
