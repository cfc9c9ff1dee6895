package model

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sdo-go/sdo/graph"
)

const unet2DConditionClass = "UNet2DConditionModel"

// clipTokens is the length of a prompt of CLIP's text encoders, which the
// released networks are conditioned on.
const clipTokens = 77

// UNet2DConditionConfig is diffusers' UNet2DConditionModel configuration, every
// constructor argument under its own name. Pointers are arguments that may be
// null.
type UNet2DConditionConfig struct {
	ClassName        string   `json:"_class_name"`
	DiffusersVersion string   `json:"_diffusers_version,omitempty"`
	NameOrPath       string   `json:"_name_or_path,omitempty"`
	UseDefaultValues []string `json:"_use_default_values,omitempty"`

	SampleSize                       SampleSize               `json:"sample_size"`
	InChannels                       int                      `json:"in_channels"`
	OutChannels                      int                      `json:"out_channels"`
	CenterInputSample                bool                     `json:"center_input_sample"`
	FlipSinToCos                     bool                     `json:"flip_sin_to_cos"`
	FreqShift                        float64                  `json:"freq_shift"`
	DownBlockTypes                   []string                 `json:"down_block_types"`
	MidBlockType                     *string                  `json:"mid_block_type"`
	UpBlockTypes                     []string                 `json:"up_block_types"`
	OnlyCrossAttention               PerBlock[bool]           `json:"only_cross_attention"`
	BlockOutChannels                 []int                    `json:"block_out_channels"`
	LayersPerBlock                   PerBlock[int]            `json:"layers_per_block"`
	DownsamplePadding                int                      `json:"downsample_padding"`
	MidBlockScaleFactor              float64                  `json:"mid_block_scale_factor"`
	Dropout                          float64                  `json:"dropout"` // a training-time argument: read, kept and never applied
	ActFn                            string                   `json:"act_fn"`
	NormNumGroups                    int                      `json:"norm_num_groups"`
	NormEps                          float64                  `json:"norm_eps"`
	CrossAttentionDim                PerBlock[int]            `json:"cross_attention_dim"`
	TransformerLayersPerBlock        PerBlock[PerBlock[int]]  `json:"transformer_layers_per_block"`
	ReverseTransformerLayersPerBlock *PerBlock[PerBlock[int]] `json:"reverse_transformer_layers_per_block"`
	EncoderHidDim                    *int                     `json:"encoder_hid_dim"`
	EncoderHidDimType                *string                  `json:"encoder_hid_dim_type"`
	AttentionHeadDim                 PerBlock[int]            `json:"attention_head_dim"` // the number of heads of the transformers, the width of a head elsewhere
	NumAttentionHeads                *PerBlock[int]           `json:"num_attention_heads"`
	DualCrossAttention               bool                     `json:"dual_cross_attention"`
	UseLinearProjection              bool                     `json:"use_linear_projection"`
	ClassEmbedType                   *string                  `json:"class_embed_type"`
	AdditionEmbedType                *string                  `json:"addition_embed_type"`
	AdditionTimeEmbedDim             *int                     `json:"addition_time_embed_dim"`
	NumClassEmbeds                   *int                     `json:"num_class_embeds"`
	UpcastAttention                  bool                     `json:"upcast_attention"` // attention is computed in f32 here, asked or not
	ResnetTimeScaleShift             string                   `json:"resnet_time_scale_shift"`
	ResnetSkipTimeAct                bool                     `json:"resnet_skip_time_act"`
	ResnetOutScaleFactor             float64                  `json:"resnet_out_scale_factor"`
	TimeEmbeddingType                string                   `json:"time_embedding_type"`
	TimeEmbeddingDim                 *int                     `json:"time_embedding_dim"`
	TimeEmbeddingActFn               *string                  `json:"time_embedding_act_fn"`
	TimestepPostAct                  *string                  `json:"timestep_post_act"`
	TimeCondProjDim                  *int                     `json:"time_cond_proj_dim"`
	ConvInKernel                     int                      `json:"conv_in_kernel"`
	ConvOutKernel                    int                      `json:"conv_out_kernel"`
	ProjectionClassEmbeddingsDim     *int                     `json:"projection_class_embeddings_input_dim"`
	AttentionType                    string                   `json:"attention_type"`
	ClassEmbeddingsConcat            bool                     `json:"class_embeddings_concat"`
	MidBlockOnlyCrossAttention       *bool                    `json:"mid_block_only_cross_attention"`
	CrossAttentionNorm               *string                  `json:"cross_attention_norm"`
	AdditionEmbedTypeNumHeads        int                      `json:"addition_embed_type_num_heads"`

	// Tokens is the length of the condition, [N Tokens width]: no weight depends
	// on it. ParseUNet2DConditionConfig sets CLIP's 77.
	Tokens int `json:"-"`
}

// DefaultUNet2DConditionConfig holds the defaults of diffusers' constructor,
// which stand in for every key a config.json leaves out.
func DefaultUNet2DConditionConfig() UNet2DConditionConfig {
	mid := "UNetMidBlock2DCrossAttn"
	return UNet2DConditionConfig{
		ClassName:                 unet2DConditionClass,
		InChannels:                4,
		OutChannels:               4,
		FlipSinToCos:              true,
		DownBlockTypes:            []string{"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"},
		MidBlockType:              &mid,
		UpBlockTypes:              []string{"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"},
		BlockOutChannels:          []int{320, 640, 1280, 1280},
		LayersPerBlock:            PerBlock[int]{All: 2},
		DownsamplePadding:         1,
		MidBlockScaleFactor:       1,
		ActFn:                     "silu",
		NormNumGroups:             32,
		NormEps:                   1e-5,
		CrossAttentionDim:         PerBlock[int]{All: 1280},
		TransformerLayersPerBlock: PerBlock[PerBlock[int]]{All: PerBlock[int]{All: 1}},
		AttentionHeadDim:          PerBlock[int]{All: 8},
		ResnetTimeScaleShift:      "default",
		ResnetOutScaleFactor:      1,
		TimeEmbeddingType:         "positional",
		ConvInKernel:              3,
		ConvOutKernel:             3,
		AttentionType:             "default",
		AdditionEmbedTypeNumHeads: 64,
		Tokens:                    clipTokens,
	}
}

// ParseUNet2DConditionConfig reads a config.json: unknown keys, wrong types and
// values this package cannot compute are refused by name.
func ParseUNet2DConditionConfig(text []byte) (UNet2DConditionConfig, error) {
	c := DefaultUNet2DConditionConfig()
	c.ClassName = ""
	if err := decodeDiffusers(text, unet2DConditionClass, &c); err != nil {
		return c, fmt.Errorf("config.json: %w", err)
	}
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("config.json: %w", err)
	}
	return c, nil
}

// Validate reports the first value that this package cannot compute exactly.
func (c UNet2DConditionConfig) Validate() error {
	if c.ClassName != unet2DConditionClass {
		return unsupported("_class_name", c.ClassName, strconv.Quote(unet2DConditionClass))
	}
	if err := c.refuse(); err != nil {
		return err
	}
	levels := len(c.BlockOutChannels)
	if err := checkLevels(levels, len(c.DownBlockTypes), len(c.UpBlockTypes)); err != nil {
		return err
	}
	for _, list := range []error{
		c.OnlyCrossAttention.checkLength("only_cross_attention", levels),
		c.LayersPerBlock.checkLength("layers_per_block", levels),
		c.CrossAttentionDim.checkLength("cross_attention_dim", levels),
		c.TransformerLayersPerBlock.checkLength("transformer_layers_per_block", levels),
		c.AttentionHeadDim.checkLength("attention_head_dim", levels),
	} {
		if list != nil {
			return list
		}
	}
	if r := c.ReverseTransformerLayersPerBlock; r != nil {
		if r.List == nil {
			return unsupported("reverse_transformer_layers_per_block", r.All.values(), "null or a list with one entry for each block")
		}
		if err := r.checkLength("reverse_transformer_layers_per_block", levels); err != nil {
			return err
		}
	}

	numbers := []namedInt{
		{"in_channels", c.InChannels}, {"out_channels", c.OutChannels}, {"norm_num_groups", c.NormNumGroups},
		{"addition_embed_type_num_heads", c.AdditionEmbedTypeNumHeads},
	}
	numbers = appendInts(numbers, "block_out_channels", c.BlockOutChannels...)
	numbers = appendInts(numbers, "layers_per_block", c.LayersPerBlock.values()...)
	numbers = appendInts(numbers, "cross_attention_dim", c.CrossAttentionDim.values()...)
	numbers = appendInts(numbers, "attention_head_dim", c.AttentionHeadDim.values()...)
	numbers = appendOptional(numbers,
		optionalInt{"encoder_hid_dim", c.EncoderHidDim}, optionalInt{"addition_time_embed_dim", c.AdditionTimeEmbedDim},
		optionalInt{"num_class_embeds", c.NumClassEmbeds}, optionalInt{"time_embedding_dim", c.TimeEmbeddingDim},
		optionalInt{"time_cond_proj_dim", c.TimeCondProjDim},
		optionalInt{"projection_class_embeddings_input_dim", c.ProjectionClassEmbeddingsDim})
	if err := checkInts(numbers, maxChannels); err != nil {
		return err
	}
	if err := checkInts(appendInts(nil, "layers_per_block", c.LayersPerBlock.values()...), maxLayers); err != nil {
		return err
	}
	if err := checkInts([]namedInt{{"conv_in_kernel", c.ConvInKernel}, {"conv_out_kernel", c.ConvOutKernel}}, maxKernel); err != nil {
		return err
	}
	if err := c.validateTransformerLayers(); err != nil {
		return err
	}
	for i := range levels {
		if _, ok := conditionDownBlocks[modernBlock(c.DownBlockTypes[i])]; !ok {
			return unsupported(fmt.Sprintf("down_block_types[%d]", i), c.DownBlockTypes[i], "one of "+oneOf(conditionDownBlocks))
		}
		if _, ok := conditionUpBlocks[modernBlock(c.UpBlockTypes[i])]; !ok {
			return unsupported(fmt.Sprintf("up_block_types[%d]", i), c.UpBlockTypes[i], "one of "+oneOf(conditionUpBlocks))
		}
	}
	if m := c.MidBlockType; m != nil && !slices.Contains([]string{"UNetMidBlock2DCrossAttn", "UNetMidBlock2DSimpleCrossAttn", "UNetMidBlock2D"}, *m) {
		return unsupported("mid_block_type", *m, `"UNetMidBlock2DCrossAttn", "UNetMidBlock2DSimpleCrossAttn", "UNetMidBlock2D" or null`)
	}
	if err := checkActivation("act_fn", &c.ActFn); err != nil {
		return err
	}
	if err := checkActivation("time_embedding_act_fn", c.TimeEmbeddingActFn); err != nil {
		return err
	}
	if err := checkActivation("timestep_post_act", c.TimestepPostAct); err != nil {
		return err
	}
	for _, choice := range []struct {
		key, value string
		allowed    []string
	}{
		{"time_embedding_type", c.TimeEmbeddingType, []string{"positional", "fourier"}},
		{"resnet_time_scale_shift", c.ResnetTimeScaleShift, []string{"default", "scale_shift"}},
	} {
		if !slices.Contains(choice.allowed, choice.value) {
			return unsupported(choice.key, choice.value, strings.Join(quoted(choice.allowed), " or "))
		}
	}
	if c.DownsamplePadding != 0 && c.DownsamplePadding != 1 {
		return unsupported("downsample_padding", c.DownsamplePadding, "0 or 1")
	}
	if !(c.NormEps > 0 && c.NormEps < 1) {
		return unsupported("norm_eps", c.NormEps, "a number between 0 and 1")
	}
	for key, factor := range map[string]float64{"mid_block_scale_factor": c.MidBlockScaleFactor, "resnet_out_scale_factor": c.ResnetOutScaleFactor} {
		if !(factor > 0) || math.IsInf(factor, 0) {
			return unsupported(key, factor, "a positive number")
		}
	}
	if !(c.Dropout >= 0 && c.Dropout < 1) {
		return unsupported("dropout", c.Dropout, "a number from 0 to below 1")
	}
	return c.validateShapes()
}

// refuse names what belongs to networks that are not written here yet.
func (c UNet2DConditionConfig) refuse() error {
	if a := c.AdditionEmbedType; a != nil && *a != "text" {
		if *a == "text_time" {
			return fmt.Errorf(`addition_embed_type "text_time" is not supported: the network is of the SDXL family, whose size and pooled-prompt conditioning comes later; use a Stable Diffusion 1.x or 2.x class model`)
		}
		return unsupported("addition_embed_type", *a, `"text" or null`)
	}
	if t := c.EncoderHidDimType; t != nil && *t != "text_proj" {
		return unsupported("encoder_hid_dim_type", *t, `"text_proj" or null`)
	}
	if c.EncoderHidDimType != nil && c.EncoderHidDim == nil {
		return fmt.Errorf("encoder_hid_dim_type %q needs encoder_hid_dim, which is null", *c.EncoderHidDimType)
	}
	if c.DualCrossAttention {
		return unsupported("dual_cross_attention", true, "false")
	}
	if c.NumAttentionHeads != nil {
		return unsupported("num_attention_heads", c.NumAttentionHeads.values(), "null, as diffusers does, and the number of heads as attention_head_dim")
	}
	if c.AttentionType != "default" {
		return unsupported("attention_type", c.AttentionType, `"default"`)
	}
	return nil
}

// validateTransformerLayers bounds the transformer blocks a config can ask for.
func (c UNet2DConditionConfig) validateTransformerLayers() error {
	const down, up = "transformer_layers_per_block", "reverse_transformer_layers_per_block"
	reverse := c.ReverseTransformerLayersPerBlock
	for i := range c.BlockOutChannels {
		if err := checkLayers(down, i, c.TransformerLayersPerBlock.At(i), c.LayersPerBlock.At(i)); err != nil {
			return err
		}
		if reverse == nil && c.TransformerLayersPerBlock.At(i).List != nil {
			return fmt.Errorf("%s[%d] is a list, which needs %s for the upward blocks", down, i, up)
		}
		if reverse != nil {
			if err := checkLayers(up, i, reverse.At(i), c.LayersPerBlock.reversed().At(i)+1); err != nil {
				return err
			}
		}
	}
	return checkBlocks(c.blocks())
}

// blocks counts the residual blocks of the network and, where transformers may
// stand beside them, their blocks.
func (c UNet2DConditionConfig) blocks() int {
	n, last, up := 3, len(c.BlockOutChannels)-1, c.upTransformerLayers()
	for i := range c.BlockOutChannels {
		for j := range c.LayersPerBlock.At(i) {
			n += 1 + c.TransformerLayersPerBlock.At(i).At(j)
		}
		for j := range c.LayersPerBlock.At(last-i) + 1 {
			n += 1 + up.At(i).At(j)
		}
	}
	return n
}

func checkLayers(key string, block int, layers PerBlock[int], resnets int) error {
	key = fmt.Sprintf("%s[%d]", key, block)
	if layers.List != nil && len(layers.List) < resnets {
		return fmt.Errorf("%s has %d entries for a block of %d layers", key, len(layers.List), resnets)
	}
	return checkInts(appendInts(nil, key, layers.values()...), maxLayers)
}

// upTransformerLayers is transformer_layers_per_block as the upward blocks count.
func (c UNet2DConditionConfig) upTransformerLayers() PerBlock[PerBlock[int]] {
	if r := c.ReverseTransformerLayersPerBlock; r != nil {
		return *r
	}
	return c.TransformerLayersPerBlock.reversed()
}

// validateShapes checks what the keys must agree on with each other.
func (c UNet2DConditionConfig) validateShapes() error {
	first := c.BlockOutChannels[0]
	switch {
	case c.TimeEmbeddingType == "fourier" && c.TimeEmbedDim()%2 != 0:
		return fmt.Errorf("time_embedding_dim %d is odd, which time_embedding_type \"fourier\" cannot halve", c.TimeEmbedDim())
	case c.TimeEmbeddingType == "positional" && (first < 2 || float64(first/2) == c.FreqShift || math.IsNaN(c.FreqShift)):
		return fmt.Errorf("block_out_channels[0] = %d with freq_shift %g defines no time frequencies", first, c.FreqShift)
	}
	for i, channels := range c.BlockOutChannels {
		if channels%c.NormNumGroups != 0 {
			return fmt.Errorf("norm_num_groups %d does not divide block_out_channels[%d] = %d", c.NormNumGroups, i, channels)
		}
	}
	if t := c.ClassEmbedType; t != nil {
		if !slices.Contains([]string{"timestep", "identity", "projection", "simple_projection"}, *t) {
			return unsupported("class_embed_type", *t, `"timestep", "identity", "projection", "simple_projection" or null`)
		}
		if strings.HasSuffix(*t, "projection") && c.ProjectionClassEmbeddingsDim == nil {
			return fmt.Errorf("class_embed_type %q needs projection_class_embeddings_input_dim, which is null", *t)
		}
	}
	if c.ClassEmbeddingsConcat && c.ClassInput() == NoClass {
		return fmt.Errorf("class_embeddings_concat is true, but class_embed_type and num_class_embeds give no class to join")
	}
	if n := c.CrossAttentionNorm; n != nil && *n != "layer_norm" && *n != "group_norm" {
		return unsupported("cross_attention_norm", *n, `"layer_norm", "group_norm" or null`)
	}
	if c.EncoderHidDim != nil || c.AdditionEmbedType != nil {
		for _, width := range c.CrossAttentionDim.values() {
			if width != c.CrossAttentionDim.At(0) {
				return fmt.Errorf("cross_attention_dim %v differs between blocks, which encoder_hid_dim and addition_embed_type cannot feed", c.CrossAttentionDim.List)
			}
		}
	}
	if c.AdditionEmbedType != nil && c.ConditionDim()%c.AdditionEmbedTypeNumHeads != 0 {
		return fmt.Errorf("addition_embed_type_num_heads %d does not divide the condition's width %d", c.AdditionEmbedTypeNumHeads, c.ConditionDim())
	}
	for _, width := range c.CrossAttentionDim.values() {
		if c.EncoderHidDim == nil && width != c.ConditionDim() {
			return fmt.Errorf("cross_attention_dim %v differs between blocks; one condition feeds them all", c.CrossAttentionDim.List)
		}
	}
	if c.Tokens < 1 || c.Tokens > maxChannels {
		return fmt.Errorf("a condition of %d tokens, want 1 to %d", c.Tokens, maxChannels)
	}
	if max(c.SampleSize[0], c.SampleSize[1]) > maxSide {
		return fmt.Errorf("sample_size %v is not supported, want at most %d pixels a side", [2]int(c.SampleSize), maxSide)
	}
	return c.validateHeads()
}

// validateHeads checks the heads of every block that attends.
func (c UNet2DConditionConfig) validateHeads() error {
	check := func(name string, kind attentionKind, channels, heads, headDim int) error {
		switch {
		case kind == crossAttention && channels < heads:
			return fmt.Errorf("%s: attention_head_dim %d asks for more heads than the block has channels, %d", name, heads, channels)
		case (kind == selfAttention || kind == addedAttention) && channels < headDim:
			return fmt.Errorf("%s: attention_head_dim %d exceeds the block's %d channels", name, headDim, channels)
		case kind == addedAttention && channels%headDim != 0:
			return fmt.Errorf("%s: attention_head_dim %d does not divide the block's %d channels", name, headDim, channels)
		}
		return nil
	}
	last := len(c.BlockOutChannels) - 1
	for i := range c.BlockOutChannels {
		down, up := conditionDownBlocks[modernBlock(c.DownBlockTypes[i])], conditionUpBlocks[modernBlock(c.UpBlockTypes[i])]
		heads := c.AttentionHeadDim.At(i)
		if err := check(fmt.Sprintf("down_block_types[%d]", i), down, c.BlockOutChannels[i], heads, heads); err != nil {
			return err
		}
		if err := check(fmt.Sprintf("up_block_types[%d]", i), up, c.BlockOutChannels[last-i], c.AttentionHeadDim.At(last-i), heads); err != nil {
			return err
		}
	}
	if c.MidBlockType != nil {
		kind := map[string]attentionKind{"UNetMidBlock2DCrossAttn": crossAttention, "UNetMidBlock2DSimpleCrossAttn": addedAttention}[*c.MidBlockType]
		return check("mid_block_type", kind, c.BlockOutChannels[last], c.AttentionHeadDim.At(last), c.AttentionHeadDim.At(last))
	}
	return nil
}

// attentionKind says how the layers of a block attend.
type attentionKind int

const (
	noAttention    attentionKind = iota
	selfAttention                // Attention over the pixels, as in UNet2DModel
	crossAttention               // Transformer2DModel
	addedAttention               // Attention over the pixels and the condition together
)

var conditionDownBlocks = map[string]attentionKind{
	"DownBlock2D": noAttention, "ResnetDownsampleBlock2D": noAttention, "AttnDownBlock2D": selfAttention,
	"CrossAttnDownBlock2D": crossAttention, "SimpleCrossAttnDownBlock2D": addedAttention,
}

var conditionUpBlocks = map[string]attentionKind{
	"UpBlock2D": noAttention, "ResnetUpsampleBlock2D": noAttention, "AttnUpBlock2D": selfAttention,
	"CrossAttnUpBlock2D": crossAttention, "SimpleCrossAttnUpBlock2D": addedAttention,
}

// ClassInput says what BuildOptions.Class is.
func (c UNet2DConditionConfig) ClassInput() ClassInput {
	return classInput(c.ClassEmbedType, c.NumClassEmbeds)
}

// TimeEmbedDim is the width of the time embedding.
func (c UNet2DConditionConfig) TimeEmbedDim() int {
	switch {
	case c.TimeEmbeddingDim != nil:
		return *c.TimeEmbeddingDim
	case c.TimeEmbeddingType == "fourier":
		return 2 * c.BlockOutChannels[0]
	}
	return 4 * c.BlockOutChannels[0]
}

// ConditionDim is the width of the condition: encoder_hid_dim where the network
// projects it, else cross_attention_dim.
func (c UNet2DConditionConfig) ConditionDim() int {
	if c.EncoderHidDim != nil {
		return *c.EncoderHidDim
	}
	return c.CrossAttentionDim.At(0)
}

// SampleShape is the shape of n samples at the size in SampleSize. Configs
// without a sample_size give a size that needs no odd halves.
func (c UNet2DConditionConfig) SampleShape(n int) graph.Shape {
	h, w := c.SampleSize[0], c.SampleSize[1]
	if h == 0 {
		h = 1 << (len(c.BlockOutChannels) - 1)
		w = h
	}
	return graph.Shape{n, c.InChannels, h, w}
}
