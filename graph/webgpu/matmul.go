package webgpu

import "github.com/sdo-go/sdo/graph"

// product is the geometry of op(a) [M K] times op(b) [K N].
type product struct {
	graph.MatMulAttrs
	m, n, k int
	a, b    *graph.Node
	bias    *graph.Node // may be nil
}

func newProduct(n *graph.Node) product {
	g := product{MatMulAttrs: *n.Attrs.(*graph.MatMulAttrs), m: n.Shape[0], n: n.Shape[1], a: n.Inputs[0], b: n.Inputs[1]}
	g.k = g.a.Shape.Size() / g.m
	if len(n.Inputs) == 3 {
		g.bias = n.Inputs[2]
	}
	return g
}

// panel is b as pack.wgsl lays it out.
func (g product) panel() panel {
	if g.TransB {
		return panel{taps: 1, k: g.k, n: g.n, stepK: 1, stepN: g.k}
	}
	return panel{taps: 1, k: g.k, n: g.n, stepK: g.n, stepN: 1}
}

// matmulTile is the extent of the output tile of matmul.wgsl.
const matmulTile = 64

func matmul(n *graph.Node, p *preset) ([]launch, error) {
	g := newProduct(n)
	singles := []*graph.Node{g.a}
	if g.bias != nil {
		singles = append(singles, g.bias)
	}
	if err := wantSingles(n, singles...); err != nil {
		return nil, err
	}
	if !p.tiles {
		return append([]launch{g.panel().pack(p, g.b, g.bias)}, g.gather().launch(p, false, g.a, n)...), nil
	}
	bias := unread()
	if g.bias != nil {
		bias = tensor(g.bias)
	}
	part, splits := g.splits(p)
	rows := ceil(g.m, matmulTile)
	spread := fold(rows*splits, 1)
	l := launch{
		shader: "matmul",
		consts: consts("TRANS_A", g.TransA, "TRANS_B", g.TransB, "BIAS", g.bias != nil,
			"W_F16", storage(g.b) == graph.F16),
		uniform: words(g.m, g.n, g.k, part, rows, rows*splits),
		bind:    []operand{tensor(g.a), tensor(g.b), tensor(n), bias},
		groups:  [3]uint32{uint32(ceil(g.n, matmulTile)), spread[0], spread[1]},
	}
	if splits == 1 {
		return one(l)
	}
	l.bind[2] = temp(0)
	return []launch{l, addSplits(p, splits, g.m*g.n, temp(0), tensor(n))}, nil
}

// gather is the product as conv2d.wgsl computes it: of M images of one pixel with
// K channels, or with a transposed one of one image whose channels are M apart.
func (g product) gather() gather {
	x := gather{
		pixels: g.m, channels: g.k, height: 1, width: 1, image: g.k, plane: 1,
		outs: g.n, outHeight: 1, outWidth: 1, tapsY: 1, tapsX: 1, stride: 1,
	}
	if g.TransA {
		x.image, x.plane = 1, g.m
	}
	return x
}

// splits cuts k into parts for matmul.wgsl, which takes 16 of it at a time.
func (g product) splits(p *preset) (part, splits int) {
	part, _ = p.parts(ceil(g.m, matmulTile)*ceil(g.n, matmulTile)*256, ceil(g.k, 16), 16)
	return 16 * part, ceil(g.k, 16*part)
}

// temps are the panel, and the sums of the splits where there are several.
func (g product) temps(p *preset) []int64 {
	if !p.tiles {
		return append([]int64{g.panel().bytes()}, g.gather().temps(p)...)
	}
	if _, splits := g.splits(p); splits > 1 {
		return []int64{4 * int64(splits*g.m*g.n)}
	}
	return nil
}
