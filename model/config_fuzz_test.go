package model

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// configBound is how many bytes judging a config and declaring its network may
// allocate: the graph of maxBlocks blocks, however wide, and no weight.
const configBound = 96 << 20

// FuzzConfig changes config.json of every class that this package reads. One that
// is accepted declares its parameters, however many it asks for, without making
// them.
func FuzzConfig(f *testing.F) {
	configs, err := filepath.Glob("testdata/*/" + configFile)
	if err != nil || len(configs) == 0 {
		f.Fatalf("no configs in testdata: %v", err)
	}
	for _, name := range configs {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, pattern := range []string{"testdata/released/*.json", "builtin/*/" + configFile} {
		more, err := filepath.Glob(pattern)
		if err != nil || len(more) == 0 {
			f.Fatalf("no configs in %s: %v", pattern, err)
		}
		for _, name := range more {
			text, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Add(configJSON(nil))
	f.Add(configJSON(map[string]any{"block_out_channels": []int{1 << 18, 1 << 19}}))
	f.Add(conditionJSON(map[string]any{"layers_per_block": 64, "transformer_layers_per_block": []any{[]int{64}, 3}}))
	f.Add(conditionJSON(map[string]any{"sample_size": []int{4096, 4095}, "cross_attention_dim": []int{6, 6}, "conv_in_kernel": 64}))
	f.Fuzz(func(t *testing.T, text []byte) { judgeConfig(t, text) })
}

// FuzzConfigValues puts two values into a sound config of a class, which FuzzConfig
// reaches only where it leaves the rest whole.
func FuzzConfigValues(f *testing.F) {
	var bases []map[string]json.RawMessage
	for _, config := range []any{
		DefaultUNet2DConfig(), DefaultUNet2DConditionConfig(), json.RawMessage(configJSON(nil)), json.RawMessage(conditionJSON(nil)),
		DefaultAutoencoderKLConfig(), DefaultAutoencoderTinyConfig(),
		fileOf(f, "testdata/released/stable-diffusion-v1-5.text.json"), fileOf(f, "testdata/clip-vision-projection/config.json"),
		fileOf(f, "testdata/clip-model/config.json"), fileOf(f, "builtin/avatars-16-guide/config.json"),
	} {
		text, err := json.Marshal(config)
		if err != nil {
			f.Fatal(err)
		}
		base := map[string]json.RawMessage{}
		if err := json.Unmarshal(text, &base); err != nil {
			f.Fatal(err)
		}
		bases = append(bases, base)
	}
	for i, value := range []string{"0", "-1", "1e300", "4611686018427387904", "null", "true", `"gelu"`, "[64,64]", "[[64,64],[1,[1]]]", "1048576", "[1048576,1048576]", "{}", `""`, "[]", "0.5"} {
		f.Add(uint8(i), "block_out_channels", value, "layers_per_block", "64")
		f.Add(uint8(i), "sample_size", value, "class_embed_type", `"projection"`)
		f.Add(uint8(i), "attention_head_dim", value, "time_embedding_type", `"fourier"`)
		f.Add(uint8(i), "transformer_layers_per_block", value, "reverse_transformer_layers_per_block", "[[1,1,1],2]")
		f.Add(uint8(i), "down_block_types", `["SimpleCrossAttnDownBlock2D","SkipDownBlock2D"]`, "norm_num_groups", value)
		f.Add(uint8(i), "cross_attention_dim", value, "encoder_hid_dim", "7")
		f.Add(uint8(4), "scaling_factor", value, "latents_std", "[1,1,1,1]")
		f.Add(uint8(4), "block_out_channels", value, "mid_block_add_attention", "false")
		f.Add(uint8(5), "num_decoder_blocks", value, "upsampling_scaling_factor", "3")
		f.Add(uint8(6), "num_attention_heads", value, "hidden_act", `"gelu"`)
		f.Add(uint8(7), "patch_size", value, "image_size", "4096")
		f.Add(uint8(8), "projection_dim", value, "text_config_dict", `{"hidden_size":64}`)
		f.Add(uint8(9), "widths", value, "sample_size", "[4096,4096]")
	}
	f.Fuzz(func(t *testing.T, base uint8, key1, value1, key2, value2 string) {
		config := maps.Clone(bases[int(base)%len(bases)])
		for key, value := range map[string]string{key1: value1, key2: value2} {
			if config[key] = json.RawMessage(value); !json.Valid(config[key]) {
				config[key], _ = json.Marshal(value)
			}
		}
		text, err := json.Marshal(config)
		if err != nil {
			t.Skip(err)
		}
		judgeConfig(t, text)
	})
}

func fileOf(f *testing.F, name string) json.RawMessage {
	f.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		f.Fatal(err)
	}
	return text
}

// judgeConfig reads a config as every class.
func judgeConfig(t *testing.T, text []byte) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	for _, parse := range configParsers {
		config, err := parse(text)
		if err == nil {
			_, err = config.Params()
		}
		if err != nil {
			sentence(t, err)
		}
	}
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > configBound+64*uint64(len(text)) {
		t.Errorf("%d bytes made the readers allocate %d, the bound is %d", len(text), used, configBound)
	}
	if took > 20*time.Second {
		t.Errorf("%d bytes took %v", len(text), took)
	}
}

type declarer interface{ Params() ([]Param, error) }

var configParsers = []func(text []byte) (declarer, error){
	func(text []byte) (declarer, error) { return ParseUNet2DConfig(text) },
	func(text []byte) (declarer, error) { return ParseUNet2DConditionConfig(text) },
	func(text []byte) (declarer, error) { return ParseClassifierConfig(text) },
	func(text []byte) (declarer, error) { return ParseAutoencoderConfig(text) },
	func(text []byte) (declarer, error) { return ParseCLIPTextConfig(text) },
	func(text []byte) (declarer, error) { return ParseCLIPVisionConfig(text) },
}
