package model_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// Configs of released checkpoints leave out what is the default, at both levels.
func TestCLIPDefaults(t *testing.T) {
	// openai/clip-vit-base-patch32, whose text_config says nothing that matters.
	text, err := model.ParseCLIPTextConfig([]byte(`{"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": 512,
		"text_config": {"bos_token_id": 0, "eos_token_id": 2, "dropout": 0.0, "gradient_checkpointing": false}, "vision_config": {}}`))
	if err != nil {
		t.Fatal(err)
	}
	vision, err := model.ParseCLIPVisionConfig([]byte(`{"architectures": ["CLIPModel"], "text_config": null}`))
	if err != nil {
		t.Fatal(err)
	}
	count := 1 // logit_scale
	for _, network := range []interface{ Params() ([]model.Param, error) }{text, vision} {
		params, err := network.Params()
		if err != nil {
			t.Fatal(err)
		}
		count += model.ParamCount(params)
	}
	if count != 151_277_313 {
		t.Errorf("%d parameters, want 151277313", count)
	}
	// Stable Diffusion 1's text encoder, openai/clip-vit-large-patch14.
	text, err = model.ParseCLIPTextConfig([]byte(`{"architectures": ["CLIPTextModel"], "hidden_size": 768, "intermediate_size": 3072,
		"num_attention_heads": 12, "projection_dim": 768, "model_type": "clip_text_model", "torch_dtype": "float32"}`))
	if err != nil {
		t.Fatal(err)
	}
	params, err := text.Params()
	if n := model.ParamCount(params); err != nil || n != 123_060_480 || text.PooledDim() != 768 || text.Projection {
		t.Errorf("%d parameters, %v, pooled to %d; want 123060480, to 768", n, err, text.PooledDim())
	}
}

func TestEndOfText(t *testing.T) {
	c := model.DefaultCLIPTextConfig()
	for _, test := range []struct {
		eos  int
		ids  []int
		want int
	}{
		{5, []int{1, 5, 9, 5}, 1}, {5, []int{1, 2, 9}, 0}, {2, []int{1, 5, 9, 9, 3}, 2}, {2, []int{2, 2, 2}, 0}, {0, []int{7, 0}, 1},
	} {
		c.EOSTokenID = test.eos
		if got := c.End(test.ids); got != test.want {
			t.Errorf("end of %v with eos_token_id %d at %d, want %d", test.ids, test.eos, got, test.want)
		}
	}
	c.EOSTokenID = 5
	if rows := c.Ends([][]int{{1, 5, 5}, {1, 2, 5}}); len(rows) != 2 || rows[0] != 1 || rows[1] != 5 {
		t.Errorf("rows %v, want [1 5]", rows)
	}
}

func TestCLIPRefusals(t *testing.T) {
	text := func(config []byte) error { _, err := model.ParseCLIPTextConfig(config); return err }
	vision := func(config []byte) error { _, err := model.ParseCLIPVisionConfig(config); return err }
	refusals(t, `{"architectures": ["CLIPTextModel"]}`, text, map[string]string{
		`{"architectures": ["BertModel"]}`:            `architectures "BertModel" is not supported`,
		`{"architectures": [], "model_type": "bert"}`: `neither architectures nor model_type "bert" names a class of CLIP`,
		`{"num_key_value_heads": 3}`:                  `unknown key "num_key_value_heads"`,
		`{"hidden_act": "tanh"}`:                      `hidden_act "tanh" is not supported`,
		`{"num_attention_heads": 7}`:                  "num_attention_heads 7 does not divide hidden_size 512",
		`{"num_hidden_layers": 0}`:                    "num_hidden_layers 0 is not supported",
		`{"num_hidden_layers": 1000000000}`:           "num_hidden_layers 1000000000 is not supported",
		`{"layer_norm_eps": 0}`:                       "layer_norm_eps 0 is not supported",
		`{"layer_norm_eps": null}`:                    "layer_norm_eps must not be null",
		`{"vocab_size": -3}`:                          "vocab_size -3 is not supported",
		`{"eos_token_id": [1, 2]}`:                    "eos_token_id is a array, want int",
		`{"eos_token_id": -1}`:                        "eos_token_id -1 is not supported",
		`{"hidden_size": "a"}`:                        "hidden_size is a string",
		`{"architectures": ["CLIPTextModelWithProjection"], "projection_dim": null}`: "projection_dim is null",
		`{"architectures": ["CLIPModel"], "text_config": 3}`:                         "",
		`{"architectures": ["CLIPModel"], "text_config": {"x": 1}}`:                  `unknown key "x"`,
	})
	refusals(t, `{"model_type": "clip_vision_model"}`, vision, map[string]string{
		`{"architectures": ["CLIPTextModel"]}`: `architectures "CLIPTextModel" is not supported`,
		`{"image_size": [224, 224]}`:           "image_size is a array, want int",
		`{"image_size": 5000}`:                 "image_size 5000 is not supported",
		`{"patch_size": 225}`:                  "patch_size 225 is not supported",
		`{"num_channels": 0}`:                  "num_channels 0 is not supported",
		`{"projection_dim": 0}`:                "projection_dim 0 is not supported",
	})
}

func TestCLIPShapes(t *testing.T) {
	text, vision := model.DefaultCLIPTextConfig(), model.DefaultCLIPVisionConfig()
	for name, build := range map[string]func(g *graph.Graph){
		"78 tokens": func(g *graph.Graph) { text.Build(g, g.Input("ids", 1, 78), nil, model.BuildOptions{}) },
		"no texts":  func(g *graph.Graph) { text.Build(g, g.Input("ids", 77), nil, model.BuildOptions{}) },
		"one end":   func(g *graph.Graph) { text.Build(g, g.Input("ids", 2, 7), g.Input("ends", 1), model.BuildOptions{}) },
		"223x224":   func(g *graph.Graph) { vision.Build(g, g.Input("x", 1, 3, 223, 224), model.BuildOptions{}) },
		"gray":      func(g *graph.Graph) { vision.Build(g, g.Input("x", 1, 1, 224, 224), model.BuildOptions{}) },
		"gray unprepared": func(g *graph.Graph) {
			model.DefaultCLIPPreprocess(8).Build(g, g.Input("x", 1, 1, 8, 8), model.BuildOptions{})
		},
	} {
		if _, err := graph.Build(build); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A folder whose parts do not fit each other is refused.
func TestLoadCLIPRefusals(t *testing.T) {
	for want, change := range map[string]struct{ file, old, new string }{
		`architectures name "CLIPTextModel", want "CLIPModel"`:            {"config.json", `"CLIPModel"`, `"CLIPTextModel"`},
		"pictures come out 25 pixels a side, the network takes 24":        {"preprocessor_config.json", "24", "25"},
		"ids reach 754, the network knows 754":                            {"tokenizer_config.json", `"model_max_length": 77`, `"model_max_length": 77, "extra_special_tokens": ["<more>"]`},
		"texts of 78 tokens, the network takes 77":                        {"tokenizer_config.json", "77", "78"},
		`tensor "text_model.embeddings.token_embedding.weight" has shape`: {"config.json", `"vocab_size": 754`, `"vocab_size": 755`},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS("testdata/clip")); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, change.file)
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.ReplaceAll(string(text), change.old, change.new)
		if changed == string(text) {
			t.Fatalf("%s holds no %s", change.file, change.old)
		}
		if err := os.WriteFile(name, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
		clip, err := model.LoadCLIP(os.DirFS(dir))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if err == nil {
			clip.Close()
		}
	}
}

// The factor on cosines is one finite number.
func TestCLIPLogitScale(t *testing.T) {
	weights, _, err := model.LoadSafetensors(os.DirFS("testdata/clip"), "model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	for want, scale := range map[string]model.Tensor{
		`tensor "logit_scale" holds 800, whose exponential is no number`: {Shape: []int{}, Data: []float32{800}},
		`tensor "logit_scale" has shape [2], want one number`:            {Shape: []int{2}, Data: []float32{1, 1}},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS("testdata/clip")); err != nil {
			t.Fatal(err)
		}
		weights["logit_scale"] = scale
		if err := model.SaveSafetensors(filepath.Join(dir, "model.safetensors"), weights, model.F32, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := model.LoadCLIP(os.DirFS(dir)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
