package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sdo-go/sdo/graph"
)

const unet2DClass = "UNet2DModel"

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
	NormNumGroups        *int       `json:"norm_num_groups"`    // null: Skip blocks, whose groups follow from their channels
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
	var line bytes.Buffer
	if json.Compact(&line, text) != nil {
		line.Reset()
	}
	return fmt.Errorf("sample_size %s is neither null, a positive number nor two", short(line.String()))
}

// DefaultUNet2DConfig holds the defaults of diffusers' constructor, which stand
// in for every key a config.json leaves out.
func DefaultUNet2DConfig() UNet2DConfig {
	mid, headDim, groups := "UNetMidBlock2D", 8, 32
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
		NormNumGroups:        &groups,
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
	if err := decodeDiffusers(text, unet2DClass, &c); err != nil {
		return c, fmt.Errorf("config.json: %w", err)
	}
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("config.json: %w", err)
	}
	return c, nil
}

// Validate reports the first value that this package cannot compute exactly.
func (c UNet2DConfig) Validate() error {
	if c.ClassName != unet2DClass {
		return unsupported("_class_name", c.ClassName, strconv.Quote(unet2DClass))
	}
	numbers := []namedInt{{"in_channels", c.InChannels}, {"out_channels", c.OutChannels}}
	numbers = appendInts(numbers, "block_out_channels", c.BlockOutChannels...)
	numbers = appendOptional(numbers,
		optionalInt{"time_embedding_dim", c.TimeEmbeddingDim}, optionalInt{"attention_head_dim", c.AttentionHeadDim},
		optionalInt{"norm_num_groups", c.NormNumGroups}, optionalInt{"attn_norm_num_groups", c.AttnNormNumGroups},
		optionalInt{"num_class_embeds", c.NumClassEmbeds}, optionalInt{"num_train_timesteps", c.NumTrainTimesteps})
	if err := checkInts(numbers, maxChannels); err != nil {
		return err
	}
	if err := checkInts([]namedInt{{"layers_per_block", c.LayersPerBlock}}, maxLayers); err != nil {
		return err
	}
	levels := len(c.BlockOutChannels)
	if err := checkLevels(levels, len(c.DownBlockTypes), len(c.UpBlockTypes)); err != nil {
		return err
	}
	for i := range levels {
		if _, ok := downBlocks2D[modernBlock(c.DownBlockTypes[i])]; !ok {
			return unsupported(fmt.Sprintf("down_block_types[%d]", i), c.DownBlockTypes[i], "one of "+oneOf(downBlocks2D))
		}
		if _, ok := upBlocks2D[modernBlock(c.UpBlockTypes[i])]; !ok {
			return unsupported(fmt.Sprintf("up_block_types[%d]", i), c.UpBlockTypes[i], "one of "+oneOf(upBlocks2D))
		}
	}
	if m := c.MidBlockType; m != nil && *m != "UNetMidBlock2D" {
		return unsupported("mid_block_type", *m, `"UNetMidBlock2D" or null`)
	}
	if t := c.ClassEmbedType; t != nil && *t != "timestep" && *t != "identity" {
		return unsupported("class_embed_type", *t, `"timestep", "identity" or null`)
	}
	for _, choice := range []struct {
		key, value string
		allowed    []string
	}{
		{"time_embedding_type", c.TimeEmbeddingType, []string{"positional", "fourier", "learned"}},
		{"downsample_type", c.DownsampleType, []string{"conv", "resnet"}},
		{"upsample_type", c.UpsampleType, []string{"conv", "resnet"}},
		{"resnet_time_scale_shift", c.ResnetTimeScaleShift, []string{"default", "scale_shift"}},
	} {
		if !slices.Contains(choice.allowed, choice.value) {
			return unsupported(choice.key, choice.value, strings.Join(quoted(choice.allowed), " or "))
		}
	}
	if err := checkActivation("act_fn", &c.ActFn); err != nil {
		return err
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
	if err := checkBlocks(levels*(2*c.LayersPerBlock+1) + 2); err != nil {
		return err
	}
	return c.validateShapes()
}

// validateShapes checks what the keys must agree on with each other.
func (c UNet2DConfig) validateShapes() error {
	first, last := c.BlockOutChannels[0], len(c.BlockOutChannels)-1
	if c.TimeEmbeddingType == "positional" && (first < 2 || float64(first/2) == c.FreqShift || math.IsNaN(c.FreqShift)) {
		return fmt.Errorf("block_out_channels[0] = %d with freq_shift %g defines no time frequencies", first, c.FreqShift)
	}
	if c.TimeEmbeddingType == "learned" && c.NumTrainTimesteps == nil {
		return errors.New(`time_embedding_type "learned" needs num_train_timesteps, which is null`)
	}
	if err := c.validateSkips(); err != nil {
		return err
	}
	midAttention := c.MidBlockType != nil && c.AddAttention
	for i, channels := range c.BlockOutChannels {
		down, up := downBlocks2D[modernBlock(c.DownBlockTypes[i])], upBlocks2D[modernBlock(c.UpBlockTypes[last-i])]
		if c.NormNumGroups == nil && !(down.skip && up.skip) {
			return errors.New("norm_num_groups must not be null where a block is not of the Skip kind")
		}
		if g := c.NormNumGroups; g != nil && channels%*g != 0 {
			return fmt.Errorf("norm_num_groups %d does not divide block_out_channels[%d] = %d", *g, i, channels)
		}
		attends := down.attends || up.attends
		if (down.skip && down.attends || up.skip && up.attends) && channels%skipAttentionGroups != 0 {
			return fmt.Errorf("block_out_channels[%d] = %d is not a multiple of %d, as the attention of Skip blocks needs", i, channels, skipAttentionGroups)
		}
		if h := c.AttentionHeadDim; h != nil && (attends || midAttention && i == last) && channels < *h {
			return fmt.Errorf("attention_head_dim %d exceeds block_out_channels[%d] = %d", *h, i, channels)
		}
	}
	if g := c.AttnNormNumGroups; g != nil && midAttention && c.BlockOutChannels[last]%*g != 0 {
		return fmt.Errorf("attn_norm_num_groups %d does not divide the middle block's %d channels", *g, c.BlockOutChannels[last])
	}
	if max(c.SampleSize[0], c.SampleSize[1]) > maxSide {
		return fmt.Errorf("sample_size %v is not supported, want at most %d pixels a side", [2]int(c.SampleSize), maxSide)
	}
	if side := 1 << last; c.SampleSize[0]%side != 0 || c.SampleSize[1]%side != 0 {
		return fmt.Errorf("sample_size %v is not a multiple of %d, as %d levels need", [2]int(c.SampleSize), side, last+1)
	}
	return nil
}

// validateSkips checks the pictures beside the network that Skip blocks shrink on
// the way down and build up on the way up.
func (c UNet2DConfig) validateSkips() error {
	last := len(c.BlockOutChannels) - 1
	plain, begun := false, false
	for i := range c.BlockOutChannels {
		down, up := downBlocks2D[modernBlock(c.DownBlockTypes[i])], upBlocks2D[modernBlock(c.UpBlockTypes[i])]
		if down.skip && i < last {
			if c.InChannels != 3 {
				return fmt.Errorf("down_block_types[%d] %q reads the picture, of 3 channels in diffusers; in_channels is %d", i, c.DownBlockTypes[i], c.InChannels)
			}
			if plain {
				return fmt.Errorf("down_block_types[%d] %q stands behind a block of another kind, which does not shrink the picture it reads", i, c.DownBlockTypes[i])
			}
		}
		plain = plain || !down.skip
		if up.skip && i < last {
			begun = true
			if c.OutChannels != 3 {
				return fmt.Errorf("up_block_types[%d] %q writes a picture, of 3 channels in diffusers; out_channels is %d", i, c.UpBlockTypes[i], c.OutChannels)
			}
		} else if !up.skip && begun {
			return fmt.Errorf("up_block_types[%d] %q stands behind a block of the Skip kind, whose picture it does not enlarge", i, c.UpBlockTypes[i])
		}
	}
	return nil
}

// block2D is a type of block of UNet2DModel.
type block2D struct {
	attends   bool // to its own pixels
	resampled bool // by a residual block
	skip      bool // of NCSN++: resampled under a FIR filter, with a picture beside
}

var (
	downBlocks2D = map[string]block2D{
		"DownBlock2D": {}, "AttnDownBlock2D": {attends: true}, "ResnetDownsampleBlock2D": {resampled: true},
		"SkipDownBlock2D": {skip: true}, "AttnSkipDownBlock2D": {skip: true, attends: true},
	}
	upBlocks2D = map[string]block2D{
		"UpBlock2D": {}, "AttnUpBlock2D": {attends: true}, "ResnetUpsampleBlock2D": {resampled: true},
		"SkipUpBlock2D": {skip: true}, "AttnSkipUpBlock2D": {skip: true, attends: true},
	}
)

// skipAttentionGroups are those of the norm in front of a Skip block's attention.
const skipAttentionGroups = 32

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
	return classInput(c.ClassEmbedType, c.NumClassEmbeds)
}

func classInput(embedType *string, classes *int) ClassInput {
	switch {
	case embedType == nil && classes != nil:
		return ClassLabel
	case embedType == nil:
		return NoClass
	case *embedType == "timestep":
		return ClassTime
	}
	return ClassVector
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
