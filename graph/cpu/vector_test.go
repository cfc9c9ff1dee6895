package cpu

import (
	"context"
	"math"
	"testing"

	"github.com/sdo-go/sdo/graph"
)

func TestVectorOperations(t *testing.T) {
	ctx := context.Background()
	e := New[float64](Options{Workers: 2})
	defer e.Close()
	x, y := upload(t, e, []float64{1, 2, 3, 4, 5, 6}), upload(t, e, []float64{2, 0, -1, 1, 1, 1})
	read := func(v graph.Tensor) []float64 {
		t.Helper()
		data, err := e.Read(ctx, v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	want := func(what string, got []float64, want ...float64) {
		t.Helper()
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: got %v, want %v", what, got, want)
				return
			}
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dots, err := e.RowDots(ctx, x, y, 3)
	must(err)
	want("row dots", dots, 2, 1, 11)
	must(e.Combine(x, []float64{2, -1, 1}, []graph.Tensor{x, y, x}))
	want("combine in place", read(x), 1, 6, 10, 11, 14, 17)
	must(e.ScaleRows(x, []float64{0, 2}))
	want("scale rows", read(x), 0, 0, 0, 22, 28, 34)
	must(e.Combine(x, nil, nil))
	want("combine of nothing", read(x), 0, 0, 0, 0, 0, 0)
}

// AdamW written out for one element, two steps.
func TestAdam(t *testing.T) {
	const beta1, beta2, eps, decay = 0.9, 0.99, 1e-3, 0.1
	ctx := context.Background()
	e := New[float64](Options{})
	defer e.Close()
	p, m, v := upload(t, e, []float64{1, -2}), upload(t, e, []float64{0, 0}), upload(t, e, []float64{0, 0})
	lr := []float64{0.5, 0}
	wantP, wantM, wantV := 1.0, 0.0, 0.0
	for step, g := range []float64{3, -1} {
		grad := upload(t, e, []float64{g, g})
		if err := e.Adam(p, m, v, grad, lr, beta1, beta2, eps, decay, step+1); err != nil {
			t.Fatal(err)
		}
		wantM = beta1*wantM + (1-beta1)*g
		wantV = beta2*wantV + (1-beta2)*g*g
		n := float64(step + 1)
		mhat, vhat := wantM/(1-math.Pow(beta1, n)), wantV/(1-math.Pow(beta2, n))
		wantP -= lr[0]*mhat/(math.Sqrt(vhat)+eps) + lr[0]*decay*wantP
	}
	got, err := e.Read(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(got[0]-wantP) > 1e-14 || got[1] != -2 {
		t.Errorf("after two steps %v, want [%v -2]", got, wantP)
	}
}

func TestNormalIsTheGraphs(t *testing.T) {
	e := New[float32](Options{Workers: 2})
	defer e.Close()
	const n = 200_003
	v := upload(t, e, make([]float64, n))
	if err := e.Normal(v, 1<<40+5, 3); err != nil {
		t.Fatal(err)
	}
	x, err := e.Read(context.Background(), v)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 1, 2, 3, 4, 77_777, n - 1} {
		if want := float64(float32(graph.Normal(1<<40+5, 3, uint32(i)))); x[i] != want {
			t.Errorf("element %d is %v, want %v", i, x[i], want)
		}
	}
	// Standard errors of the first four moments are about 1/sqrt(n) times 1,
	// 1.4, 3.9 (15 less the squared mean of the third) and 9.8.
	var m1, m2, m3, m4, neighbours float64
	for i, v := range x {
		m1, m2, m3, m4 = m1+v/n, m2+v*v/n, m3+v*v*v/n, m4+v*v*v*v/n
		if i > 0 {
			neighbours += v * x[i-1] / n
		}
	}
	for _, m := range []struct {
		name             string
		got, want, bound float64
	}{
		{"mean", m1, 0, 0.01}, {"variance", m2, 1, 0.014}, {"third moment", m3, 0, 0.039},
		{"fourth moment", m4, 3, 0.1}, {"correlation of neighbours", neighbours, 0, 0.01},
	} {
		if math.Abs(m.got-m.want) > m.bound {
			t.Errorf("%s is %.4f, want %g within %g", m.name, m.got, m.want, m.bound)
		}
	}
}
