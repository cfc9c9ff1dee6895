package optable

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/sdo-go/sdo/graph"
)

// Rows returns the table.
func Rows() []Row {
	t := &table{}
	t.conv2d()
	t.matmul()
	t.groupNorm()
	t.layerNorm()
	t.attention()
	t.causal()
	t.elementwise()
	t.geglu()
	t.broadcast()
	t.resample()
	t.resize()
	t.averages()
	t.layout()
	t.embedding()
	t.loss()
	return t.rows
}

type table struct{ rows []Row }

// dims writes extents as 2x3x5.
func dims(shape ...int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(shape), " ", "x"), "[]")
}

// add appends a row. Fields left zero get the usual bounds, and the name is
// completed with the operation.
func (t *table) add(op, name string, r Row) {
	r.Op, r.Name = op, op+"/"+name
	if r.NMSE == 0 {
		r.NMSE = 1e-10
	}
	if r.GradEps == 0 {
		r.GradEps = 1e-4
	}
	if r.GradMax == 0 {
		r.GradMax = 12
	}
	if r.GradNMSE == 0 {
		r.GradNMSE = 1e-12
	}
	t.rows = append(t.rows, r)
}

// few is the number of finite differences that large operands can afford.
func few(shape ...int) int {
	if graph.Shape(shape).Size() > 100_000 {
		return 2
	}
	return 0 // the usual
}

func (t *table) conv2d() {
	type shape struct{ n, c, h, w, o, kh, kw int }
	row := func(name string, s shape, attrs graph.Conv2DAttrs, bias, half bool) {
		t.add("conv2d", fmt.Sprintf("%s_%s_to_%s", name, dims(s.n, s.c, s.h, s.w), dims(s.o, s.kh, s.kw)), Row{
			Linear: !bias,
			Build: func(g *graph.Graph) *graph.Node {
				x := g.Input("x", s.n, s.c, s.h, s.w)
				w := weight(g, half, s.o, s.c, s.kh, s.kw)
				if !bias {
					return g.Conv2D(x, w, nil, attrs)
				}
				return g.Conv2D(x, w, g.Input("bias", s.o), attrs)
			},
		})
	}
	row("same", shape{2, 3, 5, 7, 4, 3, 3}, graph.Same(3), true, false)
	row("same", shape{2, 33, 16, 16, 65, 3, 3}, graph.Same(3), true, false)
	row("same", shape{16, 8, 4, 4, 12, 3, 3}, graph.Same(3), false, false)
	row("same", shape{1, 3, 37, 41, 5, 3, 3}, graph.Same(3), false, false)
	row("same", shape{1, 7, 1, 1, 3, 3, 3}, graph.Same(3), true, false)
	row("one", shape{1, 1, 1, 1, 1, 1, 1}, graph.Same(1), true, false)
	row("pointwise", shape{3, 17, 13, 11, 19, 1, 1}, graph.Same(1), true, false)
	row("pointwise", shape{1, 64, 8, 8, 64, 1, 1}, graph.Same(1), false, false)
	row("five", shape{1, 3, 9, 6, 4, 5, 5}, graph.Same(5), false, false)
	row("half", shape{2, 3, 5, 7, 5, 3, 3}, graph.Same(3), true, true)
	row("half_pointwise", shape{2, 18, 3, 5, 10, 1, 1}, graph.Same(1), false, true)
	down := graph.Conv2DAttrs{Stride: 2, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1}
	row("stride2", shape{2, 3, 8, 8, 4, 3, 3}, down, true, false)
	row("stride2_odd", shape{1, 5, 7, 9, 6, 3, 3}, down, false, false)
	row("stride2_half", shape{1, 4, 6, 6, 3, 3, 3}, down, false, true)
	row("stride2_right_bottom", shape{2, 5, 8, 8, 7, 3, 3}, graph.Conv2DAttrs{Stride: 2, PadBottom: 1, PadRight: 1}, true, false)
	row("stride3_uneven", shape{1, 2, 9, 11, 3, 5, 3}, graph.Conv2DAttrs{Stride: 3, PadTop: 2, PadRight: 4}, true, false)
	row("valid", shape{2, 2, 6, 5, 3, 3, 3}, graph.Conv2DAttrs{Stride: 1}, false, false)
	row("stride4_patch", shape{1, 3, 16, 16, 8, 4, 4}, graph.Conv2DAttrs{Stride: 4}, true, false)
	row("stride14_patch", shape{2, 3, 28, 42, 5, 14, 14}, graph.Conv2DAttrs{Stride: 14}, false, false)
	row("few_pixels", shape{1, 70, 3, 5, 11, 3, 3}, graph.Same(3), true, false)
	row("few_pixels_stride2", shape{2, 90, 4, 4, 9, 3, 3}, down, true, true)
	row("stride16_patch", shape{1, 3, 32, 32, 5, 16, 16}, graph.Conv2DAttrs{Stride: 16}, true, false)
}

// weight is an input, or a parameter stored as F16.
func weight(g *graph.Graph, half bool, shape ...int) *graph.Node {
	if !half {
		return g.Input("w", shape...)
	}
	w := g.Param("w", shape...)
	w.Storage = graph.F16
	return w
}

func (t *table) matmul() {
	for _, s := range [][3]int{{1, 1, 1}, {3, 5, 7}, {67, 2, 33}, {65, 130, 17}, {1, 96, 384}, {5, 1037, 9}} {
		for _, attrs := range []graph.MatMulAttrs{{}, {TransA: true}, {TransB: true}, {TransA: true, TransB: true}} {
			for _, bias := range []bool{false, true} {
				m, k, n := s[0], s[1], s[2]
				if bias && attrs.TransA {
					continue
				}
				name := dims(m, k, n)
				if attrs.TransA {
					name += "_ta"
				}
				if attrs.TransB {
					name += "_tb"
				}
				if bias {
					name += "_bias"
				}
				t.add("matmul", name, Row{Linear: !bias, Build: func(g *graph.Graph) *graph.Node {
					a, b := []int{m, k}, []int{k, n}
					if attrs.TransA {
						a = []int{k, m}
					}
					if attrs.TransB {
						b = []int{n, k}
					}
					x, y := g.Input("a", a...), g.Input("b", b...)
					if !bias {
						return g.MatMul(x, y, nil, attrs)
					}
					return g.MatMul(x, y, g.Input("bias", n), attrs)
				}})
			}
		}
	}
	// More terms than an invocation may add; their rounding is too much for Linear.
	t.add("matmul", "long", Row{Build: func(g *graph.Graph) *graph.Node {
		return g.MatMul(g.Input("a", 3, 70000), g.Input("b", 70000, 2), nil, graph.MatMulAttrs{})
	}})
	t.add("matmul", "long_ta", Row{Build: func(g *graph.Graph) *graph.Node {
		return g.MatMul(g.Input("a", 70000, 3), g.Input("b", 70000, 2), nil, graph.MatMulAttrs{TransA: true})
	}})
	t.add("matmul", "linear_3d", Row{Build: func(g *graph.Graph) *graph.Node {
		return g.Linear(g.Input("x", 2, 5, 6), g.Input("w", 7, 6), g.Input("bias", 7))
	}})
	t.add("matmul", "linear_half", Row{Build: func(g *graph.Graph) *graph.Node {
		return g.Linear(g.Input("x", 3, 10), weight(g, true, 7, 10), g.Input("bias", 7))
	}})
	t.add("matmul", "half_odd", Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
		return g.MatMul(g.Input("a", 3, 5), weight(g, true, 5, 7), nil, graph.MatMulAttrs{})
	}})
}

func (t *table) groupNorm() {
	for _, s := range []struct {
		x      []int
		groups int
	}{
		{[]int{2, 6, 5, 1}, 3},
		{[]int{1, 32, 8, 8}, 32},
		{[]int{3, 33, 7, 5}, 11},
		{[]int{4, 6}, 2},
		{[]int{1, 7, 3}, 1},
		{[]int{1, 24, 16, 16}, 2},
		{[]int{65600, 2, 3}, 1},  // a workgroup for each group would be too many
		{[]int{1, 5, 33, 31}, 1}, // groups in parts
		{[]int{2, 3, 91, 93}, 1}, // in parts on GPUs, too
		{[]int{1, 8, 64, 128}, 1},
	} {
		for _, silu := range []bool{false, true} {
			name := fmt.Sprintf("%s_g%d", dims(s.x...), s.groups)
			if silu {
				name += "_silu"
			}
			t.add("group_norm", name, Row{GradNMSE: 1e-10, GradMax: few(s.x...), Build: func(g *graph.Graph) *graph.Node {
				x, c := g.Input("x", s.x...), s.x[1]
				return g.GroupNorm(x, g.Input("gamma", c), g.Input("beta", c),
					graph.GroupNormAttrs{Groups: s.groups, Eps: 1e-5, SiLU: silu})
			}})
		}
	}
}

func (t *table) attention() {
	for _, s := range []struct{ n, lq, lk, heads, width int }{
		{1, 1, 1, 1, 1},
		{2, 5, 7, 1, 3},
		{1, 70, 33, 2, 4},
		{2, 64, 64, 4, 24},
		{1, 13, 77, 1, 40},
		{1, 16, 16, 2, 64},
		{1, 3, 2, 1, 128},
		{1, 65, 77, 2, 80},
		{1, 9, 10, 2, 160},
		{1, 33, 33, 1, 512},
		{1, 6, 1030, 1, 129}, // more keys than one dispatch visits, in the backward more queries
		{1, 1030, 6, 1, 129},
	} {
		t.add("attention", fmt.Sprintf("%dx%dx%d_h%dx%d", s.n, s.lq, s.lk, s.heads, s.width), Row{
			Build: func(g *graph.Graph) *graph.Node {
				c := s.heads * s.width
				return g.Attention(g.Input("q", s.n, s.lq, c), g.Input("k", s.n, s.lk, c), g.Input("v", s.n, s.lk, c), s.heads)
			},
		})
	}
}

// layerNorm rows are compositions: a group of channels per row.
func (t *table) layerNorm() {
	for _, shape := range [][]int{{1, 1}, {7, 320}, {2, 5, 33}, {1, 77, 48}, {2, 3, 4, 5}} {
		t.add("group_norm", "layer_norm_"+dims(shape...), Row{GradNMSE: 1e-10, Build: func(g *graph.Graph) *graph.Node {
			c := shape[len(shape)-1]
			return g.LayerNorm(g.Input("x", shape...), g.Input("gamma", c), g.Input("beta", c), 1e-5)
		}})
	}
	t.add("group_norm", "layer_norm_plain", Row{GradNMSE: 1e-10, Build: func(g *graph.Graph) *graph.Node {
		return g.LayerNorm(g.Input("x", 3, 17), nil, nil, 1e-6)
	}})
	for _, shape := range [][]int{{1, 2}, {5, 13}, {2, 3, 768}} {
		t.add("mul_broadcast", "l2_normalize_"+dims(shape...), Row{GradNMSE: 1e-10, Build: func(g *graph.Graph) *graph.Node {
			return g.L2Normalize(g.Input("x", shape...), 1e-6)
		}})
	}
}

func (t *table) geglu() {
	for _, shape := range [][]int{{2}, {3, 10}, {2, 5, 14}, {7, 80}, {1, 3, 2570}} {
		t.add("geglu", dims(shape...), Row{Build: func(g *graph.Graph) *graph.Node {
			return g.GEGLU(g.Input("x", shape...))
		}})
	}
	t.add("geglu", "far", Row{Fill: map[string]Fill{"x": Far}, Build: func(g *graph.Graph) *graph.Node {
		return g.GEGLU(g.Input("x", 3, 134))
	}})
	t.add("geglu", "large", Row{Large: true, Build: func(g *graph.Graph) *graph.Node {
		return g.GEGLU(g.Input("x", 1, 2*(65536*64+5))) // more than 65535 workgroups of 64
	}})
}

// causal attention, with as many keys as queries.
func (t *table) causal() {
	for _, s := range []struct{ n, l, heads, width int }{{1, 1, 1, 1}, {2, 7, 3, 5}, {1, 77, 2, 16}, {1, 64, 1, 8}, {1, 33, 1, 80}, {1, 830, 1, 129}} {
		t.add("attention", fmt.Sprintf("causal_%dx%d_h%dx%d", s.n, s.l, s.heads, s.width), Row{Build: func(g *graph.Graph) *graph.Node {
			c := s.heads * s.width
			q, k, v := g.Input("q", s.n, s.l, c), g.Input("k", s.n, s.l, c), g.Input("v", s.n, s.l, c)
			return g.AttentionWith(q, k, v, graph.AttentionAttrs{Heads: s.heads, Causal: true, Scale: 0.7})
		}})
	}
}

func (t *table) elementwise() {
	for _, u := range []struct {
		op    string
		build func(g *graph.Graph, x *graph.Node) *graph.Node
		fill  Fill // where not normal numbers and far ones
	}{
		{op: "silu", build: (*graph.Graph).SiLU},
		{op: "relu", build: (*graph.Graph).ReLU},
		{op: "softplus", build: (*graph.Graph).Softplus},
		{op: "sigmoid", build: (*graph.Graph).Sigmoid},
		{op: "gelu", build: (*graph.Graph).GELU},
		{op: "gelu_tanh", build: (*graph.Graph).GELUTanh},
		{op: "quick_gelu", build: (*graph.Graph).QuickGELU},
		{op: "tanh", build: (*graph.Graph).Tanh, fill: func(rng *rand.Rand) float64 { return 18*rng.Float64() - 9 }},
		{op: "exp", build: (*graph.Graph).Exp, fill: func(rng *rand.Rand) float64 { return 20*rng.Float64() - 10 }},
		{op: "rsqrt", build: (*graph.Graph).Rsqrt, fill: func(rng *rand.Rand) float64 { return 0.1 + 100*rng.Float64() }},
		{op: "clamp", build: func(g *graph.Graph, x *graph.Node) *graph.Node { return g.Clamp(x, -0.75, 1.5) }},
		{op: "smooth_abs", build: func(g *graph.Graph, x *graph.Node) *graph.Node { return g.SmoothAbs(x, 0.1) }},
		{op: "affine", build: func(g *graph.Graph, x *graph.Node) *graph.Node { return g.Affine(x, -1.5, 0.25) }},
	} {
		unary := func(name string, fill Fill, shape ...int) {
			if u.fill != nil {
				fill = u.fill
			}
			t.add(u.op, name, Row{
				Fill:  map[string]Fill{"x": fill},
				Build: func(g *graph.Graph) *graph.Node { return u.build(g, g.Input("x", shape...)) },
			})
		}
		unary("1", OffZero, 1)
		unary("3x5x7", OffZero, 3, 5, 7)
		unary("13x1009", OffZero, 13, 1009)
		unary("far", Far, 3, 67)
	}
	t.add("affine", "large", Row{Large: true, Build: func(g *graph.Graph) *graph.Node {
		return g.Affine(g.Input("x", 65536*256+17), 2, -1) // more than 65535 workgroups of 256
	}})
	for _, b := range []struct {
		op    string
		build func(g *graph.Graph, a, b *graph.Node) *graph.Node
	}{{"add", (*graph.Graph).Add}, {"sub", (*graph.Graph).Sub}, {"mul", (*graph.Graph).Mul}} {
		for _, shape := range [][]int{{1}, {3, 5, 7}, {13, 1009}} {
			t.add(b.op, dims(shape...), Row{Build: func(g *graph.Graph) *graph.Node {
				return b.build(g, g.Input("a", shape...), g.Input("b", shape...))
			}})
		}
	}
	t.add("mul", "square_plus_itself", Row{Build: func(g *graph.Graph) *graph.Node {
		x := g.Input("x", 5, 3) // three paths to one input
		return g.Add(g.Mul(x, x), x)
	}})
}

func (t *table) broadcast() {
	for _, s := range [][3]int{{1, 1, 1}, {2, 3, 5}, {1, 7, 1}, {4, 1, 9}, {5, 13, 1}, {1, 6, 16}, {300, 1, 1}, {3, 70, 257}} {
		r, p, q := s[0], s[1], s[2]
		name := dims(s[:]...)
		t.add("add_broadcast", name, Row{Build: func(g *graph.Graph) *graph.Node {
			return g.AddBroadcast(g.Input("x", r, p, q), g.Input("b", p), r, p, q)
		}})
		t.add("mul_broadcast", name, Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
			return g.MulBroadcast(g.Input("x", r, p, q), g.Input("b", p), r, p, q)
		}})
		t.add("broadcast", name, Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
			return g.Broadcast(g.Input("b", p), r, p, q, r, p, q)
		}})
		t.add("reduce_sum", name, Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
			return g.ReduceSum(g.Input("x", r, p, q), r, p, q, p)
		}})
	}
	t.add("reduce_sum", "many_rows", Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
		return g.RowSum(g.Input("x", 65600, 3))
	}})
	for _, shape := range [][]int{{2, 3, 4, 5}, {1, 5, 1, 1}, {3, 7, 11, 13}, {2, 3}} {
		t.add("scale_shift", dims(shape...), Row{Build: func(g *graph.Graph) *graph.Node {
			n, c := shape[0], shape[1]
			return g.ScaleShift(g.Input("x", shape...), g.Input("scale", n, c), g.Input("shift", n, c))
		}})
	}
}

func (t *table) resample() {
	for _, shape := range [][]int{{2, 3, 5, 7}, {1, 1, 1, 1}, {3, 1, 16, 17}} {
		t.add("upsample_nearest2x", dims(shape...), Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
			return g.UpsampleNearest2x(g.Input("x", shape...))
		}})
		t.add("sum_pool2x", dims(shape...), Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
			return g.SumPool2x(g.Input("x", shape[0], shape[1], 2*shape[2], 2*shape[3]))
		}})
	}
}

// resize rows are compositions: products with constant matrices, and
// convolutions with a constant kernel.
func (t *table) resize() {
	for _, s := range []struct {
		x    []int
		h, w int
	}{
		{[]int{2, 3, 5, 7}, 9, 13},
		{[]int{1, 1, 1, 1}, 3, 5},
		{[]int{1, 2, 4, 4}, 7, 8},
		{[]int{1, 2, 3, 5}, 3, 6},
		{[]int{1, 3, 17, 16}, 33, 31},
	} {
		t.add("upsample_nearest", fmt.Sprintf("%s_to_%dx%d", dims(s.x...), s.h, s.w), Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
			return g.UpsampleNearest(g.Input("x", s.x...), s.h, s.w)
		}})
	}
	t.add("upsample_nearest", "large", Row{Large: true, Linear: true, Build: func(g *graph.Graph) *graph.Node {
		return g.UpsampleNearest(g.Input("x", 1, 1, 2048, 1), 2049, 2049) // more than 65535 workgroups of 64
	}})
	for _, filter := range []graph.Filter{graph.Bilinear, graph.Bicubic} {
		for _, antialias := range []bool{false, true} {
			for _, to := range [][2]int{{3, 4}, {5, 16}, {11, 13}, {1, 1}} {
				name := fmt.Sprintf("%v_7x9_to_%dx%d", filter, to[0], to[1])
				if antialias {
					name += "_antialias"
				}
				t.add("matmul", name, Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
					return g.Resize(g.Input("x", 2, 3, 7, 9), to[0], to[1], graph.ResizeAttrs{Filter: filter, Antialias: antialias})
				}})
			}
		}
	}
	for _, shape := range [][]int{{2, 3, 4, 6}, {1, 5, 7, 3}} {
		t.add("conv2d", "fir_downsample_"+dims(shape...), Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
			return g.FIRDownsample2x(g.Input("x", shape...))
		}})
		t.add("conv2d_grad_input", "fir_upsample_"+dims(shape...), Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
			return g.FIRUpsample2x(g.Input("x", shape...))
		}})
	}
	for _, a := range []struct {
		graph.Conv2DAttrs
		h, w int
	}{{graph.Same(3), 3, 5}, {graph.Conv2DAttrs{Stride: 2, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1}, 6, 9}} {
		t.add("conv2d_grad_input", fmt.Sprintf("transpose_stride%d", a.Stride), Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
			return g.ConvTranspose2D(g.Input("x", 2, 5, 3, 5), g.Input("w", 5, 4, 3, 3), a.h, a.w, a.Conv2DAttrs)
		}})
	}
}

func (t *table) averages() {
	t.add("sum_pool2x", "average_odd", Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
		return g.AvgPool2x(g.Input("x", 2, 3, 5, 7))
	}})
	t.add("sum_pool2x", "average", Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
		return g.AvgPool2x(g.Input("x", 2, 3, 4, 6))
	}})
	t.add("reduce_sum", "global_average", Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
		return g.GlobalAvgPool(g.Input("x", 2, 3, 5, 7))
	}})
	t.add("reduce_sum", "mean_squared_error", Row{Build: func(g *graph.Graph) *graph.Node {
		return g.MeanSquaredError(g.Input("a", 3, 5, 7), g.Input("b", 3, 5, 7))
	}})
}

func (t *table) layout() {
	for axis := range 3 {
		t.add("concat", fmt.Sprintf("axis%d", axis), Row{Build: func(g *graph.Graph) *graph.Node {
			a, b := []int{3, 5, 7}, []int{3, 5, 7}
			b[axis] = 11
			return g.Concat(g.Input("a", a...), g.Input("b", b...), axis)
		}})
		t.add("slice", fmt.Sprintf("axis%d", axis), Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
			shape := []int{3, 5, 7}
			return g.Slice(g.Input("x", shape...), axis, 1, shape[axis]-1)
		}})
	}
	t.add("concat", "channels", Row{Build: func(g *graph.Graph) *graph.Node {
		return g.Concat(g.Input("a", 2, 17, 6, 6), g.Input("b", 2, 1, 6, 6), 1)
	}})
	t.add("slice", "all", Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
		return g.Slice(g.Input("x", 1, 13), 1, 0, 13)
	}})
	for _, shape := range [][]int{{1, 1, 1}, {2, 5, 7}, {1, 33, 65}, {3, 1, 4}} {
		t.add("transpose", dims(shape...), Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
			return g.Transpose(g.Input("x", shape...))
		}})
	}
	for _, shape := range [][]int{{1}, {7}, {3, 1}, {2, 3, 4, 5}, {5, 257}} {
		t.add("flip", dims(shape...), Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
			return g.Flip(g.Input("x", shape...))
		}})
	}
	t.add("flip", "of_a_view", Row{Linear: true, Build: func(g *graph.Graph) *graph.Node {
		return g.Reshape(g.Flip(g.Reshape(g.Input("x", 4, 6), 3, 8)), 24)
	}})
}

func (t *table) embedding() {
	for _, a := range []graph.TimeEmbeddingAttrs{
		{Dim: 2, MaxPeriod: 10000},
		{Dim: 7, MaxPeriod: 10000, FreqShift: 1},
		{Dim: 32, MaxPeriod: 10000, FlipSinToCos: true},
		{Dim: 320, MaxPeriod: 10000, FlipSinToCos: true, FreqShift: 1},
	} {
		t.add("time_embedding", fmt.Sprintf("dim%d_flip%t_shift%g", a.Dim, a.FlipSinToCos, a.FreqShift), Row{
			// Angles of up to 1000 radians, rounded to float32, are off by 3e-5.
			NMSE: 1e-8,
			Fill: map[string]Fill{"t": Whole(1000)},
			Build: func(g *graph.Graph) *graph.Node {
				return g.TimeEmbedding(g.Input("t", 5), a)
			},
		})
	}
	for _, s := range []struct {
		t, w int
		a    graph.FourierEmbeddingAttrs
	}{{1, 1, graph.FourierEmbeddingAttrs{}}, {3, 33, graph.FourierEmbeddingAttrs{Log: true}}, {2, 64, graph.FourierEmbeddingAttrs{FlipSinToCos: true, Log: true}}} {
		t.add("fourier_embedding", fmt.Sprintf("%dx%d_flip%t_log%t", s.t, s.w, s.a.FlipSinToCos, s.a.Log), Row{
			NMSE: 1e-8, // as above
			Fill: map[string]Fill{
				"t": func(rng *rand.Rand) float64 { return 1e-3 + 1000*rng.Float64() },
				"w": func(rng *rand.Rand) float64 { return rng.NormFloat64() / 10 },
			},
			Build: func(g *graph.Graph) *graph.Node {
				return g.FourierEmbedding(g.Input("t", s.t), g.Input("w", s.w), s.a)
			},
		})
	}
	for _, s := range [][3]int{{1, 1, 1}, {5, 3, 7}, {97, 33, 65}} {
		t.add("embedding", dims(s[:]...), Row{
			Linear: true,
			Fill:   map[string]Fill{"index": Whole(s[0])},
			Build: func(g *graph.Graph) *graph.Node {
				return g.Embedding(g.Input("table", s[0], s[1]), g.Input("index", s[2]))
			},
		})
	}
	for _, half := range []bool{false, true} {
		t.add("embedding", fmt.Sprintf("within_half%t", half), Row{
			Fill: map[string]Fill{"index": Whole(97)},
			Build: func(g *graph.Graph) *graph.Node {
				return g.EmbeddingWithin(weight(g, half, 97, 33), g.Input("index", 65), graph.EmbeddingAttrs{From: 40, To: 71})
			},
		})
	}
	t.add("embedding", "half", Row{
		Fill: map[string]Fill{"index": Whole(5)},
		Build: func(g *graph.Graph) *graph.Node {
			return g.Embedding(weight(g, true, 5, 7), g.Input("index", 11))
		},
	})
}

func (t *table) loss() {
	for _, s := range [][2]int{{1, 1}, {4, 5}, {33, 101}, {2, 1000}, {65600, 3}} {
		t.add("softmax_cross_entropy", dims(s[:]...), Row{
			GradMax: few(s[:]...),
			Fill:    map[string]Fill{"labels": Whole(s[1])},
			Build: func(g *graph.Graph) *graph.Node {
				return g.SoftmaxCrossEntropy(g.Input("logits", s[0], s[1]), g.Input("labels", s[0]))
			},
		})
	}
	t.add("softmax_cross_entropy", "far", Row{
		Fill: map[string]Fill{"labels": Whole(7), "logits": Far},
		Build: func(g *graph.Graph) *graph.Node {
			return g.SoftmaxCrossEntropy(g.Input("logits", 9, 7), g.Input("labels", 9))
		},
	})
	bce := func(name string, logits Fill, shape ...int) {
		t.add("bce_with_logits", name, Row{
			Fill: map[string]Fill{"targets": Unit, "logits": logits},
			Build: func(g *graph.Graph) *graph.Node {
				return g.BCEWithLogits(g.Input("logits", shape...), g.Input("targets", shape...))
			},
		})
	}
	bce("1", nil, 1)
	bce("3x5", nil, 3, 5)
	bce("7x129", nil, 7, 129)
	bce("far", Far, 3, 67)
}
