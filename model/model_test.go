package model

import (
	"testing"
)

// The totals are those of the published checkpoints (MODELS: computed from
// their state dicts), so every layer of the default blocks is accounted for.
func TestParamCountOfPublishedConfigs(t *testing.T) {
	cifar := `{"_class_name": "UNet2DModel", "_diffusers_version": "0.0.4", "act_fn": "silu", "attention_head_dim": null,
		"block_out_channels": [128, 256, 256, 256], "center_input_sample": false,
		"down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"], "downsample_padding": 0,
		"flip_sin_to_cos": false, "freq_shift": 1, "in_channels": 3, "layers_per_block": 2, "mid_block_scale_factor": 1,
		"norm_eps": 1e-06, "norm_num_groups": 32, "out_channels": 3, "sample_size": 32, "time_embedding_type": "positional",
		"up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"]}`
	celeba := `{"_class_name": "UNet2DModel", "attention_head_dim": null, "block_out_channels": [128, 128, 256, 256, 512, 512],
		"down_block_types": ["DownBlock2D", "DownBlock2D", "DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
		"up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"],
		"downsample_padding": 0, "flip_sin_to_cos": false, "freq_shift": 1, "norm_eps": 1e-06, "sample_size": 256}`
	for text, want := range map[string]int{cifar: 35_746_307, celeba: 113_673_219} {
		c, err := ParseUNet2DConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		params, err := c.Params()
		if err != nil {
			t.Fatal(err)
		}
		if got := ParamCount(params); got != want {
			t.Errorf("%v channels: %d parameters, want %d", c.BlockOutChannels, got, want)
		}
	}
}
