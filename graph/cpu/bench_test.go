package cpu

import (
	"context"
	"fmt"
	"testing"

	"github.com/sdo-go/sdo/graph"
)

// benchmark replays the wanted nodes of a graph whose inputs are all fed
// normal numbers, and reports GFLOP/s. The device's name is printed once, so
// that numbers are never read without it.
func benchmark(b *testing.B, g *graph.Graph, flop float64, wanted ...*graph.Node) {
	b.Helper()
	e := New[float32](Options{})
	defer e.Close()
	plan, err := graph.Compile(g, wanted)
	if err != nil {
		b.Fatal(err)
	}
	program, err := e.Compile(plan, nil)
	if err != nil {
		b.Fatal(err)
	}
	var feeds []graph.Feed
	for i, in := range plan.Segments[0].Inputs {
		feeds = append(feeds, graph.Feed{Node: in, From: upload(b, e, normals(uint64(i), in.Shape.Size()))})
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := program.Run(context.Background(), nil, 0, feeds, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(flop*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

func BenchmarkDevice(b *testing.B) {
	e := New[float32](Options{})
	defer e.Close()
	b.Logf("%+v, %d workers", e.Device(), e.workers)
	b.SkipNow()
}

// BenchmarkConv2D measures the shapes of a small pixel UNet, forward and both
// gradients.
func BenchmarkConv2D(b *testing.B) {
	for _, k := range []struct{ n, c, size, o, kernel, stride int }{
		{16, 24, 16, 24, 3, 1},
		{16, 64, 16, 64, 3, 1},
		{16, 96, 8, 96, 3, 1},
		{16, 128, 4, 128, 3, 1},
		{16, 64, 16, 64, 3, 2},
		{16, 96, 8, 96, 1, 1},
		{1, 64, 16, 64, 3, 1},
	} {
		attrs := graph.Same(k.kernel)
		attrs.Stride = k.stride
		build := func() (g *graph.Graph, x, w, y, dy *graph.Node) {
			g = graph.New()
			x, w = g.Input("x", k.n, k.c, k.size, k.size), g.Input("w", k.o, k.c, k.kernel, k.kernel)
			y = g.Conv2D(x, w, nil, attrs)
			return g, x, w, y, g.Input("dy", y.Shape...)
		}
		name := fmt.Sprintf("%dx%dx%dx%d_%d_k%d_s%d", k.n, k.c, k.size, k.size, k.o, k.kernel, k.stride)
		g, x, w, y, dy := build()
		flop := 2 * float64(y.Shape.Size()*k.c*k.kernel*k.kernel)
		grads := graph.Grad(g, []*graph.Node{y}, []*graph.Node{dy}, []*graph.Node{x, w})
		b.Run(name+"/forward", func(b *testing.B) { benchmark(b, g, flop, y) })
		b.Run(name+"/input", func(b *testing.B) { benchmark(b, g, flop, grads[0]) })
		b.Run(name+"/weight", func(b *testing.B) { benchmark(b, g, flop, grads[1]) })
	}
}

func BenchmarkMatMul(b *testing.B) {
	for _, size := range []int{64, 256, 512} {
		g := graph.New()
		y := g.MatMul(g.Input("a", size, size), g.Input("b", size, size), nil, graph.MatMulAttrs{})
		b.Run(fmt.Sprint(size), func(b *testing.B) { benchmark(b, g, 2*float64(size*size*size), y) })
	}
}

// BenchmarkGroupNorm and BenchmarkAttention count their floating point
// operations nominally: 10 an element, and 4*L*L*C.
func BenchmarkGroupNorm(b *testing.B) {
	g := graph.New()
	x, gamma, beta := g.Input("x", 16, 64, 16, 16), g.Input("gamma", 64), g.Input("beta", 64)
	y := g.GroupNorm(x, gamma, beta, graph.GroupNormAttrs{Groups: 8, Eps: 1e-5, SiLU: true})
	dy := g.Input("dy", y.Shape...)
	grads := graph.Grad(g, []*graph.Node{y}, []*graph.Node{dy}, []*graph.Node{x, gamma})
	flop := 10 * float64(y.Shape.Size())
	b.Run("forward", func(b *testing.B) { benchmark(b, g, flop, y) })
	b.Run("input", func(b *testing.B) { benchmark(b, g, flop, grads[0]) })
	b.Run("params", func(b *testing.B) { benchmark(b, g, flop, grads[1]) })
}

func BenchmarkAttention(b *testing.B) {
	const n, l, c = 16, 64, 96
	g := graph.New()
	q, k, v := g.Input("q", n, l, c), g.Input("k", n, l, c), g.Input("v", n, l, c)
	y := g.Attention(q, k, v, 4)
	dy := g.Input("dy", y.Shape...)
	grads := graph.Grad(g, []*graph.Node{y}, []*graph.Node{dy}, []*graph.Node{q, k, v})
	b.Run("forward", func(b *testing.B) { benchmark(b, g, 4*n*l*l*c, y) })
	b.Run("backward", func(b *testing.B) { benchmark(b, g, 18*n*l*l*c, grads...) })
}

// BenchmarkResidualBlock is one training step of a residual block: forward and
// all gradients, the mix that training a UNet consists of. Only convolutions
// are counted.
func BenchmarkResidualBlock(b *testing.B) {
	const n, c, size = 16, 48, 16
	g := graph.New()
	x := g.Input("x", n, c, size, size)
	wrt, h := []*graph.Node{x}, x
	for i := range 2 {
		name := fmt.Sprint(i)
		w, bias := g.Input("w"+name, c, c, 3, 3), g.Input("bias"+name, c)
		gamma, beta := g.Input("gamma"+name, c), g.Input("beta"+name, c)
		h = g.GroupNorm(h, gamma, beta, graph.GroupNormAttrs{Groups: 8, Eps: 1e-5, SiLU: true})
		h = g.Conv2D(h, w, bias, graph.Same(3))
		wrt = append(wrt, w, bias, gamma, beta)
	}
	y := g.Add(x, h)
	dy := g.Input("dy", y.Shape...)
	grads := graph.Grad(g, []*graph.Node{y}, []*graph.Node{dy}, wrt)
	conv := 2 * float64(y.Shape.Size()) * c * 9
	benchmark(b, g, 6*conv, append(grads, y)...)
}

// BenchmarkLatent measures layers of a latent diffusion UNet of 860 million
// parameters at 64 x 64, forward and backward; products are counted, and ten
// operations an element where there are none.
func BenchmarkLatent(b *testing.B) {
	layer := func(name string, flop float64, build func(g *graph.Graph) (y *graph.Node, wrt []*graph.Node)) {
		g := graph.New()
		y, wrt := build(g)
		b.Run(name+"/forward", func(b *testing.B) { benchmark(b, g, flop, y) })
		grads := graph.Grad(g, []*graph.Node{y}, []*graph.Node{g.Input("dy", y.Shape...)}, wrt)
		for i, d := range grads {
			b.Run(fmt.Sprintf("%s/gradient%d", name, i), func(b *testing.B) { benchmark(b, g, flop, d) })
		}
	}
	for _, k := range []struct{ c, o, size, stride int }{{320, 320, 64, 1}, {640, 640, 32, 1}, {1280, 1280, 16, 1}, {1280, 1280, 8, 1}, {320, 320, 64, 2}, {320, 4, 64, 1}} {
		out := k.size / k.stride
		layer(fmt.Sprintf("conv%dx%d_%d_s%d", k.c, k.o, k.size, k.stride), 2*9*float64(k.c*k.o*out*out), func(g *graph.Graph) (*graph.Node, []*graph.Node) {
			x, w := g.Input("x", 1, k.c, k.size, k.size), g.Input("w", k.o, k.c, 3, 3)
			attrs := graph.Same(3)
			attrs.Stride = k.stride
			return g.Conv2D(x, w, nil, attrs), []*graph.Node{x, w}
		})
	}
	for _, k := range []struct{ rows, in, out int }{{4096, 320, 320}, {4096, 320, 2560}, {1024, 640, 640}, {256, 1280, 10240}, {64, 1280, 1280}, {77, 768, 320}} {
		layer(fmt.Sprintf("linear%dx%d_%d", k.rows, k.in, k.out), 2*float64(k.rows*k.in*k.out), func(g *graph.Graph) (*graph.Node, []*graph.Node) {
			x, w := g.Input("x", k.rows, k.in), g.Input("w", k.out, k.in)
			return g.Linear(x, w, g.Input("bias", k.out)), []*graph.Node{x, w}
		})
	}
	for _, k := range []struct{ lq, lk, heads, width int }{{4096, 4096, 8, 40}, {4096, 77, 8, 40}, {1024, 1024, 8, 80}, {256, 256, 8, 160}, {4096, 4096, 1, 512}} {
		c := k.heads * k.width
		layer(fmt.Sprintf("attention%dx%d_h%dx%d", k.lq, k.lk, k.heads, k.width), 4*float64(k.lq*k.lk*c), func(g *graph.Graph) (*graph.Node, []*graph.Node) {
			q, key, v := g.Input("q", 1, k.lq, c), g.Input("k", 1, k.lk, c), g.Input("v", 1, k.lk, c)
			return g.Attention(q, key, v, k.heads), []*graph.Node{q, key, v}
		})
	}
	layer("group_norm", 10*320*64*64, func(g *graph.Graph) (*graph.Node, []*graph.Node) {
		x, gamma, beta := g.Input("x", 1, 320, 64, 64), g.Input("gamma", 320), g.Input("beta", 320)
		return g.GroupNorm(x, gamma, beta, graph.GroupNormAttrs{Groups: 32, Eps: 1e-5, SiLU: true}), []*graph.Node{x, gamma}
	})
	layer("layer_norm", 10*4096*320, func(g *graph.Graph) (*graph.Node, []*graph.Node) {
		x, gamma, beta := g.Input("x", 4096, 320), g.Input("gamma", 320), g.Input("beta", 320)
		return g.LayerNorm(x, gamma, beta, 1e-5), []*graph.Node{x, gamma}
	})
	layer("geglu", 10*4096*1280, func(g *graph.Graph) (*graph.Node, []*graph.Node) {
		x := g.Input("x", 4096, 2560)
		return g.GEGLU(x), []*graph.Node{x}
	})
	layer("transpose", 10*4096*320, func(g *graph.Graph) (*graph.Node, []*graph.Node) {
		x := g.Input("x", 1, 320, 4096)
		return g.Transpose(x), []*graph.Node{x}
	})
}
