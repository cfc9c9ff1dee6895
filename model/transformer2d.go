package model

import (
	"fmt"

	"github.com/sdo-go/sdo/graph"
)

// transformer2D are the arguments of diffusers' Transformer2DModel on an image
// (models/transformers/transformer_2d.py).
type transformer2D struct {
	layers, heads, groups int
	linearProjection      bool // of tokens, by linear layers; else of the image, by 1x1 convolutions
	onlyCrossAttention    bool // the first attention of a block reads the condition, too
}

// transformer is Transformer2DModel: a norm, a projection of the pixels to
// tokens, blocks of a transformer that read the condition [N T D], and the way
// back, around a residual. Channels that do not fill a head are dropped between
// the projections.
func (b *builder) transformer(name string, x, condition *graph.Node, t transformer2D) *graph.Node {
	b.Block(name)
	channels := x.Shape[1]
	inner := channels / t.heads * t.heads
	h := b.groupNorm(name+".norm", x, t.groups, 1e-6, false)
	if t.linearProjection {
		h = b.linear(name+".proj_in", b.tokens(h), inner)
	} else {
		h = b.tokens(b.conv(name+".proj_in", h, inner, 1, graph.Same(1)))
	}
	for i := range t.layers {
		h = b.transformerBlock(fmt.Sprintf("%s.transformer_blocks.%d", name, i), h, condition, t)
	}
	b.Block(name + ".proj_out")
	if t.linearProjection {
		h = b.image(b.linear(name+".proj_out", h, channels), x.Shape)
	} else {
		h = b.conv(name+".proj_out", b.image(h, x.Shape), channels, 1, graph.Same(1))
	}
	return b.Add(h, x)
}

// transformerBlock is BasicTransformerBlock: self attention, attention to the
// condition, a gated feed-forward layer, each normalised before and added after.
func (b *builder) transformerBlock(name string, x, condition *graph.Node, t transformer2D) *graph.Node {
	b.Block(name)
	const eps = 1e-5
	h := b.layerNorm(name+".norm1", x, eps)
	source := h
	if t.onlyCrossAttention {
		source = condition
	}
	x = b.Add(b.crossAttention(name+".attn1", h, source, t.heads), x)
	x = b.Add(b.crossAttention(name+".attn2", b.layerNorm(name+".norm2", x, eps), condition, t.heads), x)
	h = b.linear(name+".ff.net.0.proj", b.layerNorm(name+".norm3", x, eps), 8*x.Shape[2])
	return b.Add(b.linear(name+".ff.net.2", b.GEGLU(h), x.Shape[2]), x)
}

// crossAttention is diffusers' Attention over tokens: queries from x [N L C],
// keys and values from source [N T D], projections without biases but the last.
func (b *builder) crossAttention(name string, x, source *graph.Node, heads int) *graph.Node {
	channels := x.Shape[2]
	q := b.linearNoBias(name+".to_q", x, channels)
	k := b.linearNoBias(name+".to_k", source, channels)
	v := b.linearNoBias(name+".to_v", source, channels)
	return b.linear(name+".to_out.0", b.Attention(q, k, v, heads), channels)
}

// addedAttention is diffusers' Attention with AttnAddedKVProcessor2_0 on an
// image: keys and values of the condition [N T D] stand before those of the
// pixels, or alone.
func (b *builder) addedAttention(name string, x, condition *graph.Node, a addedAttentionBlock) *graph.Node {
	b.Block(name)
	channels := x.Shape[1]
	switch a.norm {
	case "layer_norm":
		condition = b.layerNorm(name+".norm_cross", condition, 1e-5)
	case "group_norm":
		const groups = 32 // diffusers' default, which no config reaches
		condition = b.Transpose(b.groupNorm(name+".norm_cross", b.Transpose(condition), groups, 1e-5, false))
	}
	h := b.tokens(b.groupNorm(name+".group_norm", x, a.groups, 1e-5, false))
	q := b.linear(name+".to_q", h, channels)
	k := b.linear(name+".add_k_proj", condition, channels)
	v := b.linear(name+".add_v_proj", condition, channels)
	if !a.onlyCrossAttention {
		k = b.Concat(k, b.linear(name+".to_k", h, channels), 1)
		v = b.Concat(v, b.linear(name+".to_v", h, channels), 1)
	}
	h = b.linear(name+".to_out.0", b.Attention(q, k, v, channels/a.headDim), channels)
	return b.Add(b.image(h, x.Shape), x)
}

type addedAttentionBlock struct {
	groups, headDim    int
	onlyCrossAttention bool
	norm               string // of the condition: "", "layer_norm" or "group_norm"
}
