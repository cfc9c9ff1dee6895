package engine

import (
	"context"
	"math"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
)

// coloured is noise whose spectrum falls with the frequency: each pixel is
// averaged with its neighbours, and a bright bar crosses it.
func coloured(shape graph.Shape) []float64 {
	x := Noise(3, shape)
	height, width := shape[2], shape[3]
	smooth := make([]float64, len(x))
	for i := range x {
		plane, y, column := i/(height*width)*height*width, i/width%height, i%width
		for dy := range 3 {
			for dx := range 3 {
				smooth[i] += x[plane+(y+dy)%height*width+(column+dx)%width] / 3
			}
		}
		if column == 5 {
			smooth[i] += 2
		}
	}
	return smooth
}

func norm(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	return math.Sqrt(sum)
}

// passed counts the limits of white noise that a row does not keep.
func (w *whiteness) passed(x []float64) (rings, waves int) {
	size := w.shape[2] * w.shape[3]
	mean := norm(x) * norm(x) / float64(len(x))
	for c := range w.shape[1] {
		z := w.transform(x[c*size : (c+1)*size])
		for _, r := range w.rings {
			sum := 0.0
			for _, v := range w.waves[r.first:r.end] {
				power := v.freedom * (real(z[v.at])*real(z[v.at]) + imag(z[v.at])*imag(z[v.at])) / (float64(size) * mean)
				if power > v.most*1.0001 {
					waves++
				}
				sum += power
			}
			if sum < r.least*.9999 || sum > r.most*1.0001 {
				rings++
			}
		}
	}
	return rings, waves
}

func TestColouredNoiseBecomesWhite(t *testing.T) {
	for _, shape := range []graph.Shape{{2, 3, 16, 16}, {2, 1, 28, 28}, {1, 4, 9, 15}} {
		w := newWhiteness(cpu.New[float64](cpu.Options{}), shape)
		row := coloured(shape)[:shape.Size()/shape[0]]
		if rings, waves := w.passed(row); rings < shape[1]*len(w.rings)/2 || waves == 0 {
			t.Fatalf("%v: coloured noise passes %d limits of rings and %d of waves, which is too few for a test", shape, rings, waves)
		}
		before := norm(row)
		was := append([]float64(nil), row...)
		if !w.whiten(row) {
			t.Fatalf("%v: coloured noise passes for white", shape)
		}
		if rings, waves := w.passed(row); rings+waves > 0 {
			t.Errorf("%v: whitened noise passes %d limits of rings and %d of waves", shape, rings, waves)
		}
		if after := norm(row); math.Abs(after-before) > 1e-6*before {
			t.Errorf("%v: the norm went from %g to %g", shape, before, after)
		}
		// The phases stay: each wave is what it was but for a positive factor.
		size := shape[2] * shape[3]
		for c := range shape[1] {
			a, b := w.transform(was[c*size:(c+1)*size]), w.transform(row[c*size:(c+1)*size])
			for i := range a {
				if cross := real(a[i])*imag(b[i]) - imag(a[i])*real(b[i]); math.Abs(cross) > 1e-6*float64(size) || real(a[i])*real(b[i])+imag(a[i])*imag(b[i]) < -1e-9 {
					t.Fatalf("%v: the phase of coefficient %d went from %v to %v", shape, i, a[i], b[i])
				}
			}
		}
		if w.whiten(row) {
			t.Errorf("%v: a second projection moves what the first one made", shape)
		}
	}
}

// White noise passes a limit about as often as the limits are made for, and
// where it does it hardly moves.
func TestWhiteNoiseIsLeftAlone(t *testing.T) {
	shape := graph.Shape{400, 3, 16, 16}
	w := newWhiteness(cpu.New[float64](cpu.Options{}), shape)
	noise := Noise(8, shape)
	cols, moved, furthest := shape.Size()/shape[0], 0, 0.0
	for row := range shape[0] {
		x := noise[row*cols : (row+1)*cols]
		was := append([]float64(nil), x...)
		if w.whiten(x) {
			moved++
			furthest = max(furthest, relative(x, was))
		}
	}
	t.Logf("%d of %d rows moved, at most by %.3f of their norm", moved, shape[0], furthest)
	if share := float64(moved) / float64(shape[0]); share > 2*touched {
		t.Errorf("%.3f of white rows moved, want about %.2f", share, touched)
	}
	if furthest > 0.1 {
		t.Errorf("a white row moved by %.3f of its norm", furthest)
	}
}

// Rows that did not move keep every bit, and so do those at the limits, in the
// precision of the device.
func TestWhiteningLeavesStoppedRows(t *testing.T) {
	ctx := context.Background()
	shape := graph.Shape{3, 3, 16, 16}
	exec := cpu.New[float32](cpu.Options{})
	w := newWhiteness(exec, shape)
	v, err := exec.NewVector(shape.Size())
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Write(ctx, v, coloured(shape)); err != nil {
		t.Fatal(err)
	}
	read := func() []float64 {
		t.Helper()
		x, err := exec.Read(ctx, v)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	changed := func(a, b []float64) (rows [3]bool) {
		for i := range a {
			rows[i/(len(a)/3)] = rows[i/(len(a)/3)] || a[i] != b[i]
		}
		return rows
	}
	moved := []bool{true, false, true}
	before := read()
	if err := w.project(ctx, v, moved); err != nil {
		t.Fatal(err)
	}
	once := read()
	if got := changed(before, once); got != [3]bool{true, false, true} {
		t.Errorf("rows %v changed, want the first and the last", got)
	}
	if err := w.project(ctx, v, moved); err != nil {
		t.Fatal(err)
	}
	if got := changed(once, read()); got != [3]bool{} {
		t.Errorf("rows %v changed by a second projection", got)
	}
}
