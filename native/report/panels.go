package report

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// Panel is one plot of a chart of several.
type Panel struct {
	Title, X, Y string
	LogX, LogY  bool
	Low, High   float64 // of Y; both 0 for what the lines need
	Percent     bool    // Y counts hundredths
	Lines       []Line
}

// Line is a named curve. Lines of one name look alike in every panel of a chart
// and are named once, above all of them.
type Line struct {
	Name   string
	Points [][2]float64 // x, y; on a logarithmic axis those not above 0 are left out
	Dots   bool         // marks without a line between
}

// WritePanels draws the panels as a PNG, columns side by side, under one legend.
// The order of names is that of their colours: what is drawn first wants the
// first.
func WritePanels(w io.Writer, columns int, order []string, panels []Panel) error {
	if len(panels) == 0 {
		panels = []Panel{{Title: "nothing to see"}}
	}
	columns = max(1, min(columns, len(panels)))
	rows := (len(panels) + columns - 1) / columns
	plots := make([][]*plot.Plot, rows)
	for i := range plots {
		plots[i] = make([]*plot.Plot, columns)
	}
	var named []string
	for i, panel := range panels {
		p, err := panel.plot(order)
		if err != nil {
			return err
		}
		plots[i/columns][i%columns] = p
		for _, line := range panel.Lines {
			if len(line.Points) > 0 && !slices.Contains(named, line.Name) {
				named = append(named, line.Name)
			}
		}
	}
	slices.SortFunc(named, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
	width := vg.Length(columns) * 4.6 * vg.Inch
	keys := legend(named, order, width-vg.Points(40))
	top := vg.Length(len(keys))*legendLine + vg.Points(8)
	canvas := vgimg.NewWith(vgimg.UseWH(width, vg.Length(rows)*3.5*vg.Inch+top), vgimg.UseDPI(130), vgimg.UseBackgroundColor(paper))
	whole := draw.New(canvas)
	for i, row := range keys {
		for _, key := range row {
			key.draw(whole, whole.Max.Y-vg.Points(6)-(vg.Length(i)+0.5)*legendLine, order)
		}
	}
	tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: vg.Points(20), PadY: vg.Points(18),
		PadTop: vg.Points(4), PadBottom: vg.Points(10), PadLeft: vg.Points(12), PadRight: vg.Points(16)}
	for i, row := range plot.Align(plots, tiles, draw.Crop(whole, 0, 0, 0, -top)) {
		for j, at := range row {
			if plots[i][j] != nil {
				plots[i][j].Draw(at)
			}
		}
	}
	_, err := vgimg.PngCanvas{Canvas: canvas}.WriteTo(w)
	return err
}

const legendLine = vg.Length(16)

// legendKey is a name with a piece of its line.
type legendKey struct {
	name string
	x    vg.Length
}

var legendText = text.Style{
	Color: ink, Font: font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Points(10)},
	XAlign: draw.XLeft, YAlign: draw.YCenter, Handler: plot.DefaultTextHandler,
}

// legend breaks the names into lines of at most a width.
func legend(names, order []string, width vg.Length) (lines [][]legendKey) {
	at := width + 1
	for _, name := range names {
		wide := legendText.Width(name) + vg.Points(44)
		if at+wide > width {
			lines, at = append(lines, nil), 0
		}
		last := len(lines) - 1
		lines[last] = append(lines[last], legendKey{name, vg.Points(20) + at})
		at += wide
	}
	return lines
}

func (k legendKey) draw(c draw.Canvas, y vg.Length, order []string) {
	c.StrokeLine2(lineStyle(k.name, order), k.x, y, k.x+vg.Points(20), y)
	c.FillText(legendText, vg.Point{X: k.x + vg.Points(25), Y: y}, k.name)
}

// lineColors are those of the names, in order: the reference is ink.
var lineColors = []color.RGBA{ink, brand, {217, 119, 6, 255}, {13, 148, 136, 255}, {190, 24, 93, 255},
	{101, 163, 13, 255}, {2, 132, 199, 255}, {147, 51, 234, 255}, {180, 83, 9, 255}, {100, 116, 139, 255}, {220, 38, 38, 255}, {8, 90, 80, 255}}

// lineStyle dashes every other name, so that two colours a reader cannot tell
// apart still differ.
func lineStyle(name string, order []string) draw.LineStyle {
	i := max(0, slices.Index(order, name))
	style := draw.LineStyle{Color: lineColors[i%len(lineColors)], Width: vg.Points(2)}
	switch i % 3 {
	case 1:
		style.Width = vg.Points(2.6)
	case 2:
		style.Dashes = []vg.Length{vg.Points(6), vg.Points(3)}
	}
	return style
}

func (n Panel) plot(order []string) (*plot.Plot, error) {
	p := newPlot()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = n.Title, n.X, n.Y
	p.Title.TextStyle.Font.Size = vg.Points(12)
	p.X.Tick.Marker, p.Y.Tick.Marker = wholeTicks{}, roundTicks{}
	if n.LogX {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, logTicks{}
	}
	if n.LogY {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, logTicks{}
	}
	if n.Percent {
		p.Y.Tick.Marker = percentTicks{}
	}
	var all plotter.XYs
	for _, line := range n.Lines {
		var xys plotter.XYs
		for _, at := range line.Points {
			if n.LogX && at[0] <= 0 || n.LogY && at[1] <= 0 || math.IsInf(at[1], 0) || math.IsNaN(at[1]) {
				continue
			}
			xys = append(xys, plotter.XY{X: at[0], Y: at[1]})
		}
		all = append(all, xys...)
		style := lineStyle(line.Name, order)
		if !line.Dots {
			if err := addLine(p, xys, style); err != nil {
				return nil, err
			}
		}
		if len(xys) > 0 && (line.Dots || len(xys) < 8) {
			dots, err := plotter.NewScatter(xys)
			if err != nil {
				return nil, fmt.Errorf("chart: %w", err)
			}
			dots.GlyphStyle = draw.GlyphStyle{Color: style.Color, Radius: vg.Points(2.8), Shape: draw.CircleGlyph{}}
			p.Add(dots)
		}
	}
	if len(all) == 0 {
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 1, 10, 1, 10 // nothing to see, on any scale
		return p, nil
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = all[0].X, all[0].X, all[0].Y, all[0].Y
	for _, xy := range all {
		p.X.Min, p.X.Max = min(p.X.Min, xy.X), max(p.X.Max, xy.X)
		p.Y.Min, p.Y.Max = min(p.Y.Min, xy.Y), max(p.Y.Max, xy.Y)
	}
	if n.Low != 0 || n.High != 0 {
		p.Y.Min, p.Y.Max = n.Low, n.High
	} else if !n.LogY {
		p.Y.Min = min(0, p.Y.Min)
		p.Y.Max += 0.05 * (p.Y.Max - p.Y.Min)
	} else {
		p.Y.Min, p.Y.Max = p.Y.Min/1.3, p.Y.Max*1.3
	}
	if p.X.Max == p.X.Min {
		p.X.Max++
	}
	if p.Y.Max <= p.Y.Min {
		p.Y.Max = p.Y.Min + 1
	}
	return p, nil
}

// logTicks marks the powers of ten, and where there are few of those 2 and 5
// between them; the rest go unlabelled.
type logTicks struct{}

func (logTicks) Ticks(low, high float64) []plot.Tick {
	wide := math.Log10(high / low)
	var ticks []plot.Tick
	for power := math.Floor(math.Log10(low)); power <= math.Log10(high); power++ {
		for digit := 1; digit < 10; digit++ {
			v := float64(digit) * math.Pow(10, power)
			if v < low*(1-1e-9) || v > high*(1+1e-9) {
				continue
			}
			tick := plot.Tick{Value: v}
			if digit == 1 && (wide < 6 || int(power)%2 == 0) || wide < 2.2 && (digit == 2 || digit == 5) {
				tick.Label = fmt.Sprintf("%g", v)
			} else if wide > 3 {
				continue
			}
			ticks = append(ticks, tick)
		}
	}
	return ticks
}

// percentTicks marks round shares in per cent.
type percentTicks struct{}

func (percentTicks) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for _, v := range niceTicks(low, high) {
		ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%.0f %%", 100*v)})
	}
	return ticks
}
