package model

import (
	"fmt"

	"github.com/sdo-go/sdo/graph"
)

const autoencoderTinyClass = "AutoencoderTiny"

// AutoencoderTinyConfig is diffusers' AutoencoderTiny (TAESD) configuration, every
// constructor argument under its own name. LatentMagnitude and LatentShift say
// how latents are stored as bytes; no graph uses them.
type AutoencoderTinyConfig struct {
	ClassName        string   `json:"_class_name"`
	DiffusersVersion string   `json:"_diffusers_version,omitempty"`
	NameOrPath       string   `json:"_name_or_path,omitempty"`
	UseDefaultValues []string `json:"_use_default_values,omitempty"`

	InChannels              int      `json:"in_channels"`
	OutChannels             int      `json:"out_channels"`
	EncoderBlockOutChannels []int    `json:"encoder_block_out_channels"`
	DecoderBlockOutChannels []int    `json:"decoder_block_out_channels"`
	ActFn                   string   `json:"act_fn"`
	UpsampleFn              string   `json:"upsample_fn"`
	LatentChannels          int      `json:"latent_channels"`
	UpsamplingScalingFactor int      `json:"upsampling_scaling_factor"`
	NumEncoderBlocks        []int    `json:"num_encoder_blocks"`
	NumDecoderBlocks        []int    `json:"num_decoder_blocks"`
	LatentMagnitude         float64  `json:"latent_magnitude"`
	LatentShift             float64  `json:"latent_shift"`
	ForceUpcast             bool     `json:"force_upcast"`
	ScalingFactor           float64  `json:"scaling_factor"`
	ShiftFactor             *float64 `json:"shift_factor"` // null is 0
	// BlockOutChannels is written by diffusers beside the others, a copy of
	// DecoderBlockOutChannels.
	BlockOutChannels []int `json:"block_out_channels,omitempty"`
}

// DefaultAutoencoderTinyConfig holds the defaults of diffusers' constructor.
func DefaultAutoencoderTinyConfig() AutoencoderTinyConfig {
	return AutoencoderTinyConfig{
		ClassName:               autoencoderTinyClass,
		InChannels:              3,
		OutChannels:             3,
		EncoderBlockOutChannels: []int{64, 64, 64, 64},
		DecoderBlockOutChannels: []int{64, 64, 64, 64},
		ActFn:                   "relu",
		UpsampleFn:              "nearest",
		LatentChannels:          4,
		UpsamplingScalingFactor: 2,
		NumEncoderBlocks:        []int{1, 3, 3, 3},
		NumDecoderBlocks:        []int{3, 3, 3, 1},
		LatentMagnitude:         3,
		LatentShift:             0.5,
		ScalingFactor:           1,
	}
}

// ParseAutoencoderTinyConfig reads a config.json: unknown keys, wrong types and
// values this package cannot compute are refused by name.
func ParseAutoencoderTinyConfig(text []byte) (AutoencoderTinyConfig, error) {
	c := DefaultAutoencoderTinyConfig()
	c.ClassName = ""
	if err := decodeDiffusers(text, autoencoderTinyClass, &c); err != nil {
		return c, err
	}
	return c, c.Validate()
}

// Validate reports the first value that this package cannot compute exactly.
func (c AutoencoderTinyConfig) Validate() error {
	if c.ClassName != autoencoderTinyClass {
		return fmt.Errorf("_class_name %.100q is not supported, want %q", c.ClassName, autoencoderTinyClass)
	}
	numbers := []namedInt{{"in_channels", c.InChannels}, {"out_channels", c.OutChannels}, {"latent_channels", c.LatentChannels}}
	numbers = appendInts(numbers, "encoder_block_out_channels", c.EncoderBlockOutChannels...)
	if err := checkInts(appendInts(numbers, "decoder_block_out_channels", c.DecoderBlockOutChannels...), maxChannels); err != nil {
		return err
	}
	for _, side := range []struct {
		name             string
		channels, blocks []int
	}{
		{"encoder", c.EncoderBlockOutChannels, c.NumEncoderBlocks},
		{"decoder", c.DecoderBlockOutChannels, c.NumDecoderBlocks},
	} {
		if n := len(side.channels); n == 0 || n > maxLevels || n != len(side.blocks) {
			return fmt.Errorf("%s_block_out_channels and num_%[1]s_blocks have %d and %d entries, want equal numbers from 1 to %d",
				side.name, n, len(side.blocks), maxLevels)
		}
		for i, channels := range side.channels {
			if channels != side.channels[0] {
				return fmt.Errorf("%s_block_out_channels %v differ, which no class of diffusers can run; want equal numbers", side.name, side.channels)
			}
			if side.blocks[i] < 0 || side.blocks[i] > maxLayers {
				return unsupported(fmt.Sprintf("num_%s_blocks[%d]", side.name, i), side.blocks[i], fmt.Sprintf("a number from 0 to %d", maxLayers))
			}
		}
	}
	if encoder, decoder := 1<<(len(c.EncoderBlockOutChannels)-1), c.upscale(); encoder != decoder {
		return fmt.Errorf("the encoder makes pictures %d times smaller and the decoder latents %d times larger (upsampling_scaling_factor %d); want the same",
			encoder, decoder, c.UpsamplingScalingFactor)
	}
	if err := checkActivation("act_fn", &c.ActFn); err != nil {
		return err
	}
	if c.UpsampleFn != "nearest" {
		return unsupported("upsample_fn", c.UpsampleFn, `"nearest"`)
	}
	if err := checkScale("scaling_factor", c.ScalingFactor); err != nil {
		return err
	}
	return checkShift("shift_factor", c.ShiftFactor)
}

func (c AutoencoderTinyConfig) upscale() int {
	scale := 1
	for range len(c.DecoderBlockOutChannels) - 1 {
		if c.UpsamplingScalingFactor < 1 || c.UpsamplingScalingFactor > 16 || scale > maxSide {
			return 0
		}
		scale *= c.UpsamplingScalingFactor
	}
	return scale
}

// ScaleFactor is the number of pixels, to a side, of one latent.
func (c AutoencoderTinyConfig) ScaleFactor() int { return 1 << (len(c.EncoderBlockOutChannels) - 1) }

// LatentShape is the shape of the latents of n pictures.
func (c AutoencoderTinyConfig) LatentShape(n, height, width int) (graph.Shape, error) {
	return latentShape(n, height, width, c.LatentChannels, c.ScaleFactor())
}

// ImageShape is the shape of the pictures that latents decode to.
func (c AutoencoderTinyConfig) ImageShape(latents graph.Shape) (graph.Shape, error) {
	return imageShape(latents, c.LatentChannels, c.OutChannels, c.ScaleFactor())
}

// BuildDecoder maps latents [N LatentChannels h w], as a denoiser gives them, to
// pictures [N OutChannels H W]. Latents are squeezed softly into (-3, 3), as
// TAESD does; pictures are not clamped.
func (c AutoencoderTinyConfig) BuildDecoder(g *graph.Graph, latents *graph.Node, o BuildOptions) *graph.Node {
	return c.decoder(newBuilder(g, o), latents)
}

// BuildEncoder maps pictures [N InChannels H W] to latents [N LatentChannels h w]
// as a denoiser takes them.
func (c AutoencoderTinyConfig) BuildEncoder(g *graph.Graph, images *graph.Node, o BuildOptions) *graph.Node {
	return c.encoder(newBuilder(g, o), images)
}

// DecoderParams lists the parameters that BuildDecoder uses.
func (c AutoencoderTinyConfig) DecoderParams() ([]Param, error) {
	return declaredParams(c.Validate, func(b *builder) { c.decoder(b, b.Input("latents", 1, c.LatentChannels, 1, 1)) })
}

// EncoderParams lists the parameters that BuildEncoder uses.
func (c AutoencoderTinyConfig) EncoderParams() ([]Param, error) {
	return declaredParams(c.Validate, func(b *builder) {
		c.encoder(b, b.Input("images", 1, c.InChannels, c.ScaleFactor(), c.ScaleFactor()))
	})
}

// Params lists the state dict: the encoder's parameters, then the decoder's.
func (c AutoencoderTinyConfig) Params() ([]Param, error) { return bothParams(c) }

func (c AutoencoderTinyConfig) decoder(b *builder, latents *graph.Node) *graph.Node {
	if err := c.Validate(); err != nil {
		fail("autoencoder: %v", err)
	}
	if _, err := c.ImageShape(latents.Shape); err != nil {
		fail("autoencoder: %v", err)
	}
	x := b.Affine(latents, 1/c.ScalingFactor, c.shift())
	x = b.Affine(b.Tanh(b.Affine(x, 1./3, 0)), 3, 0)

	n := autoencoderTiny{c, b, "decoder", 0}
	x = b.activate(c.ActFn, n.conv(x, c.DecoderBlockOutChannels[0], 1, true))
	n.at++ // the activation has a place in the list, too
	for i, blocks := range c.NumDecoderBlocks {
		for range blocks {
			x = n.block(x)
		}
		if i == len(c.NumDecoderBlocks)-1 {
			x = n.conv(x, c.OutChannels, 1, true)
			break
		}
		x = b.UpsampleNearest(x, c.UpsamplingScalingFactor*x.Shape[2], c.UpsamplingScalingFactor*x.Shape[3])
		n.at++
		x = n.conv(x, x.Shape[1], 1, false)
	}
	return b.Affine(x, 2, -1)
}

func (c AutoencoderTinyConfig) encoder(b *builder, images *graph.Node) *graph.Node {
	if err := c.Validate(); err != nil {
		fail("autoencoder: %v", err)
	}
	if s := images.Shape; len(s) != 4 || s[1] != c.InChannels {
		fail("autoencoder: images %v must be [N %d H W]", s, c.InChannels)
	} else if _, err := c.LatentShape(s[0], s[2], s[3]); err != nil {
		fail("autoencoder: %v", err)
	}
	x := b.Affine(images, 0.5, 0.5)
	n := autoencoderTiny{c, b, "encoder", 0}
	for i, blocks := range c.NumEncoderBlocks {
		if i == 0 {
			x = n.conv(x, c.EncoderBlockOutChannels[0], 1, true)
		} else {
			x = n.conv(x, c.EncoderBlockOutChannels[i], 2, false)
		}
		for range blocks {
			x = n.block(x)
		}
	}
	x = n.conv(x, c.LatentChannels, 1, true)
	return b.Affine(x, c.ScalingFactor, -c.ScalingFactor*c.shift())
}

func (c AutoencoderTinyConfig) shift() float64 {
	if c.ShiftFactor == nil {
		return 0
	}
	return *c.ShiftFactor
}

// autoencoderTiny is one Build in progress. Layers are named by their place in a
// list.
type autoencoderTiny struct {
	AutoencoderTinyConfig
	*builder
	side string
	at   int
}

func (n *autoencoderTiny) next() string {
	n.at++
	return fmt.Sprintf("%s.layers.%d", n.side, n.at-1)
}

func (n *autoencoderTiny) conv(x *graph.Node, out, stride int, bias bool) *graph.Node {
	geometry := graph.Same(3)
	geometry.Stride = stride
	if bias {
		return n.builder.conv(n.next(), x, out, 3, geometry)
	}
	return n.builder.convNoBias(n.next(), x, out, 3, geometry)
}

// block is AutoencoderTinyBlock: three convolutions around a shortcut. The
// activation of the sum is ReLU whatever act_fn says.
func (n *autoencoderTiny) block(x *graph.Node) *graph.Node {
	name, h := n.next(), x
	n.Block(name)
	for i := range 3 {
		if i > 0 {
			h = n.activate(n.ActFn, h)
		}
		h = n.builder.conv(fmt.Sprintf("%s.conv.%d", name, 2*i), h, x.Shape[1], 3, graph.Same(3))
	}
	return n.ReLU(n.Add(h, x))
}
