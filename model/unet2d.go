package model

import (
	"fmt"
	"math"

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
	last := len(c.BlockOutChannels) - 1
	if side := 1 << last; len(sample.Shape) != 4 || sample.Shape[2]%side != 0 || sample.Shape[3]%side != 0 {
		fail("unet: sample %v must be [N C H W] with H and W multiples of %d", sample.Shape, side)
	}
	u := unet2D{UNet2DConfig: c, builder: b}
	u.temb = b.activate(c.ActFn, u.embed(timestep, class))

	x := sample
	if c.CenterInputSample {
		x = b.Affine(x, 2, -1)
	}
	picture := x // beside the network, for Skip blocks
	x = b.conv("conv_in", x, c.BlockOutChannels[0], 3, graph.Same(3))

	skips := []*graph.Node{x}
	for i, channels := range c.BlockOutChannels {
		name, block := fmt.Sprintf("down_blocks.%d", i), downBlocks2D[modernBlock(c.DownBlockTypes[i])]
		for j := range c.LayersPerBlock {
			x = u.resnet(fmt.Sprintf("%s.resnets.%d", name, j), x, channels, u.residual(block, x.Shape[1], channels))
			if block.attends {
				x = u.attention(fmt.Sprintf("%s.attentions.%d", name, j), x, block)
			}
			skips = append(skips, x)
		}
		if i == last {
			break
		}
		r := u.residual(block, channels, channels)
		switch {
		case block.skip:
			r.shortcut, r.resample = true, (*graph.Graph).FIRDownsample2x
			x = u.resnet(name+".resnet_down", x, channels, r)
			b.Block(name + ".skip_conv")
			picture = b.FIRDownsample2x(picture)
			x = b.Add(b.conv(name+".skip_conv", picture, channels, 1, graph.Same(1)), x)
		case block.resampled || block.attends && c.DownsampleType == "resnet":
			r.resample = (*graph.Graph).AvgPool2x
			x = u.resnet(name+".downsamplers.0", x, channels, r)
		default:
			x = b.downsample(name+".downsamplers.0", x, c.DownsamplePadding)
		}
		skips = append(skips, x)
	}

	if c.MidBlockType != nil {
		x = u.middle(x)
	}

	picture = nil
	for i := range c.UpBlockTypes {
		channels := c.BlockOutChannels[last-i]
		name, block := fmt.Sprintf("up_blocks.%d", i), upBlocks2D[modernBlock(c.UpBlockTypes[i])]
		for j := range c.LayersPerBlock + 1 {
			resnet := fmt.Sprintf("%s.resnets.%d", name, j)
			skip := skips[len(skips)-1]
			skips = skips[:len(skips)-1]
			b.Block(resnet)
			r := u.residual(block, x.Shape[1]+skip.Shape[1], channels)
			if block.skip && block.attends {
				r.groups = min(x.Shape[1]+skip.Shape[1]/4, 32) // as diffusers has it
			}
			x = u.resnet(resnet, b.Concat(x, skip, 1), channels, r)
			if block.attends && !block.skip {
				x = u.attention(fmt.Sprintf("%s.attentions.%d", name, j), x, block)
			}
		}
		if block.attends && block.skip { // once, not in every layer
			x = u.attention(name+".attentions.0", x, block)
		}
		if block.skip && picture != nil {
			b.Block(name + ".upsampler")
			picture = b.FIRUpsample2x(picture)
		}
		if i == last {
			break
		}
		r := u.residual(block, channels, channels)
		switch {
		case block.skip:
			b.Block(name + ".skip_conv")
			p := b.groupNorm(name+".skip_norm", x, r.groups, c.NormEps, true)
			p = b.conv(name+".skip_conv", p, 3, 3, graph.Same(3))
			if picture != nil {
				p = b.Add(picture, p)
			}
			picture = p
			r.shortcut, r.resample = true, (*graph.Graph).FIRUpsample2x
			x = u.resnet(name+".resnet_up", x, channels, r)
		case block.resampled || block.attends && c.UpsampleType == "resnet":
			r.resample = (*graph.Graph).UpsampleNearest2x
			x = u.resnet(name+".upsamplers.0", x, channels, r)
		default:
			x = b.upsample(name+".upsamplers.0", x, 2*x.Shape[2], 2*x.Shape[3])
		}
	}

	b.Block("")
	x = b.groupNorm("conv_norm_out", x, u.groups(c.BlockOutChannels[0]), c.NormEps, true)
	x = b.conv("conv_out", x, c.OutChannels, 3, graph.Same(3))
	if picture != nil {
		x = b.Add(x, picture)
	}
	if c.TimeEmbeddingType == "fourier" {
		inverse := b.Rsqrt(b.Mul(timestep, timestep))
		x = b.MulBroadcast(x, inverse, 1, x.Shape[0], x.Shape.Size()/x.Shape[0])
	}
	return x
}

// unet2D is one Build in progress.
type unet2D struct {
	UNet2DConfig
	*builder
	temb *graph.Node // act(time embedding) [N TimeEmbedDim]
}

// embed maps timesteps and the class to the time embedding.
func (u unet2D) embed(timestep, class *graph.Node) *graph.Node {
	project := func(t *graph.Node) *graph.Node {
		switch u.TimeEmbeddingType {
		case "fourier":
			w := u.param("time_proj.weight", graph.F32, initialiser{std: 16}, u.BlockOutChannels[0])
			return u.FourierEmbedding(t, w, graph.FourierEmbeddingAttrs{Log: true})
		case "learned":
			return u.embedding("time_proj.weight", t, *u.NumTrainTimesteps, u.BlockOutChannels[0], 1)
		}
		return u.TimeEmbedding(t, graph.TimeEmbeddingAttrs{
			Dim: u.BlockOutChannels[0], FlipSinToCos: u.FlipSinToCos, FreqShift: u.FreqShift, MaxPeriod: 10000,
		})
	}
	// Whatever act_fn is, the perceptrons have SiLU.
	emb := u.perceptron("time_embedding", project(timestep), u.TimeEmbedDim(), "silu")

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
		emb = u.Add(emb, u.perceptron("class_embedding", project(class), u.TimeEmbedDim(), "silu"))
	}
	return emb
}

// residual is how a block's residual blocks are made, from in channels to out.
func (u unet2D) residual(block block2D, in, out int) resnetBlock {
	r := resnetBlock{
		eps: u.NormEps, act: u.ActFn, temb: u.temb, scaleShift: u.ResnetTimeScaleShift == "scale_shift", scale: 1,
	}
	if block.skip {
		r.groups, r.groupsOut, r.scale = min(in/4, 32), min(out/4, 32), math.Sqrt2
	} else {
		r.groups, r.groupsOut = *u.NormNumGroups, *u.NormNumGroups
	}
	return r
}

// groups is norm_num_groups, or what stands in for null.
func (u unet2D) groups(channels int) int {
	if u.NormNumGroups != nil {
		return *u.NormNumGroups
	}
	return min(channels/4, 32)
}

func (u unet2D) attention(name string, x *graph.Node, block block2D) *graph.Node {
	if block.skip {
		return u.imageAttention(name, x, skipAttentionGroups, u.headDim(x), u.NormEps, math.Sqrt2)
	}
	return u.imageAttention(name, x, *u.NormNumGroups, u.headDim(x), u.NormEps, 1)
}

func (u unet2D) headDim(x *graph.Node) int {
	if u.AttentionHeadDim != nil {
		return *u.AttentionHeadDim
	}
	return x.Shape[1]
}

// middle is UNetMidBlock2D: resnet, attention, resnet. Its attention has a norm
// of its own only where the blocks use the default time conditioning or the
// config names a number of groups.
func (u unet2D) middle(x *graph.Node) *graph.Node {
	channels := x.Shape[1]
	r := resnetBlock{
		groups: u.groups(channels), groupsOut: u.groups(channels), eps: u.NormEps, act: u.ActFn, temb: u.temb,
		scaleShift: u.ResnetTimeScaleShift == "scale_shift", scale: u.MidBlockScaleFactor,
	}
	x = u.resnet("mid_block.resnets.0", x, channels, r)
	if u.AddAttention {
		groups := 0
		switch {
		case u.AttnNormNumGroups != nil:
			groups = *u.AttnNormNumGroups
		case u.ResnetTimeScaleShift == "default":
			groups = u.groups(channels)
		}
		x = u.imageAttention("mid_block.attentions.0", x, groups, u.headDim(x), u.NormEps, u.MidBlockScaleFactor)
	}
	return u.resnet("mid_block.resnets.1", x, channels, r)
}
