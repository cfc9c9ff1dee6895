package model

import (
	"fmt"

	"github.com/sdo-go/sdo/graph"
)

// Build appends the network to g: sample [N C H W] and timestep [N] to a
// prediction [N O H W]. class is what ClassInput says, nil for NoClass.
// Parameters are named as in diffusers' state dict; weight operands are stored
// as storage says, biases and norms always in f32. A config that Validate refuses
// and shapes that do not fit panic with a *graph.BuildError.
//
// It is diffusers' UNet2DModel.forward (models/unets/unet_2d.py), layer by
// layer, with three rewrites that change no number beyond rounding: the norm's
// activation is fused, the activation of the time embedding is computed once
// rather than in every block, and a division by 1 is left out.
func (c UNet2DConfig) Build(g *graph.Graph, sample, timestep, class *graph.Node, storage graph.Storage) *graph.Node {
	return c.BuildWith(g, sample, timestep, class, BuildOptions{Storage: storage})
}

// BuildOptions say how BuildWith writes a network.
type BuildOptions struct {
	// Prefix is put before the names of all parameters and constants, so that
	// networks that use the same names can stand in one graph. Names in the
	// other options are without it.
	Prefix  string
	Storage graph.Storage   // of weight operands
	F32     map[string]bool // weight operands held in f32 all the same, by name: those that are trained
	// LoRA adapts the layers that it targets, by a branch beside each or,
	// Merged, by another weight: W + (Alpha/Rank) B A in f32, a parameter under
	// the module's name and MergedWeight. Biases stay.
	LoRA   *LoRAConfig
	Merged bool
	// Class is the class input of a UNet2DConditionConfig that takes one, as
	// ClassNode declares it.
	Class *graph.Node
	// GuidanceEmbedding is the guidance scale that a network with
	// time_cond_proj_dim is shown (latent consistency models), as pipelines take
	// it: a constant of the plan.
	GuidanceEmbedding float64
}

// MergedWeight ends the name of an adapted layer's merged weight.
const MergedWeight = ".merged_weight"

// BuildWith is Build with options. A LoRA that fits no layer panics with a
// *graph.BuildError, too.
func (c UNet2DConfig) BuildWith(g *graph.Graph, sample, timestep, class *graph.Node, o BuildOptions) *graph.Node {
	b := newBuilder(g, o)
	b.adapter = newAdapter(o, c)
	return c.build(b, sample, timestep, class)
}

// Params lists the state dict in the order the network uses it.
func (c UNet2DConfig) Params() ([]Param, error) {
	b, err := c.declare()
	if err != nil {
		return nil, err
	}
	return b.params, nil
}

func (c UNet2DConfig) declare() (*builder, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return declare(func(b *builder) {
		side := 1 << (len(c.BlockOutChannels) - 1) // parameters do not depend on the image size
		sample := b.Input("sample", 1, c.InChannels, side, side)
		c.build(b, sample, b.Input("timestep", 1), c.ClassNode(b.Graph, "class", 1))
	})
}

// ClassNode declares the class input that Build wants for n samples; nil when
// the network has none.
func (c UNet2DConfig) ClassNode(g *graph.Graph, name string, n int) *graph.Node {
	switch c.ClassInput() {
	case NoClass:
		return nil
	case ClassVector:
		return g.Input(name, n, c.TimeEmbedDim())
	}
	return g.Input(name, n)
}

func (c UNet2DConfig) build(b *builder, sample, timestep, class *graph.Node) *graph.Node {
	if err := c.Validate(); err != nil {
		fail("unet: %v", err)
	}
	levels := len(c.BlockOutChannels)
	if side := 1 << (levels - 1); len(sample.Shape) != 4 || sample.Shape[2]%side != 0 || sample.Shape[3]%side != 0 {
		fail("unet: sample %v must be [N C H W] with H and W multiples of %d", sample.Shape, side)
	}
	u := unet2D{UNet2DConfig: c, builder: b}
	u.temb = b.SiLU(u.embed(timestep, class))

	x := sample
	if c.CenterInputSample {
		x = b.Affine(x, 2, -1)
	}
	x = b.conv("conv_in", x, c.BlockOutChannels[0], 3, graph.Same(3))

	skips := []*graph.Node{x}
	for i, channels := range c.BlockOutChannels {
		block := fmt.Sprintf("down_blocks.%d", i)
		attends, _ := blockAttention(c.DownBlockTypes[i], "DownBlock2D", "AttnDownBlock2D")
		for j := range c.LayersPerBlock {
			x = u.resnet(fmt.Sprintf("%s.resnets.%d", block, j), x, channels, 1)
			if attends {
				x = u.attention(fmt.Sprintf("%s.attentions.%d", block, j), x, c.NormNumGroups, 1)
			}
			skips = append(skips, x)
		}
		if i < levels-1 {
			x = u.downsample(block+".downsamplers.0.conv", x)
			skips = append(skips, x)
		}
	}

	if c.MidBlockType != nil {
		x = u.middle(x)
	}

	for i := range levels {
		level := levels - 1 - i
		block := fmt.Sprintf("up_blocks.%d", i)
		attends, _ := blockAttention(c.UpBlockTypes[i], "UpBlock2D", "AttnUpBlock2D")
		for j := range c.LayersPerBlock + 1 {
			last := len(skips) - 1
			b.Block(fmt.Sprintf("%s.resnets.%d", block, j))
			x = b.Concat(x, skips[last], 1)
			skips = skips[:last]
			x = u.resnet(fmt.Sprintf("%s.resnets.%d", block, j), x, c.BlockOutChannels[level], 1)
			if attends {
				x = u.attention(fmt.Sprintf("%s.attentions.%d", block, j), x, c.NormNumGroups, 1)
			}
		}
		if level > 0 {
			b.Block(block + ".upsamplers.0")
			x = b.UpsampleNearest2x(x)
			x = b.conv(block+".upsamplers.0.conv", x, x.Shape[1], 3, graph.Same(3))
		}
	}

	b.Block("")
	x = b.groupNorm("conv_norm_out", x, c.NormNumGroups, c.NormEps, true)
	return b.conv("conv_out", x, c.OutChannels, 3, graph.Same(3))
}

// unet2D is one Build in progress.
type unet2D struct {
	UNet2DConfig
	*builder
	temb *graph.Node // silu(time embedding) [N TimeEmbedDim]
}

// embed maps timesteps and the class to the time embedding.
func (u unet2D) embed(timestep, class *graph.Node) *graph.Node {
	sinusoids := func(t *graph.Node) *graph.Node {
		return u.TimeEmbedding(t, graph.TimeEmbeddingAttrs{
			Dim: u.BlockOutChannels[0], FlipSinToCos: u.FlipSinToCos, FreqShift: u.FreqShift, MaxPeriod: 10000,
		})
	}
	perceptron := func(name string, x *graph.Node) *graph.Node {
		x = u.SiLU(u.linear(name+".linear_1", x, u.TimeEmbedDim()))
		return u.linear(name+".linear_2", x, u.TimeEmbedDim())
	}
	emb := perceptron("time_embedding", sinusoids(timestep))

	kind := u.ClassInput()
	if (class == nil) != (kind == NoClass) {
		fail("unet: the config and the call disagree on a class input (class_embed_type, num_class_embeds)")
	}
	switch kind {
	case ClassVector:
		emb = u.Add(emb, class)
	case ClassLabel:
		emb = u.Add(emb, u.embedding("class_embedding.weight", class, *u.NumClassEmbeds, u.TimeEmbedDim(), 1))
	case ClassTime:
		emb = u.Add(emb, perceptron("class_embedding", sinusoids(class)))
	}
	return emb
}

// resnet is ResnetBlock2D: two normalised 3x3 convolutions with the time
// embedding added between them, around a shortcut. The sum is divided by scale.
func (u unet2D) resnet(name string, x *graph.Node, channels int, scale float64) *graph.Node {
	u.Block(name)
	h := u.groupNorm(name+".norm1", x, u.NormNumGroups, u.NormEps, true)
	h = u.conv(name+".conv1", h, channels, 3, graph.Same(3))
	if u.ResnetTimeScaleShift == "scale_shift" {
		t := u.linear(name+".time_emb_proj", u.temb, 2*channels)
		h = u.groupNorm(name+".norm2", h, u.NormNumGroups, u.NormEps, false)
		h = u.SiLU(u.ScaleShift(h, u.Slice(t, 1, 0, channels), u.Slice(t, 1, channels, 2*channels)))
	} else {
		h = u.AddChannels(h, u.linear(name+".time_emb_proj", u.temb, channels))
		h = u.groupNorm(name+".norm2", h, u.NormNumGroups, u.NormEps, true)
	}
	h = u.conv(name+".conv2", h, channels, 3, graph.Same(3))
	if x.Shape[1] != channels {
		x = u.conv(name+".conv_shortcut", x, channels, 1, graph.Same(1))
	}
	return u.divide(u.Add(x, h), scale)
}

// attention is diffusers' Attention with AttnProcessor2_0 on an image: group
// norm (none when groups is 0), heads over the pixels, projection, residual.
// Channels that do not fill a head are dropped by the projections, as there.
func (u unet2D) attention(name string, x *graph.Node, groups int, scale float64) *graph.Node {
	u.Block(name)
	n, channels, pixels := x.Shape[0], x.Shape[1], x.Shape[2]*x.Shape[3]
	headDim := channels
	if u.AttentionHeadDim != nil {
		headDim = *u.AttentionHeadDim
	}
	heads := channels / headDim
	if heads == 0 {
		fail("unet: attention_head_dim %d exceeds the %d channels of %s", headDim, channels, name)
	}
	h := x
	if groups > 0 {
		h = u.groupNorm(name+".group_norm", h, groups, u.NormEps, false)
	}
	h = u.Transpose(u.Reshape(h, n, channels, pixels))
	q := u.linear(name+".to_q", h, heads*headDim)
	k := u.linear(name+".to_k", h, heads*headDim)
	v := u.linear(name+".to_v", h, heads*headDim)
	h = u.linear(name+".to_out.0", u.Attention(q, k, v, heads), channels)
	h = u.Reshape(u.Transpose(h), x.Shape...)
	return u.divide(u.Add(h, x), scale)
}

// middle is UNetMidBlock2D: resnet, attention, resnet. Its attention has a norm
// of its own only where the blocks use the default time conditioning or the
// config names a number of groups.
func (u unet2D) middle(x *graph.Node) *graph.Node {
	channels := x.Shape[1]
	x = u.resnet("mid_block.resnets.0", x, channels, u.MidBlockScaleFactor)
	if u.AddAttention {
		groups := 0
		switch {
		case u.AttnNormNumGroups != nil:
			groups = *u.AttnNormNumGroups
		case u.ResnetTimeScaleShift == "default":
			groups = u.NormNumGroups
		}
		x = u.attention("mid_block.attentions.0", x, groups, u.MidBlockScaleFactor)
	}
	return u.resnet("mid_block.resnets.1", x, channels, u.MidBlockScaleFactor)
}

// downsample is Downsample2D with a convolution: padding 1 all around, or, for
// downsample_padding 0, one row and column at the bottom and the right.
func (u unet2D) downsample(name string, x *graph.Node) *graph.Node {
	u.Block(name)
	geometry := graph.Conv2DAttrs{Stride: 2, PadBottom: 1, PadRight: 1}
	if u.DownsamplePadding == 1 {
		geometry.PadTop, geometry.PadLeft = 1, 1
	}
	return u.conv(name, x, x.Shape[1], 3, geometry)
}

func (u unet2D) divide(x *graph.Node, scale float64) *graph.Node {
	if scale == 1 {
		return x
	}
	return u.Affine(x, 1/scale, 0)
}
