package report

import (
	"bytes"
	"image/png"
	"math"
	"testing"
)

func TestPanels(t *testing.T) {
	order := []string{"full", "a method with a long name", "another one with a long name", "and one more with a long name"}
	line := func(name string, points ...[2]float64) Line { return Line{Name: name, Points: points} }
	panels := []Panel{
		{Title: "both logarithmic", LogX: true, LogY: true, Lines: []Line{
			line("full", [2]float64{0, 3}, [2]float64{1, 3}, [2]float64{100, 0}, [2]float64{1e4, 1e-5}, [2]float64{2e4, math.Inf(1)}),
			line(order[1], [2]float64{1, 2}, [2]float64{50, .1})}},
		{Title: "nothing on a logarithmic axis", LogX: true, LogY: true, Lines: []Line{line("full", [2]float64{0, 0})}},
		{Title: "one point", Lines: []Line{line(order[2], [2]float64{3, 3})}},
		{Title: "shares", Percent: true, LogX: true, Lines: []Line{line(order[3], [2]float64{5, -.2}, [2]float64{100, .95})}},
		{Title: "empty"},
	}
	var out bytes.Buffer
	if err := WritePanels(&out, 2, order, panels); err != nil {
		t.Fatal(err)
	}
	image, err := png.Decode(&out)
	if err != nil {
		t.Fatal(err)
	}
	if b := image.Bounds(); b.Dx() < 1000 || b.Dy() < 3*3*130 {
		t.Errorf("the chart is %v, want two columns and three rows", b)
	}
	for _, c := range []struct {
		low, high float64
		want      string
	}{{1e-3, 1, "0.001 0.01 0.1 1"}, {20, 100, "20 50 100"}, {1e-8, 1, "1e-08 1e-06 0.0001 0.01 1"}} {
		labels := ""
		for _, tick := range (logTicks{}).Ticks(c.low, c.high) {
			if tick.Label != "" {
				labels += " " + tick.Label
			}
		}
		if labels = labels[1:]; labels != c.want {
			t.Errorf("ticks from %v to %v: %s, want %s", c.low, c.high, labels, c.want)
		}
	}
}
