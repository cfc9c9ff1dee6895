package model

import (
	"encoding/json"
	"strings"
	"testing"
)

// configJSON is a small valid config with some keys replaced; a nil value
// removes the key.
func configJSON(replace map[string]any) []byte {
	config := map[string]any{
		"_class_name": "UNet2DModel", "sample_size": 8, "block_out_channels": []int{8, 16}, "layers_per_block": 1, "norm_num_groups": 4,
		"down_block_types": []string{"DownBlock2D", "AttnDownBlock2D"}, "up_block_types": []string{"AttnUpBlock2D", "UpBlock2D"},
	}
	for key, value := range replace {
		config[key] = value
		if value == nil {
			delete(config, key)
		}
	}
	text, err := json.Marshal(config)
	if err != nil {
		panic(err)
	}
	return text
}

func TestUNet2DConfigRefusals(t *testing.T) {
	null := json.RawMessage("null")
	for _, c := range []struct {
		key   string
		value any
		want  string
	}{
		{"_class_name", "UNet2DConditionModel", `_class_name "UNet2DConditionModel" is not supported`},
		{"_class_name", nil, `_class_name "" is not supported`},
		{"cross_attention_dim", 768, `unknown key "cross_attention_dim"; take it out if it is a note and no argument of the network`},
		{"Sample_Size", 16, `unknown key "Sample_Size"`}, // which encoding/json takes for sample_size
		{"in_channels", "three", "in_channels is a string, want int"},
		{"layers_per_block", 1000, "layers_per_block 1000 is not supported"},
		{"in_channels", 0, "in_channels 0 is not supported"},
		{"in_channels", null, "in_channels must not be null"},
		{"norm_num_groups", null, "norm_num_groups must not be null"},
		{"norm_num_groups", 3, "norm_num_groups 3 does not divide block_out_channels[0] = 8"},
		{"attn_norm_num_groups", 5, "attn_norm_num_groups 5 does not divide"},
		{"attention_head_dim", 17, "attention_head_dim 17 exceeds block_out_channels[1] = 16"},
		{"sample_size", 9, "sample_size [9 9] is not a multiple of 2"},
		{"sample_size", []int{8}, "sample_size [8] is neither"},
		{"sample_size", 1 << 40, "at most 4096 pixels a side"},
		{"sample_size", -8, "sample_size -8 is neither"},
		{"block_out_channels", []int{8}, "have 1, 2 and 2 entries"},
		{"block_out_channels", []int{}, "have 0, 2 and 2 entries"},
		{"block_out_channels", []int{8, -16}, "block_out_channels[1] -16 is not supported"},
		{"down_block_types", []string{"DownBlock2D", "CrossAttnDownBlock2D"}, `down_block_types[1] "CrossAttnDownBlock2D" is not supported`},
		{"up_block_types", []string{"DownBlock2D", "UpBlock2D"}, `up_block_types[0] "DownBlock2D" is not supported`},
		{"up_block_types", []string{"SkipUpBlock2D", "UpBlock2D"}, `up_block_types[1] "UpBlock2D" stands behind a block of the Skip kind`},
		{"up_block_types", []string{"AttnSkipUpBlock2D", "SkipUpBlock2D"}, "block_out_channels[1] = 16 is not a multiple of 32"},
		{"mid_block_type", "UNetMidBlock2DCrossAttn", `mid_block_type "UNetMidBlock2DCrossAttn" is not supported`},
		{"class_embed_type", "projection", `class_embed_type "projection" is not supported`},
		{"time_embedding_type", "learned", `time_embedding_type "learned" needs num_train_timesteps`},
		{"time_embedding_type", "sine", `time_embedding_type "sine" is not supported`},
		{"downsample_type", "pool", `downsample_type "pool" is not supported`},
		{"upsample_type", "pool", `upsample_type "pool" is not supported`},
		{"act_fn", "tanh", `act_fn "tanh" is not supported`},
		{"resnet_time_scale_shift", "spatial", `resnet_time_scale_shift "spatial" is not supported`},
		{"downsample_padding", 2, "downsample_padding 2 is not supported"},
		{"norm_eps", 0, "norm_eps 0 is not supported"},
		{"mid_block_scale_factor", 0, "mid_block_scale_factor 0 is not supported"},
		{"dropout", 1, "dropout 1 is not supported"},
		{"freq_shift", 4, "freq_shift 4 defines no time frequencies"},
	} {
		_, err := ParseUNet2DConfig(configJSON(map[string]any{c.key: c.value}))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "config.json: ") {
			t.Errorf("%s = %v: error %v, want one with %q", c.key, c.value, err, c.want)
		}
	}
	for text, want := range map[string]string{
		``: "cut short", `{"in_channels": `: "cut short", `[]`: "array stands where an object", `{} {}`: "something follows", `{]`: "invalid character",
	} {
		if _, err := ParseUNet2DConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

func TestUNet2DConfigRoundTrip(t *testing.T) {
	for _, replace := range []map[string]any{
		{},
		{"sample_size": []int{8, 12}, "class_embed_type": "identity", "attention_head_dim": json.RawMessage("null")},
		{"sample_size": nil, "num_class_embeds": 11, "down_block_types": []string{"UNetResDownBlock2D", "UNetResAttnDownBlock2D"}},
		{"mid_block_type": json.RawMessage("null"), "act_fn": "swish", "_diffusers_version": "0.1", "_use_default_values": []string{"dropout"}},
	} {
		first, err := ParseUNet2DConfig(configJSON(replace))
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		second, err := ParseUNet2DConfig(text)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := json.Marshal(second); string(again) != string(text) {
			t.Errorf("%s became %s", text, again)
		}
	}
}

// The totals are those of the published checkpoints, so every layer of the
// default blocks is accounted for.
func TestParamCountOfPublishedConfigs(t *testing.T) {
	ddpm := map[string]any{
		"attention_head_dim": json.RawMessage("null"), "downsample_padding": 0, "flip_sin_to_cos": false, "freq_shift": 1,
		"norm_eps": 1e-6, "norm_num_groups": 32, "layers_per_block": 2,
	}
	blocks := func(kind string, levels, attention int) []string {
		list := make([]string, levels)
		for i := range list {
			list[i] = kind
		}
		list[attention] = "Attn" + kind
		return list
	}
	for _, c := range []struct {
		channels            []int
		size, down, up, sum int
	}{
		{[]int{128, 256, 256, 256}, 32, 1, 2, 35_746_307},             // google/ddpm-cifar10-32
		{[]int{128, 128, 256, 256, 512, 512}, 256, 4, 1, 113_673_219}, // google/ddpm-celebahq-256
	} {
		ddpm["block_out_channels"], ddpm["sample_size"] = c.channels, c.size
		ddpm["down_block_types"] = blocks("DownBlock2D", len(c.channels), c.down)
		ddpm["up_block_types"] = blocks("UpBlock2D", len(c.channels), c.up)
		config, err := ParseUNet2DConfig(configJSON(ddpm))
		if err != nil {
			t.Fatal(err)
		}
		params, err := config.Params()
		if err != nil {
			t.Fatal(err)
		}
		if got := ParamCount(params); got != c.sum {
			t.Errorf("%v: %d parameters, want %d", c.channels, got, c.sum)
		}
	}
}
