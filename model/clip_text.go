package model

import (
	"fmt"
	"io/fs"
	"path"

	"github.com/sdo-go/sdo/graph"
)

// CLIPTextConfig is transformers' CLIPTextConfig, every argument that a tower's
// numbers depend on under its own name.
type CLIPTextConfig struct {
	VocabSize             int     `json:"vocab_size"`
	HiddenSize            int     `json:"hidden_size"`
	IntermediateSize      int     `json:"intermediate_size"`
	ProjectionDim         *int    `json:"projection_dim"`
	NumHiddenLayers       int     `json:"num_hidden_layers"`
	NumAttentionHeads     int     `json:"num_attention_heads"`
	MaxPositionEmbeddings int     `json:"max_position_embeddings"`
	HiddenAct             string  `json:"hidden_act"`
	LayerNormEps          float64 `json:"layer_norm_eps"`
	EOSTokenID            int     `json:"eos_token_id"`

	// Projection tells whether the class has a projection: all but CLIPTextModel
	// have one.
	Projection bool `json:"-"`
}

// DefaultCLIPTextConfig holds the defaults of transformers' class, without a
// projection.
func DefaultCLIPTextConfig() CLIPTextConfig {
	projection := clipProjectionDim
	return CLIPTextConfig{
		VocabSize:             49408,
		HiddenSize:            512,
		IntermediateSize:      2048,
		ProjectionDim:         &projection,
		NumHiddenLayers:       12,
		NumAttentionHeads:     8,
		MaxPositionEmbeddings: 77,
		HiddenAct:             "quick_gelu",
		LayerNormEps:          1e-5,
		EOSTokenID:            49407,
	}
}

// ParseCLIPTextConfig reads a config.json of a CLIPTextModel, a
// CLIPTextModelWithProjection or a CLIPModel.
func ParseCLIPTextConfig(text []byte) (CLIPTextConfig, error) {
	c := DefaultCLIPTextConfig()
	class, err := transformersClass(text)
	if err != nil {
		return c, err
	}
	switch class {
	case clipTextClass:
	case clipTextProjClass, clipClass:
		c.Projection = true
	default:
		return c, unsupported("architectures", class, fmt.Sprintf("%q, %q or %q", clipTextClass, clipTextProjClass, clipClass))
	}
	tower, projection, err := clipTower(text, class, "text")
	if err != nil {
		return c, err
	}
	if err := decodeTransformers(tower, &c); err != nil {
		return c, err
	}
	if projection != nil {
		c.ProjectionDim = projection
	}
	return c, c.Validate()
}

// Validate reports the first value that this package cannot compute.
func (c CLIPTextConfig) Validate() error {
	if err := c.encoder().validate(); err != nil {
		return err
	}
	if c.EOSTokenID < 0 {
		return unsupported("eos_token_id", c.EOSTokenID, "a token's id")
	}
	numbers := []namedInt{{"vocab_size", c.VocabSize}, {"max_position_embeddings", c.MaxPositionEmbeddings}}
	if c.Projection {
		if c.ProjectionDim == nil {
			return fmt.Errorf("projection_dim is null, the class needs a number")
		}
		numbers = append(numbers, namedInt{"projection_dim", *c.ProjectionDim})
	}
	return checkInts(numbers, maxChannels)
}

func (c CLIPTextConfig) encoder() clipEncoder {
	return clipEncoder{c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers, c.NumAttentionHeads, c.HiddenAct, c.LayerNormEps}
}

// PooledDim is the width of what Build pools.
func (c CLIPTextConfig) PooledDim() int {
	if c.Projection {
		return *c.ProjectionDim
	}
	return c.HiddenSize
}

// End is the place in ids of the token whose state stands for the whole text: the
// first end of text or, where a config of before 2023 calls that token 2, the
// first of the highest id, as transformers does.
func (c CLIPTextConfig) End(ids []int) int {
	end := 0
	for i, id := range ids {
		switch {
		case c.EOSTokenID == 2:
			if id > ids[end] {
				end = i
			}
		case id == c.EOSTokenID:
			return i
		}
	}
	return end
}

// Build appends the tower to g: token ids [N L] to hidden states [N L HiddenSize]
// after the last norm, and to the pooled state [N PooledDim], projected where the
// class has a projection. ends [N] holds End of each text plus L times its
// number, a row of all hidden states; without it pooled is nil.
//
// It is transformers' CLIPTextModel.forward (models/clip/modeling_clip.py).
func (c CLIPTextConfig) Build(g *graph.Graph, ids, ends *graph.Node, o BuildOptions) (hidden, pooled *graph.Node) {
	b := newBuilder(g, o)
	b.adapter = newAdapter(o, c)
	return c.build(b, ids, ends)
}

// Ends are the values of Build's input ends for texts of equal length.
func (c CLIPTextConfig) Ends(texts [][]int) []float64 {
	rows := make([]float64, len(texts))
	for i, ids := range texts {
		rows[i] = float64(i*len(ids) + c.End(ids))
	}
	return rows
}

// Params lists the state dict in the order the network uses it.
func (c CLIPTextConfig) Params() ([]Param, error) {
	b, err := c.declare()
	if err != nil {
		return nil, err
	}
	return b.params, nil
}

// Modules lists the layers that a LoRA can target, in the order the network uses
// them.
func (c CLIPTextConfig) Modules() ([]Module, error) {
	b, err := c.declare()
	if err != nil {
		return nil, err
	}
	return b.modules, nil
}

func (c CLIPTextConfig) declare() (*builder, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return declare(func(b *builder) { c.build(b, b.Input("ids", 1, 1), b.Input("ends", 1)) })
}

func (c CLIPTextConfig) build(b *builder, ids, ends *graph.Node) (hidden, pooled *graph.Node) {
	if err := c.Validate(); err != nil {
		fail("clip text: %v", err)
	}
	if len(ids.Shape) != 2 || ids.Shape[1] > c.MaxPositionEmbeddings {
		fail("clip text: token ids %v must be [N L] with L at most %d (max_position_embeddings)", ids.Shape, c.MaxPositionEmbeddings)
	}
	n, length, width := ids.Shape[0], ids.Shape[1], c.HiddenSize
	const name = "text_model"
	b.Block(name + ".embeddings")
	x := b.embedding(name+".embeddings.token_embedding.weight", b.Reshape(ids, n*length), c.VocabSize, width, 0.02)
	place := b.param(name+".embeddings.position_embedding.weight", graph.F32, initialiser{std: 0.02}, c.MaxPositionEmbeddings, width)
	if length < c.MaxPositionEmbeddings {
		place = b.Slice(place, 0, 0, length)
	}
	x = b.Reshape(b.AddBroadcast(x, place, n, length*width, 1), n, length, width)

	layers := c.encoder().build(b, name, x, true)
	b.Block(name + ".final_layer_norm")
	hidden = b.layerNorm(name+".final_layer_norm", layers[len(layers)-1], c.LayerNormEps)
	if ends == nil {
		return hidden, nil
	}
	if !ends.Shape.Equal(graph.Shape{n}) {
		fail("clip text: ends %v must be [%d], one for each text", ends.Shape, n)
	}
	pooled = b.Embedding(b.Reshape(hidden, n*length, width), ends)
	if c.Projection {
		pooled = b.linearNoBias("text_projection", pooled, *c.ProjectionDim)
	}
	return hidden, pooled
}

// CLIPText is a folder of a text tower: config.json and weights, which are read
// when they are asked for.
type CLIPText struct {
	Config  CLIPTextConfig
	Weights Source
	Stored  DType // element type of the weights in the file

	checkpoint *Checkpoint
}

// Close releases the files of the weights.
func (m *CLIPText) Close() error { return m.checkpoint.Close() }

// LoadCLIPText reads a folder of a CLIPTextModel, a CLIPTextModelWithProjection
// or a CLIPModel. The config is judged before the weights are opened, every
// tensor's name and shape before one is read.
func LoadCLIPText(fsys fs.FS, dir string) (*CLIPText, error) {
	name := path.Join(dir, configFile)
	text, err := readConfig(fsys, name)
	if err != nil {
		return nil, err
	}
	m := &CLIPText{}
	if m.Config, err = ParseCLIPTextConfig(text); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	params, err := m.Config.Params()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	m.checkpoint, m.Weights, err = openParams(fsys, dir, transformersBase, params, towerName("text_model"),
		"position_ids", "logit_scale", "vision_model.**", "visual_projection.weight")
	if err != nil {
		return nil, err
	}
	m.Stored = m.checkpoint.Stored()
	return m, nil
}

// transformersBase is what transformers calls the file of a model's weights.
const transformersBase = "model"

// openParams opens the weights called base in a folder and maps them onto
// parameters as loadParams does.
func openParams(fsys fs.FS, dir, base string, params []Param, rename func(string) string, ignore ...string) (*Checkpoint, Source, error) {
	c, err := OpenWeights(fsys, dir, base)
	if err != nil {
		return nil, nil, err
	}
	weights, err := loadParams(c, params, rename, ignore...)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, weights, nil
}
