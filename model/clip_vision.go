package model

import (
	"fmt"
	"io/fs"
	"path"

	"github.com/sdo-go/sdo/graph"
)

// CLIPVisionConfig is transformers' CLIPVisionConfig, every argument that a
// tower's numbers depend on under its own name.
type CLIPVisionConfig struct {
	HiddenSize        int     `json:"hidden_size"`
	IntermediateSize  int     `json:"intermediate_size"`
	ProjectionDim     int     `json:"projection_dim"`
	NumHiddenLayers   int     `json:"num_hidden_layers"`
	NumAttentionHeads int     `json:"num_attention_heads"`
	NumChannels       int     `json:"num_channels"`
	ImageSize         int     `json:"image_size"`
	PatchSize         int     `json:"patch_size"`
	HiddenAct         string  `json:"hidden_act"`
	LayerNormEps      float64 `json:"layer_norm_eps"`

	// Projection tells whether the class has a projection: all but
	// CLIPVisionModel have one.
	Projection bool `json:"-"`
}

// DefaultCLIPVisionConfig holds the defaults of transformers' class, without a
// projection.
func DefaultCLIPVisionConfig() CLIPVisionConfig {
	return CLIPVisionConfig{
		HiddenSize:        768,
		IntermediateSize:  3072,
		ProjectionDim:     clipProjectionDim,
		NumHiddenLayers:   12,
		NumAttentionHeads: 12,
		NumChannels:       3,
		ImageSize:         224,
		PatchSize:         32,
		HiddenAct:         "quick_gelu",
		LayerNormEps:      1e-5,
	}
}

// ParseCLIPVisionConfig reads a config.json of a CLIPVisionModel, a
// CLIPVisionModelWithProjection or a CLIPModel.
func ParseCLIPVisionConfig(text []byte) (CLIPVisionConfig, error) {
	c := DefaultCLIPVisionConfig()
	class, err := transformersClass(text)
	if err != nil {
		return c, err
	}
	switch class {
	case clipVisionClass:
	case clipVisionProjClass, clipClass:
		c.Projection = true
	default:
		return c, unsupported("architectures", class, fmt.Sprintf("%q, %q or %q", clipVisionClass, clipVisionProjClass, clipClass))
	}
	tower, projection, err := clipTower(text, class, "vision")
	if err != nil {
		return c, err
	}
	if err := decodeTransformers(tower, &c, "eos_token_id"); err != nil {
		return c, err
	}
	if projection != nil {
		c.ProjectionDim = *projection
	}
	return c, c.Validate()
}

// Validate reports the first value that this package cannot compute.
func (c CLIPVisionConfig) Validate() error {
	if err := c.encoder().validate(); err != nil {
		return err
	}
	if err := checkInts([]namedInt{{"projection_dim", c.ProjectionDim}, {"num_channels", c.NumChannels}}, maxChannels); err != nil {
		return err
	}
	if c.ImageSize < 1 || c.ImageSize > maxSide {
		return unsupported("image_size", c.ImageSize, fmt.Sprintf("a number from 1 to %d", maxSide))
	}
	if c.PatchSize < 1 || c.PatchSize > c.ImageSize {
		return unsupported("patch_size", c.PatchSize, "a number from 1 to image_size")
	}
	return nil
}

func (c CLIPVisionConfig) encoder() clipEncoder {
	return clipEncoder{c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers, c.NumAttentionHeads, c.HiddenAct, c.LayerNormEps}
}

// Tokens is the number of patches of a picture, and one for the class token,
// which comes first.
func (c CLIPVisionConfig) Tokens() int {
	side := c.ImageSize / c.PatchSize
	return side*side + 1
}

// EmbeddingDim is the width of the embeddings that Build gives.
func (c CLIPVisionConfig) EmbeddingDim() int {
	if c.Projection {
		return c.ProjectionDim
	}
	return c.HiddenSize
}

// Build appends the tower to g: pictures [N NumChannels ImageSize ImageSize],
// normalised as CLIPPreprocess does, to the hidden states [N Tokens HiddenSize]
// after each layer, and to embeddings [N EmbeddingDim], projected where the class
// has a projection and of no certain length.
//
// It is transformers' CLIPVisionModel.forward (models/clip/modeling_clip.py).
func (c CLIPVisionConfig) Build(g *graph.Graph, pixels *graph.Node, o BuildOptions) (layers []*graph.Node, embeds *graph.Node) {
	return c.build(newBuilder(g, o), pixels)
}

// Params lists the state dict in the order the network uses it.
func (c CLIPVisionConfig) Params() ([]Param, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	b, err := declare(func(b *builder) { c.build(b, b.Input("pixels", 1, c.NumChannels, c.ImageSize, c.ImageSize)) })
	if err != nil {
		return nil, err
	}
	return b.params, nil
}

func (c CLIPVisionConfig) build(b *builder, pixels *graph.Node) (layers []*graph.Node, embeds *graph.Node) {
	if err := c.Validate(); err != nil {
		fail("clip vision: %v", err)
	}
	if s := pixels.Shape; len(s) != 4 || !s[1:].Equal(graph.Shape{c.NumChannels, c.ImageSize, c.ImageSize}) {
		fail("clip vision: pictures %v must be [N %d %d %[3]d]", s, c.NumChannels, c.ImageSize)
	}
	n, width := pixels.Shape[0], c.HiddenSize
	const name = "vision_model"
	b.Block(name + ".embeddings")
	class := b.param(name+".embeddings.class_embedding", graph.F32, initialiser{std: 0.02}, width)
	x := b.convNoBias(name+".embeddings.patch_embedding", pixels, width, c.PatchSize, graph.Conv2DAttrs{Stride: c.PatchSize})
	x = b.Transpose(b.Reshape(x, n, width, x.Shape[2]*x.Shape[3]))
	x = b.Concat(b.Broadcast(class, n, width, 1, n, 1, width), x, 1)
	place := b.param(name+".embeddings.position_embedding.weight", graph.F32, initialiser{std: 0.02}, c.Tokens(), width)
	x = b.AddBroadcast(x, place, n, c.Tokens()*width, 1)
	x = b.layerNorm(name+".pre_layrnorm", x, c.LayerNormEps) // sic

	layers = c.encoder().build(b, name, x, false)
	b.Block(name + ".post_layernorm")
	first := b.Reshape(b.Slice(layers[len(layers)-1], 1, 0, 1), n, width)
	embeds = b.layerNorm(name+".post_layernorm", first, c.LayerNormEps)
	if c.Projection {
		embeds = b.linearNoBias("visual_projection", embeds, c.ProjectionDim)
	}
	return layers, embeds
}

// CLIPVision is a folder of an image tower: config.json and weights, which are
// read when they are asked for.
type CLIPVision struct {
	Config  CLIPVisionConfig
	Weights Source
	Stored  DType // element type of the weights in the file

	checkpoint *Checkpoint
}

// Close releases the files of the weights.
func (m *CLIPVision) Close() error { return m.checkpoint.Close() }

// LoadCLIPVision reads a folder of a CLIPVisionModel, a
// CLIPVisionModelWithProjection or a CLIPModel. The config is judged before the
// weights are opened, every tensor's name and shape before one is read.
func LoadCLIPVision(fsys fs.FS, dir string) (*CLIPVision, error) {
	name := path.Join(dir, configFile)
	text, err := readConfig(fsys, name)
	if err != nil {
		return nil, err
	}
	m := &CLIPVision{}
	if m.Config, err = ParseCLIPVisionConfig(text); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	params, err := m.Config.Params()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	m.checkpoint, m.Weights, err = openParams(fsys, dir, transformersBase, params, towerName("vision_model"),
		"position_ids", "logit_scale", "text_model.**", "text_projection.weight")
	if err != nil {
		return nil, err
	}
	m.Stored = m.checkpoint.Stored()
	return m, nil
}
