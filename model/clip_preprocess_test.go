package model_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// Pictures of several sizes and shapes, made smaller and larger, and the way back.
// The fixture is made by tools/golden/clip.py.
func TestCLIPPreprocessAgainstPyTorch(t *testing.T) {
	values, _, err := model.LoadSafetensors(os.DirFS("testdata"), "clip-preprocess.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for key, config := range values {
		name, found := strings.CutSuffix(key, ".config")
		if !found {
			continue
		}
		cases++
		t.Run(name, func(t *testing.T) {
			p := preprocessOf(t, config.Data)
			g := graph.New()
			images := g.Input(name+".images", values[name+".images"].Shape...)
			pixels := p.Build(g, images, model.BuildOptions{})
			seed := g.Input(name+".seed", values[name+".seed"].Shape...)
			grad := graph.Grad(g, []*graph.Node{pixels}, []*graph.Node{seed}, []*graph.Node{images})
			got := evaluate(t, g, model.Weights{}, values, pixels, grad[0])
			near(t, "pixels", got[0], values[name+".pixels"], 1e-6)
			near(t, "gradient of the images", got[1], values[name+".grad"], 1e-6)
		})
	}
	if cases < 8 {
		t.Errorf("%d cases, the fixture should have 8", cases)
	}
}

// preprocessOf writes shortest edge, crop size and filter as a file of theirs.
func preprocessOf(t *testing.T, numbers []float32) model.CLIPPreprocess {
	text := fmt.Sprintf(`{"size": {"shortest_edge": %g}, "crop_size": {"height": %g, "width": %[2]g}, "resample": %g, "do_rescale": true}`, numbers[0], numbers[1], numbers[2])
	if numbers[0] == 0 {
		text = fmt.Sprintf(`{"size": {"height": %g, "width": %[1]g}, "do_center_crop": false, "resample": %g}`, numbers[1], numbers[2])
	}
	p, err := model.ParseCLIPPreprocess([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseCLIPPreprocess(t *testing.T) {
	defaults := model.DefaultCLIPPreprocess(224)
	even := defaults
	even.Mean, even.Std = [3]float64{0.5, 0.5, 0.5}, [3]float64{0.8, 0.8, 0.8}
	for text, want := range map[string]model.CLIPPreprocess{
		`{}`: defaults,
		`{"image_mean": 0.5, "image_std": 0.8, "do_rescale": true, "rescale_factor": 0.00392156862745098}`:                         even,
		`{"size": null, "do_resize": null, "image_std": null}`:                                                                     defaults,
		`{"crop_size": 224, "size": 224, "resample": 3, "do_center_crop": true, "feature_extractor_type": "CLIPFeatureExtractor"}`: defaults,
	} {
		if got, err := model.ParseCLIPPreprocess([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		`{"do_rescale": false}`:                    "do_rescale false is not supported, want true",
		`{"rescale_factor": 0.0078}`:               "rescale_factor 0.0078 is not supported, want 1/255",
		`{"image_mean": [0.5, 0.5]}`:               "image_mean or image_std is [0.5,0.5], want a number or three",
		`{"resample": 1}`:                          "resample 1 is not supported, want 2 (bilinear) or 3 (bicubic)",
		`{"do_normalize": false}`:                  "do_normalize false is not supported",
		`{"do_resize": false}`:                     "do_resize false is not supported",
		`{"crop_size": {"height": 4, "width": 5}}`: "crop_size of 4x5 is not supported",
		`{"size": 5, "crop_size": 7}`:              "size 5 is not supported, want a number from crop_size, 7",
		`{"size": {"longest_edge": 5}}`:            `unknown key "longest_edge"`,
		`{"do_center_crop": false}`:                "do_center_crop false is not supported",
		`{"image_std": [0, 1, 1]}`:                 "image_std",
		`{"image_mean": "x"}`:                      `image_mean or image_std is "x", want a number or three`,
		`{"size": 5000, "crop_size": 5000}`:        "want a square of at most 4096",
		`[]`:                                       "a JSON array stands where an object should",
	} {
		if _, err := model.ParseCLIPPreprocess([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
