package cpu

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
)

// A large parameter in half precision takes two bytes a number and computes what
// the rounded numbers compute.
func TestLargeHalvesAreHeldPacked(t *testing.T) {
	t.Run("float32", func(t *testing.T) { testLargeHalves[float32](t) })
	t.Run("float64", func(t *testing.T) { testLargeHalves[float64](t) })
}

func testLargeHalves[T Float](t *testing.T) {
	const c, o = 171, 173
	build := func(half bool) *graph.Plan {
		g := graph.New()
		weight := func(name string, shape ...int) *graph.Node {
			n := g.Param(name, shape...)
			if half {
				n.Storage = graph.F16
			}
			return n
		}
		x := g.Input("x", 1, c, 3, 3)
		y := g.Conv2D(x, weight("filters", o, c, 3, 3), nil, graph.Same(3))
		y = g.GlobalAvgPool(y)
		y = g.MatMul(y, g.Reshape(weight("matrix", 3*o, 557), o, 3*557), nil, graph.MatMulAttrs{})
		rows := g.Embedding(weight("table", 1024, 257), g.Input("index", 5))
		seed := g.Input("seed", y.Shape...)
		dx := graph.Grad(g, []*graph.Node{y}, []*graph.Node{seed}, []*graph.Node{x})
		plan, err := graph.Compile(g, []*graph.Node{y, rows}, dx)
		if err != nil {
			t.Fatal(err)
		}
		return plan
	}
	plan, whole := build(true), build(false)
	e := New[T](Options{Workers: 2})
	defer e.Close()
	if got, want := e.ParamBytes(plan), plan.ParamBytes; got != want {
		t.Errorf("parameters take %d bytes, want the plan's %d", got, want)
	}
	numbers := map[string][]float64{}
	for _, p := range whole.Params {
		if p.Name == "index" {
			continue
		}
		numbers[p.Name] = normals(uint64(len(p.Name)), p.Shape.Size())
	}
	numbers["index"] = []float64{0, 1023, 512, 5000, 7}
	numbers["x"], numbers["seed"] = normals(4, c*9), normals(5, 3*557)

	got, held := runWith(t, e, plan, numbers)
	if held != plan.ParamBytes {
		t.Errorf("the ledger counts %d bytes of parameters, want %d", held, plan.ParamBytes)
	}
	for name, values := range numbers {
		for i, v := range values {
			if name == "filters" || name == "matrix" || name == "table" {
				values[i] = float64(roundHalf(float32(v)))
			}
		}
	}
	want, _ := runWith(t, e, whole, numbers)
	for k := range want {
		for i := range want[k] {
			if got[k][i] != want[k][i] && want[k][i] == want[k][i] {
				t.Fatalf("element %d of result %d is %g, want %g", i, k, got[k][i], want[k][i])
			}
		}
	}
}

// runWith uploads, runs every segment and returns what was wanted, with the
// bytes that the parameters took.
func runWith[T Float](t *testing.T, e *Executor[T], plan *graph.Plan, numbers map[string][]float64) (got [][]float64, held int64) {
	t.Helper()
	params := map[*graph.Node]graph.Tensor{}
	for _, p := range plan.Params {
		data := make([]float32, p.Shape.Size())
		for i, v := range numbers[p.Name] {
			data[i] = float32(v)
		}
		tensor, err := e.NewParam(data, p.Storage)
		if err != nil {
			t.Fatal(err)
		}
		params[p] = tensor
		defer e.FreeVector(tensor)
	}
	held = e.Usage().Params
	program, err := e.Compile(plan, params)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Release()
	tape, err := program.NewTape()
	if err != nil {
		t.Fatal(err)
	}
	for s, segment := range plan.Segments {
		var feeds []graph.Feed
		for _, in := range segment.Inputs {
			feeds = append(feeds, graph.Feed{Node: in, From: upload(t, e, numbers[in.Name])})
		}
		var fetches []graph.Fetch
		for _, w := range segment.Wanted {
			fetches = append(fetches, graph.Fetch{Node: w, To: upload(t, e, make([]float64, w.Shape.Size()))})
		}
		if err := program.Run(t.Context(), tape, s, feeds, fetches); err != nil {
			t.Fatal(err)
		}
		for _, f := range fetches {
			values, err := e.Read(t.Context(), f.To)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, values)
		}
	}
	return got, held
}

func TestNumbersBeyondHalfPrecision(t *testing.T) {
	e := New[float32](Options{})
	defer e.Close()
	for _, size := range []int{3, packedFrom} {
		data := make([]float32, size)
		for _, fits := range []float32{65519, -65504, float32(math.Inf(1))} { // infinities are what the file has
			data[2] = fits
			if _, err := e.NewParam(data, graph.F16); err != nil {
				t.Errorf("%g: %v", fits, err)
			}
		}
		data[2] = -65520
		if _, err := e.NewParam(data, graph.F16); err == nil || !strings.Contains(err.Error(), "element 2 is -65520, beyond the range of half precision") {
			t.Errorf("%d numbers: error %v", size, err)
		}
		if _, err := e.NewParam(data, graph.F32); err != nil {
			t.Error(err)
		}
	}
}

// A parameter is the same whether it comes as numbers or as their bits.
func TestHalvesAreTakenAsTheyAre(t *testing.T) {
	t.Run("float32", func(t *testing.T) { testHalfParam[float32](t) })
	t.Run("float64", func(t *testing.T) { testHalfParam[float64](t) })
}

func testHalfParam[T Float](t *testing.T) {
	e := New[T](Options{})
	defer e.Close()
	for _, size := range []int{5, packedFrom + 1} {
		numbers, halves := make([]float32, size), make([]byte, 2*size)
		for i := range numbers {
			bits := uint16(i*7919) & 0xfbff // finite
			numbers[i] = unpackHalf(bits)
			binary.LittleEndian.PutUint16(halves[2*i:], bits)
		}
		before := e.Usage().Params
		a, err := e.NewParam(numbers, graph.F16)
		if err != nil {
			t.Fatal(err)
		}
		held := e.Usage().Params - before
		b, err := e.NewHalfParam(halves)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Usage().Params - before; got != 2*held {
			t.Errorf("%d numbers: %d bytes, then %d for the same", size, held, got-held)
		}
		if va, vb := a.(*vector[T]), b.(*vector[T]); !slices.Equal(va.data, vb.data) || !slices.Equal(va.half, vb.half) {
			t.Errorf("%d numbers differ", size)
		}
	}
}
