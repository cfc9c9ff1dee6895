package cpu

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/sdo-go/sdo/graph"
)

// The tests here compare kernels with direct loops over the formulas, written
// without looking at how the kernels do it.

// evaluate computes one node from its inputs' values.
func evaluate[T Float](t testing.TB, g *graph.Graph, values map[*graph.Node][]float64, out *graph.Node) []float64 {
	t.Helper()
	e := New[T](Options{Workers: 3})
	defer e.Close()
	plan, err := graph.Compile(g, []*graph.Node{out})
	if err != nil {
		t.Fatal(err)
	}
	program, err := e.Compile(plan, nil)
	if err != nil {
		t.Fatal(err)
	}
	var feeds []graph.Feed
	for _, in := range plan.Segments[0].Inputs {
		v := upload(t, e, values[in])
		feeds = append(feeds, graph.Feed{Node: in, From: v})
	}
	result := upload(t, e, make([]float64, out.Shape.Size()))
	if err := program.Run(context.Background(), nil, 0, feeds, []graph.Fetch{{Node: out, To: result}}); err != nil {
		t.Fatal(err)
	}
	got, err := e.Read(context.Background(), result)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func upload[T Float](t testing.TB, e *Executor[T], data []float64) graph.Tensor {
	t.Helper()
	v, err := e.NewVector(len(data))
	if err == nil {
		err = e.Write(context.Background(), v, data)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// normals makes deterministic values.
func normals(seed uint64, n int) []float64 {
	rng := rand.New(rand.NewPCG(seed, 1))
	x := make([]float64, n)
	for i := range x {
		x[i] = rng.NormFloat64()
	}
	return x
}

// wantClose compares by normalised mean squared error.
func wantClose(t *testing.T, what string, got, want []float64, nmse float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d numbers, want %d", what, len(got), len(want))
	}
	var diff, norm float64
	for i := range want {
		diff += (got[i] - want[i]) * (got[i] - want[i])
		norm += want[i] * want[i]
	}
	if !(diff <= nmse*norm) {
		t.Errorf("%s: normalised mean squared error %.3g, want at most %.3g; begins %.4v, want %.4v",
			what, diff/norm, nmse, got[:min(4, len(got))], want[:min(4, len(want))])
	}
}

type convCase struct {
	n, c, h, w, o, kh, kw int
	attrs                 graph.Conv2DAttrs
}

var convCases = []convCase{
	{2, 3, 5, 7, 4, 3, 3, graph.Same(3)},
	{16, 4, 4, 4, 5, 3, 3, graph.Same(3)},
	{70, 2, 2, 3, 3, 3, 3, graph.Same(3)}, // several groups of images, the last one partial
	{1, 2, 41, 37, 3, 3, 3, graph.Same(3)},
	{1, 130, 20, 20, 2, 3, 3, graph.Same(3)}, // several bands of rows
	{3, 5, 6, 6, 4, 1, 1, graph.Same(1)},
	{1, 5, 40, 40, 4, 1, 1, graph.Same(1)},
	{2, 3, 8, 8, 4, 3, 3, graph.Conv2DAttrs{Stride: 2, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1}},
	{2, 3, 8, 9, 4, 3, 3, graph.Conv2DAttrs{Stride: 2, PadBottom: 1, PadRight: 1}},
	{1, 2, 9, 11, 3, 5, 3, graph.Conv2DAttrs{Stride: 3, PadTop: 2, PadRight: 4}},
	{2, 2, 5, 5, 2, 3, 3, graph.Conv2DAttrs{Stride: 1}},
	{2, 2, 3, 4, 2, 2, 4, graph.Conv2DAttrs{Stride: 1, PadTop: 3, PadLeft: 5, PadBottom: 2}}, // pads beyond the kernel
	{1, 1, 1, 1, 1, 3, 3, graph.Same(3)},
	{1, 3, 2, 1, 2, 5, 5, graph.Same(5)},
}

func TestConv2DAgainstLoops(t *testing.T) {
	for _, k := range convCases {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			g := graph.New()
			x, w, b := g.Input("x", k.n, k.c, k.h, k.w), g.Input("w", k.o, k.c, k.kh, k.kw), g.Input("b", k.o)
			y := g.Conv2D(x, w, b, k.attrs)
			dy := g.Input("dy", y.Shape...)
			grads := graph.Grad(g, []*graph.Node{y}, []*graph.Node{dy}, []*graph.Node{x, w, b})
			values := map[*graph.Node][]float64{}
			for i, n := range []*graph.Node{x, w, b, dy} {
				values[n] = normals(uint64(i), n.Shape.Size())
			}

			oh, ow := y.Shape[2], y.Shape[3]
			wantY, wantDX := make([]float64, y.Shape.Size()), make([]float64, x.Shape.Size())
			wantDW, wantDB := make([]float64, w.Shape.Size()), make([]float64, k.o)
			for n := range k.n {
				for o := range k.o {
					for oy := range oh {
						for ox := range ow {
							at := ((n*k.o+o)*oh+oy)*ow + ox
							wantY[at] = values[b][o]
							wantDB[o] += values[dy][at]
							for c := range k.c {
								for ky := range k.kh {
									for kx := range k.kw {
										iy, ix := oy*k.attrs.Stride+ky-k.attrs.PadTop, ox*k.attrs.Stride+kx-k.attrs.PadLeft
										if iy < 0 || iy >= k.h || ix < 0 || ix >= k.w {
											continue
										}
										xi, wi := ((n*k.c+c)*k.h+iy)*k.w+ix, ((o*k.c+c)*k.kh+ky)*k.kw+kx
										wantY[at] += values[x][xi] * values[w][wi]
										wantDX[xi] += values[dy][at] * values[w][wi]
										wantDW[wi] += values[dy][at] * values[x][xi]
									}
								}
							}
						}
					}
				}
			}
			wantClose(t, "y", evaluate[float64](t, g, values, y), wantY, 1e-28)
			wantClose(t, "dx", evaluate[float64](t, g, values, grads[0]), wantDX, 1e-28)
			wantClose(t, "dw", evaluate[float64](t, g, values, grads[1]), wantDW, 1e-28)
			wantClose(t, "db", evaluate[float64](t, g, values, grads[2]), wantDB, 1e-28)
			wantClose(t, "y in float32", evaluate[float32](t, g, values, y), wantY, 1e-12)
		})
	}
}

func TestMatMulAgainstLoops(t *testing.T) {
	for _, size := range [][3]int{{1, 1, 1}, {3, 5, 7}, {67, 2, 33}, {2, 90, 71}, {64, 64, 64}} {
		for _, attrs := range []graph.MatMulAttrs{{}, {TransA: true}, {TransB: true}, {TransA: true, TransB: true}} {
			m, k, n := size[0], size[1], size[2]
			g := graph.New()
			a, b := g.Input("a", m, k), g.Input("b", k, n)
			stepM, stepK, stepKB, stepN := k, 1, n, 1
			if attrs.TransA {
				g = graph.New()
				a, b = g.Input("a", k, m), g.Input("b", k, n)
				stepM, stepK = 1, m
			}
			if attrs.TransB {
				g = graph.New()
				a, b = g.Input("a", a.Shape...), g.Input("b", n, k)
				stepKB, stepN = 1, k
			}
			bias := g.Input("bias", n)
			y := g.MatMul(a, b, bias, attrs)
			values := map[*graph.Node][]float64{a: normals(1, m*k), b: normals(2, k*n), bias: normals(3, n)}
			want := make([]float64, m*n)
			for i := range m {
				for j := range n {
					want[i*n+j] = values[bias][j]
					for l := range k {
						want[i*n+j] += values[a][i*stepM+l*stepK] * values[b][l*stepKB+j*stepN]
					}
				}
			}
			wantClose(t, fmt.Sprint(size, attrs), evaluate[float64](t, g, values, y), want, 1e-28)
		}
	}
}

func TestGroupNormAgainstLoops(t *testing.T) {
	const n, c, pixels, groups, eps = 2, 6, 5, 3, 1e-3
	for _, silu := range []bool{false, true} {
		g := graph.New()
		x, gamma, beta := g.Input("x", n, c, pixels), g.Input("gamma", c), g.Input("beta", c)
		y := g.GroupNorm(x, gamma, beta, graph.GroupNormAttrs{Groups: groups, Eps: eps, SiLU: silu})
		values := map[*graph.Node][]float64{x: normals(1, n*c*pixels), gamma: normals(2, c), beta: normals(3, c)}
		want := make([]float64, n*c*pixels)
		for i := range n {
			for k := range groups {
				const per = c / groups * pixels
				run := values[x][(i*groups+k)*per:][:per]
				mean, variance := 0.0, 0.0
				for _, v := range run {
					mean += v / per
				}
				for _, v := range run {
					variance += (v - mean) * (v - mean) / per
				}
				for j, v := range run {
					channel := k*c/groups + j/pixels
					v = values[gamma][channel]*(v-mean)/math.Sqrt(variance+eps) + values[beta][channel]
					if silu {
						v /= 1 + math.Exp(-v)
					}
					want[(i*groups+k)*per+j] = v
				}
			}
		}
		wantClose(t, fmt.Sprint("silu ", silu), evaluate[float64](t, g, values, y), want, 1e-28)
		wantClose(t, fmt.Sprint("float32, silu ", silu), evaluate[float32](t, g, values, y), want, 1e-13)
	}
}

func TestAttentionAgainstLoops(t *testing.T) {
	for _, size := range [][4]int{{2, 5, 7, 1}, {1, 70, 33, 2}, {1, 1, 1, 3}} {
		n, lq, lk, heads := size[0], size[1], size[2], size[3]
		const width = 3
		c := heads * width
		g := graph.New()
		q, k, v := g.Input("q", n, lq, c), g.Input("k", n, lk, c), g.Input("v", n, lk, c)
		y := g.Attention(q, k, v, heads)
		values := map[*graph.Node][]float64{q: normals(1, n*lq*c), k: normals(2, n*lk*c), v: normals(3, n*lk*c)}
		want := make([]float64, n*lq*c)
		for i := range n {
			for h := range heads {
				for a := range lq {
					weights, total := make([]float64, lk), 0.0
					for b := range lk {
						for d := range width {
							weights[b] += values[q][(i*lq+a)*c+h*width+d] * values[k][(i*lk+b)*c+h*width+d] / math.Sqrt(width)
						}
						weights[b] = math.Exp(weights[b])
						total += weights[b]
					}
					for b := range lk {
						for d := range width {
							want[(i*lq+a)*c+h*width+d] += weights[b] / total * values[v][(i*lk+b)*c+h*width+d]
						}
					}
				}
			}
		}
		wantClose(t, fmt.Sprint(size), evaluate[float64](t, g, values, y), want, 1e-28)
		wantClose(t, fmt.Sprint("float32 ", size), evaluate[float32](t, g, values, y), want, 1e-12)
	}
}

func TestExp(t *testing.T) {
	worst := 0.0
	for x := float32(-87.3); x < 88.7; x += 0.00137 {
		want := math.Exp(float64(x))
		worst = max(worst, math.Abs(float64(exp(x))-want)/want)
	}
	if worst > 6.1e-8 {
		t.Errorf("relative error %.3g, want at most 6.1e-8", worst)
	}
	inf := float32(math.Inf(1))
	ends := []float32{-inf, -1e9, -90, 0, 90, 1e9, inf}
	sigmoids(ends, ends, 1, 0)
	if ends[0] > 1e-37 || ends[1] > 1e-37 || ends[2] > 1e-37 || ends[3] != 0.5 || ends[4] != 1 || ends[5] != 1 || ends[6] != 1 {
		t.Errorf("limits of the sigmoid are %v", ends)
	}
	if exp(-inf) != 0 || exp(inf) != inf || exp(float32(-90)) != 0 || exp(float32(0)) != 1 {
		t.Error("limits of exp are wrong")
	}
	if x := float32(math.NaN()); exp(x) == exp(x) {
		t.Error("exp(NaN) must be NaN")
	}
}

func TestRoundHalf(t *testing.T) {
	inf := float32(math.Inf(1))
	for x, want := range map[float32]float32{
		0: 0, 1: 1, -1.5: -1.5, 65504: 65504, 65519: 65504, 65520: inf, -1e9: -inf,
		1 + 1.0/2048: 1, 1 + 3.0/2048: 1 + 2.0/1024, 0.1: 0.0999755859375,
		5.9604645e-8: 5.9604645e-8, 2.9e-8: 0, 6.1e-5: 6.097555e-5,
	} {
		if got := roundHalf(x); got != want {
			t.Errorf("%v rounds to %v, want %v", x, got, want)
		}
	}
}
