package model

import (
	"encoding/json"
	"strings"
	"testing"
)

// conditionJSON is a small valid config of UNet2DConditionModel with some keys
// replaced; a nil value removes the key.
func conditionJSON(replace map[string]any) []byte {
	config := map[string]any{
		"_class_name": unet2DConditionClass, "sample_size": 8, "block_out_channels": []int{8, 16}, "layers_per_block": 1, "norm_num_groups": 4,
		"down_block_types": []string{"CrossAttnDownBlock2D", "DownBlock2D"}, "up_block_types": []string{"UpBlock2D", "CrossAttnUpBlock2D"},
		"cross_attention_dim": 6, "attention_head_dim": 2,
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

func TestUNet2DConditionConfigRefusals(t *testing.T) {
	null := json.RawMessage("null")
	simple := []string{"SimpleCrossAttnDownBlock2D", "DownBlock2D"}
	for _, c := range []struct {
		replace map[string]any
		want    string
	}{
		{map[string]any{"_class_name": "UNet2DModel"}, `_class_name "UNet2DModel" is not supported`},
		{map[string]any{"sample_sise": 8}, `unknown key "sample_sise"`},
		{map[string]any{"_class_name": "UNet3DConditionModel", "temporal": 8}, `_class_name "UNet3DConditionModel" is not supported, want "UNet2DConditionModel"`},
		{map[string]any{"addition_embed_type": "text_time"}, "SDXL"},
		{map[string]any{"addition_embed_type": "image"}, `addition_embed_type "image" is not supported`},
		{map[string]any{"addition_embed_type": "text"}, "addition_embed_type_num_heads 64 does not divide the condition's width 6"},
		{map[string]any{"encoder_hid_dim_type": "image_proj", "encoder_hid_dim": 4}, `encoder_hid_dim_type "image_proj" is not supported`},
		{map[string]any{"encoder_hid_dim_type": "text_proj"}, "needs encoder_hid_dim, which is null"},
		{map[string]any{"dual_cross_attention": true}, "dual_cross_attention true is not supported"},
		{map[string]any{"num_attention_heads": 4}, "num_attention_heads [4] is not supported"},
		{map[string]any{"attention_type": "gated"}, `attention_type "gated" is not supported`},
		{map[string]any{"act_fn": "tanh"}, `act_fn "tanh" is not supported`},
		{map[string]any{"time_embedding_act_fn": "tanh"}, `time_embedding_act_fn "tanh" is not supported`},
		{map[string]any{"timestep_post_act": "tanh"}, `timestep_post_act "tanh" is not supported`},
		{map[string]any{"down_block_types": []string{"KDownBlock2D", "DownBlock2D"}}, `down_block_types[0] "KDownBlock2D" is not supported`},
		{map[string]any{"up_block_types": []string{"UpBlock2D", "KUpBlock2D"}}, `up_block_types[1] "KUpBlock2D" is not supported`},
		{map[string]any{"mid_block_type": "MidBlock"}, `mid_block_type "MidBlock" is not supported`},
		{map[string]any{"class_embed_type": "image"}, `class_embed_type "image" is not supported`},
		{map[string]any{"class_embed_type": "projection"}, "needs projection_class_embeddings_input_dim"},
		{map[string]any{"class_embeddings_concat": true}, "give no class to join"},
		{map[string]any{"cross_attention_norm": "rms"}, `cross_attention_norm "rms" is not supported`},
		{map[string]any{"cross_attention_dim": []int{6, 7}}, "cross_attention_dim [6 7] differs between blocks"},
		{map[string]any{"cross_attention_dim": []int{6, 6, 6}}, "cross_attention_dim has 3 entries for 2 blocks"},
		{map[string]any{"cross_attention_dim": null}, "cross_attention_dim is a null"},
		{map[string]any{"attention_head_dim": []int{9, 2}}, "down_block_types[0]: attention_head_dim 9 asks for more heads"},
		{map[string]any{"attention_head_dim": "8"}, "attention_head_dim is a string, want int"},
		{map[string]any{"attention_head_dim": []any{8, true}}, "attention_head_dim is a list of something else, want int"},
		{map[string]any{"attention_head_dim": 3, "down_block_types": simple}, "attention_head_dim 3 does not divide the block's 8 channels"},
		{map[string]any{"only_cross_attention": []bool{true}}, "only_cross_attention has 1 entries for 2 blocks"},
		{map[string]any{"layers_per_block": 65}, "layers_per_block 65 is not supported, want a number from 1 to 64"},
		{map[string]any{"layers_per_block": []int{1, 0}}, "layers_per_block[1] 0 is not supported"},
		{map[string]any{"transformer_layers_per_block": [][]int{{1}, {1}}}, "needs reverse_transformer_layers_per_block"},
		{map[string]any{"transformer_layers_per_block": 1000}, "transformer_layers_per_block[0] 1000 is not supported"},
		{map[string]any{"transformer_layers_per_block": [][]int{{1}, {1}}, "reverse_transformer_layers_per_block": [][]int{{1, 1}, {1}}},
			"reverse_transformer_layers_per_block[1] has 1 entries for a block of 2 layers"},
		{map[string]any{"transformer_layers_per_block": 64, "layers_per_block": 64}, "ask for 16773 blocks in all, want at most 1024"},
		{map[string]any{"conv_in_kernel": 65}, "conv_in_kernel 65 is not supported"},
		{map[string]any{"act_fn": strings.Repeat("a", 1000)}, "aaa…"},
		{map[string]any{"time_embedding_type": "learned"}, `time_embedding_type "learned" is not supported`},
		{map[string]any{"time_embedding_type": "fourier", "time_embedding_dim": 9}, "time_embedding_dim 9 is odd"},
		{map[string]any{"resnet_time_scale_shift": "spatial"}, `resnet_time_scale_shift "spatial" is not supported`},
		{map[string]any{"resnet_out_scale_factor": 0}, "resnet_out_scale_factor 0 is not supported"},
		{map[string]any{"norm_num_groups": 3}, "norm_num_groups 3 does not divide block_out_channels[0] = 8"},
		{map[string]any{"norm_num_groups": null}, "norm_num_groups must not be null"},
		{map[string]any{"downsample_padding": 2}, "downsample_padding 2 is not supported"},
		{map[string]any{"sample_size": 1 << 40}, "at most 4096 pixels a side"},
		// 10^12 parameters: refused by counting, before anything is allocated.
		{map[string]any{"block_out_channels": []int{1 << 18, 1 << 19}}, "the config asks for a network of"},
	} {
		config, err := ParseUNet2DConditionConfig(conditionJSON(c.replace))
		if err == nil {
			_, err = config.Params()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: error %v, want one with %q", c.replace, err, c.want)
		}
	}
}

func TestUNet2DConditionConfigRoundTrip(t *testing.T) {
	null := json.RawMessage("null")
	for _, replace := range []map[string]any{
		{},
		{"sample_size": []int{8, 12}, "only_cross_attention": []bool{true, false}, "layers_per_block": []int{1, 2}, "mid_block_type": null},
		{"transformer_layers_per_block": []any{[]int{2}, 1}, "reverse_transformer_layers_per_block": []any{1, []int{1, 3}}},
		{"class_embed_type": "projection", "projection_class_embeddings_input_dim": 5, "time_cond_proj_dim": 4},
	} {
		first, err := ParseUNet2DConditionConfig(conditionJSON(replace))
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		second, err := ParseUNet2DConditionConfig(text)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := json.Marshal(second); string(again) != string(text) {
			t.Errorf("%s became %s", text, again)
		}
		for key, value := range replace {
			want, _ := json.Marshal(value)
			var got map[string]json.RawMessage
			if json.Unmarshal(text, &got); string(got[key]) != string(want) {
				t.Errorf("%s: %s became %s", key, want, got[key])
			}
		}
	}
}

// The totals are those of the published checkpoints.
func TestParamCountOfPublishedConditionConfigs(t *testing.T) {
	cross := []string{"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"}
	up := []string{"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"}
	stable := map[string]any{
		"sample_size": 64, "block_out_channels": []int{320, 640, 1280, 1280}, "layers_per_block": 2, "norm_num_groups": 32,
		"down_block_types": cross, "up_block_types": up, "cross_attention_dim": 768, "attention_head_dim": 8,
	}
	for _, c := range []struct {
		name    string
		replace map[string]any
		want    int
	}{
		{"stable-diffusion-v1-5", nil, 859_520_964},
		{"stable-diffusion-2-1", map[string]any{"cross_attention_dim": 1024, "attention_head_dim": []int{5, 10, 20, 20}, "use_linear_projection": true}, 865_910_724},
		{"bk-sdm-tiny", map[string]any{"block_out_channels": []int{320, 640, 1280}, "down_block_types": cross[:3], "up_block_types": up[1:],
			"layers_per_block": 1, "mid_block_type": json.RawMessage("null")}, 323_384_964},
	} {
		config := map[string]any{}
		for _, m := range []map[string]any{stable, c.replace} {
			for key, value := range m {
				config[key] = value
			}
		}
		parsed, err := ParseUNet2DConditionConfig(conditionJSON(config))
		if err != nil {
			t.Fatal(err)
		}
		params, err := parsed.Params()
		if err != nil {
			t.Fatal(err)
		}
		if got := ParamCount(params); got != c.want {
			t.Errorf("%s: %d parameters, want %d", c.name, got, c.want)
		}
	}
}
