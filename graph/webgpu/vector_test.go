package webgpu

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/sdo-go/sdo/gpu"
	"github.com/sdo-go/sdo/graph"
)

// open returns an executor, or skips where there is no adapter; SDO_REQUIRE_GPU=1
// makes that a failure.
func open(t testing.TB) *Executor {
	t.Helper()
	e, err := Open(context.Background(), "")
	if errors.Is(err, gpu.ErrNoAdapter) && os.Getenv("SDO_REQUIRE_GPU") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("adapter: %s", e.Device().Name)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func random(n int, seed uint64) []float64 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float64, n)
	for i := range x {
		x[i] = float64(float32(r.NormFloat64()))
	}
	return x
}

func upload64(t testing.TB, e *Executor, x []float64) graph.Tensor {
	t.Helper()
	v, err := e.NewVector(len(x))
	if err == nil {
		err = e.Write(context.Background(), v, x)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func download(t testing.TB, e *Executor, v graph.Tensor) []float64 {
	t.Helper()
	x, err := e.Read(context.Background(), v)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func near(t testing.TB, what string, got, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range want {
		if !(math.Abs(got[i]-want[i]) <= tolerance*max(1, math.Abs(want[i]))) {
			t.Fatalf("%s: element %d is %g, want %g (tolerance %g)", what, i, got[i], want[i], tolerance)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCombine(t *testing.T) {
	e := open(t)
	for _, n := range []int{1, 255, 257, 10007} {
		data := make([][]float64, 7)
		xs := make([]graph.Tensor, 7)
		for k := range xs {
			data[k] = random(n, uint64(k))
			xs[k] = upload64(t, e, data[k])
		}
		coeffs := []float64{0.5, -1.25, 2, 0, 1e-3, 3, -0.75}
		sum := func(ks ...int) []float64 {
			out := make([]float64, n)
			for _, k := range ks {
				for i := range out {
					out[i] += coeffs[k] * data[k][i]
				}
			}
			return out
		}
		dst := upload64(t, e, []float64{math.NaN()}[:1:1])
		if n > 1 {
			dst = upload64(t, e, append(random(n-1, 9), math.NaN())) // an unread value must not leak in
		}
		must(t, e.Combine(dst, coeffs, xs))
		near(t, "seven terms", download(t, e, dst), sum(0, 1, 2, 3, 4, 5, 6), 2e-6)

		must(t, e.Combine(xs[1], coeffs[:3], xs[:3]))
		near(t, "in place", download(t, e, xs[1]), sum(0, 1, 2), 2e-6)

		must(t, e.Combine(dst, []float64{1, 2, 0.5}, []graph.Tensor{xs[4], xs[4], xs[4]}))
		want := make([]float64, n)
		for i := range want {
			want[i] = 3.5 * data[4][i]
		}
		near(t, "one tensor thrice", download(t, e, dst), want, 2e-6)

		must(t, e.Combine(dst, nil, nil))
		near(t, "no terms", download(t, e, dst), make([]float64, n), 0)
	}
}

func TestRowDots(t *testing.T) {
	e := open(t)
	for _, shape := range [][2]int{{1, 1}, {3, 5}, {2, 4096}, {2, 4097}, {5, 20011}, {70000, 1}} {
		rows, cols := shape[0], shape[1]
		a, b := random(rows*cols, 1), random(rows*cols, 2)
		x, y := upload64(t, e, a), upload64(t, e, b)
		xy, xx := make([]float64, rows), make([]float64, rows)
		for i := range a {
			xy[i/cols] += a[i] * b[i]
			xx[i/cols] += a[i] * a[i]
		}
		got, err := e.RowDots(context.Background(), x, y, rows)
		must(t, err)
		near(t, "x.y", got, xy, 1e-5)
		got, err = e.RowDots(context.Background(), x, x, rows)
		must(t, err)
		near(t, "x.x", got, xx, 1e-6)
		again, err := e.RowDots(context.Background(), x, x, rows)
		must(t, err)
		near(t, "repeated", again, got, 0)
	}
}

func TestScaleRowsAndAdam(t *testing.T) {
	e := open(t)
	const rows, cols, n = 3, 1001, 3003
	p, m, v, g := random(n, 1), random(n, 2), random(n, 3), random(n, 4)
	for i := range v {
		v[i] *= v[i]
	}
	tp, tm, tv, tg := upload64(t, e, p), upload64(t, e, m), upload64(t, e, v), upload64(t, e, g)
	lr := []float64{0.1, 0, 0.01}
	const beta1, beta2, eps, decay = 0.9, 0.999, 1e-8, 0.01
	for step := 1; step <= 3; step++ {
		must(t, e.Adam(tp, tm, tv, tg, lr, beta1, beta2, eps, decay, step))
		for i := range p {
			m[i] = beta1*m[i] + (1-beta1)*g[i]
			v[i] = beta2*v[i] + (1-beta2)*g[i]*g[i]
			hat1 := m[i] / (1 - math.Pow(beta1, float64(step)))
			hat2 := v[i] / (1 - math.Pow(beta2, float64(step)))
			p[i] -= lr[i/cols] * (hat1/(math.Sqrt(hat2)+eps) + decay*p[i])
		}
	}
	near(t, "p", download(t, e, tp), p, 5e-6)
	near(t, "m", download(t, e, tm), m, 2e-6)
	near(t, "v", download(t, e, tv), v, 2e-6)

	must(t, e.ScaleRows(tg, []float64{2, 0, -0.5}))
	want := make([]float64, n)
	for i := range want {
		want[i] = g[i] * []float64{2, 0, -0.5}[i/cols]
	}
	near(t, "scaled", download(t, e, tg), want, 1e-7)

	many := make([]float64, 5000) // more row scalars than the upload space holds
	for i := range many {
		many[i] = float64(i)
	}
	ones := make([]float64, len(many))
	for i := range ones {
		ones[i] = 1
	}
	to := upload64(t, e, ones)
	must(t, e.ScaleRows(to, many))
	near(t, "many rows", download(t, e, to), many, 0)
}

func TestNormalMatchesGraph(t *testing.T) {
	e := open(t)
	worst := 0.0
	for _, n := range []int{1, 2, 3, 5, 1 << 18} {
		v, err := e.NewVector(n)
		must(t, err)
		for _, seed := range []uint64{0, 42, 0xfedcba9876543210} {
			must(t, e.Normal(v, seed, 7))
			for i, got := range download(t, e, v) {
				want := graph.Normal(seed, 7, uint32(i))
				worst = max(worst, math.Abs(got-want))
				if !(math.Abs(got-want) <= 2e-6) {
					t.Fatalf("seed %d element %d: %g, want %g", seed, i, got, want)
				}
			}
		}
		e.FreeVector(v)
	}
	t.Logf("largest error %.2g", worst)
}

func TestManyQueuedOperationsKeepTheirScalars(t *testing.T) {
	e := open(t)
	x := upload64(t, e, make([]float64, 10))
	one := upload64(t, e, []float64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1})
	for k := range 1000 { // several times the space for uniform blocks
		must(t, e.Combine(x, []float64{1, float64(k)}, []graph.Tensor{x, one}))
	}
	want := make([]float64, 10)
	for i := range want {
		want[i] = 999 * 1000 / 2
	}
	near(t, "sum", download(t, e, x), want, 0)
}
