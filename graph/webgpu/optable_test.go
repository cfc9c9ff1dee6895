package webgpu

import (
	"io/fs"
	"math"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/graph/optable"
	"github.com/sdo-go/sdo/shaders"
)

// presets are both columns of the preset table; results must not depend on it.
var presets = map[string]*preset{"software": &softwarePreset, "hardware": &hardwarePreset}

// openPresets returns one executor per preset.
func openPresets(t *testing.T) map[string]*Executor {
	t.Helper()
	executors := map[string]*Executor{}
	for name, preset := range presets {
		executors[name] = open(t)
		executors[name].preset = preset
	}
	return executors
}

// Every row, forward and backward, under every preset, against float64.
func TestOperationsAgainstReference(t *testing.T) {
	executors, reference := openPresets(t), cpu.New[float64](cpu.Options{})
	defer reference.Close()
	for _, r := range optable.Rows() {
		if r.Large && testing.Short() {
			continue
		}
		for _, half := range []struct {
			name string
			run  func(graph.Executor, optable.Row) ([][]float64, error)
		}{{"forward", optable.Forward}, {"gradients", optable.Gradients}} {
			want, err := half.run(reference, r)
			must(t, err)
			for name, e := range executors {
				t.Run(r.Name+"/"+half.name+"/"+name, func(t *testing.T) {
					got, err := half.run(e, r)
					must(t, err)
					for i := range want {
						if nmse := optable.NMSE(got[i], want[i]); nmse > r.NMSE {
							t.Errorf("tensor %d of %d numbers: normalised mean squared error %.2g, bound %.2g", i, len(want[i]), nmse, r.NMSE)
						}
					}
				})
			}
		}
	}
}

// <J v, u> = <v, J^T u> for linear operations at sizes where no reference is
// computed. It catches a transposed weight and a wrong stride at once.
func TestAdjoints(t *testing.T) {
	rows := []optable.Row{
		{Name: "conv2d 3x3", Build: func(g *graph.Graph) *graph.Node {
			return g.Conv2D(g.Input("x", 4, 40, 33, 31), g.Param("w", 56, 40, 3, 3), nil, graph.Same(3))
		}},
		{Name: "conv2d stride 2, padded right and below", Build: func(g *graph.Graph) *graph.Node {
			return g.Conv2D(g.Input("x", 3, 24, 32, 30), g.Param("w", 33, 24, 3, 3), nil,
				graph.Conv2DAttrs{Stride: 2, PadBottom: 1, PadRight: 1})
		}},
		{Name: "conv2d weight", Build: func(g *graph.Graph) *graph.Node {
			return g.Conv2D(g.Param("x", 8, 24, 32, 32), g.Input("w", 40, 24, 3, 3), nil, graph.Same(3))
		}},
		{Name: "matmul left", Build: func(g *graph.Graph) *graph.Node {
			return g.MatMul(g.Input("a", 513, 130), g.Param("b", 257, 130), nil, graph.MatMulAttrs{TransB: true})
		}},
		{Name: "matmul right, transposed left", Build: func(g *graph.Graph) *graph.Node {
			return g.MatMul(g.Param("a", 130, 513), g.Input("b", 130, 257), nil, graph.MatMulAttrs{TransA: true})
		}},
		{Name: "upsample", Build: func(g *graph.Graph) *graph.Node {
			return g.UpsampleNearest2x(g.Input("x", 5, 24, 33, 32))
		}},
		{Name: "pool", Build: func(g *graph.Graph) *graph.Node {
			return g.SumPool2x(g.Input("x", 5, 24, 66, 64))
		}},
		{Name: "reduce", Build: func(g *graph.Graph) *graph.Node {
			return g.ReduceSum(g.Input("x", 64, 3, 1001), 64, 3, 1001, 3)
		}},
	}
	for name, e := range openPresets(t) {
		for _, r := range rows {
			t.Run(r.Name+"/"+name, func(t *testing.T) {
				left, right, scale, err := optable.Adjoint(e, r)
				must(t, err)
				if math.Abs(left-right) > 1e-5*scale {
					t.Errorf("<Jv, u> = %g, <v, J^T u> = %g", left, right)
				}
			})
		}
	}
}

// A kernel compiled under one preset is not run with the workgroups of another.
func TestPresetMayChange(t *testing.T) {
	e := open(t)
	const n = 10007
	data := random(n, 1)
	x, y := upload64(t, e, data), upload64(t, e, make([]float64, n))
	for k, preset := range []*preset{&softwarePreset, &hardwarePreset, &softwarePreset} {
		e.preset = preset
		must(t, e.Combine(y, []float64{float64(k + 1)}, []graph.Tensor{x}))
		want, sum := make([]float64, n), 0.0
		for i := range want {
			want[i] = float64(k+1) * data[i]
			sum += data[i] * want[i]
		}
		near(t, "y", download(t, e, y), want, 1e-6)
		dots, err := e.RowDots(background, x, y, 1)
		must(t, err)
		near(t, "x.y", dots, []float64{sum}, 1e-6)
	}
}

// Products with more tiles of rows than one dimension has workgroups.
func TestTilesBeyondOneDimension(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 70 MB and seconds")
	}
	for name, build := range map[string]func(g *graph.Graph) *graph.Node{
		"conv2d on software": func(g *graph.Graph) *graph.Node {
			return g.Conv2D(g.Input("x", 1, 1, 2903, 2909), g.Input("w", 1, 1, 1, 1), g.Input("b", 1), graph.Same(1))
		},
		"matmul on hardware": func(g *graph.Graph) *graph.Node {
			return g.MatMul(g.Input("x", 65536*matmulTile+5, 1), g.Input("w", 1, 1), g.Input("b", 1), graph.MatMulAttrs{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t)
			e.preset = presetFor(strings.Contains(name, "software"))
			g := graph.New()
			y := build(g)
			launches, err := kernels[y.Op](y, e.preset)
			must(t, err)
			if l := launches[len(launches)-1]; l.groups[2] < 2 {
				t.Fatalf("workgroups %v fit without folding", l.groups)
			}
			plan, err := graph.Compile(g, []*graph.Node{y})
			must(t, err)
			p, err := e.Compile(plan, nil)
			must(t, err)
			n := y.Shape.Size()
			x, out := upload64(t, e, random(n, 1)), upload64(t, e, make([]float64, n))
			must(t, p.Run(background, nil, 0, []graph.Feed{{Node: g.Lookup("x"), From: x}, {Node: g.Lookup("w"), Value: 2}, {Node: g.Lookup("b"), Value: 1}},
				[]graph.Fetch{{Node: y, To: out}}))
			must(t, e.Combine(out, []float64{1, -2}, []graph.Tensor{out, x})) // all ones
			for i, v := range download(t, e, out) {
				if math.Abs(v-1) > 1e-5 {
					t.Fatalf("element %d is %g, want 1", i, v)
				}
			}
		})
	}
}

// What no fold can spread is refused in words, before anything runs.
func TestTooManyWorkgroupsAreRefused(t *testing.T) {
	e := open(t)
	e.preset = &hardwarePreset
	g := graph.New()
	y := g.MatMul(g.Input("a", 1, 1), g.Input("b", 1, maxGroups*matmulTile+1), nil, graph.MatMulAttrs{})
	plan, err := graph.Compile(g, []*graph.Node{y})
	must(t, err)
	if _, err := e.Compile(plan, nil); err == nil || !strings.Contains(err.Error(), "65536 workgroups along axis 0") {
		t.Errorf("got %v", err)
	}
}

// A label or an index that is no number of the range gives NaN, not what lies
// beside the row.
func TestStrayIndicesGiveNaN(t *testing.T) {
	e := open(t)
	g := graph.New()
	index := g.Input("index", 4)
	loss := g.SoftmaxCrossEntropy(g.Input("logits", 4, 3), index)
	rows := g.Embedding(g.Input("table", 3, 1), index)
	plan, err := graph.Compile(g, []*graph.Node{loss, rows})
	must(t, err)
	p, err := e.Compile(plan, nil)
	must(t, err)
	a, b := upload64(t, e, make([]float64, 4)), upload64(t, e, make([]float64, 4))
	must(t, p.Run(background, nil, 0, []graph.Feed{
		{Node: index, From: upload64(t, e, []float64{-1, 3, math.NaN(), 2})}, {Node: g.Lookup("logits"), Value: 1}, {Node: g.Lookup("table"), Value: 1},
	}, []graph.Fetch{{Node: loss, To: a}, {Node: rows, To: b}}))
	for _, got := range [][]float64{download(t, e, a), download(t, e, b)} {
		for i, v := range got {
			if math.IsNaN(v) != (i < 3) {
				t.Errorf("element %d is %g", i, v)
			}
		}
	}
}

// Every operation has a kernel, every kernel an operation and a row, and every
// shader is used by a kernel or a vector operation under some preset.
func TestKernelsAreComplete(t *testing.T) {
	used := map[string]bool{}
	reached := map[string]bool{}
	for _, r := range optable.Rows() {
		g, err := graph.Build(func(g *graph.Graph) {
			out := r.Build(g)
			var wrt []*graph.Node
			for _, n := range g.Nodes {
				if n.Op == graph.OpInput {
					wrt = append(wrt, n)
				}
			}
			graph.Grad(g, []*graph.Node{out}, []*graph.Node{g.Input(optable.Seed, out.Shape...)}, wrt)
		})
		must(t, err)
		for _, n := range g.Nodes {
			if n.IsLeaf() || n.Op == graph.OpReshape {
				continue
			}
			reached[n.Op] = true
			for _, preset := range presets {
				launches, err := kernels[n.Op](n, preset)
				must(t, err)
				for _, l := range launches {
					used[l.shader] = true
				}
			}
		}
	}
	for _, op := range graph.Ops() {
		if kernels[op] == nil {
			t.Errorf("no kernel for %s", op)
		}
		if !reached[op] {
			t.Errorf("no row reaches %s", op)
		}
	}
	if len(kernels) != len(graph.Ops()) {
		t.Errorf("%d kernels for %d operations", len(kernels), len(graph.Ops()))
	}
	files, err := fs.Glob(shaders.FS, "*.wgsl")
	must(t, err)
	for _, file := range files {
		name := strings.TrimSuffix(file, ".wgsl")
		text, err := shaders.Specialise(name, nil)
		must(t, err)
		if strings.Contains(text, "@compute") && !used[name] && !strings.HasPrefix(name, "vector_") {
			t.Errorf("%s is used by no kernel", file)
		}
	}
}
