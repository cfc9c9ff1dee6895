package webgpu

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/graph/optable"
)

// farOut draws from where a careless formula overflows, cancels, or divides
// zero by zero.
func farOut(rng *rand.Rand) float64 {
	edges := []float64{1e20, 1e4, 104, 89, 88, 87, 80, 20, 1, 1e-6, 1e-30, 0}
	return edges[rng.IntN(len(edges))] * float64(1-2*rng.IntN(2))
}

// The logistic functions and their slopes are finite and close everywhere, and
// do not rely on infinities. The bound is relative, as WGSL's exp is, above the
// given floor.
func TestLogisticFunctionsFarOut(t *testing.T) {
	reference := cpu.New[float64](cpu.Options{})
	defer reference.Close()
	executors := openPresets(t)
	unary := func(f func(*graph.Graph, *graph.Node) *graph.Node) func(*graph.Graph, ...int) *graph.Node {
		return func(g *graph.Graph, shape ...int) *graph.Node { return f(g, g.Input("x", shape...)) }
	}
	for name, f := range map[string]struct {
		floor float64
		build func(g *graph.Graph, shape ...int) *graph.Node
	}{
		"silu":     {1e-14, unary((*graph.Graph).SiLU)},
		"sigmoid":  {1e-30, unary((*graph.Graph).Sigmoid)},
		"softplus": {1e-30, unary((*graph.Graph).Softplus)},
		"bce": {2e-7, func(g *graph.Graph, shape ...int) *graph.Node {
			return g.BCEWithLogits(g.Input("x", shape...), g.Input("targets", shape...))
		}},
		"group_norm with silu": {2e-4, func(g *graph.Graph, shape ...int) *graph.Node { // its terms reach 300
			return g.GroupNorm(g.Input("input", shape...), g.Input("gamma", shape[1]), g.Input("beta", shape[1]),
				graph.GroupNormAttrs{Groups: 1, Eps: 1e-5, SiLU: true})
		}},
	} {
		for _, shape := range [][]int{{2, 3, 67}, {2, 4, 64}} {
			fill := map[string]optable.Fill{"x": farOut, "targets": optable.Unit, "gamma": optable.Far}
			r := optable.Row{Name: name, Fill: fill, Build: func(g *graph.Graph) *graph.Node { return f.build(g, shape...) }}
			for half, run := range map[string]func(graph.Executor, optable.Row) ([][]float64, error){"forward": optable.Forward, "gradients": optable.Gradients} {
				want, err := run(reference, r)
				must(t, err)
				for preset, e := range executors {
					t.Run(name+"/"+half+"/"+preset, func(t *testing.T) {
						got, err := run(e, r)
						must(t, err)
						for i := range want {
							for j, w := range want[i] {
								if !(math.Abs(got[i][j]-w) <= 2e-5*math.Abs(w)+f.floor) {
									t.Fatalf("tensor %d, element %d is %g, want %g", i, j, got[i][j], w)
								}
							}
						}
					})
				}
			}
		}
	}
}
