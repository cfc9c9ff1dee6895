package report

import (
	"fmt"
	"image/color"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// series returns the mean loss after every update, and each picture's own.
func (r *Run) series() (mean plotter.XYs, each []plotter.XYs) {
	losses := r.Result.Losses
	each = make([]plotter.XYs, r.rows())
	for u, row := range losses {
		sum := 0.0
		for i, loss := range row {
			sum += loss
			each[i] = append(each[i], plotter.XY{X: float64(u), Y: loss})
		}
		mean = append(mean, plotter.XY{X: float64(u), Y: sum / float64(len(row))})
	}
	return mean, each
}

// writeChart draws the loss over the updates: one faint line per picture, the
// mean on top.
func (r *Run) writeChart(w io.Writer) error {
	average, each := r.series()
	p := newPlot()
	p.Title.Text = r.Recipe.Name
	p.X.Label.Text = "update"
	p.Y.Label.Text = "loss"
	p.X.Min, p.Y.Min = 0, 0
	p.X.Max, p.Y.Max = math.Max(1, float64(len(average)-1)), 1e-12
	for _, xy := range flatten(each) {
		p.Y.Min, p.Y.Max = math.Min(p.Y.Min, xy.Y), math.Max(p.Y.Max, xy.Y)
	}
	p.Y.Max += 0.04 * (p.Y.Max - p.Y.Min)

	faint := draw.LineStyle{Color: color.NRGBA{brand.R, brand.G, brand.B, 60}, Width: vg.Points(0.8)}
	bold := draw.LineStyle{Color: brand, Width: vg.Points(2.4)}
	for _, xys := range each {
		if err := addLine(p, xys, faint); err != nil {
			return err
		}
	}
	if err := addLine(p, average, bold); err != nil {
		return err
	}
	p.Legend.Top = true
	p.Legend.Add(fmt.Sprintf("mean of %d", r.rows()), &plotter.Line{LineStyle: bold})
	p.Legend.Add("each picture", &plotter.Line{LineStyle: faint})

	canvas := vgimg.NewWith(vgimg.UseWH(7.5*vg.Inch, 4.2*vg.Inch), vgimg.UseDPI(150), vgimg.UseBackgroundColor(paper))
	p.Draw(draw.Crop(draw.New(canvas), vg.Points(14), vg.Points(-18), vg.Points(12), vg.Points(-10)))
	_, err := vgimg.PngCanvas{Canvas: canvas}.WriteTo(w)
	return err
}

// newPlot is an empty plot in this package's ink: whole numbers along the
// bottom, a horizontal grid.
func newPlot() *plot.Plot {
	p := plot.New()
	sans := func(style *text.Style, size float64, c color.Color) {
		style.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Points(size)}
		style.Color = c
	}
	p.BackgroundColor = paper
	sans(&p.Title.TextStyle, 14, ink)
	p.Title.Padding = vg.Points(10)
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		sans(&axis.Label.TextStyle, 11, muted)
		axis.Label.Padding = vg.Points(6)
		sans(&axis.Tick.Label, 10, muted)
		axis.LineStyle.Color = rule
		axis.Tick.LineStyle.Color = rule
		axis.Padding = vg.Points(4)
	}
	p.X.Tick.Marker = wholeTicks{}
	p.Y.Tick.Marker = roundTicks{}
	p.Legend.Padding = vg.Points(3)
	p.Legend.XOffs, p.Legend.YOffs = vg.Points(-6), vg.Points(-4)
	sans(&p.Legend.TextStyle, 10, muted)

	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color = rule
	grid.Horizontal.Width = vg.Points(0.5)
	p.Add(grid)
	return p
}

func addLine(p *plot.Plot, xys plotter.XYs, style draw.LineStyle) error {
	if len(xys) == 0 {
		return nil
	}
	line, err := plotter.NewLine(xys)
	if err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	line.LineStyle = style
	p.Add(line)
	return nil
}

func flatten(each []plotter.XYs) plotter.XYs {
	var all plotter.XYs
	for _, xys := range each {
		all = append(all, xys...)
	}
	return all
}

// roundTicks marks about four round losses.
type roundTicks struct{}

func (roundTicks) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for _, v := range niceTicks(low, high) {
		ticks = append(ticks, plot.Tick{Value: v, Label: number(v)})
	}
	return ticks
}

// wholeTicks marks whole updates only.
type wholeTicks struct{}

func (wholeTicks) Ticks(low, high float64) []plot.Tick {
	step := 1.0
	for i := 0; (high-low)/step > 8; i++ {
		step *= []float64{2, 2.5, 2}[i%3] // 1 2 5 10 20 50 ...
	}
	var ticks []plot.Tick
	for x := math.Ceil(low/step) * step; x <= high; x += step {
		ticks = append(ticks, plot.Tick{Value: x, Label: fmt.Sprintf("%.0f", x)})
	}
	return ticks
}
