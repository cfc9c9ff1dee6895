package cpu

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
)

// A plan for a device that sees only small tensors computes, in float64, what the
// whole plan does but for the order of sums, and holds nothing larger.
func TestSplitPlansAgree(t *testing.T) {
	seeds := uint64(24)
	if testing.Short() {
		seeds = 6
	}
	split, refused := 0, 0
	for seed := range seeds {
		g, out, grads := randomNet(rand.New(rand.NewPCG(seed, 2)))
		segments := [][]*graph.Node{{out}, grads}
		whole, err := graph.Compile(g, segments...)
		if err != nil {
			t.Fatal(err)
		}
		largest, edge := int64(0), int64(0)
		for _, segment := range whole.Segments {
			for _, n := range segment.Nodes {
				largest = max(largest, int64(n.Shape.Size())*4)
			}
			for _, n := range slices.Concat(segment.Inputs, segment.Wanted, whole.Params) {
				edge = max(edge, int64(n.Shape.Size())*4)
			}
		}
		want, _ := keptCall[float64](t, whole)
		for _, limit := range []int64{largest - 4, largest / 2, largest / 3, edge} {
			limit = max(limit, edge)
			for _, budget := range []int64{0, 1} {
				plan, err := graph.CompileWith(g, graph.CompileOptions{MaxBinding: limit, TapeBudget: budget}, segments...)
				if err != nil && strings.Contains(err.Error(), "attention") {
					refused++ // one image's keys are larger than the limit
					continue
				}
				if err != nil {
					t.Fatalf("seed %d, limit %d of %d: %v", seed, limit, largest, err)
				}
				if limit < largest {
					split++
				}
				for _, segment := range plan.Segments {
					for _, n := range segment.Nodes {
						if bytes := int64(n.Shape.Size()) * 4; bytes > limit {
							t.Errorf("seed %d: %v takes %d bytes of at most %d", seed, n, bytes, limit)
						}
					}
				}
				got, _ := keptCall[float64](t, plan)
				// The gradient of a bias in front of a normalisation is zero but for
				// rounding: results count by the size of all of them, too.
				off, norm := make([]float64, len(want)), make([]float64, len(want))
				total := 0.0
				for k := range want {
					for i, w := range want[k] {
						off[k] += (got[k][i] - w) * (got[k][i] - w)
						norm[k] += w * w
					}
					total += norm[k]
				}
				for k := range want {
					if !(off[k] <= 1e-24*(norm[k]+1e-6*total)) {
						t.Fatalf("seed %d, limit %d of %d, budget %d: result %d is off by %g of %g", seed, limit, largest, budget, k, off[k], norm[k])
					}
				}
			}
		}
	}
	if split < int(seeds)*3 || refused > split/8 {
		t.Errorf("only %d plans of %d networks were split, %d refused", split, seeds, refused)
	}
}

// wideNet reads parameters of which limit bytes are seen at once: a table, a right
// operand that is transposed, one that is not, and both once more backwards.
func wideNet(storage graph.Storage) (g *graph.Graph, segments [][]*graph.Node, limit int64) {
	g = graph.New()
	param := func(name string, shape ...int) *graph.Node {
		p := g.Param(name, shape...)
		p.Storage = storage
		return p
	}
	index := g.Const("index", []float32{96, 0, 41, 41, 77}, 5)
	x, seed := g.Input("x", 5, 33), g.Input("seed", 5, 33)
	h := g.Add(x, g.Embedding(param("table", 97, 33), index))
	h = g.SiLU(g.Linear(h, param("up", 200, 33), g.Param("bias", 200)))
	h = g.Linear(h, param("down", 33, 200), g.Param("bias2", 33))
	grads := graph.Grad(g, []*graph.Node{h}, []*graph.Node{seed}, []*graph.Node{x, g.Lookup("bias")})
	return g, [][]*graph.Node{{h}, grads}, 4400
}

func TestParametersLargerThanABinding(t *testing.T) {
	for _, storage := range []graph.Storage{graph.F32, graph.F16} {
		g, segments, limit := wideNet(storage)
		whole, err := graph.Compile(g, segments...)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := keptCall[float64](t, whole)
		for _, budget := range []int64{0, 1} {
			plan, err := graph.CompileWith(g, graph.CompileOptions{MaxBinding: limit, TapeBudget: budget}, segments...)
			if err != nil {
				t.Fatal(err)
			}
			if plan.ParamBytes-whole.ParamBytes > 8000 { // row numbers only
				t.Errorf("parameters take %d bytes, %d whole", plan.ParamBytes, whole.ParamBytes)
			}
			for _, segment := range plan.Segments {
				for _, n := range segment.Nodes {
					for _, in := range n.Inputs {
						if bytes := plan.Slot(in).Bytes; bytes > limit && n.Op != "embedding" {
							t.Errorf("%v sees %d bytes of %v", n, bytes, in)
						}
					}
				}
			}
			got, _ := keptCall[float64](t, plan)
			for k := range want {
				for i, w := range want[k] {
					if d := got[k][i] - w; !(d*d <= 1e-24*(1+w*w)) {
						t.Fatalf("storage %v: number %d of result %d is %g, whole %g", storage, i, k, got[k][i], w)
					}
				}
			}
		}
	}
}
