package benchmark

import (
	"math"
	"testing"

	"github.com/sdo-go/sdo/sdo"
)

// made is a record of one row per column of losses, a look at every update, each
// of which costs calls forward calls and one backward.
func made(calls int, losses ...[]number) *Record {
	r := &Record{Cell: Cell{Vary: sdo.Latents, Updates: len(losses) - 1}}
	for u, l := range losses {
		r.Points = append(r.Points, Point{Update: u, Calls: u * calls, Backward: u, Losses: l})
	}
	return r
}

func TestFinalAndBudget(t *testing.T) {
	r := made(10, []number{8, 4}, []number{4, 2}, []number{2, 1}, []number{1, 3})
	for _, want := range []struct {
		what string
		got  []float64
		row0 float64
		row1 float64
	}{
		{"final", r.final(9), 1, 3},
		{"after two", r.final(2), 2, 1},
		{"within nothing", r.within(5, 2), 8, 4},
		{"within two updates and a bit", r.within(35, 2), 2, 1}, // 12 an update
		{"within the same with a dearer backward", r.within(35, 8), 4, 2},
	} {
		if want.got[0] != want.row0 || want.got[1] != want.row1 {
			t.Errorf("%s: %v, want %v and %v", want.what, want.got, want.row0, want.row1)
		}
	}
	r.Failed = "a loss is not finite"
	r.Updates = 5
	if got := r.final(4); !math.IsInf(got[0], 1) {
		t.Errorf("a run that failed before has loss %v, want infinity", got)
	}
	if got := r.final(3); got[0] != 1 {
		t.Errorf("a run that failed later has loss %v, want 1", got)
	}
}

func TestSaving(t *testing.T) {
	full := made(60, []number{10, 10, 10, 10}, []number{5, 5, 0.05, 5}, []number{1, 1, 0, 1})
	cheap := made(4, []number{10, 10, 10, 10}, []number{4, 9, 9, 9}, []number{2, 8, 0.09, 8}, []number{0.5, 7, 0.08, 7}, []number{0.4, 1, 0.07, 6})
	got := saving(cheap, full, 2, 2)
	for row, want := range []float64{
		1 - 3*6.0/(2*62), // reaches 1 after three updates
		1 - 4*6.0/(2*62),
		1 - 2*6.0/62, // full was at one per cent after one update, this after two
		math.Inf(-1),
	} {
		if math.Abs(got[row]-want) > 1e-12 && got[row] != want {
			t.Errorf("row %d saved %v, want %v", row, got[row], want)
		}
	}
	if own := saving(full, full, 2, 2); own[0] != 0 || own[2] != 0 {
		t.Errorf("a run saves %v against itself", own)
	}
	full.Points[2].Losses[3] = 11 // never better than before
	if got := saving(cheap, full, 2, 2); len(got) != 3 {
		t.Errorf("%d rows count, want the 3 that had to move", len(got))
	}
}

func TestCurve(t *testing.T) {
	a, b := made(10, []number{1, 2, 9}, []number{1, 1, 1}), made(20, []number{3, 4, 9}, []number{5, 5, 5})
	points := curve([]*Record{a, b}, sdo.Latents, 2)
	if len(points) != 2 || points[0].loss != 3.5 || points[1].loss != 3 || points[1].cost != 17 {
		t.Errorf("curve %+v, want losses 3.5 and 3 and a cost of 17", points)
	}
	if got := curve([]*Record{a, b}, sdo.Parameters, 2)[1].loss; math.Abs(got-3) > 1e-12 {
		t.Errorf("the mean is %v, want 3", got)
	}
	if got := reachOf(points, 3.2); got != 17 {
		t.Errorf("3.2 is reached at %v, want 17", got)
	}
	if got := reachOf(points, 2); !math.IsInf(got, 1) {
		t.Errorf("2 is reached at %v, want never", got)
	}
}

func TestQuantile(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		x     []float64
		share float64
		want  float64
	}{
		{[]float64{3, 1, 2}, 0.5, 2}, {[]float64{1, 2, 3, 4}, 0.5, 2.5}, {[]float64{1, 2, 3, 4}, 0, 1}, {[]float64{1, 2, 3, 4}, 1, 4},
		{[]float64{1, inf}, 0.25, 1}, {[]float64{1, 2, inf}, 0.5, 2}, {[]float64{-inf, 0, 1}, 0.1, -inf},
	} {
		if got := quantile(c.x, c.share); got != c.want {
			t.Errorf("quantile %v of %v is %v, want %v", c.share, c.x, got, c.want)
		}
	}
	if !math.IsNaN(quantile(nil, 0.5)) {
		t.Error("the median of nothing is a number")
	}
}

// By hand, from Wilcoxon's ranks: of the third, 33 of 36 with ties, z = 14.5/6.955.
func TestSignedRank(t *testing.T) {
	for _, c := range []struct {
		x    []float64
		want float64
	}{
		{[]float64{1, 2, 3, 4, 5, 6}, 0.03603},
		{[]float64{1, -2, 3, -4, 5, -6}, 0.8339},
		{[]float64{1, 1, 1, 1, -1, 2, 2, 3}, 0.03709},
		{[]float64{0, 0, 0, 1, 2, 3}, 1}, // too few
		{[]float64{1, 2, math.NaN(), 3, 4, 5, 6}, 0.03603},
	} {
		if got := signedRank(c.x); math.Abs(got-c.want) > 2e-4 {
			t.Errorf("p of %v is %.5f, want %.5f", c.x, got, c.want)
		}
	}
}

// Where the start was perfect nothing is added, and 0 over 0 is a tie.
func TestPairOfPerfectStarts(t *testing.T) {
	zero := make([]float64, 8)
	if got := pair(zero, zero, zero); got.ratio != 1 || got.better != 0.5 || got.p != 1 {
		t.Errorf("%+v, want a tie", got)
	}
}

func TestPair(t *testing.T) {
	start := []float64{1, 1, 1, 1, 1, 1, 1, 1}
	got := pair([]float64{.1, .1, .1, .1, .1, .1, .1, .3}, []float64{.2, .2, .2, .2, .2, .2, .1, .2}, start)
	if math.Abs(got.better-(6+.5)/8) > 1e-12 || math.Abs(got.ratio-.101/.201) > 1e-9 || got.p > 0.1 {
		t.Errorf("%+v, want 81 %% better, half the loss, and p below .1", got)
	}
	if got := pair([]float64{1e-9, 1e-9}, []float64{1e-6, 1e-6}, start[:2]); got.ratio < 0.99 {
		t.Errorf("two losses of next to nothing differ by %v", got.ratio)
	}
}

func TestSlope(t *testing.T) {
	if got := slope([]float64{1, 2, 3}, []float64{7, 7, 7}); got != 0 {
		t.Errorf("a flat line has slope %v", got)
	}
	if got := slope([]float64{0, 10, 20}, []float64{10, 20, 30}); math.Abs(got-0.05) > 1e-12 {
		t.Errorf("slope %v, want .05", got)
	}
}

func TestLooks(t *testing.T) {
	for _, sparse := range []bool{false, true} {
		at := looks(64, sparse)
		if !at[0] || !at[64] || !at[10] || !at[60] || len(at) > 30 {
			t.Errorf("looks at %v", at)
		}
	}
}
