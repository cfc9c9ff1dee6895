package model

import (
	"fmt"
	"strings"

	"github.com/sdo-go/sdo/graph"
)

var _ Denoiser = UNet2DConditionConfig{}

// ConditionNode declares the condition that BuildWith wants for n samples:
// [n Tokens ConditionDim], the hidden states of a text encoder.
func (c UNet2DConditionConfig) ConditionNode(g *graph.Graph, name string, n int) *graph.Node {
	return g.Input(name, n, c.Tokens, c.ConditionDim())
}

// ConditionVaries holds always: the hidden states of a prompt have a gradient.
func (c UNet2DConditionConfig) ConditionVaries() bool { return true }

// ClassNode declares what BuildOptions.Class is for n samples; nil where the
// network takes no class.
func (c UNet2DConditionConfig) ClassNode(g *graph.Graph, name string, n int) *graph.Node {
	switch c.ClassInput() {
	case NoClass:
		return nil
	case ClassVector:
		return g.Input(name, n, c.classDim())
	}
	return g.Input(name, n)
}

// classDim is the width of a class vector.
func (c UNet2DConditionConfig) classDim() int {
	if *c.ClassEmbedType == "identity" {
		return c.TimeEmbedDim()
	}
	return *c.ProjectionClassEmbeddingsDim
}

// Params lists the state dict in the order the network uses it.
func (c UNet2DConditionConfig) Params() ([]Param, error) {
	b, err := c.declare()
	if err != nil {
		return nil, err
	}
	return b.params, nil
}

// Modules lists the layers that a LoRAConfig can target, in the order the
// network uses them.
func (c UNet2DConditionConfig) Modules() ([]Module, error) {
	b, err := c.declare()
	if err != nil {
		return nil, err
	}
	return b.modules, nil
}

// Select lists the parameters that patterns name, in the order the network uses
// them. A pattern that names none is an error.
func (c UNet2DConditionConfig) Select(patterns []string) ([]Param, error) {
	params, err := c.Params()
	if err != nil {
		return nil, err
	}
	return selectParams(params, patterns)
}

func (c UNet2DConditionConfig) declare() (*builder, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return declare(func(b *builder) {
		c.SampleSize, c.Tokens = SampleSize{}, 1 // parameters do not depend on them
		shape := c.SampleShape(1)
		if c.ConvInKernel%2 == 0 { // takes a row and a column away
			shape[2], shape[3] = shape[2]+1, shape[3]+1
		}
		class := c.ClassNode(b.Graph, "class", 1)
		c.build(b, b.Input("sample", shape...), b.Input("timestep", 1), c.ConditionNode(b.Graph, "condition", 1), class, 0)
	})
}

// BuildWith appends the network to g: sample [N C H W], timestep [N] and
// condition [N T ConditionDim] to a prediction [N O H W]. H and W may be odd.
// Parameters are named as in diffusers' state dict; weight operands are stored
// as the options say, biases and norms always in f32. A config that Validate
// refuses, shapes that do not fit and a LoRA that fits no layer panic with a
// *graph.BuildError.
//
// It is diffusers' UNet2DConditionModel.forward
// (models/unets/unet_2d_condition.py), layer by layer, with the rewrites of
// UNet2DConfig.Build.
func (c UNet2DConditionConfig) BuildWith(g *graph.Graph, sample, timestep, condition *graph.Node, o BuildOptions) *graph.Node {
	b := newBuilder(g, o)
	b.adapter = newAdapter(o, c)
	return c.build(b, sample, timestep, condition, o.Class, o.GuidanceEmbedding)
}

func (c UNet2DConditionConfig) build(b *builder, sample, timestep, condition, class *graph.Node, guidance float64) *graph.Node {
	if err := c.Validate(); err != nil {
		fail("unet: %v", err)
	}
	if len(sample.Shape) != 4 || sample.Shape[1] != c.InChannels {
		fail("unet: sample %v must be [N C H W] with %d channels", sample.Shape, c.InChannels)
	}
	if condition == nil || len(condition.Shape) != 3 || condition.Shape[2] != c.ConditionDim() || condition.Shape[0] != sample.Shape[0] {
		fail("unet: condition %v must be [N T D] with D = %d for sample %v", condition, c.ConditionDim(), sample.Shape)
	}
	u := unet2DCondition{UNet2DConditionConfig: c, builder: b, condition: condition}
	u.temb = u.embed(timestep, class, guidance)
	u.tembActive = b.activate(c.ActFn, u.temb)
	if c.EncoderHidDim != nil {
		u.condition = b.linear("encoder_hid_proj", condition, c.CrossAttentionDim.At(0))
	}

	x := sample
	if c.CenterInputSample {
		x = b.Affine(x, 2, -1)
	}
	x = b.conv("conv_in", x, c.BlockOutChannels[0], c.ConvInKernel, graph.Same(c.ConvInKernel))

	skips := []*graph.Node{x}
	last := len(c.BlockOutChannels) - 1
	for i, channels := range c.BlockOutChannels {
		block := u.block(fmt.Sprintf("down_blocks.%d", i), c.DownBlockTypes[i], conditionDownBlocks)
		block.level, block.headDim = i, c.AttentionHeadDim.At(i)
		for j := range c.LayersPerBlock.At(i) {
			x = u.layer(block, j, x, channels, c.TransformerLayersPerBlock.At(i))
			skips = append(skips, x)
		}
		if i < last {
			if block.resampled {
				x = u.blockResnet(block, block.name+".downsamplers.0", x, channels, (*graph.Graph).AvgPool2x)
			} else {
				x = b.downsample(block.name+".downsamplers.0", x, c.DownsamplePadding)
			}
			skips = append(skips, x)
		}
	}

	x = u.middle(x)

	for i := range c.UpBlockTypes {
		level := last - i
		block := u.block(fmt.Sprintf("up_blocks.%d", i), c.UpBlockTypes[i], conditionUpBlocks)
		// diffusers counts the widths of heads from the first block here, too.
		block.level, block.headDim = level, c.AttentionHeadDim.At(i)
		for j := range c.LayersPerBlock.At(level) + 1 {
			skip := skips[len(skips)-1]
			skips = skips[:len(skips)-1]
			b.Block(fmt.Sprintf("%s.resnets.%d", block.name, j))
			x = u.layer(block, j, b.Concat(x, skip, 1), c.BlockOutChannels[level], c.upTransformerLayers().At(i))
		}
		if level > 0 {
			to := skips[len(skips)-1].Shape
			if block.resampled {
				x = u.blockResnet(block, block.name+".upsamplers.0", x, c.BlockOutChannels[level], (*graph.Graph).UpsampleNearest2x)
			} else if block.attention == selfAttention {
				x = b.upsample(block.name+".upsamplers.0", x, 2*x.Shape[2], 2*x.Shape[3])
			} else {
				x = b.upsample(block.name+".upsamplers.0", x, to[2], to[3])
			}
			if x.Shape[2] != to[2] || x.Shape[3] != to[3] {
				fail("unet: a picture of %dx%d has an odd half, which %s cannot double; use a multiple of %d",
					sample.Shape[2], sample.Shape[3], c.UpBlockTypes[i], 1<<last)
			}
		}
	}

	b.Block("")
	x = b.normActivate("conv_norm_out", x, c.NormNumGroups, c.NormEps, c.ActFn)
	return b.conv("conv_out", x, c.OutChannels, c.ConvOutKernel, graph.Same(c.ConvOutKernel))
}

// unet2DCondition is one Build in progress.
type unet2DCondition struct {
	UNet2DConditionConfig
	*builder
	condition        *graph.Node // [N T CrossAttentionDim]
	temb, tembActive *graph.Node // the time embedding, and its activation
}

// conditionBlock is a level of the network, on the way down or up.
type conditionBlock struct {
	name      string
	attention attentionKind
	level     int // that its channels are of
	headDim   int
	resampled bool // by residual blocks, which obey resnet_skip_time_act and resnet_out_scale_factor
}

func (u unet2DCondition) block(name, kind string, kinds map[string]attentionKind) conditionBlock {
	kind = modernBlock(kind)
	return conditionBlock{name: name, attention: kinds[kind], resampled: kinds[kind] == addedAttention || strings.HasPrefix(kind, "Resnet")}
}

// layer is one residual block and its attention.
func (u unet2DCondition) layer(block conditionBlock, j int, x *graph.Node, channels int, transformerLayers PerBlock[int]) *graph.Node {
	x = u.blockResnet(block, fmt.Sprintf("%s.resnets.%d", block.name, j), x, channels, nil)
	name := fmt.Sprintf("%s.attentions.%d", block.name, j)
	switch block.attention {
	case selfAttention:
		return u.imageAttention(name, x, u.NormNumGroups, block.headDim, u.NormEps, 1)
	case crossAttention:
		return u.transformer(name, x, u.condition, transformer2D{
			layers: transformerLayers.At(j), heads: u.AttentionHeadDim.At(block.level), groups: u.NormNumGroups,
			linearProjection: u.UseLinearProjection, onlyCrossAttention: u.OnlyCrossAttention.At(block.level),
		})
	case addedAttention:
		return u.addedAttention(name, x, u.condition, u.added(block.headDim, u.OnlyCrossAttention.At(block.level)))
	}
	return x
}

func (u unet2DCondition) added(headDim int, onlyCross bool) addedAttentionBlock {
	a := addedAttentionBlock{groups: u.NormNumGroups, headDim: headDim, onlyCrossAttention: onlyCross}
	if u.CrossAttentionNorm != nil {
		a.norm = *u.CrossAttentionNorm
	}
	return a
}

func (u unet2DCondition) blockResnet(block conditionBlock, name string, x *graph.Node, channels int, resample func(*graph.Graph, *graph.Node) *graph.Node) *graph.Node {
	r := u.resnetBlock(1, false)
	if block.resampled {
		r = u.resnetBlock(u.ResnetOutScaleFactor, u.ResnetSkipTimeAct)
	}
	r.resample = resample
	return u.resnet(name, x, channels, r)
}

func (u unet2DCondition) resnetBlock(scale float64, skipTimeAct bool) resnetBlock {
	r := resnetBlock{
		groups: u.NormNumGroups, groupsOut: u.NormNumGroups, eps: u.NormEps, act: u.ActFn,
		temb: u.tembActive, scaleShift: u.ResnetTimeScaleShift == "scale_shift", scale: scale,
	}
	if skipTimeAct {
		r.temb = u.temb
	}
	return r
}

// middle is the block between the ways down and up.
func (u unet2DCondition) middle(x *graph.Node) *graph.Node {
	if u.MidBlockType == nil {
		return x
	}
	last := len(u.BlockOutChannels) - 1
	channels, heads := x.Shape[1], u.AttentionHeadDim.At(last)
	const attention = "mid_block.attentions.0"
	r := u.resnetBlock(u.MidBlockScaleFactor, false)
	switch *u.MidBlockType {
	case "UNetMidBlock2D": // a single residual block, as UNet2DConditionModel asks for it
		return u.resnet("mid_block.resnets.0", x, channels, r)
	case "UNetMidBlock2DSimpleCrossAttn":
		r = u.resnetBlock(u.MidBlockScaleFactor, u.ResnetSkipTimeAct)
		x = u.resnet("mid_block.resnets.0", x, channels, r)
		onlyCross := u.OnlyCrossAttention.List == nil && u.OnlyCrossAttention.All
		if u.MidBlockOnlyCrossAttention != nil {
			onlyCross = *u.MidBlockOnlyCrossAttention
		}
		x = u.addedAttention(attention, x, u.condition, u.added(heads, onlyCross))
	default:
		x = u.resnet("mid_block.resnets.0", x, channels, r)
		x = u.transformer(attention, x, u.condition, transformer2D{
			layers: u.TransformerLayersPerBlock.At(last).At(0), heads: heads, groups: u.NormNumGroups,
			linearProjection: u.UseLinearProjection,
		})
	}
	return u.resnet("mid_block.resnets.1", x, channels, r)
}

// embed maps timesteps, the class and the guidance to the time embedding.
func (u unet2DCondition) embed(timestep, class *graph.Node, guidance float64) *graph.Node {
	project := func(t *graph.Node) *graph.Node {
		if u.TimeEmbeddingType == "fourier" {
			w := u.param("time_proj.weight", graph.F32, initialiser{std: 1}, u.TimeEmbedDim()/2)
			return u.FourierEmbedding(t, w, graph.FourierEmbeddingAttrs{FlipSinToCos: u.FlipSinToCos})
		}
		return u.TimeEmbedding(t, graph.TimeEmbeddingAttrs{
			Dim: u.BlockOutChannels[0], FlipSinToCos: u.FlipSinToCos, FreqShift: u.FreqShift, MaxPeriod: 10000,
		})
	}
	t := project(timestep)
	if u.TimeCondProjDim != nil {
		t = u.Add(t, u.linearNoBias("time_embedding.cond_proj", u.guidance(guidance, t.Shape[0]), t.Shape[1]))
	}
	emb := u.perceptron("time_embedding", t, u.TimeEmbedDim(), u.ActFn)
	if u.TimestepPostAct != nil {
		emb = u.activate(*u.TimestepPostAct, emb)
	}

	if (class == nil) != (u.ClassInput() == NoClass) {
		fail("unet: the config and the call disagree on a class input (class_embed_type, num_class_embeds)")
	}
	if class != nil {
		var embedded *graph.Node
		switch u.ClassInput() {
		case ClassLabel:
			embedded = u.embedding("class_embedding.weight", class, *u.NumClassEmbeds, u.TimeEmbedDim(), 1)
		case ClassTime:
			embedded = u.perceptron("class_embedding", project(class), u.TimeEmbedDim(), u.ActFn)
		default:
			switch *u.ClassEmbedType {
			case "identity":
				embedded = class
			case "projection":
				embedded = u.perceptron("class_embedding", class, u.TimeEmbedDim(), "silu")
			case "simple_projection":
				embedded = u.linear("class_embedding", class, u.TimeEmbedDim())
			}
		}
		if u.ClassEmbeddingsConcat {
			emb = u.Concat(emb, embedded, 1)
		} else {
			emb = u.Add(emb, embedded)
		}
	}
	if u.AdditionEmbedType != nil {
		emb = u.Add(emb, u.poolText("add_embedding", u.condition))
	}
	if u.TimeEmbeddingActFn != nil {
		emb = u.activate(*u.TimeEmbeddingActFn, emb)
	}
	return emb
}

// guidance is what latent consistency models are shown of the guidance scale
// (Luo et al., arXiv 2310.04378): the sinusoids of 1000 (scale - 1), a constant
// [n TimeCondProjDim].
func (u unet2DCondition) guidance(scale float64, n int) *graph.Node {
	name := fmt.Sprintf("%sguidance.%g.%d", u.prefix, scale, n)
	w := u.Lookup(name)
	if w == nil {
		data := make([]float32, n)
		for i := range data {
			data[i] = float32(1000 * (scale - 1))
		}
		w = u.Const(name, data, n)
	}
	return u.TimeEmbedding(w, graph.TimeEmbeddingAttrs{Dim: *u.TimeCondProjDim, FreqShift: 1, MaxPeriod: 10000})
}

// poolText is diffusers' TextTimeEmbedding: the condition's tokens [N T D] pooled
// by one query, their mean, and projected to the width of the time embedding.
func (u unet2DCondition) poolText(name string, condition *graph.Node) *graph.Node {
	n, tokens, width := condition.Shape[0], condition.Shape[1], condition.Shape[2]
	h := u.layerNorm(name+".norm1", condition, 1e-5)
	mean := u.Affine(u.ReduceSum(u.Transpose(h), 1, n*width, tokens, n, width), 1/float64(tokens), 0)
	position := u.param(name+".pool.positional_embedding", graph.F32, initialiser{std: 1}, 1, width)
	token := u.Reshape(u.AddBroadcast(mean, position, n, width, 1), n, 1, width)
	h = u.Concat(token, h, 1)
	q := u.linear(name+".pool.q_proj", token, width)
	k := u.linear(name+".pool.k_proj", h, width)
	v := u.linear(name+".pool.v_proj", h, width)
	h = u.Reshape(u.Attention(q, k, v, u.AdditionEmbedTypeNumHeads), n, width)
	return u.layerNorm(name+".norm2", u.linear(name+".proj", h, u.TimeEmbedDim()), 1e-5)
}
