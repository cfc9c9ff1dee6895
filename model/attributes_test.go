package model_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
)

var attributes = model.Attributes{
	{Name: "hat", Values: []string{"no", "yes"}},
	{Name: "mood", Values: []string{"happy", "sad", "calm"}},
	{Name: "beard", Values: []string{"no", "yes"}},
}

func TestAttributeLabels(t *testing.T) {
	labels, err := attributes.Labels(map[string]string{"mood": "calm"})
	if err != nil || labels[0] != 2 || labels[1] != 2 || labels[2] != 2 {
		t.Errorf("labels %v, %v", labels, err)
	}
	if from, to, err := attributes.LogitRange("beard"); err != nil || from != 5 || to != 7 || attributes.Logits() != 7 {
		t.Errorf("beard has logits [%d, %d) of %d, %v", from, to, attributes.Logits(), err)
	}
	for _, c := range []struct {
		condition map[string]string
		want      string
	}{
		{map[string]string{"shoes": "red"}, `attribute "shoes" does not exist, there are hat, mood, beard`},
		{map[string]string{"mood": "angry"}, `attribute "mood" has no value "angry", only happy, sad, calm`},
	} {
		if _, err := attributes.Labels(c.condition); err == nil || err.Error() != c.want {
			t.Errorf("%v: %v, want %q", c.condition, err, c.want)
		}
	}
	for want, bad := range map[string]model.Attributes{
		"empty":    {},
		`"a.b"`:    {{Name: "a.b", Values: []string{"x", "y"}}},
		"repeated": {{Name: "a", Values: []string{"x", "y"}}, {Name: "a", Values: []string{"x", "y"}}},
		"1 values": {{Name: "a", Values: []string{"x"}}},
		"twice":    {{Name: "a", Values: []string{"x", "x"}}},
	} {
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want an error with %q", bad, err, want)
		}
	}
}

// The sum on the host and the sum as a graph are the same numbers.
func TestEmbedderOnHostAndInGraph(t *testing.T) {
	e := model.AttributeEmbedder{Attributes: attributes, Dim: 5}
	e.Weights = model.Init(e.Params(), 7)
	people := [][]int{{0, 2, 1}, attributes.NullLabels()}

	g := graph.New()
	labels := g.Input("labels", len(attributes), len(people))
	sum := e.Build(g, labels)
	byAttribute := make([]float64, 0, 6)
	for a := range attributes {
		for _, person := range people {
			byAttribute = append(byAttribute, float64(person[a]))
		}
	}
	got := run(t, g, sum, labels, byAttribute, e.Weights)
	for i, person := range people {
		want, err := e.Embed(person)
		if err != nil {
			t.Fatal(err)
		}
		for d, w := range want {
			if math.Abs(got[i*e.Dim+d]-float64(w)) > 1e-6 {
				t.Errorf("person %d, element %d: graph %g, host %g", i, d, got[i*e.Dim+d], w)
			}
		}
	}
	for _, bad := range [][]int{{0}, {0, 4, 0}, {-1, 0, 0}} {
		if _, err := e.Embed(bad); err == nil {
			t.Errorf("labels %v were embedded", bad)
		}
	}
}

// A gradient of one attribute's loss reaches the image and agrees with central
// differences.
func TestClassifierGradientReachesTheImage(t *testing.T) {
	config := model.NewClassifierConfig(4, []int{8, 8}, attributes)
	params, err := config.Params()
	if err != nil {
		t.Fatal(err)
	}
	weights := model.Init(params, 5)

	g := graph.New()
	images := g.Input("images", 1, 3, 4, 4)
	logits, err := config.AttributeLogits(g, config.Build(g, images, graph.F32), "mood")
	if err != nil {
		t.Fatal(err)
	}
	loss := g.SoftmaxCrossEntropy(logits, g.Const("label", []float32{1}, 1))
	gradient := graph.Grad(g, []*graph.Node{loss}, []*graph.Node{g.Const("one", []float32{1}, 1)}, []*graph.Node{images})[0]

	image := make([]float64, 48)
	for i := range image {
		image[i] = graph.Normal(1, 0, uint32(i))
	}
	analytic := run(t, g, gradient, images, image, weights)
	const h = 1e-5
	for _, i := range []int{0, 17, 47} {
		at := func(step float64) float64 {
			moved := append([]float64{}, image...)
			moved[i] += step
			return run(t, g, loss, images, moved, weights)[0]
		}
		if numeric := (at(h) - at(-h)) / (2 * h); math.Abs(numeric-analytic[i]) > 1e-7+1e-5*math.Abs(numeric) {
			t.Errorf("pixel %d: gradient %g, by differences %g", i, analytic[i], numeric)
		}
	}
	if _, err := config.AttributeLogits(g, logits, "shoes"); err == nil {
		t.Error("logits of an unknown attribute")
	}
}

func TestInitIsPyTorchsAndRepeats(t *testing.T) {
	params, err := model.NewClassifierConfig(8, []int{16, 32}, attributes).Params()
	if err != nil {
		t.Fatal(err)
	}
	first, again, other := model.Init(params, 1), model.Init(params[3:], 1), model.Init(params, 2)
	name := "levels.1.layers.1.conv.weight" // 32 inputs of 3x3
	bound, sum := float32(1/math.Sqrt(32*9)), 0.0
	for i, v := range first[name].Data {
		if v < -bound || v > bound || v != again[name].Data[i] {
			t.Fatalf("element %d is %g, bound %g, again %g", i, v, bound, again[name].Data[i])
		}
		sum += float64(v) * float64(v)
	}
	n := float64(len(first[name].Data))
	if ratio := sum / n / (float64(bound) * float64(bound) / 3); math.Abs(ratio-1) > 0.05 {
		t.Errorf("variance is %g of a uniform distribution's", ratio)
	}
	if first[name].Data[0] == other[name].Data[0] {
		t.Error("another seed gave the same weights")
	}
	if first["levels.0.layers.0.norm.weight"].Data[0] != 1 || first["levels.0.layers.0.norm.bias"].Data[0] != 0 {
		t.Error("norms do not start at one and zero")
	}
}

// run evaluates one node in float64.
func run(t *testing.T, g *graph.Graph, wanted, input *graph.Node, value []float64, weights model.Weights) []float64 {
	t.Helper()
	ctx := context.Background()
	ex := cpu.New[float64](cpu.Options{Workers: 1})
	defer ex.Close()
	plan, err := graph.Compile(g, []*graph.Node{wanted})
	if err != nil {
		t.Fatal(err)
	}
	params, err := model.Upload(ex, plan, weights)
	if err != nil {
		t.Fatal(err)
	}
	program, err := ex.Compile(plan, params)
	if err != nil {
		t.Fatal(err)
	}
	in, _ := ex.NewVector(len(value))
	out, _ := ex.NewVector(wanted.Shape.Size())
	if err := ex.Write(ctx, in, value); err != nil {
		t.Fatal(err)
	}
	if err := program.Run(ctx, nil, 0, []graph.Feed{{Node: input, From: in}}, []graph.Fetch{{Node: wanted, To: out}}); err != nil {
		t.Fatal(err)
	}
	result, err := ex.Read(ctx, out)
	if err != nil {
		t.Fatal(err)
	}
	return result
}
