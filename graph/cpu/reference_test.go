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
	{1, 130, 20, 20, 2, 3, 3, graph.Same(3)}, // channels unfolded in several turns
	{1, 125, 5, 6, 121, 3, 3, graph.Same(3)}, // filters that are not turned
	{1, 2, 51, 53, 3, 3, 3, graph.Conv2DAttrs{Stride: 2, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1}}, // several bands of rows
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

// A causal query sees the keys up to its own, whatever the others hold.
func TestCausalAttentionAgainstLoops(t *testing.T) {
	for _, size := range [][3]int{{2, 5, 1}, {1, 70, 2}, {1, 1, 3}} {
		n, l, heads := size[0], size[1], size[2]
		const width, scale = 3, 0.4
		c := heads * width
		g := graph.New()
		q, k, v := g.Input("q", n, l, c), g.Input("k", n, l, c), g.Input("v", n, l, c)
		y := g.AttentionWith(q, k, v, graph.AttentionAttrs{Heads: heads, Scale: scale, Causal: true})
		values := map[*graph.Node][]float64{q: normals(1, n*l*c), k: normals(2, n*l*c), v: normals(3, n*l*c)}
		want := make([]float64, n*l*c)
		for i := range n * l * heads {
			image, row, h := i/(l*heads), i/heads%l, i%heads
			at := (image*l+row)*c + h*width
			total := 0.0
			for b := range row + 1 {
				other := (image*l+b)*c + h*width
				score := 0.0
				for d := range width {
					score += scale * values[q][at+d] * values[k][other+d]
				}
				total += math.Exp(score)
				for d := range width {
					want[at+d] += math.Exp(score) * values[v][other+d]
				}
			}
			for d := range width {
				want[at+d] /= total
			}
		}
		wantClose(t, fmt.Sprint(size), evaluate[float64](t, g, values, y), want, 1e-28)
		wantClose(t, fmt.Sprint("float32 ", size), evaluate[float32](t, g, values, y), want, 1e-12)
	}
}

// picture is 5 x 7 whole numbers without symmetry.
func picture() []float64 {
	x := make([]float64, 35)
	for i := range x {
		x[i] = float64(i * i % 11)
	}
	return x
}

// What F.interpolate of PyTorch 2 gives for picture, in float64.
func TestResizeIsPyTorchs(t *testing.T) {
	for _, k := range []struct {
		h, w  int
		attrs graph.ResizeAttrs
		want  []float64
	}{
		{3, 4, graph.ResizeAttrs{Filter: graph.Bilinear, Antialias: false}, []float64{2.41667, 4.29167, 3.70833, 2.95833, 7.5, 3, 4.75, 5.875, 2.70833, 6.04167, 3.70833, 1.66667}},
		{3, 4, graph.ResizeAttrs{Filter: graph.Bilinear, Antialias: true}, []float64{3.21088, 4.52571, 3.47429, 2.85034, 5.49735, 3.17778, 4.52889, 4.92063, 2.61224, 4.58857, 3.85143, 2.10204}},
		{3, 4, graph.ResizeAttrs{Filter: graph.Bicubic, Antialias: false}, []float64{2.19194, 4.35307, 3.59631, 2.73376, 7.69043, 2.83594, 4.50391, 6.06543, 2.15395, 6.363, 3.92137, 1.33653}},
		{3, 4, graph.ResizeAttrs{Filter: graph.Bicubic, Antialias: true}, []float64{3.22495, 4.81149, 3.35276, 2.69924, 5.86362, 2.6989, 4.56781, 5.2227, 2.34165, 4.7353, 4.07831, 1.97371}},
		{2, 9, graph.ResizeAttrs{Filter: graph.Bilinear, Antialias: false}, []float64{3.75, 5.91667, 5.66667, 3.77778, 3, 1.63889, 1.38889, 2.25, 3.75, 1.5, 1.33333, 2.02778, 3.22222, 4, 6.33333, 5.19444, 3.33333, 2.5}},
		{2, 9, graph.ResizeAttrs{Filter: graph.Bilinear, Antialias: true}, []float64{4.13636, 4.80303, 4.4697, 3.74747, 4.13636, 3.35859, 3.41414, 3.63636, 3.63636, 3.63636, 3.30303, 3.58081, 4.02525, 3.63636, 4.80303, 4.58081, 3.63636, 2.63636}},
		{2, 9, graph.ResizeAttrs{Filter: graph.Bicubic, Antialias: false}, []float64{3.17114, 6.68779, 6.6283, 3.5116, 2.60156, 0.957412, 0.117857, 1.6059, 3.98177, 0.609632, 0.38491, 1.35475, 2.99998, 4.10547, 7.378, 5.65912, 2.66659, 2.37531}},
		{2, 9, graph.ResizeAttrs{Filter: graph.Bicubic, Antialias: true}, []float64{4.12267, 4.9348, 4.45982, 3.55684, 4.2492, 3.32693, 3.44482, 3.78701, 3.71572, 3.7855, 3.27696, 3.6307, 4.16361, 3.51671, 4.89804, 4.77945, 3.58726, 2.49893}},
		{6, 2, graph.ResizeAttrs{Filter: graph.Bilinear, Antialias: false}, []float64{1.75, 3.5, 6.25, 1.4375, 5.85417, 4.97917, 2.72917, 7.16667, 1.6875, 4.5625, 6, 0.25}},
		{6, 2, graph.ResizeAttrs{Filter: graph.Bilinear, Antialias: true}, []float64{3.13953, 4.55814, 4.5, 2.32558, 4.98062, 3.8876, 3.64341, 5.37984, 2.59884, 4.30814, 5.16279, 1.74419}},
		{6, 2, graph.ResizeAttrs{Filter: graph.Bicubic, Antialias: false}, []float64{1.25304, 3.46431, 7.30757, 0.204605, 6.81308, 5.365, 1.52357, 9.0725, 1.00443, 4.6178, 6.62264, -0.314045}},
		{6, 2, graph.ResizeAttrs{Filter: graph.Bicubic, Antialias: true}, []float64{3.05794, 4.84254, 4.60499, 1.87049, 5.35257, 3.67489, 3.45504, 5.88848, 2.18625, 4.53651, 5.52171, 1.4399}},
	} {
		g := graph.New()
		x := g.Input("x", 1, 1, 5, 7)
		got := evaluate[float64](t, g, map[*graph.Node][]float64{x: picture()}, g.Resize(x, k.h, k.w, k.attrs))
		wantClose(t, fmt.Sprint(k.h, k.w, k.attrs), got, k.want, 1e-11)
	}
}

// What diffusers' upsample_2d and downsample_2d give with the kernel (1, 3, 3, 1).
func TestFIRIsDiffusers(t *testing.T) {
	g := graph.New()
	x, small := g.Input("x", 1, 1, 5, 7), g.Input("small", 1, 1, 2, 3)
	values := map[*graph.Node][]float64{x: picture(), small: {1, 2, -1, 0.5, 3, 4}}
	wantClose(t, "up", evaluate[float64](t, g, values, g.FIRUpsample2x(small)), []float64{
		0.5625, 0.9375, 1.3125, 0.9375, -0.1875, -0.5625, 0.65625, 1.21875, 1.90625, 1.75, 0.75, 0.1875, 0.46875, 1.15625, 2.21875, 2.75, 2.75, 2.0625, 0.28125, 0.84375, 1.78125, 2.4375, 2.8125, 2.25,
	}, 1e-12)
	wantClose(t, "down", evaluate[float64](t, g, values, g.FIRDownsample2x(x)), []float64{3.1875, 3.67188, 2.82812, 3.53125, 3.51562, 4.84375}, 1e-11)
}

// PyTorch rounds the source of a pixel in float32: the middle one of 82 from 2
// shows the first.
func TestUpsampleNearestIsPyTorchs(t *testing.T) {
	for _, k := range []struct {
		from, to int
		want     map[int]int
	}{
		{2, 82, map[int]int{0: 0, 40: 0, 41: 0, 42: 1, 81: 1}},
		{3, 123, map[int]int{41: 0, 42: 1, 82: 1, 83: 2}},
		{5, 9, map[int]int{0: 0, 1: 0, 2: 1, 3: 1, 4: 2, 5: 2, 6: 3, 7: 3, 8: 4}},
	} {
		at := sources(k.from, k.to)
		for i, want := range k.want {
			if at[i] != want {
				t.Errorf("pixel %d of %d from %d shows %d, want %d", i, k.to, k.from, at[i], want)
			}
		}
	}
}

// What PyTorch's gelu, its tanh form and x*sigmoid(1.702 x) give.
func TestGELUs(t *testing.T) {
	g := graph.New()
	x := g.Input("x", 8)
	values := map[*graph.Node][]float64{x: {-6, -3, -1, -0.3, 0.4, 1.7, 2.5, 7}}
	for name, k := range map[string]struct {
		y    *graph.Node
		want []float64
	}{
		"gelu":  {g.GELU(x), []float64{-5.919526e-9, -0.004049694, -0.1586553, -0.1146266, 0.2621687, 1.624239, 2.484476, 7}},
		"tanh":  {g.GELUTanh(x), []float64{0, -0.003637392, -0.158808, -0.1146291, 0.2621612, 1.624106, 2.484916, 7}},
		"quick": {g.QuickGELU(x), []float64{-0.0002203536, -0.01807131, -0.1542042, -0.1125159, 0.2655669, 1.610783, 2.465014, 6.999953}},
	} {
		wantClose(t, name, evaluate[float64](t, g, values, k.y), k.want, 1e-13)
		wantClose(t, name+" in float32", evaluate[float32](t, g, values, k.y), k.want, 1e-13)
	}
}

func TestNormalCDF(t *testing.T) {
	worst := 0.0
	for x := float32(-12); x < 12; x += 0.00137 {
		want := math.Erfc(-float64(x)/math.Sqrt2) / 2
		worst = max(worst, math.Abs(float64(normalCDF(x, exp(-x*x/2)))-want))
	}
	if worst > 2.5e-7 {
		t.Errorf("error %.3g, want at most 2.5e-7", worst)
	}
}

// Rows of exponentials, of lengths that are and are not a multiple of 8.
func TestExps(t *testing.T) {
	for _, length := range []int{1, 7, 8, 9, 24, 1003} {
		x, y := make([]float32, length), make([]float32, length)
		for i := range x {
			x[i] = 3 - 90*float32(i)/float32(length)
		}
		total, worst, want := exps(y, x, 3), 0.0, 0.0
		for i, v := range x {
			e := math.Exp(float64(v - 3))
			want += e
			if v-3 >= expLowest {
				worst = max(worst, math.Abs(float64(y[i])-e)/e)
			} else if y[i] != 0 {
				t.Errorf("e^%v is %v, want 0", v-3, y[i])
			}
		}
		if worst > 2e-7 || math.Abs(total-want) > 1e-6*want {
			t.Errorf("%d numbers: relative error %.3g, want at most 2e-7; sum %v, want %v", length, worst, total, want)
		}
		exps(x, x, 3) // in place
		for i := range x {
			if x[i] != y[i] {
				t.Fatalf("%d numbers: element %d is %v in place, %v elsewhere", length, i, x[i], y[i])
			}
		}
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	x := []float32{nan, 0, -inf, -88, -87, -1e30, 1e-30, 0.5, nan, 0}
	y := make([]float32, len(x))
	if total := exps(y, x, 0); total == total {
		t.Error("a sum with NaN must be NaN")
	}
	for i, want := range []float32{nan, 1, 0, 0, float32(math.Exp(-87)), 0, 1, float32(math.Exp(0.5)), nan, 1} {
		if y[i] != y[i] != (want != want) || math.Abs(float64(y[i]-want)) > 2e-7*float64(want) {
			t.Errorf("e^%v is %v, want %v", x[i], y[i], want)
		}
	}
	ends := []float32{-inf, -1e9, -90, 0, 90, 1e9, inf, 1}
	sigmoids(ends, ends, 1, 0)
	for i, want := range []float32{0, 0, 0, 0.5, 1, 1, 1, 0.73105858} {
		if math.Abs(float64(ends[i]-want)) > 1e-7 {
			t.Errorf("sigmoid %d is %v, want %v", i, ends[i], want)
		}
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

// Every float16 survives being unpacked and packed, and packing rounds as
// roundHalf does.
func TestHalves(t *testing.T) {
	for h := range 1 << 16 {
		x := unpackHalf(uint16(h))
		if x != x {
			if h&0x7c00 != 0x7c00 || h&0x3ff == 0 {
				t.Fatalf("%#x is not a number once unpacked", h)
			}
			continue
		}
		if roundHalf(x) != x || packHalf(x) != uint16(h) {
			t.Fatalf("%#x unpacks to %g, which rounds to %g and packs to %#x", h, x, roundHalf(x), packHalf(x))
		}
	}
	for _, scale := range []float64{1e-8, 1e-5, 1, 1e4, 1e5} {
		for _, v := range normals(3, 1000) {
			x := float32(v * scale)
			if got, want := unpackHalf(packHalf(x)), roundHalf(x); got != want {
				t.Fatalf("%g is packed as %g, rounded it is %g", x, got, want)
			}
		}
	}
}
