package model_test

import (
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// Released files leave keys out that diffusers added later; the constructors'
// defaults hold.
func TestAutoencoderDefaults(t *testing.T) {
	kl, err := model.ParseAutoencoderConfig([]byte(`{"_class_name": "AutoencoderKL", "_diffusers_version": "0.6.0", "act_fn": "silu",
		"block_out_channels": [128, 256, 512, 512], "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
		"in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3, "sample_size": 512,
		"up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]}`))
	if err != nil {
		t.Fatal(err)
	}
	params, err := kl.Params()
	if err != nil {
		t.Fatal(err)
	}
	if n := model.ParamCount(params); n != 83_653_863 { // of Stable Diffusion 1
		t.Errorf("%d parameters, want 83653863", n)
	}
	if c := kl.(model.AutoencoderKLConfig); c.ScalingFactor != 0.18215 || c.ScaleFactor() != 8 {
		t.Errorf("scaling factor %v, %d pixels a latent", c.ScalingFactor, c.ScaleFactor())
	}

	tiny, err := model.ParseAutoencoderConfig([]byte(`{"_class_name": "AutoencoderTiny"}`))
	if err != nil {
		t.Fatal(err)
	}
	if params, err = tiny.Params(); err != nil || model.ParamCount(params) != 2_445_063 { // of TAESD
		t.Errorf("%d parameters, %v; want 2445063", model.ParamCount(params), err)
	}
}

func TestAutoencoderShapes(t *testing.T) {
	c := model.DefaultAutoencoderTinyConfig() // 8 pixels a latent
	for _, size := range []struct {
		height, width int
		want          graph.Shape
	}{{8, 24, graph.Shape{2, 4, 1, 3}}, {4096, 8, graph.Shape{2, 4, 512, 1}}, {12, 8, nil}, {8, 4104, nil}, {0, 8, nil}, {-8, 8, nil}} {
		got, err := c.LatentShape(2, size.height, size.width)
		if size.want == nil != (err != nil) || !got.Equal(size.want) {
			t.Errorf("%dx%d pixels: %v, %v; want %v", size.height, size.width, got, err, size.want)
		}
		if err != nil {
			continue
		}
		if images, err := c.ImageShape(got); err != nil || !images.Equal(graph.Shape{2, 3, size.height, size.width}) {
			t.Errorf("latents %v decode to %v, %v", got, images, err)
		}
	}
	if _, err := c.ImageShape(graph.Shape{1, 3, 2, 2}); err == nil {
		t.Error("latents of 3 channels are taken")
	}
	for name, build := range map[string]func(g *graph.Graph){
		"latents [1 3 2 2], want [N 4 H W]":  func(g *graph.Graph) { c.BuildDecoder(g, g.Input("x", 1, 3, 2, 2), model.BuildOptions{}) },
		"images [1 3 12 8]":                  func(g *graph.Graph) { c.BuildEncoder(g, g.Input("x", 1, 3, 12, 8), model.BuildOptions{}) },
		"images [8 8] must be [N 3 H W]":     func(g *graph.Graph) { c.BuildEncoder(g, g.Input("x", 8, 8), model.BuildOptions{}) },
		"images [1 1 8 8] must be [N 3 H W]": func(g *graph.Graph) { c.BuildEncoder(g, g.Input("x", 1, 1, 8, 8), model.BuildOptions{}) },
	} {
		if _, err := graph.Build(build); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// refusals parses a config with one key changed at a time.
func refusals(t *testing.T, text string, parse func([]byte) error, cases map[string]string) {
	t.Helper()
	if err := parse([]byte(text)); err != nil {
		t.Fatal(err)
	}
	for change, want := range cases {
		config, changes := map[string]any{}, map[string]any{}
		for into, text := range map[*map[string]any]string{&config: text, &changes: change} {
			if err := json.Unmarshal([]byte(text), into); err != nil {
				t.Fatal(err)
			}
		}
		maps.Copy(config, changes)
		changed, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		if err := parse(changed); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", change, err, want)
		}
	}
}

func parseAutoencoder(text []byte) error {
	_, err := model.ParseAutoencoderConfig(text)
	return err
}

func TestAutoencoderRefusals(t *testing.T) {
	refusals(t, `{"_class_name": "AutoencoderKL"}`, parseAutoencoder, map[string]string{
		`{"_class_name": "VQModel"}`:                            `_class_name "VQModel" is not supported`,
		`{"block_in_channels": 3}`:                              `unknown key "block_in_channels"`,
		`{"in_channels": 0}`:                                    "in_channels 0 is not supported",
		`{"block_out_channels": [33]}`:                          "norm_num_groups 32 does not divide block_out_channels[0], which is 33",
		`{"block_out_channels": [64, 64]}`:                      "have 2, 1 and 1 entries",
		`{"down_block_types": ["DownBlock2D"]}`:                 `down_block_types "DownBlock2D" is not supported`,
		`{"up_block_types": ["UpDecoderBlock3D"]}`:              `up_block_types "UpDecoderBlock3D" is not supported`,
		`{"layers_per_block": 65}`:                              "layers_per_block 65 is not supported",
		`{"act_fn": "quick_gelu"}`:                              `act_fn "quick_gelu" is not supported`,
		`{"scaling_factor": 0}`:                                 "scaling_factor 0 is not supported",
		`{"scaling_factor": null}`:                              "scaling_factor must not be null",
		`{"latents_mean": [0, 0, 0, 0]}`:                        "latents_mean and latents_std must both be lists",
		`{"latents_mean": [0], "latents_std": [1]}`:             "want one for each of the 4 latent_channels",
		`{"latents_mean": [0,0,0,0], "latents_std": [1,0,1,1]}`: "latents_std 0 is not supported",
		`{"sample_size": "x"}`:                                  "sample_size",
	})
	refusals(t, `{"_class_name": "AutoencoderTiny"}`, parseAutoencoder, map[string]string{
		`{"latent_channels": -1}`:                          "latent_channels -1 is not supported",
		`{"encoder_block_out_channels": [64, 64]}`:         "encoder_block_out_channels and num_encoder_blocks have 2 and 4 entries",
		`{"decoder_block_out_channels": [64, 64, 64, 32]}`: "decoder_block_out_channels [64 64 64 32] differ",
		`{"num_decoder_blocks": [3, 3, 3, -1]}`:            "num_decoder_blocks[3] -1 is not supported",
		`{"upsampling_scaling_factor": 3}`:                 "the encoder makes pictures 8 times smaller and the decoder latents 27 times larger",
		`{"upsampling_scaling_factor": 1000000}`:           "the encoder makes pictures 8 times smaller",
		`{"upsample_fn": "bilinear"}`:                      `upsample_fn "bilinear" is not supported, want "nearest"`,
		`{"act_fn": "tanh"}`:                               `act_fn "tanh" is not supported`,
		`{"scaling_factor": 1e-320}`:                       "scaling_factor 1e-320 is not supported",
	})
}

func TestLoadAutoencoderRefusals(t *testing.T) {
	if _, err := model.LoadAutoencoder(os.DirFS("testdata"), "nowhere"); err == nil || !strings.Contains(err.Error(), "nowhere/config.json: the file is missing") {
		t.Errorf("%v", err)
	}
	// A decoder's weights alone are not the folder's.
	dir := t.TempDir()
	config, err := os.ReadFile("testdata/taesd/config.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/config.json", config, 0o644); err != nil {
		t.Fatal(err)
	}
	params := must(model.DefaultAutoencoderTinyConfig().DecoderParams())
	if err := model.SaveSafetensors(dir+"/diffusion_pytorch_model.safetensors", model.Init(params, 1), model.F16, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := model.LoadAutoencoder(os.DirFS(dir), "."); err == nil || !strings.Contains(err.Error(), `tensor "encoder.layers.0.weight" is missing`) {
		t.Errorf("%v", err)
	}
}
