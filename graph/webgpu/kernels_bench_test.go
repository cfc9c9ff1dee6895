package webgpu

import (
	"testing"
	"time"

	"github.com/sdo-go/sdo/graph"
)

// workload is one operation to be timed, with its multiplications and
// additions, or its bytes where it has none to speak of.
type workload struct {
	name  string
	flop  float64
	bytes float64
	build func(g *graph.Graph) *graph.Node
}

// convolutionLoads are the three passes of a same-size convolution of x
// [n c h h] to o channels.
func convolutionLoads(name string, n, c, h, o, k int) []workload {
	flop := 2 * float64(n*o*h*h*c*k*k)
	conv := func(wrt string) func(g *graph.Graph) *graph.Node {
		return func(g *graph.Graph) *graph.Node {
			x, w := g.Input("x", n, c, h, h), g.Input("w", o, c, k, k)
			y := g.Conv2D(x, w, nil, graph.Same(k))
			if wrt == "" {
				return y
			}
			return graph.Grad(g, []*graph.Node{y}, []*graph.Node{g.Input("dy", n, o, h, h)}, []*graph.Node{g.Lookup(wrt)})[0]
		}
	}
	return []workload{
		{name + "/forward", flop, 0, conv("")},
		{name + "/grad_input", flop, 0, conv("x")},
		{name + "/grad_weight", flop, 0, conv("w")},
	}
}

func matmulLoad(name string, m, k, n int) workload {
	return workload{name, 2 * float64(m*n*k), 0, func(g *graph.Graph) *graph.Node {
		return g.MatMul(g.Input("a", m, k), g.Input("b", n, k), nil, graph.MatMulAttrs{TransB: true})
	}}
}

func workloads() []workload {
	var loads []workload
	loads = append(loads, convolutionLoads("conv2d_16x24x16x16_24", 16, 24, 16, 24, 3)...)
	loads = append(loads, convolutionLoads("conv2d_16x48x8x8_48", 16, 48, 8, 48, 3)...)
	loads = append(loads, convolutionLoads("conv2d_16x72x16x16_24", 16, 72, 16, 24, 3)...)
	norm := graph.GroupNormAttrs{Groups: 8, Eps: 1e-5, SiLU: true}
	const size = 16 * 24 * 16 * 16
	return append(loads,
		matmulLoad("matmul_1024x48x48", 1024, 48, 48),
		matmulLoad("matmul_512", 512, 512, 512),
		workload{"group_norm_silu", 0, 16 * size, func(g *graph.Graph) *graph.Node {
			return g.GroupNorm(g.Input("x", 16, 24, 16, 16), g.Input("gamma", 24), g.Input("beta", 24), norm)
		}},
		workload{"group_norm_silu_grad", 0, 28 * size, func(g *graph.Graph) *graph.Node {
			x := g.Input("x", 16, 24, 16, 16)
			y := g.GroupNorm(x, g.Input("gamma", 24), g.Input("beta", 24), norm)
			return graph.Grad(g, []*graph.Node{y}, []*graph.Node{g.Input("dy", 16, 24, 16, 16)}, []*graph.Node{x})[0]
		}},
		workload{"attention_16x64x48", 4 * 16 * 64 * 64 * 48, 0, func(g *graph.Graph) *graph.Node {
			return g.Attention(g.Input("q", 16, 64, 48), g.Input("k", 16, 64, 48), g.Input("v", 16, 64, 48), 1)
		}},
		workload{"add", 0, 12 * size, func(g *graph.Graph) *graph.Node {
			return g.Add(g.Input("a", size), g.Input("b", size))
		}},
		workload{"add_channels", 0, 8 * size, func(g *graph.Graph) *graph.Node {
			return g.AddBroadcast(g.Input("a", 16, 24, 16, 16), g.Input("b", 24), 16, 24, 256)
		}},
	)
}

// BenchmarkKernels reports GFLOP/s or GB/s of each operation. Inputs are fed
// once; then only the kernels of the node run, many to a submission.
func BenchmarkKernels(b *testing.B) {
	for _, w := range workloads() {
		b.Run(w.name, func(b *testing.B) {
			e := open(b) // logs the adapter, so that nobody mistakes a CPU for a GPU
			g := graph.New()
			out := w.build(g)
			plan, err := graph.Compile(g, []*graph.Node{out})
			must(b, err)
			compiled, err := e.Compile(plan, nil)
			must(b, err)
			p := compiled.(*program)
			var feeds []graph.Feed
			for _, in := range plan.Segments[0].Inputs {
				feeds = append(feeds, graph.Feed{Node: in, From: upload64(b, e, random(in.Shape.Size(), uint64(in.ID)))})
			}
			mark, err := e.NewVector(1)
			must(b, err)
			wait := func() {
				must(b, e.flush())
				_, err := e.Read(background, mark)
				must(b, err)
			}
			must(b, p.Run(background, nil, 0, feeds, nil))
			wait()
			b.ResetTimer()
			begin := time.Now()
			for i := range b.N {
				pass, err := e.record()
				must(b, err)
				for k, s := range p.segments[0] {
					pass.Dispatch(s.pipeline, p.bindingsOf(nil, 0, k), s.block, s.groups)
				}
				if i%64 == 63 {
					must(b, e.flush())
				}
			}
			wait()
			seconds := time.Since(begin).Seconds() / float64(b.N)
			if w.flop > 0 {
				b.ReportMetric(w.flop/seconds/1e9, "GFLOP/s")
			} else {
				b.ReportMetric(w.bytes/seconds/1e9, "GB/s")
			}
		})
	}
}
