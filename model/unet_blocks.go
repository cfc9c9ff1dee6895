package model

import (
	"strings"

	"github.com/sdo-go/sdo/graph"
)

// activations are those of diffusers' get_activation.
var activations = map[string]func(g *graph.Graph, x *graph.Node) *graph.Node{
	"silu":  (*graph.Graph).SiLU,
	"swish": (*graph.Graph).SiLU,
	"gelu":  (*graph.Graph).GELU,
	"relu":  (*graph.Graph).ReLU,
	"mish":  func(g *graph.Graph, x *graph.Node) *graph.Node { return g.Mul(x, g.Tanh(g.Softplus(x))) },
}

// checkActivation reports a name that is not in activations; nil is none at all.
func checkActivation(key string, name *string) error {
	if name != nil && activations[strings.ToLower(*name)] == nil {
		return unsupported(key, *name, "one of "+oneOf(activations))
	}
	return nil
}

func (b *builder) activate(name string, x *graph.Node) *graph.Node {
	return activations[strings.ToLower(name)](b.Graph, x)
}

// normActivate is a group norm and the activation that follows it, in one kernel
// where that is SiLU.
func (b *builder) normActivate(name string, x *graph.Node, groups int, eps float64, act string) *graph.Node {
	silu := strings.EqualFold(act, "silu") || strings.EqualFold(act, "swish")
	x = b.groupNorm(name, x, groups, eps, silu)
	if !silu {
		x = b.activate(act, x)
	}
	return x
}

// resnetBlock are the arguments of diffusers' ResnetBlock2D (models/resnet.py).
type resnetBlock struct {
	groups, groupsOut int // of the two norms
	eps               float64
	act               string
	temb              *graph.Node // the time embedding [N D], with its activation where it has one
	scaleShift        bool        // the embedding scales and shifts behind the second norm; else it is added before
	scale             float64     // that the sum is divided by
	shortcut          bool        // a 1x1 convolution beside, though the channels stay
	// resample changes the size of the image, in front of the first convolution
	// and beside; nil for none.
	resample func(g *graph.Graph, x *graph.Node) *graph.Node
}

// resnet is ResnetBlock2D: two normalised 3x3 convolutions with the time
// embedding between them, around a shortcut.
func (b *builder) resnet(name string, x *graph.Node, channels int, r resnetBlock) *graph.Node {
	b.Block(name)
	h := b.normActivate(name+".norm1", x, r.groups, r.eps, r.act)
	if r.resample != nil {
		x, h = r.resample(b.Graph, x), r.resample(b.Graph, h)
	}
	h = b.conv(name+".conv1", h, channels, 3, graph.Same(3))
	if r.scaleShift {
		t := b.linear(name+".time_emb_proj", r.temb, 2*channels)
		h = b.groupNorm(name+".norm2", h, r.groupsOut, r.eps, false)
		h = b.activate(r.act, b.ScaleShift(h, b.Slice(t, 1, 0, channels), b.Slice(t, 1, channels, 2*channels)))
	} else {
		h = b.AddChannels(h, b.linear(name+".time_emb_proj", r.temb, channels))
		h = b.normActivate(name+".norm2", h, r.groupsOut, r.eps, r.act)
	}
	h = b.conv(name+".conv2", h, channels, 3, graph.Same(3))
	if x.Shape[1] != channels || r.shortcut {
		x = b.conv(name+".conv_shortcut", x, channels, 1, graph.Same(1))
	}
	return b.divide(b.Add(x, h), r.scale)
}

// imageAttention is diffusers' Attention with AttnProcessor2_0 on an image: group
// norm (none when groups is 0), heads over the pixels, projection, residual.
// Channels that do not fill a head are dropped by the projections, as there.
func (b *builder) imageAttention(name string, x *graph.Node, groups, headDim int, eps, scale float64) *graph.Node {
	b.Block(name)
	heads := x.Shape[1] / headDim
	if heads == 0 {
		fail("unet: attention_head_dim %d exceeds the %d channels of %s", headDim, x.Shape[1], name)
	}
	h := x
	if groups > 0 {
		h = b.groupNorm(name+".group_norm", h, groups, eps, false)
	}
	h = b.tokens(h)
	q := b.linear(name+".to_q", h, heads*headDim)
	k := b.linear(name+".to_k", h, heads*headDim)
	v := b.linear(name+".to_v", h, heads*headDim)
	h = b.linear(name+".to_out.0", b.Attention(q, k, v, heads), x.Shape[1])
	return b.divide(b.Add(b.image(h, x.Shape), x), scale)
}

// tokens views an image [N C H W] as [N H*W C].
func (b *builder) tokens(x *graph.Node) *graph.Node {
	return b.Transpose(b.Reshape(x, x.Shape[0], x.Shape[1], x.Shape[2]*x.Shape[3]))
}

// image is tokens backwards: [N H*W C] to an image of the height and width of
// like.
func (b *builder) image(x *graph.Node, like graph.Shape) *graph.Node {
	return b.Reshape(b.Transpose(x), x.Shape[0], x.Shape[2], like[2], like[3])
}

// downsample is Downsample2D with a convolution: padding 1 all around, or, for
// padding 0, one row and column at the bottom and the right.
func (b *builder) downsample(name string, x *graph.Node, padding int) *graph.Node {
	b.Block(name)
	geometry := graph.Conv2DAttrs{Stride: 2, PadBottom: 1, PadRight: 1}
	if padding == 1 {
		geometry.PadTop, geometry.PadLeft = 1, 1
	}
	return b.conv(name+".conv", x, x.Shape[1], 3, geometry)
}

// upsample is Upsample2D: every pixel repeated to fill an image of h x w, and a
// convolution.
func (b *builder) upsample(name string, x *graph.Node, h, w int) *graph.Node {
	b.Block(name)
	if h == 2*x.Shape[2] && w == 2*x.Shape[3] {
		x = b.UpsampleNearest2x(x)
	} else {
		x = b.UpsampleNearest(x, h, w)
	}
	return b.conv(name+".conv", x, x.Shape[1], 3, graph.Same(3))
}

// perceptron is TimestepEmbedding without its options.
func (b *builder) perceptron(name string, x *graph.Node, width int, act string) *graph.Node {
	x = b.activate(act, b.linear(name+".linear_1", x, width))
	return b.linear(name+".linear_2", x, width)
}

func (b *builder) divide(x *graph.Node, scale float64) *graph.Node {
	if scale == 1 {
		return x
	}
	return b.Affine(x, 1/scale, 0)
}

// modernBlock is a block's type without the prefix of old configs.
func modernBlock(kind string) string { return strings.TrimPrefix(kind, "UNetRes") }
