package engine

import (
	"context"
	"fmt"
	"image"
	"io/fs"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
)

// The tiny folders of tools/golden/tiny_pipeline.py by name, beside what
// tools/golden/terms.py made.
func openTiny(name string) (fs.FS, error) {
	dir := "../model/testdata/" + name
	if name == "." {
		dir = "testdata"
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, fs.ErrNotExist
	}
	return os.DirFS(dir), nil
}

var (
	tinyPictures = os.DirFS("testdata")
	tinyLatents  = graph.Shape{2, 4, 8, 12}
)

// tinyRecipe steers the tiny pipeline by terms, 32x48 pixels.
func tinyRecipe(t *testing.T, terms string, set ...string) *recipes.Recipe {
	t.Helper()
	var overrides []recipes.Override
	for _, s := range set {
		path, value, _ := strings.Cut(s, "=")
		overrides = append(overrides, recipes.Override{Path: path, Value: value, From: s})
	}
	r, err := recipes.Parse([]byte(`{version: 1, name: tiny, model: stable-diffusion, height: 32, width: 48, num_images: 2, prompt: a red fox in the snow,
		clip: clip, aesthetic: aesthetic.safetensors, sampler: {num_inference_steps: 2}, objective: [`+terms+`]}`), "tiny", overrides...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tinyModel(t *testing.T, r *recipes.Recipe) *Model {
	t.Helper()
	m, err := LoadModel(r, openTiny)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// evaluator has a recipe's objective evaluated on an executor, losses and the
// gradient of their sum.
func evaluator(t *testing.T, exec graph.Executor, r *recipes.Recipe, shape graph.Shape) func(x []float64) (losses, grad []float64) {
	t.Helper()
	ctx := context.Background()
	m := tinyModel(t, r)
	c, err := newMetric(r, m, shape, tinyPictures, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range c.prepare {
		if err := p.run(ctx, exec); err != nil {
			t.Fatal(err)
		}
	}
	aids := newResident(exec, m.aids()...)
	o, err := newObjective(exec, c, aids)
	t.Cleanup(func() {
		o.Release()
		aids.free()
	})
	if err != nil {
		t.Fatal(err)
	}
	vector := func(values []float64) graph.Tensor {
		v, err := exec.NewVector(shape.Size())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { exec.FreeVector(v) })
		if values != nil {
			if err := exec.Write(ctx, v, values); err != nil {
				t.Fatal(err)
			}
		}
		return v
	}
	return func(x []float64) (losses, grad []float64) {
		at, slope := vector(x), vector(nil)
		losses, err := o.Evaluate(ctx, at, slope)
		if err == nil {
			grad, err = exec.Read(ctx, slope)
		}
		if err != nil {
			t.Fatal(err)
		}
		return losses, grad
	}
}

// apart is the largest difference as a share of the largest number wanted.
func apart(got []float64, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	most, worst := 0.0, 0.0
	for i, w := range want {
		most = max(most, math.Abs(float64(w)))
		if d := math.Abs(got[i] - float64(w)); !(d <= worst) {
			worst = d // also where it is NaN
		}
	}
	return worst / most
}

// The terms that need CLIP give PyTorch's losses, and its gradients at latents
// through either decoder.
func TestCLIPTermsAgreeWithPyTorch(t *testing.T) {
	want, _, err := model.LoadSafetensors(tinyPictures, "terms.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	latents := want["latents"]
	exec := cpu.New[float64](cpu.Options{})
	t.Cleanup(func() { exec.Close() })
	for decoder, set := range map[string]string{"vae": "decoder=\"\"", "taesd": "decoder=taesd"} {
		for term, text := range map[string]string{
			"clip_similarity": "{term: clip_similarity, prompt: a photo of a red fox}",
			"clip_style":      "{term: clip_style, image: style.png, layer: 2}",
			"aesthetic":       "{term: aesthetic}",
		} {
			t.Run(decoder+" "+term, func(t *testing.T) {
				evaluate := evaluator(t, exec, tinyRecipe(t, text, set), tinyLatents)
				losses, grad := evaluate(float64s(latents.Data))
				prefix := decoder + "." + term
				if off := apart(losses, want[prefix+".loss"].Data); off > 1e-5 {
					t.Errorf("losses %v, PyTorch's %v", losses, want[prefix+".loss"].Data)
				}
				if off := apart(grad, want[prefix+".grad"].Data); off > 1e-5 {
					t.Errorf("the gradient is %g off PyTorch's", off)
				}
			})
		}
	}
}

func float32s(values []float64) []float32 {
	data := make([]float32, len(values))
	for i, v := range values {
		data[i] = float32(v)
	}
	return data
}

// latentTerms are those whose gradient at latents only differences can tell, and
// what none of them shares with another.
var latentTerms = []string{
	"{term: clip_similarity, prompt: a photo of a fox, cutouts: 3, noise: 0.3}",
	"{term: clip_style, image: style.png, layer: 1}, {term: aesthetic, target: 2}, {term: clip_similarity, prompt: snow}",
	"{term: pixels, image: target.png, mask: mask.png}",
	"{term: pixels, image: target.png, mask: mask.png, space: latents}",
	"{term: inpaint, source: {image: target.png}, hidden: [3, 5, 30, 9], space: latents}",
	"{term: symmetry}, {term: symmetry, space: latents, weight: 2}",
	"{term: total_variation}, {term: total_variation, space: latents}",
	`{term: region_color, region: [1, 2, 7, 9], color: "#ff8000"}`,
}

// Gradients at latents are the slopes of the losses.
func TestTermsOfLatentsHaveTheirSlope(t *testing.T) {
	shape := tinyLatents
	exec := cpu.New[float64](cpu.Options{})
	t.Cleanup(func() { exec.Close() })
	for _, terms := range latentTerms {
		t.Run(terms, func(t *testing.T) {
			evaluate := evaluator(t, exec, tinyRecipe(t, terms), shape)
			x, direction := Noise(3, shape), Noise(4, shape)
			losses, grad := evaluate(x)
			slope := 0.0
			for i, d := range direction {
				slope += d * grad[i]
			}
			moved := func(h float64) (sum float64) {
				y := make([]float64, len(x))
				for i := range y {
					y[i] = x[i] + h*direction[i]
				}
				at, _ := evaluate(y)
				return at[0] + at[1]
			}
			const h = 1e-5
			if want := (moved(h) - moved(-h)) / (2 * h); math.Abs(slope-want) > 1e-5*math.Abs(want) || want == 0 {
				t.Errorf("losses %v: slope %v, by differences %v", losses, slope, want)
			}
		})
	}
}

// Latents are compared with what the encoder makes of the picture.
func TestLatentsAreComparedWithTheEncodedPicture(t *testing.T) {
	exec := cpu.New[float64](cpu.Options{})
	t.Cleanup(func() { exec.Close() })
	r := tinyRecipe(t, "{term: pixels, image: target.png, space: latents}")
	m := tinyModel(t, r)
	shape := graph.Shape{1, 4, 8, 12}
	c, err := newMetric(r, m, shape, tinyPictures, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.prepare[0].run(context.Background(), exec); err != nil {
		t.Fatal(err)
	}
	target := c.given[0].values
	if losses, _ := evaluator(t, exec, r, shape)(target); losses[0] > 1e-12 {
		t.Errorf("the encoded picture is %v from itself", losses[0])
	}
	zero := make([]float64, len(target))
	losses, grad := evaluator(t, exec, r, shape)(zero)
	mean := 0.0
	for i, v := range target {
		mean += v * v / float64(len(target))
		if want := -2 * v / float64(len(target)); math.Abs(grad[i]-want) > 1e-9 {
			t.Fatalf("gradient %d is %v, want %v", i, grad[i], want)
		}
	}
	if math.Abs(losses[0]-mean) > 1e-6*mean || mean < 1e-3 {
		t.Errorf("zeros are %v from the encoded picture, want its mean square %v", losses[0], mean)
	}
}

func TestShares(t *testing.T) {
	mask := []float64{ // 4 x 4 over 2 x 2
		1, 1, 0, 0,
		1, 0, 0, 0,
		1, 1, 1, 1,
		1, 1, 0, 1,
	}
	if got := fmt.Sprint(shares(mask, 4, 4, 2, 2)); got != "[0.75 0 1 0.75]" {
		t.Errorf("shares are %s", got)
	}
}

func TestCutoutsLieInThePicture(t *testing.T) {
	for _, size := range []image.Point{{1, 1}, {1, 5}, {7, 3}, {512, 512}, {640, 360}} {
		seen := map[image.Rectangle]bool{}
		for k := range recipes.MaxCutouts {
			at, short := cutout(k, size.X, size.Y), min(size.X, size.Y)
			if !at.In(image.Rectangle{Max: size}) || at.Empty() || k > 0 && (at.Dx() != at.Dy() || 2*at.Dx() < short) {
				t.Errorf("cutout %d of %v is %v", k, size, at)
			}
			if seen[at] = true; cutout(k, size.X, size.Y) != at {
				t.Errorf("cutout %d of %v moves", k, size)
			}
		}
		if size.X > 100 && len(seen) < recipes.MaxCutouts*9/10 {
			t.Errorf("%d cutouts of %v show %d places", recipes.MaxCutouts, size, len(seen))
		}
	}
}

// What is missing, or does not fit, is told in one sentence before anything is
// computed.
func TestWhatLooksAtPicturesIsMissing(t *testing.T) {
	plan := func(terms string, set ...string) error {
		r := tinyRecipe(t, terms, set...)
		m, err := LoadModel(r, openTiny)
		if err == nil {
			_, err = NewPlan(r, m, tinyPictures, m.Options())
		}
		return err
	}
	for _, tt := range []struct{ terms, set, want string }{
		{"{term: clip_similarity, prompt: a}", "clip=clop", `clip "clop" does not exist`},
		{"{term: clip_similarity, prompt: a}", "clip=taesd", "clip taesd: "},
		{"{term: aesthetic}", "aesthetic=nothing.safetensors", "aesthetic nothing.safetensors: "},
		{"{term: aesthetic}", "aesthetic=terms.safetensors", "aesthetic terms.safetensors: "},
		{"{term: clip_style, image: style.png, layer: 5}", "", "layer is 5, and CLIP's vision tower has 2 blocks"},
		{"{term: clip_style, image: none.png, layer: 1}", "", "picture none.png: "},
	} {
		var set []string
		if tt.set != "" {
			set = []string{tt.set}
		}
		if err := plan(tt.terms, set...); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s %s: got %v\nwant %s", tt.terms, tt.set, err, tt.want)
		}
	}
	r, err := recipes.Parse([]byte("{version: 1, name: x, objective: [{term: symmetry, space: latents}]}"), "x")
	if err != nil {
		t.Fatal(err)
	}
	want := `recipe "x": objective.0 (symmetry): space is latents, and model avatars-16-s makes pixels; leave space out`
	if _, err := newMetric(r, &Model{Name: "avatars-16-s"}, graph.Shape{1, 3, 4, 4}, nil, PlanOptions{}); err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}
