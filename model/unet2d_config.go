package model

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/sdo-go/sdo/graph"
)

const unet2DClass = "UNet2DModel"

// maxLayers bounds the layers a config can ask for per level, so that a wrong
// number ends in a sentence and not in an endless graph.
const maxLayers = 64

// maxSide bounds the height and width of an image.
const maxSide = 4096

// UNet2DConfig is diffusers' UNet2DModel configuration, every constructor
// argument under its own name. Pointers are arguments that may be null.
type UNet2DConfig struct {
	ClassName        string   `json:"_class_name"`
	DiffusersVersion string   `json:"_diffusers_version,omitempty"`
	NameOrPath       string   `json:"_name_or_path,omitempty"`
	UseDefaultValues []string `json:"_use_default_values,omitempty"`

	SampleSize           SampleSize `json:"sample_size"`
	InChannels           int        `json:"in_channels"`
	OutChannels          int        `json:"out_channels"`
	CenterInputSample    bool       `json:"center_input_sample"`
	TimeEmbeddingType    string     `json:"time_embedding_type"`
	TimeEmbeddingDim     *int       `json:"time_embedding_dim"`
	FreqShift            float64    `json:"freq_shift"`
	FlipSinToCos         bool       `json:"flip_sin_to_cos"`
	DownBlockTypes       []string   `json:"down_block_types"`
	MidBlockType         *string    `json:"mid_block_type"`
	UpBlockTypes         []string   `json:"up_block_types"`
	BlockOutChannels     []int      `json:"block_out_channels"`
	LayersPerBlock       int        `json:"layers_per_block"`
	MidBlockScaleFactor  float64    `json:"mid_block_scale_factor"`
	DownsamplePadding    int        `json:"downsample_padding"`
	DownsampleType       string     `json:"downsample_type"`
	UpsampleType         string     `json:"upsample_type"`
	Dropout              float64    `json:"dropout"` // a training-time argument: read, kept and never applied
	ActFn                string     `json:"act_fn"`
	AttentionHeadDim     *int       `json:"attention_head_dim"` // null: one head as wide as the block
	NormNumGroups        int        `json:"norm_num_groups"`
	AttnNormNumGroups    *int       `json:"attn_norm_num_groups"`
	NormEps              float64    `json:"norm_eps"`
	ResnetTimeScaleShift string     `json:"resnet_time_scale_shift"`
	AddAttention         bool       `json:"add_attention"`
	ClassEmbedType       *string    `json:"class_embed_type"`
	NumClassEmbeds       *int       `json:"num_class_embeds"`
	NumTrainTimesteps    *int       `json:"num_train_timesteps"`
}

// SampleSize is the height and width the network was trained at; {0, 0} is
// diffusers' null. In JSON it is null, one number, or two.
type SampleSize [2]int

// MarshalJSON writes a square as one number, as diffusers does.
func (s SampleSize) MarshalJSON() ([]byte, error) {
	switch {
	case s == SampleSize{}:
		return []byte("null"), nil
	case s[0] == s[1]:
		return json.Marshal(s[0])
	}
	return json.Marshal([2]int(s))
}

// UnmarshalJSON reads null, a number or a pair.
func (s *SampleSize) UnmarshalJSON(text []byte) error {
	*s = SampleSize{}
	var side int
	var pair []int
	switch {
	case string(text) == "null":
		return nil
	case json.Unmarshal(text, &side) == nil && side > 0:
		*s = SampleSize{side, side}
		return nil
	case json.Unmarshal(text, &pair) == nil && len(pair) == 2 && min(pair[0], pair[1]) > 0:
		*s = SampleSize{pair[0], pair[1]}
		return nil
	}
	return fmt.Errorf("sample_size %s is neither null, a positive number nor two", text)
}

// DefaultUNet2DConfig holds the defaults of diffusers' constructor, which stand
// in for every key a config.json leaves out.
func DefaultUNet2DConfig() UNet2DConfig {
	mid, headDim := "UNetMidBlock2D", 8
	return UNet2DConfig{
		ClassName:            unet2DClass,
		InChannels:           3,
		OutChannels:          3,
		TimeEmbeddingType:    "positional",
		FlipSinToCos:         true,
		DownBlockTypes:       []string{"DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"},
		MidBlockType:         &mid,
		UpBlockTypes:         []string{"AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"},
		BlockOutChannels:     []int{224, 448, 672, 896},
		LayersPerBlock:       2,
		MidBlockScaleFactor:  1,
		DownsamplePadding:    1,
		DownsampleType:       "conv",
		UpsampleType:         "conv",
		ActFn:                "silu",
		AttentionHeadDim:     &headDim,
		NormNumGroups:        32,
		NormEps:              1e-5,
		ResnetTimeScaleShift: "default",
		AddAttention:         true,
	}
}

// ParseUNet2DConfig reads a config.json: unknown keys, wrong types and values
// this package cannot compute are refused by name.
func ParseUNet2DConfig(text []byte) (UNet2DConfig, error) {
	c := DefaultUNet2DConfig()
	c.ClassName = ""
	if err := DecodeStrict(text, &c); err != nil {
		return c, fmt.Errorf("config.json: %w", err)
	}
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("config.json: %w", err)
	}
	return c, nil
}

// Validate reports the first value that this package cannot compute exactly.
func (c UNet2DConfig) Validate() error {
	unsupported := func(key string, value any, want string) error {
		return fmt.Errorf("%s %v is not supported, want %s", key, value, want)
	}
	positive := func(values map[string]int) error {
		for _, key := range slices.Sorted(maps.Keys(values)) {
			if v := values[key]; v < 1 || v > 1<<20 {
				return unsupported(key, v, "a number from 1 to 1048576")
			}
		}
		return nil
	}
	if c.ClassName != unet2DClass {
		return unsupported("_class_name", fmt.Sprintf("%q", c.ClassName), fmt.Sprintf("%q", unet2DClass))
	}
	sizes := map[string]int{"in_channels": c.InChannels, "out_channels": c.OutChannels,
		"layers_per_block": c.LayersPerBlock, "norm_num_groups": c.NormNumGroups}
	for key, optional := range map[string]*int{"time_embedding_dim": c.TimeEmbeddingDim, "attention_head_dim": c.AttentionHeadDim,
		"attn_norm_num_groups": c.AttnNormNumGroups, "num_class_embeds": c.NumClassEmbeds} {
		if optional != nil {
			sizes[key] = *optional
		}
	}
	for i, channels := range c.BlockOutChannels {
		sizes[fmt.Sprintf("block_out_channels[%d]", i)] = channels
	}
	if err := positive(sizes); err != nil {
		return err
	}

	if c.LayersPerBlock > maxLayers {
		return unsupported("layers_per_block", c.LayersPerBlock, fmt.Sprintf("at most %d", maxLayers))
	}
	levels := len(c.BlockOutChannels)
	if levels == 0 || levels > 16 || len(c.DownBlockTypes) != levels || len(c.UpBlockTypes) != levels {
		return fmt.Errorf("block_out_channels, down_block_types and up_block_types have %d, %d and %d entries, want equal numbers from 1 to 16",
			levels, len(c.DownBlockTypes), len(c.UpBlockTypes))
	}
	for i := range levels {
		if _, err := blockAttention(c.DownBlockTypes[i], "DownBlock2D", "AttnDownBlock2D"); err != nil {
			return fmt.Errorf("down_block_types: %w", err)
		}
		if _, err := blockAttention(c.UpBlockTypes[i], "UpBlock2D", "AttnUpBlock2D"); err != nil {
			return fmt.Errorf("up_block_types: %w", err)
		}
	}
	if m := c.MidBlockType; m != nil && *m != "UNetMidBlock2D" {
		return unsupported("mid_block_type", fmt.Sprintf("%q", *m), `"UNetMidBlock2D" or null`)
	}
	if t := c.ClassEmbedType; t != nil && *t != "timestep" && *t != "identity" {
		return unsupported("class_embed_type", fmt.Sprintf("%q", *t), `"timestep", "identity" or null`)
	}
	for _, choice := range []struct {
		key, value string
		allowed    []string
	}{
		{"time_embedding_type", c.TimeEmbeddingType, []string{"positional"}},
		{"downsample_type", c.DownsampleType, []string{"conv"}},
		{"upsample_type", c.UpsampleType, []string{"conv"}},
		{"act_fn", c.ActFn, []string{"silu", "swish"}},
		{"resnet_time_scale_shift", c.ResnetTimeScaleShift, []string{"default", "scale_shift"}},
	} {
		if !slices.Contains(choice.allowed, choice.value) {
			return unsupported(choice.key, fmt.Sprintf("%q", choice.value), fmt.Sprintf("%q", choice.allowed))
		}
	}
	if c.DownsamplePadding != 0 && c.DownsamplePadding != 1 {
		return unsupported("downsample_padding", c.DownsamplePadding, "0 or 1")
	}
	if !(c.NormEps > 0 && c.NormEps < 1) {
		return unsupported("norm_eps", c.NormEps, "a number between 0 and 1")
	}
	if !(c.MidBlockScaleFactor > 0) || math.IsInf(c.MidBlockScaleFactor, 0) {
		return unsupported("mid_block_scale_factor", c.MidBlockScaleFactor, "a positive number")
	}
	if !(c.Dropout >= 0 && c.Dropout < 1) {
		return unsupported("dropout", c.Dropout, "a number from 0 to below 1")
	}
	return c.validateShapes()
}

// validateShapes checks what the keys must agree on with each other.
func (c UNet2DConfig) validateShapes() error {
	first := c.BlockOutChannels[0]
	if first < 2 || float64(first/2) == c.FreqShift || math.IsNaN(c.FreqShift) {
		return fmt.Errorf("block_out_channels[0] = %d with freq_shift %g defines no time frequencies", first, c.FreqShift)
	}
	for i, channels := range c.BlockOutChannels {
		if channels%c.NormNumGroups != 0 {
			return fmt.Errorf("norm_num_groups %d does not divide block_out_channels[%d] = %d", c.NormNumGroups, i, channels)
		}
	}
	last := c.BlockOutChannels[len(c.BlockOutChannels)-1]
	midAttention := c.MidBlockType != nil && c.AddAttention
	if g := c.AttnNormNumGroups; g != nil && midAttention && last%*g != 0 {
		return fmt.Errorf("attn_norm_num_groups %d does not divide the middle block's %d channels", *g, last)
	}
	if c.AttentionHeadDim != nil {
		for i, channels := range c.BlockOutChannels {
			attends := midAttention && i == len(c.BlockOutChannels)-1 ||
				strings.Contains(c.DownBlockTypes[i], "Attn") || strings.Contains(c.UpBlockTypes[len(c.UpBlockTypes)-1-i], "Attn")
			if attends && channels < *c.AttentionHeadDim {
				return fmt.Errorf("attention_head_dim %d exceeds block_out_channels[%d] = %d", *c.AttentionHeadDim, i, channels)
			}
		}
	}
	if max(c.SampleSize[0], c.SampleSize[1]) > maxSide {
		return fmt.Errorf("sample_size %v is not supported, want at most %d pixels a side", [2]int(c.SampleSize), maxSide)
	}
	if side := 1 << (len(c.BlockOutChannels) - 1); c.SampleSize[0]%side != 0 || c.SampleSize[1]%side != 0 {
		return fmt.Errorf("sample_size %v is not a multiple of %d, as %d levels need", [2]int(c.SampleSize), side, len(c.BlockOutChannels))
	}
	return nil
}

// blockAttention reports whether a block type has attention. Old configs spell
// the types with the prefix UNetRes.
func blockAttention(kind, plain, attention string) (bool, error) {
	switch strings.TrimPrefix(kind, "UNetRes") {
	case plain:
		return false, nil
	case attention:
		return true, nil
	}
	return false, fmt.Errorf("%q is not supported, want %q or %q", kind, plain, attention)
}

// ClassInput says what Build wants as its class node.
type ClassInput int

const (
	NoClass     ClassInput = iota
	ClassVector            // [N TimeEmbedDim], added to the time embedding as it is
	ClassLabel             // [N] whole numbers below num_class_embeds
	ClassTime              // [N] numbers embedded like a second timestep
)

// ClassInput follows from class_embed_type and num_class_embeds.
func (c UNet2DConfig) ClassInput() ClassInput {
	switch {
	case c.ClassEmbedType == nil && c.NumClassEmbeds != nil:
		return ClassLabel
	case c.ClassEmbedType == nil:
		return NoClass
	case *c.ClassEmbedType == "identity":
		return ClassVector
	}
	return ClassTime
}

// TimeEmbedDim is the width of the time embedding, and of a class vector.
func (c UNet2DConfig) TimeEmbedDim() int {
	if c.TimeEmbeddingDim != nil {
		return *c.TimeEmbeddingDim
	}
	return 4 * c.BlockOutChannels[0]
}

// SampleShape is the shape of n samples at the trained size. Configs without a
// sample_size give the smallest image the network accepts.
func (c UNet2DConfig) SampleShape(n int) graph.Shape {
	h, w := c.SampleSize[0], c.SampleSize[1]
	if h == 0 {
		h = 1 << (len(c.BlockOutChannels) - 1)
		w = h
	}
	return graph.Shape{n, c.InChannels, h, w}
}
