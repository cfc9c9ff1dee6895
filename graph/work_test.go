package graph

import (
	"strings"
	"testing"
)

func TestMultiplyAddsOfAPlan(t *testing.T) {
	_, _, _, plan := chain(t)
	// Two convolutions of 8 to 8 channels by 3x3 kernels on 2 pictures of 4x4, and
	// their input gradients, which take as much.
	each := int64(2 * 8 * 4 * 4 * 8 * 3 * 3)
	for s, segment := range plan.Segments {
		if got := segment.MultiplyAdds(); got != 2*each {
			t.Errorf("segment %d takes %d multiply-adds, want %d", s, got, 2*each)
		}
	}
}

func TestMultiplyAddsOfOperations(t *testing.T) {
	const m, k, n = 3, 5, 7
	for _, transposed := range []bool{false, true} {
		g := New()
		a, attrs := g.Input("a", m, k), MatMulAttrs{}
		if transposed {
			a, attrs.TransA = g.Input("at", k, m), true
		}
		if got := g.MatMul(a, g.Input("b", k, n), nil, attrs).multiplyAdds(); got != m*k*n {
			t.Errorf("a product with transposed %v takes %d multiply-adds, want %d", transposed, got, m*k*n)
		}
	}

	// A stride reads no more kernels than there are outputs; the gradient of the
	// weight takes what the forward takes.
	g := New()
	x, w := g.Input("x", 2, 3, 8, 8), g.Input("w", 5, 3, 3, 3)
	conv := g.Conv2D(x, w, nil, Conv2DAttrs{Stride: 2, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1})
	want := int64(2 * 5 * 4 * 4 * 3 * 3 * 3)
	grads := Grad(g, []*Node{conv}, []*Node{g.Input("dy", conv.Shape...)}, []*Node{x, w})
	for _, node := range append(grads, conv) {
		if got := node.multiplyAdds(); got != want {
			t.Errorf("%v takes %d multiply-adds, want %d", node, got, want)
		}
	}

	const rows, queries, keys, channels = 2, 3, 5, 4
	scores := int64(rows * queries * keys * channels)
	g = New()
	q, kv := g.Input("q", rows, queries, channels), g.Input("kv", rows, keys, channels)
	if got := g.Attention(q, kv, kv, 2).multiplyAdds(); got != 2*scores {
		t.Errorf("attention takes %d multiply-adds, want %d", got, 2*scores)
	}
}

// A form of attention that is not counted would make runs look cheaper than they
// are.
func TestEveryAttentionIsCounted(t *testing.T) {
	g := New()
	q, kv := g.Input("q", 1, 2, 4), g.Input("kv", 1, 3, 4)
	y := g.Attention(q, kv, kv, 1)
	Grad(g, []*Node{y}, []*Node{g.Input("dy", y.Shape...)}, []*Node{q, kv})
	for _, n := range g.Nodes {
		if strings.HasPrefix(n.Op, "attention") && n.multiplyAdds() == 0 {
			t.Errorf("%v takes no multiply-adds", n)
		}
	}
}
