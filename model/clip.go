package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model/tokenizer"
)

// CLIP is a folder of transformers' CLIPModel: both towers, which meet in one
// space, the tokenizer and how pictures are prepared.
type CLIP struct {
	Text       *CLIPText
	Vision     *CLIPVision
	Tokenizer  *tokenizer.Tokenizer
	Preprocess CLIPPreprocess
	LogitScale float64 // the factor on cosines, exp of the stored parameter
}

// LoadCLIP reads a folder of a CLIPModel: config.json, model.safetensors,
// preprocessor_config.json and the tokenizer's files.
func LoadCLIP(fsys fs.FS) (*CLIP, error) {
	text, err := readConfig(fsys, configFile)
	if err != nil {
		return nil, err
	}
	class, err := transformersClass(text)
	if err == nil && class != clipClass {
		err = fmt.Errorf("architectures name %.100q, want %q", class, clipClass)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", configFile, err)
	}
	c := &CLIP{}
	if c.Text, err = LoadCLIPText(fsys, "."); err != nil {
		return nil, err
	}
	if c.Vision, err = LoadCLIPVision(fsys, "."); err != nil {
		return nil, err
	}
	if c.Preprocess, err = LoadCLIPPreprocess(fsys, "."); err != nil {
		return nil, err
	}
	if c.Preprocess.Size() != c.Vision.Config.ImageSize {
		return nil, fmt.Errorf("%s: pictures come out %d pixels a side, the network takes %d", preprocessorFile, c.Preprocess.Size(), c.Vision.Config.ImageSize)
	}
	if c.Tokenizer, err = tokenizer.Load(fsys, "."); err != nil {
		return nil, err
	}
	if n := c.Tokenizer.VocabSize(); n > c.Text.Config.VocabSize {
		return nil, fmt.Errorf("the tokenizer's ids reach %d, the network knows %d", n-1, c.Text.Config.VocabSize)
	}
	if n := c.Tokenizer.MaxLength(); n > c.Text.Config.MaxPositionEmbeddings {
		return nil, fmt.Errorf("the tokenizer makes texts of %d tokens, the network takes %d (max_position_embeddings)", n, c.Text.Config.MaxPositionEmbeddings)
	}
	if info, ok := c.Text.checkpoint.Info("logit_scale"); ok && graph.Shape(info.Shape).Size() != 1 {
		return nil, fmt.Errorf("%s: tensor %q has shape %v, want one number", c.Text.checkpoint.File, "logit_scale", graph.Shape(info.Shape))
	}
	scale, err := checked{c.Text.checkpoint}.Read("logit_scale")
	if err != nil {
		return nil, err
	}
	if c.LogitScale = math.Exp(float64(scale.Data[0])); !isFinite(c.LogitScale) {
		return nil, fmt.Errorf("%s: tensor %q holds %g, whose exponential is no number; the file is damaged, fetch it again", c.Text.checkpoint.File, "logit_scale", scale.Data[0])
	}
	return c, nil
}

// Close releases the files of the weights.
func (c *CLIP) Close() error { return errors.Join(c.Text.Close(), c.Vision.Close()) }

// Classes of transformers that hold a tower of CLIP.
const (
	clipClass           = "CLIPModel"
	clipTextClass       = "CLIPTextModel"
	clipTextProjClass   = "CLIPTextModelWithProjection"
	clipVisionClass     = "CLIPVisionModel"
	clipVisionProjClass = "CLIPVisionModelWithProjection"
)

// transformersClass reads the class a config.json of transformers was saved by;
// files that do not name it are told by their model_type, as of a bare tower.
func transformersClass(text []byte) (string, error) {
	var config struct {
		Architectures []string `json:"architectures"`
		ModelType     string   `json:"model_type"`
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return "", plain(err)
	}
	if len(config.Architectures) > 0 {
		return config.Architectures[0], nil
	}
	switch config.ModelType {
	case "clip":
		return clipClass, nil
	case "clip_text_model":
		return clipTextClass, nil
	case "clip_vision_model":
		return clipVisionClass, nil
	}
	return "", fmt.Errorf("neither architectures nor model_type %.100q names a class of CLIP", config.ModelType)
}

// pretrainedKeys are arguments of every config of transformers that say nothing
// about what a tower computes. Which of them a file holds depends on the version
// that wrote it.
var pretrainedKeys = strings.Fields(`
	add_cross_attention architectures attention_dropout bad_words_ids
	begin_suppress_tokens bos_token_id chunk_size_feed_forward cross_attention_hidden_size decoder_start_token_id
	diversity_penalty do_sample dropout dtype early_stopping encoder_no_repeat_ngram_size exponential_decay_length_penalty
	finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing id2label initializer_factor initializer_range is_decoder
	is_encoder_decoder label2id length_penalty logit_scale_init_value max_length min_length model_type
	no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states
	output_scores pad_token_id prefix problem_type pruned_heads remove_invalid_values repetition_penalty return_dict
	return_dict_in_generate sep_token_id suppress_tokens task_specific_params temperature tf_legacy_loss
	tie_encoder_decoder tie_word_embeddings tokenizer_class top_k top_p torch_dtype torchscript transformers_version
	typical_p use_bfloat16`)

// decodeTransformers reads a config of transformers, in which only the keys that
// matter may not be unknown.
func decodeTransformers(text []byte, into any, ignore ...string) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return plain(err)
	}
	if keys == nil {
		return errors.New("a JSON null stands where an object should")
	}
	for _, key := range slices.Concat(pretrainedKeys, ignore) {
		delete(keys, key)
	}
	maps.DeleteFunc(keys, func(key string, _ json.RawMessage) bool { return strings.HasPrefix(key, "_") })
	text, err := json.Marshal(keys)
	if err != nil {
		return err
	}
	return DecodeStrict(text, into)
}

// clipTower finds the config of one tower, "text" or "vision": the file itself,
// or what it nests, with the projection's width, which belongs to the whole.
// Where a file holds both NAME_config and NAME_config_dict, the latter and the
// defaults are what transformers goes by.
func clipTower(text []byte, class, tower string) (config []byte, projection *int, err error) {
	if class != clipClass {
		return text, nil, nil
	}
	var whole struct {
		ProjectionDim    *int            `json:"projection_dim"`
		TextConfig       json.RawMessage `json:"text_config"`
		TextConfigDict   json.RawMessage `json:"text_config_dict"`
		VisionConfig     json.RawMessage `json:"vision_config"`
		VisionConfigDict json.RawMessage `json:"vision_config_dict"`
	}
	if err := decodeTransformers(text, &whole); err != nil {
		return nil, nil, err
	}
	config, dict := whole.TextConfig, whole.TextConfigDict
	if tower == "vision" {
		config, dict = whole.VisionConfig, whole.VisionConfigDict
	}
	projection = whole.ProjectionDim
	if projection == nil {
		projection = new(int)
		*projection = clipProjectionDim
	}
	for _, c := range []json.RawMessage{dict, config} {
		if c != nil && string(c) != "null" {
			return c, projection, nil
		}
	}
	return []byte("{}"), projection, nil
}

// clipProjectionDim is the default width of the space that both towers map to.
const clipProjectionDim = 512

// clipActivations are those of transformers' ACT2FN that a tower may ask for.
var clipActivations = map[string]func(g *graph.Graph, x *graph.Node) *graph.Node{
	"quick_gelu":        (*graph.Graph).QuickGELU,
	"gelu":              (*graph.Graph).GELU,
	"gelu_new":          (*graph.Graph).GELUTanh,
	"gelu_pytorch_tanh": (*graph.Graph).GELUTanh,
	"relu":              (*graph.Graph).ReLU,
	"silu":              (*graph.Graph).SiLU,
	"swish":             (*graph.Graph).SiLU,
}

// clipEncoder is the transformer that both towers are.
type clipEncoder struct {
	hidden, intermediate, layers, heads int
	activation                          string
	eps                                 float64
}

func (e clipEncoder) validate() error {
	if err := checkInts([]namedInt{{"hidden_size", e.hidden}, {"intermediate_size", e.intermediate}, {"num_attention_heads", e.heads}}, maxChannels); err != nil {
		return err
	}
	if e.layers < 1 || e.layers > maxLayers {
		return unsupported("num_hidden_layers", e.layers, fmt.Sprintf("a number from 1 to %d", maxLayers))
	}
	if e.hidden%e.heads != 0 {
		return fmt.Errorf("num_attention_heads %d does not divide hidden_size %d", e.heads, e.hidden)
	}
	if clipActivations[e.activation] == nil {
		return unsupported("hidden_act", e.activation, oneOf(clipActivations))
	}
	if !(e.eps > 0 && e.eps < 1) {
		return unsupported("layer_norm_eps", e.eps, "a number between 0 and 1")
	}
	return nil
}

// build appends the layers to x [N L C] and returns what each gives. name is the
// tower's.
func (e clipEncoder) build(b *builder, name string, x *graph.Node, causal bool) []*graph.Node {
	var layers []*graph.Node
	for i := range e.layers {
		layer := fmt.Sprintf("%s.encoder.layers.%d", name, i)
		b.Block(layer)
		h := b.layerNorm(layer+".layer_norm1", x, e.eps)
		q := b.linear(layer+".self_attn.q_proj", h, e.hidden)
		k := b.linear(layer+".self_attn.k_proj", h, e.hidden)
		v := b.linear(layer+".self_attn.v_proj", h, e.hidden)
		h = b.AttentionWith(q, k, v, graph.AttentionAttrs{Heads: e.heads, Scale: 1 / math.Sqrt(float64(e.hidden/e.heads)), Causal: causal})
		x = b.Add(x, b.linear(layer+".self_attn.out_proj", h, e.hidden))

		h = b.layerNorm(layer+".layer_norm2", x, e.eps)
		h = clipActivations[e.activation](b.Graph, b.linear(layer+".mlp.fc1", h, e.intermediate))
		x = b.Add(x, b.linear(layer+".mlp.fc2", h, e.hidden))
		layers = append(layers, x)
	}
	return layers
}

// towerName gives the tensors of a bare tower, as newer versions of transformers
// write it, the names of older ones and of a whole CLIPModel.
func towerName(tower string) func(string) string {
	return func(name string) string {
		switch part, _, _ := strings.Cut(name, "."); part {
		case "embeddings", "encoder", "final_layer_norm", "pre_layrnorm", "post_layernorm":
			return tower + "." + name
		}
		return name
	}
}
