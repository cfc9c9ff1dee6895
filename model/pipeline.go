package model

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/sdo-go/sdo/model/tokenizer"
)

// pipelineFile names a pipeline's class and its components.
const pipelineFile = "model_index.json"

// Pipeline is a folder of a diffusers pipeline: the networks and words that its
// model_index.json names, with weights that are read when they are asked for.
type Pipeline struct {
	Class string // of model_index.json

	// UNet2D is the network of a pipeline of pixels, DDPM's or DDIM's. Such a
	// pipeline has nothing else but a scheduler.
	UNet2D *UNet2D

	UNet        *UNet2DCondition
	Autoencoder *AutoencoderModel // nil where LoadPipeline was told to leave it out
	Text        *CLIPText
	Tokenizer   *tokenizer.Tokenizer

	Scheduler json.RawMessage // scheduler_config.json
}

// component is one value of model_index.json: the library and the class.
type component struct{ library, class string }

// UnmarshalJSON reads the pair; null or a pair that begins with null, as diffusers
// writes a part that a pipeline has not, is no component.
func (c *component) UnmarshalJSON(text []byte) error {
	var pair []any
	if err := json.Unmarshal(text, &pair); err != nil || pair != nil && len(pair) != 2 {
		return fmt.Errorf("want the pair of a library and a class")
	}
	if pair == nil || pair[0] == nil || pair[1] == nil {
		return nil
	}
	library, ok := pair[0].(string)
	class, also := pair[1].(string)
	if !ok || !also {
		return fmt.Errorf("want the pair of a library and a class")
	}
	*c = component{library, class}
	return nil
}

// Pipelines and components that are understood, and what is told of others.
var (
	pixelPipelines  = []string{"DDPMPipeline", "DDIMPipeline"}
	latentPipelines = []string{"StableDiffusionPipeline", "LatentConsistencyModelPipeline"}

	// latentParts are a latent pipeline's components by name, with the classes
	// that each may be of; any where there are none.
	latentParts = map[string][]string{
		"unet":         {unet2DConditionClass},
		"vae":          {autoencoderKLClass, autoencoderTinyClass},
		"text_encoder": {clipTextClass, clipTextProjClass},
		"tokenizer":    {"CLIPTokenizer", "CLIPTokenizerFast"},
		"scheduler":    nil,
	}

	// ignoredParts take no part in making pictures.
	ignoredParts = []string{"safety_checker", "feature_extractor", "image_encoder"}

	// laterPipelines are families by a part of their classes' names.
	laterPipelines = []struct{ part, family string }{
		{"StableDiffusionXL", "Stable Diffusion XL"},
		{"StableDiffusion3", "Stable Diffusion 3"},
		{"Flux", "Flux"},
		{"PixArt", "PixArt"},
		{"DiT", "DiT"},
	}

	// otherPipelines say of other families, by a part of their classes' names, what
	// they need that is not here, or what helps.
	otherPipelines = []struct{ part, why string }{
		{"Onnx", "it holds ONNX files; bring the folder with PyTorch's weights that they were exported from"},
		{"Flax", "it holds weights of Flax; bring the folder with PyTorch's weights"},
		{"ControlNet", "a second network steers its UNet by a picture; without it the model that the ControlNet was trained for may do"},
		{"Inpaint", "its UNet is also shown a mask and the picture under it; use the text-to-image model that it was trained from"},
		{"Pix2Pix", "its UNet is also shown the picture to edit; use the text-to-image model that it was trained from"},
		{"Depth2Img", "its UNet is also shown a depth map; use the text-to-image model that it was trained from"},
		{"Upscale", "its UNet is also shown a small picture, and enlarges it"},
		{"SuperResolution", "its UNet is also shown a small picture, and enlarges it"},
		{"Img2Img", "its networks are a StableDiffusionPipeline's; write that name in its place"},
		{"ImageVariation", "it is told a picture in place of words"},
		{"Zero123", "it is told a picture in place of words"},
		{"UnCLIP", "it makes pictures in several stages with a network for each"},
		{"Kandinsky", "it makes pictures in several stages with a network for each"},
		{"Wuerstchen", "it makes pictures in several stages with a network for each"},
		{"Cascade", "it makes pictures in several stages with a network for each"},
		{"IFPipeline", "it is told words by T5 and makes pictures in several stages with a network for each"},
		{"Video", "it makes videos"},
		{"Animate", "it makes videos"},
		{"Hotshot", "it makes videos"},
		{"Mochi", "it makes videos"},
		{"Audio", "it makes sounds"},
		{"Music", "it makes sounds"},
		{"AltDiffusion", "it is told words by XLM-RoBERTa, not CLIP"},
		{"LDM", "its autoencoder rounds latents to a code book (VQModel)"},
		{"PNDMPipeline", "its network is a DDIMPipeline's; write that name in its place"},
		{"ScoreSde", "its sampler has no schedule of betas"},
		{"KarrasVe", "its sampler has no schedule of betas"},
	}
)

// IsPipeline tells whether a folder is a pipeline's.
func IsPipeline(fsys fs.FS) bool { return exists(fsys, pipelineFile) }

// JudgePipeline refuses the contents of a model_index.json by its class and its
// components' classes, where LoadPipeline would.
func JudgePipeline(index []byte) error {
	p := &Pipeline{}
	parts, err := p.parseIndex(index)
	if err == nil && !slices.Contains(pixelPipelines, p.Class) {
		err = judgeParts(parts, nil)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", pipelineFile, err)
	}
	return nil
}

// LoadPipeline reads a pipeline's folder without the components named in
// without. The classes of all its components are judged before one is read, and
// each one's config before its weights are opened.
func LoadPipeline(fsys fs.FS, without ...string) (*Pipeline, error) {
	p := &Pipeline{}
	parts, err := p.readIndex(fsys)
	if err != nil {
		return nil, err
	}
	if slices.Contains(pixelPipelines, p.Class) {
		if p.UNet2D, err = LoadUNet2D(fsys); err != nil {
			return nil, err
		}
		p.Scheduler = p.UNet2D.Scheduler
		return p, nil
	}
	if err := judgeParts(parts, without); err != nil {
		return nil, fmt.Errorf("%s: %w", pipelineFile, err)
	}
	if p.Scheduler, err = readScheduler(fsys, "scheduler/"+schedulerFile); err != nil {
		return nil, err
	}
	if p.Tokenizer, err = tokenizer.Load(fsys, "tokenizer"); err != nil {
		return nil, err
	}
	if p.UNet, err = LoadUNet2DCondition(fsys, "unet"); err != nil {
		return nil, err
	}
	if !slices.Contains(without, "vae") {
		if p.Autoencoder, err = LoadAutoencoder(fsys, "vae"); err != nil {
			return nil, err
		}
	}
	if p.Text, err = LoadCLIPText(fsys, "text_encoder"); err != nil {
		return nil, err
	}
	p.UNet.Config.Tokens = p.Tokenizer.MaxLength()
	if p.Class == latentPipelines[0] && p.UNet.Config.mistakesItsSize() {
		p.UNet.Config.SampleSize = SampleSize{stableDiffusionSize, stableDiffusionSize}
	}
	return p, p.fits()
}

// PipelineClass reads the class of a pipeline's folder, judged with those of its
// components before any of them is read.
func PipelineClass(fsys fs.FS) (string, error) {
	var p Pipeline
	parts, err := p.readIndex(fsys)
	if err == nil && slices.Contains(latentPipelines, p.Class) {
		if err = judgeParts(parts, nil); err != nil {
			err = fmt.Errorf("%s: %w", pipelineFile, err)
		}
	}
	return p.Class, err
}

// readIndex reads model_index.json: the class, which must be one that is
// understood, and the components.
func (p *Pipeline) readIndex(fsys fs.FS) (map[string]component, error) {
	text, err := readConfig(fsys, pipelineFile)
	if err != nil {
		return nil, err
	}
	parts, err := p.parseIndex(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pipelineFile, err)
	}
	return parts, nil
}

func (p *Pipeline) parseIndex(text []byte) (map[string]component, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return nil, plain(err)
	}
	if err := json.Unmarshal(keys["_class_name"], &p.Class); err != nil || p.Class == "" {
		known := "want one of " + strings.Join(knownPipelines(), ", ")
		if class := keys["_class_name"]; strings.HasPrefix(string(class), "[") {
			return nil, fmt.Errorf("_class_name %s is a pipeline of its own code, which is not run here; %s", onOneLine(class), known)
		}
		return nil, fmt.Errorf("_class_name is missing or no name; %s", known)
	}
	if err := judgePipeline(p.Class); err != nil {
		return nil, err
	}
	parts := map[string]component{}
	for name, value := range keys {
		if strings.HasPrefix(name, "_") || !strings.HasPrefix(strings.TrimSpace(string(value)), "[") {
			continue // options of the pipeline's class
		}
		var c component
		if err := json.Unmarshal(value, &c); err != nil {
			return nil, fmt.Errorf("%s is %s, %w", short(name), short(string(value)), err)
		}
		if c != (component{}) {
			parts[name] = c
		}
	}
	return parts, nil
}

func knownPipelines() []string { return slices.Concat(latentPipelines, pixelPipelines) }

// judgePipeline refuses what is no pipeline that LoadPipeline can read.
func judgePipeline(class string) error {
	known := knownPipelines()
	if slices.Contains(known, class) {
		return nil
	}
	list := "want one of " + strings.Join(known, ", ")
	for _, later := range laterPipelines {
		if strings.Contains(class, later.part) {
			return fmt.Errorf("_class_name %.100q: %s is not supported yet, %s", class, later.family, list)
		}
	}
	for _, other := range otherPipelines {
		if strings.Contains(class, other.part) {
			return fmt.Errorf("_class_name %.100q is not supported: %s; %s", class, other.why, list)
		}
	}
	return fmt.Errorf("_class_name %.100q is not supported, %s", class, list)
}

// judgeParts holds a latent pipeline's components against what is understood.
func judgeParts(parts map[string]component, without []string) error {
	for _, name := range slices.Sorted(maps.Keys(latentParts)) {
		classes, c := latentParts[name], parts[name]
		switch {
		case slices.Contains(without, name):
		case c == component{}:
			return fmt.Errorf("the component %s is missing, and a pipeline of latents cannot do without; fetch the whole folder", name)
		case classes != nil && !slices.Contains(classes, c.class):
			return fmt.Errorf("%s is a %s, which is not supported, want %s", name, short(c.class), strings.Join(classes, " or "))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if _, known := latentParts[name]; !known && !slices.Contains(ignoredParts, name) {
			return fmt.Errorf("the component %s, a %s, is not supported", short(name), short(parts[name].class))
		}
	}
	return nil
}

// stableDiffusionSize is the side of the latents that Stable Diffusion 1 was
// trained at.
const stableDiffusionSize = 64

// mistakesItsSize tells a config as diffusers' first scripts converted models of
// Stable Diffusion: they wrote the side of latents of smaller pictures, which
// StableDiffusionPipeline corrects in files of before version 0.9.
func (c UNet2DConditionConfig) mistakesItsSize() bool {
	var major, minor int
	n, _ := fmt.Sscanf(c.DiffusersVersion, "%d.%d", &major, &minor)
	side := c.SampleSize[0]
	return n == 2 && major == 0 && minor < 9 && side == c.SampleSize[1] && side > 0 && side < stableDiffusionSize
}

// shownBeside is what networks are shown beside the latents, by the channels that
// they take when they give four.
var shownBeside = map[int]string{
	5: "a depth map", 7: "a small picture that it enlarges",
	8: "a picture that it edits", 9: "a mask and the picture under it, to inpaint",
}

// fits holds the components against each other.
func (p *Pipeline) fits() error {
	text, unet := p.Text.Config, p.UNet.Config
	if in, out := unet.InChannels, unet.OutChannels; in != out {
		beside, known := shownBeside[in]
		if !known || out != 4 {
			beside = "something"
		}
		return fmt.Errorf("unet: takes %d channels and gives %d: it is also shown %s, which is not supported; use the text-to-image model that it was trained from", in, out, beside)
	}
	if n := p.Tokenizer.VocabSize(); n > text.VocabSize {
		return fmt.Errorf("tokenizer: token ids reach %d, the text encoder knows %d; the folder is of several models, fetch it again", n-1, text.VocabSize)
	}
	if n := p.Tokenizer.MaxLength(); n > text.MaxPositionEmbeddings {
		return fmt.Errorf("tokenizer: texts have %d tokens, the text encoder has room for %d; the folder is of several models, fetch it again", n, text.MaxPositionEmbeddings)
	}
	if text.HiddenSize != unet.ConditionDim() {
		return fmt.Errorf("text_encoder: its states are %d wide, the unet takes %d; the folder is of several models, fetch it again", text.HiddenSize, unet.ConditionDim())
	}
	if p.Autoencoder == nil {
		return nil
	}
	return p.UNet.decodedBy("vae", p.Autoencoder.Config)
}

// decodedBy reports whether an autoencoder's latents are the network's.
func (u *UNet2DCondition) decodedBy(name string, a Autoencoder) error {
	side := a.ScaleFactor()
	latents, err := a.LatentShape(1, side, side)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if latents[1] != u.Config.OutChannels {
		return fmt.Errorf("%s: its latents have %d channels, the unet's %d; it belongs to another model", name, latents[1], u.Config.OutChannels)
	}
	return nil
}

// UseDecoder replaces the pipeline's autoencoder by another, such as a tiny one
// distilled from it.
func (p *Pipeline) UseDecoder(name string, a *AutoencoderModel) error {
	if err := p.UNet.decodedBy(name, a.Config); err != nil {
		return err
	}
	p.Autoencoder = a
	return nil
}
