package model

import (
	"fmt"

	"github.com/sdo-go/sdo/graph"
)

const autoencoderKLClass = "AutoencoderKL"

// Types of blocks with an attention behind every layer.
const (
	attnDownEncoder = "AttnDownEncoderBlock2D"
	attnUpDecoder   = "AttnUpDecoderBlock2D"
)

// autoencoderEps is the epsilon of every norm of an AutoencoderKL, which its
// config does not name.
const autoencoderEps = 1e-6

// AutoencoderKLConfig is diffusers' AutoencoderKL configuration, every
// constructor argument under its own name. Pointers are arguments that may be null.
type AutoencoderKLConfig struct {
	ClassName        string   `json:"_class_name"`
	DiffusersVersion string   `json:"_diffusers_version,omitempty"`
	NameOrPath       string   `json:"_name_or_path,omitempty"`
	UseDefaultValues []string `json:"_use_default_values,omitempty"`

	InChannels           int        `json:"in_channels"`
	OutChannels          int        `json:"out_channels"`
	DownBlockTypes       []string   `json:"down_block_types"`
	UpBlockTypes         []string   `json:"up_block_types"`
	BlockOutChannels     []int      `json:"block_out_channels"`
	LayersPerBlock       int        `json:"layers_per_block"`
	ActFn                string     `json:"act_fn"`
	LatentChannels       int        `json:"latent_channels"`
	NormNumGroups        int        `json:"norm_num_groups"`
	SampleSize           SampleSize `json:"sample_size"`
	ScalingFactor        float64    `json:"scaling_factor"`
	ShiftFactor          *float64   `json:"shift_factor"`
	LatentsMean          *[]float64 `json:"latents_mean"`
	LatentsStd           *[]float64 `json:"latents_std"`
	ForceUpcast          bool       `json:"force_upcast"` // arithmetic is never less than f32 here: read, kept and without effect
	UseQuantConv         bool       `json:"use_quant_conv"`
	UsePostQuantConv     bool       `json:"use_post_quant_conv"`
	MidBlockAddAttention bool       `json:"mid_block_add_attention"`
}

// DefaultAutoencoderKLConfig holds the defaults of diffusers' constructor.
func DefaultAutoencoderKLConfig() AutoencoderKLConfig {
	return AutoencoderKLConfig{
		ClassName:      autoencoderKLClass,
		InChannels:     3,
		OutChannels:    3,
		DownBlockTypes: []string{"DownEncoderBlock2D"}, UpBlockTypes: []string{"UpDecoderBlock2D"},
		BlockOutChannels: []int{64},
		LayersPerBlock:   1,
		ActFn:            "silu",
		LatentChannels:   4,
		NormNumGroups:    32,
		SampleSize:       SampleSize{32, 32},
		ScalingFactor:    0.18215,
		ForceUpcast:      true,
		UseQuantConv:     true, UsePostQuantConv: true,
		MidBlockAddAttention: true,
	}
}

// ParseAutoencoderKLConfig reads a config.json: unknown keys, wrong types and
// values this package cannot compute are refused by name.
func ParseAutoencoderKLConfig(text []byte) (AutoencoderKLConfig, error) {
	c := DefaultAutoencoderKLConfig()
	c.ClassName = ""
	if err := decodeDiffusers(text, autoencoderKLClass, &c); err != nil {
		return c, err
	}
	return c, c.Validate()
}

// Validate reports the first value that this package cannot compute exactly.
func (c AutoencoderKLConfig) Validate() error {
	if c.ClassName != autoencoderKLClass {
		return fmt.Errorf("_class_name %.100q is not supported, want %q", c.ClassName, autoencoderKLClass)
	}
	numbers := []namedInt{{"in_channels", c.InChannels}, {"out_channels", c.OutChannels}, {"latent_channels", c.LatentChannels}, {"norm_num_groups", c.NormNumGroups}}
	if err := checkInts(appendInts(numbers, "block_out_channels", c.BlockOutChannels...), maxChannels); err != nil {
		return err
	}
	if err := checkInts([]namedInt{{"layers_per_block", c.LayersPerBlock}}, maxLayers); err != nil {
		return err
	}
	levels := len(c.BlockOutChannels)
	if err := checkLevels(levels, len(c.DownBlockTypes), len(c.UpBlockTypes)); err != nil {
		return err
	}
	for i, channels := range c.BlockOutChannels {
		if channels%c.NormNumGroups != 0 {
			return fmt.Errorf("norm_num_groups %d does not divide block_out_channels[%d], which is %d", c.NormNumGroups, i, channels)
		}
		if kind := modernBlock(c.DownBlockTypes[i]); kind != "DownEncoderBlock2D" && kind != attnDownEncoder {
			return unsupported("down_block_types", c.DownBlockTypes[i], `"DownEncoderBlock2D" or "`+attnDownEncoder+`"`)
		}
		if kind := modernBlock(c.UpBlockTypes[i]); kind != "UpDecoderBlock2D" && kind != attnUpDecoder {
			return unsupported("up_block_types", c.UpBlockTypes[i], `"UpDecoderBlock2D" or "`+attnUpDecoder+`"`)
		}
	}
	if err := checkActivation("act_fn", &c.ActFn); err != nil {
		return err
	}
	if err := checkScale("scaling_factor", c.ScalingFactor); err != nil {
		return err
	}
	if err := checkShift("shift_factor", c.ShiftFactor); err != nil {
		return err
	}
	return c.validateLatents()
}

// validateLatents judges latents_mean and latents_std, one number a channel.
func (c AutoencoderKLConfig) validateLatents() error {
	if (c.LatentsMean == nil) != (c.LatentsStd == nil) {
		return fmt.Errorf("latents_mean and latents_std must both be lists or both be null")
	}
	if c.LatentsMean == nil {
		return nil
	}
	if len(*c.LatentsMean) != c.LatentChannels || len(*c.LatentsStd) != c.LatentChannels {
		return fmt.Errorf("latents_mean and latents_std have %d and %d entries, want one for each of the %d latent_channels",
			len(*c.LatentsMean), len(*c.LatentsStd), c.LatentChannels)
	}
	for i, mean := range *c.LatentsMean {
		if err := checkShift("latents_mean", &mean); err != nil {
			return err
		}
		if err := checkScale("latents_std", (*c.LatentsStd)[i]); err != nil {
			return err
		}
	}
	return nil
}

// ScaleFactor is the number of pixels, to a side, of one latent.
func (c AutoencoderKLConfig) ScaleFactor() int { return 1 << (len(c.BlockOutChannels) - 1) }

// LatentShape is the shape of the latents of n pictures.
func (c AutoencoderKLConfig) LatentShape(n, height, width int) (graph.Shape, error) {
	return latentShape(n, height, width, c.LatentChannels, c.ScaleFactor())
}

// ImageShape is the shape of the pictures that latents decode to.
func (c AutoencoderKLConfig) ImageShape(latents graph.Shape) (graph.Shape, error) {
	return imageShape(latents, c.LatentChannels, c.OutChannels, c.ScaleFactor())
}

// BuildDecoder maps latents [N LatentChannels h w], as a denoiser gives them, to
// pictures [N OutChannels H W]. Nothing is clamped.
func (c AutoencoderKLConfig) BuildDecoder(g *graph.Graph, latents *graph.Node, o BuildOptions) *graph.Node {
	return c.decoder(newBuilder(g, o), latents)
}

// BuildEncoder maps pictures [N InChannels H W] to latents [N LatentChannels h w]
// as a denoiser takes them: the mean of the encoder's distribution, scaled.
func (c AutoencoderKLConfig) BuildEncoder(g *graph.Graph, images *graph.Node, o BuildOptions) *graph.Node {
	return c.encoder(newBuilder(g, o), images)
}

// DecoderParams lists the parameters that BuildDecoder uses.
func (c AutoencoderKLConfig) DecoderParams() ([]Param, error) {
	return declaredParams(c.Validate, func(b *builder) { c.decoder(b, b.Input("latents", 1, c.LatentChannels, 1, 1)) })
}

// EncoderParams lists the parameters that BuildEncoder uses.
func (c AutoencoderKLConfig) EncoderParams() ([]Param, error) {
	return declaredParams(c.Validate, func(b *builder) {
		c.encoder(b, b.Input("images", 1, c.InChannels, c.ScaleFactor(), c.ScaleFactor()))
	})
}

// Params lists the state dict: the encoder's parameters, then the decoder's.
func (c AutoencoderKLConfig) Params() ([]Param, error) { return bothParams(c) }

func (c AutoencoderKLConfig) decoder(b *builder, latents *graph.Node) *graph.Node {
	if err := c.Validate(); err != nil {
		fail("autoencoder: %v", err)
	}
	if _, err := c.ImageShape(latents.Shape); err != nil {
		fail("autoencoder: %v", err)
	}
	n := autoencoderKL{c, b}
	scales, shifts := c.denormalise()
	b.Block("decoder.conv_in")
	x := b.perChannel("latents", latents, scales, shifts)
	if c.UsePostQuantConv {
		x = b.conv("post_quant_conv", x, c.LatentChannels, 1, graph.Same(1))
	}

	levels := len(c.BlockOutChannels)
	x = b.conv("decoder.conv_in", x, c.BlockOutChannels[levels-1], 3, graph.Same(3))
	x = n.middle("decoder.mid_block", x)
	for i := range levels {
		level := levels - 1 - i
		block := fmt.Sprintf("decoder.up_blocks.%d", i)
		attends := modernBlock(c.UpBlockTypes[i]) == attnUpDecoder
		for j := range c.LayersPerBlock + 1 {
			x = n.layer(block, j, x, c.BlockOutChannels[level], attends)
		}
		if level > 0 {
			x = b.upsample(block+".upsamplers.0", x, 2*x.Shape[2], 2*x.Shape[3])
		}
	}
	b.Block("decoder.conv_out")
	x = b.groupNorm("decoder.conv_norm_out", x, c.NormNumGroups, autoencoderEps, true)
	return b.conv("decoder.conv_out", x, c.OutChannels, 3, graph.Same(3))
}

func (c AutoencoderKLConfig) encoder(b *builder, images *graph.Node) *graph.Node {
	if err := c.Validate(); err != nil {
		fail("autoencoder: %v", err)
	}
	if s := images.Shape; len(s) != 4 || s[1] != c.InChannels {
		fail("autoencoder: images %v must be [N %d H W]", s, c.InChannels)
	} else if _, err := c.LatentShape(s[0], s[2], s[3]); err != nil {
		fail("autoencoder: %v", err)
	}
	n := autoencoderKL{c, b}
	levels := len(c.BlockOutChannels)
	b.Block("encoder.conv_in")
	x := b.conv("encoder.conv_in", images, c.BlockOutChannels[0], 3, graph.Same(3))
	for i, channels := range c.BlockOutChannels {
		block := fmt.Sprintf("encoder.down_blocks.%d", i)
		attends := modernBlock(c.DownBlockTypes[i]) == attnDownEncoder
		for j := range c.LayersPerBlock {
			x = n.layer(block, j, x, channels, attends)
		}
		if i < levels-1 {
			x = b.downsample(block+".downsamplers.0", x, 0)
		}
	}
	x = n.middle("encoder.mid_block", x)
	b.Block("encoder.conv_out")
	x = b.groupNorm("encoder.conv_norm_out", x, c.NormNumGroups, autoencoderEps, true)
	x = b.conv("encoder.conv_out", x, 2*c.LatentChannels, 3, graph.Same(3))
	if c.UseQuantConv {
		x = b.conv("quant_conv", x, 2*c.LatentChannels, 1, graph.Same(1))
	}
	mean := b.Slice(x, 1, 0, c.LatentChannels) // what is left is the logarithm of the variance

	scales, shifts := c.denormalise()
	for i, scale := range scales {
		scales[i], shifts[i] = 1/scale, -shifts[i]/scale
	}
	return b.perChannel("mean", mean, scales, shifts)
}

// denormalise gives factor and summand of every channel that make latents as the
// decoder takes them of latents as a denoiser gives them.
func (c AutoencoderKLConfig) denormalise() (scales, shifts []float64) {
	for i := range c.LatentChannels {
		scale, shift := 1/c.ScalingFactor, 0.0
		if c.ShiftFactor != nil {
			shift = *c.ShiftFactor
		}
		if c.LatentsMean != nil {
			scale *= (*c.LatentsStd)[i]
			shift += (*c.LatentsMean)[i]
		}
		scales, shifts = append(scales, scale), append(shifts, shift)
	}
	return scales, shifts
}

// autoencoderKL is one Build in progress.
type autoencoderKL struct {
	AutoencoderKLConfig
	*builder
}

func (n autoencoderKL) layer(block string, j int, x *graph.Node, channels int, attends bool) *graph.Node {
	x = n.resnet(fmt.Sprintf("%s.resnets.%d", block, j), x, channels)
	if attends {
		x = n.imageAttention(fmt.Sprintf("%s.attentions.%d", block, j), x, n.NormNumGroups, channels, autoencoderEps, 1)
	}
	return x
}

func (n autoencoderKL) middle(block string, x *graph.Node) *graph.Node {
	x = n.layer(block, 0, x, x.Shape[1], n.MidBlockAddAttention)
	return n.layer(block, 1, x, x.Shape[1], false)
}

// resnet is ResnetBlock2D without a time embedding.
func (n autoencoderKL) resnet(name string, x *graph.Node, channels int) *graph.Node {
	n.Block(name)
	h := n.normActivate(name+".norm1", x, n.NormNumGroups, autoencoderEps, n.ActFn)
	h = n.conv(name+".conv1", h, channels, 3, graph.Same(3))
	h = n.normActivate(name+".norm2", h, n.NormNumGroups, autoencoderEps, n.ActFn)
	h = n.conv(name+".conv2", h, channels, 3, graph.Same(3))
	if x.Shape[1] != channels {
		x = n.conv(name+".conv_shortcut", x, channels, 1, graph.Same(1))
	}
	return n.Add(x, h)
}
