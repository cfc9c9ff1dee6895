package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/model/builtin"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
)

// Model is a denoiser with what a recipe needs beside it.
type Model struct {
	Name      string
	UNet      *model.UNet2D // of a model of pixels; nil for a pipeline of latents
	Scheduler sampler.Config
	Guide     *model.Classifier // differentiated by attribute terms; may be nil
	Judge     *model.Classifier // only reports; may be nil
	Training  *Training         // which of the denoiser's parameters vary; nil for what the recipe says

	// The denoiser at the size that is sampled, whatever its class.
	Denoiser model.Denoiser
	Weights  model.Source // of the denoiser, an adapter merged
	Stored   model.DType  // element type of its weights in the file

	// Of a pipeline of latents, or nil: what its model_index.json names, what its
	// latents decode with, and what terms look at pictures with.
	Pipeline  *model.Pipeline
	Decoder   *model.AutoencoderModel
	CLIP      *model.CLIP
	Aesthetic *model.AestheticHead

	guidance float64         // that the denoiser is shown; 0 where it is shown none
	single   map[string]bool // weights of the denoiser and the text encoder that are held in single precision whatever the storage: those with an adapter merged
}

// aids are the weights of what is built beside the denoiser, under the names
// that it has there. A tensor is the first's that has its name.
func (m *Model) aids() (sources []model.Source) {
	if m.Guide != nil {
		sources = append(sources, m.Guide.Weights)
	}
	if m.Decoder != nil {
		sources = append(sources, model.Prefixed(decoderPrefix, m.Decoder.Weights))
	}
	if m.CLIP != nil {
		sources = append(sources, model.Prefixed(visionPrefix, m.CLIP.Vision.Weights))
	}
	if m.Aesthetic != nil {
		sources = append(sources, model.Prefixed(headPrefix, m.Aesthetic.Weights))
	}
	return sources
}

// shownGuidance reports whether the denoiser is shown the scale of guidance and
// asked once, as networks distilled with it are.
func (m *Model) shownGuidance() bool { return m.guidance != 0 }

// Open finds a folder by the name a recipe gives it. It must return
// fs.ErrNotExist for names it does not know.
type Open func(name string) (fs.FS, error)

// OpenBuiltin knows the embedded models only.
func OpenBuiltin(name string) (fs.FS, error) { return builtin.Open(name) }

// LoadModel reads the networks a recipe names and holds the recipe against
// them: its attributes, its pictures' size, its scheduler. Recipes that name no
// guide or judge get the embedded ones where those read images of the model's
// size.
func LoadModel(r *recipes.Recipe, open Open) (*Model, error) {
	n, err := LoadNetworks(r, open)
	if err != nil {
		return nil, err
	}
	return n.Model(r)
}

// Networks are what a recipe names, read from their files, an adapter merged.
// They serve every recipe that names the same.
type Networks struct {
	UNet         *model.UNet2D     // of a model of pixels
	Pipeline     *model.Pipeline   // of a model of latents; one of the two is nil
	Guide, Judge *model.Classifier // nil where there is none
	CLIP         *model.CLIP       // nil where no term looks with it
	Aesthetic    *model.AestheticHead

	weights model.Source    // of the pipeline's unet, an adapter merged
	single  map[string]bool // see Model.single
}

// LoadNetworks reads the networks a recipe names; see LoadModel.
func LoadNetworks(r *recipes.Recipe, open Open) (*Networks, error) {
	files, err := OpenFolder(r.Model, "model", open)
	if err != nil {
		return nil, err
	}
	n := &Networks{}
	if err := n.load(files, r, open); err != nil {
		return nil, err
	}
	embeddedGuides, embeddedJudges := builtin.Guides, builtin.Judges
	if n.Pipeline != nil { // which none of them was made for
		embeddedGuides, embeddedJudges = nil, nil
	}
	shape, err := n.pictures(r)
	if err != nil {
		return nil, err
	}
	if n.Guide, err = loadClassifier(r.Guide, embeddedGuides, "guide", shape, open); err != nil {
		return nil, err
	}
	if n.Judge, err = loadClassifier(r.Judge, embeddedJudges, "judge", shape, open); err != nil {
		return nil, err
	}
	if err := n.loadCLIP(r, open); err != nil {
		return nil, err
	}
	if r.DType == "float16" {
		n.pack()
	}
	return n, nil
}

// pack lets every network be held in half precision, whatever its file has.
func (n *Networks) pack() {
	if n.UNet != nil {
		n.UNet.Stored = model.F16
	}
	if p := n.Pipeline; p != nil {
		p.UNet.Stored, p.Text.Stored, p.Autoencoder.Stored = model.F16, model.F16, model.F16
	}
	if n.CLIP != nil {
		n.CLIP.Vision.Stored, n.CLIP.Text.Stored = model.F16, model.F16
	}
}

// loadCLIP reads what terms look at pictures with; nothing where none does.
func (n *Networks) loadCLIP(r *recipes.Recipe, open Open) error {
	clip, aesthetic := r.Looks()
	if !clip {
		return nil
	}
	files, err := OpenFolder(r.CLIP, "clip", open)
	if err != nil {
		return err
	}
	if n.CLIP, err = model.LoadCLIP(files); err != nil {
		return fmt.Errorf("clip %s: %w", r.CLIP, err)
	}
	if !aesthetic {
		return nil
	}
	name := filepath.ToSlash(filepath.Clean(r.Aesthetic))
	if files, err = OpenFolder(path.Dir(name), "folder of the aesthetic head", open); err != nil {
		return err
	}
	if n.Aesthetic, err = model.LoadAestheticHead(files, path.Base(name)); err != nil {
		return fmt.Errorf("aesthetic %s: %w", r.Aesthetic, err)
	}
	if dim := n.CLIP.Vision.Config.EmbeddingDim(); n.Aesthetic.Dim() != dim {
		return fmt.Errorf("aesthetic %s: judges embeddings of %d numbers, and clip %s gives %d; it was trained on another CLIP, often clip-vit-large-patch14",
			r.Aesthetic, n.Aesthetic.Dim(), r.CLIP, dim)
	}
	return nil
}

// load reads the denoiser, an adapter merged, and its autoencoder.
func (n *Networks) load(files fs.FS, r *recipes.Recipe, open Open) error {
	latents := false
	if model.IsPipeline(files) {
		var without []string
		if r.Decoder != "" {
			without = []string{"vae"}
		}
		pipeline, err := model.LoadPipeline(files, without...)
		if err != nil {
			return fmt.Errorf("model %s: %w", r.Model, err)
		}
		if n.UNet = pipeline.UNet2D; n.UNet == nil {
			n.Pipeline, latents = pipeline, true
		}
	} else {
		class, err := model.ClassName(files)
		if err != nil && model.IsLoRAFolder(files, ".") {
			return fmt.Errorf("model %s: is an adapter; name the model that it belongs to, and the adapter as lora", r.Model)
		}
		if err == nil && class != "" && class != "UNet2DModel" {
			return fmt.Errorf("model %s: its network is of class %.100q; name the folder of a UNet2DModel, or of a whole pipeline, with model_index.json", r.Model, class)
		}
		if n.UNet, err = model.LoadUNet2D(files); err != nil {
			return fmt.Errorf("model %s: %w", r.Model, err)
		}
	}
	if !latents {
		return adapt(n.UNet, r.LoRA, open)
	}
	if r.Decoder != "" {
		folder, err := OpenFolder(r.Decoder, "decoder", open)
		if err != nil {
			return err
		}
		decoder, err := model.LoadAutoencoder(folder, ".")
		if err == nil {
			err = n.Pipeline.UseDecoder("decoder", decoder)
		}
		if err != nil {
			return fmt.Errorf("decoder %s: %w", r.Decoder, err)
		}
	}
	return n.adapt(r.LoRA, open)
}

// pictures is the shape of one picture that a recipe makes, [1 C H W].
func (n *Networks) pictures(r *recipes.Recipe) (graph.Shape, error) {
	if n.Pipeline == nil {
		shape := n.UNet.Config.SampleShape(1)
		if r.Height != 0 && r.Height != shape[2] || r.Width != 0 && r.Width != shape[3] {
			return nil, fmt.Errorf("recipe %q: height and width: model %s makes pictures of %dx%d, want that or neither", r.Name, r.Model, shape[3], shape[2])
		}
		return shape, nil
	}
	config, err := n.sized(r)
	if err != nil {
		return nil, err
	}
	return n.Pipeline.Autoencoder.Config.ImageShape(config.SampleShape(1))
}

// sized is the pipeline's unet at the size a recipe asks for, by default its own.
func (n *Networks) sized(r *recipes.Recipe) (model.UNet2DConditionConfig, error) {
	config, factor := n.Pipeline.UNet.Config, n.Pipeline.Autoencoder.Config.ScaleFactor()
	for axis, side := range map[int]int{0: r.Height, 1: r.Width} {
		if side%factor != 0 {
			return config, fmt.Errorf("recipe %q: %s: %d, want a multiple of %d, the pixels of a latent of model %s", r.Name, [2]string{"height", "width"}[axis], side, factor, r.Model)
		}
		if side != 0 {
			config.SampleSize[axis] = side / factor
		}
	}
	if config.SampleSize[0] == 0 || config.SampleSize[1] == 0 {
		return config, fmt.Errorf("recipe %q: model %s does not say how large its pictures are; set height and width", r.Name, r.Model)
	}
	return config, nil
}

// Model is the networks under a recipe's words.
func (n *Networks) Model(r *recipes.Recipe) (*Model, error) {
	m, err := n.model(r)
	if err != nil {
		return nil, err
	}
	m.Guide, m.Judge, m.CLIP, m.Aesthetic = n.Guide, n.Judge, n.CLIP, n.Aesthetic
	return m, m.check(r)
}

// model is the denoiser under a recipe's words.
func (n *Networks) model(r *recipes.Recipe) (*Model, error) {
	if n.Pipeline == nil {
		return NewModel(r.Model, n.UNet, r)
	}
	config, err := n.sized(r)
	if err != nil {
		return nil, err
	}
	m := &Model{Name: r.Model, Pipeline: n.Pipeline, Decoder: n.Pipeline.Autoencoder,
		Denoiser: config, Weights: n.weights, Stored: n.Pipeline.UNet.Stored, single: n.single}
	if config.TimeCondProjDim != nil {
		m.guidance = r.GuidanceScale
	}
	if err := m.schedule(n.Pipeline.Scheduler, config.InChannels, config.OutChannels, r); err != nil {
		return nil, err
	}
	if n.Pipeline.Class == "StableDiffusionPipeline" {
		m.Scheduler.StepsOffset = 1 // as diffusers' class does whatever the file says, which before 2023 often said nothing
	}
	return m, nil
}

// adapt merges an adapter into the pipeline's unet and, where it has a part for
// it, into the text encoder; nil changes nothing.
func (n *Networks) adapt(a *recipes.Adapter, open Open) error {
	n.weights, n.single = n.Pipeline.UNet.Weights, map[string]bool{}
	lora, err := loadAdapter(a, n.Pipeline.UNet.Config, open, model.LoadLoRA)
	if lora == nil {
		return err
	}
	n.weights = n.merge(n.weights, lora)
	if lora.Beside == 0 {
		return nil
	}
	if lora, err = loadAdapter(a, n.Pipeline.Text.Config, open, model.LoadTextLoRA); lora == nil {
		return err
	}
	text := *n.Pipeline.Text
	text.Weights = n.merge(text.Weights, lora)
	n.Pipeline.Text = &text
	return nil
}

// merge is a network's weights with an adapter merged.
func (n *Networks) merge(weights model.Source, lora *model.LoRA) model.Source {
	for name := range lora.Weights {
		if module, ok := model.AdaptedModule(name); ok {
			n.single[module+".weight"] = true
		}
	}
	return merged{weights, lora}
}

// merged is a network's weights with an adapter merged into them, layer by layer
// when they are read. The layers it changes are held in single precision: halves
// would round away small changes.
type merged struct {
	model.Source
	lora *model.LoRA
}

// branch finds a layer's A and B.
func (m merged) branch(name string) (module string, a, b model.Tensor, ok bool) {
	module, weight := strings.CutSuffix(name, ".weight")
	down, up := model.LoRANames(module)
	a, ok = m.lora.Weights[down]
	return module, a, m.lora.Weights[up], ok && weight
}

func (m merged) Info(name string) (model.TensorInfo, bool) {
	info, ok := m.Source.Info(name)
	if _, _, _, adapted := m.branch(name); adapted {
		info.DType = model.F32
	}
	return info, ok
}

func (m merged) Read(name string) (model.Tensor, error) {
	t, err := m.Source.Read(name)
	module, a, b, ok := m.branch(name)
	if err != nil || !ok {
		return t, err
	}
	sum := m.lora.MergeInto(module, t.Data, float64s(a.Data), float64s(b.Data), t.Shape[0])
	t.Data = make([]float32, len(sum))
	for i, v := range sum {
		t.Data[i] = float32(v)
	}
	return t, nil
}

// loadAdapter reads an adapter of a network, or the part of it that load reads;
// nil for none.
func loadAdapter(a *recipes.Adapter, network model.Adaptable, open Open, load func(fs.FS, string, model.Adaptable) (*model.LoRA, error)) (*model.LoRA, error) {
	if a == nil {
		return nil, nil
	}
	name := filepath.ToSlash(filepath.Clean(a.Path))
	folder, err := OpenFolder(path.Dir(name), "folder of the lora", open)
	if errors.Is(err, fs.ErrNotExist) {
		err = Missing{"lora", a.Path}
	}
	if err != nil {
		return nil, err
	}
	lora, err := load(folder, path.Base(name), network)
	if err != nil {
		return nil, fmt.Errorf("lora %s: %w", a.Path, err)
	}
	if lora == nil {
		return nil, nil
	}
	lora.LoRAConfig = lora.Strengthened(a.Scale)
	return lora, nil
}

// adapt merges an adapter into a network of pixels; nil changes nothing. What is
// merged is held in single precision.
func adapt(unet *model.UNet2D, a *recipes.Adapter, open Open) error {
	lora, err := loadAdapter(a, unet.Config, open, model.LoadLoRA)
	if lora == nil {
		return err
	}
	if unet.Weights, err = lora.Merge(unet.Weights); err != nil {
		return fmt.Errorf("lora %s: %w", a.Path, err)
	}
	unet.Stored = model.F32
	return nil
}

// NewModel is a network in memory, without classifiers, under the recipe's
// spacing of timesteps and noise levels.
func NewModel(name string, unet *model.UNet2D, r *recipes.Recipe) (*Model, error) {
	m := pixels(unet)
	m.Name = name
	return m, m.schedule(unet.Scheduler, unet.Config.InChannels, unet.Config.OutChannels, r)
}

// schedule reads a scheduler_config.json under the recipe's words and holds the
// denoiser's channels against each other.
func (m *Model) schedule(config []byte, in, out int, r *recipes.Recipe) (err error) {
	if config == nil {
		return fmt.Errorf("model %s: has no scheduler_config.json, so its noise schedule is unknown; add diffusers' file to the folder", m.Name)
	}
	if m.Scheduler, err = sampler.ParseConfig(config); err != nil {
		return fmt.Errorf("model %s: %w", m.Name, err)
	}
	// Clipping changes samples a little and gradients a lot; steering always
	// goes without (docs/method.md), whatever the folder's sampler did.
	m.Scheduler.ClipSample = false
	m.Scheduler.UseKarrasSigmas = r.Sampler.UseKarrasSigmas
	if r.Sampler.TimestepSpacing != "" {
		m.Scheduler.TimestepSpacing = sampler.Spacing(r.Sampler.TimestepSpacing)
	}
	if err := m.Scheduler.Validate(); err != nil {
		return fmt.Errorf("model %s: %w", m.Name, err)
	}
	if in != out {
		return fmt.Errorf("model %s: gives %d channels for %d; networks that also predict a variance, or take a masked picture, are not supported", m.Name, out, in)
	}
	return nil
}

// pixels is a network of pixels as a model, without anything beside it.
func pixels(unet *model.UNet2D) *Model {
	return &Model{UNet: unet, Denoiser: unet.Config, Weights: unet.Weights, Stored: unet.Stored}
}

// Storage is how the weights are best held on a device: as they are in the
// file. Arithmetic is float32 either way, so packed halves lose nothing.
func (m *Model) Storage() graph.Storage { return storageOf(m.Stored) }

// Options plan a run without a memory budget, with weights as in the file and
// within what every GPU grants, so that a plan fits whatever device is opened
// after it: buffers of 256 MiB, of which kernels see 128 at once.
func (m *Model) Options() PlanOptions {
	return PlanOptions{Storage: m.Storage(), MaxBuffer: 256 << 20, MaxBinding: 128 << 20}
}

func storageOf(stored model.DType) graph.Storage {
	if stored == model.F16 {
		return graph.F16
	}
	return graph.F32
}

// check holds a recipe's words and pictures against the model.
func (m *Model) check(r *recipes.Recipe) error {
	if m.Pipeline == nil {
		for key, said := range map[string]bool{"prompt": r.Prompt != "", "negative_prompt": r.NegativePrompt != "", "decoder": r.Decoder != ""} {
			if said {
				return fmt.Errorf("recipe %q: %s: model %s makes pixels and takes no text; remove it, or name the folder of a text-to-image pipeline with model", r.Name, key, m.Name)
			}
		}
	}
	if _, varies := r.Variables[string(sdo.GuidanceScale)]; varies && m.shownGuidance() {
		return fmt.Errorf("recipe %q: variables: guidance_scale: model %s is shown the scale and mixes nothing by it; leave it out", r.Name, m.Name)
	}
	if len(r.Condition) > 0 && m.embedder() == nil {
		return fmt.Errorf("recipe %q: condition: model %s takes no attributes; remove it", r.Name, m.Name)
	}
	for i, t := range r.Objective {
		if t.Term == "attribute" && m.Guide == nil {
			return fmt.Errorf("recipe %q: objective.%d (attribute): no classifier reads images of model %s's size; name one with guide", r.Name, i, m.Name)
		}
	}
	var known, read model.Attributes
	if e := m.embedder(); e != nil {
		known = e.Attributes
	}
	if m.Guide != nil {
		read = m.Guide.Config.Attributes
	}
	if err := r.CheckAttributes(Vocabulary(known), Vocabulary(read)); err != nil {
		return err
	}
	shape, err := m.pictures()
	if err != nil {
		return err
	}
	return r.CheckPictures(shape[3], shape[2])
}

// pictures is the shape of one picture, [1 C H W].
func (m *Model) pictures() (graph.Shape, error) {
	shape := m.Denoiser.SampleShape(1)
	if m.Decoder == nil {
		return shape, nil
	}
	return m.Decoder.Config.ImageShape(shape)
}

// embedder turns attributes into the denoiser's condition; nil where it takes
// none.
func (m *Model) embedder() *model.AttributeEmbedder {
	if m.UNet == nil {
		return nil
	}
	return m.UNet.Embedder
}

// Vocabulary is attributes as a recipe's words are held against them.
func Vocabulary(attributes model.Attributes) recipes.Vocabulary {
	return recipes.Vocabulary{Names: attributes.Names(), Values: func(name string) []string {
		i, err := attributes.Index(name)
		if err != nil {
			return nil
		}
		return attributes[i].Values
	}}
}

// loadClassifier reads a named classifier, or where the recipe names none the
// first embedded one whose images are the model's; nil if there is none.
func loadClassifier(name string, embedded []string, role string, shape graph.Shape, open Open) (*model.Classifier, error) {
	explicit := name != ""
	if explicit {
		embedded = []string{name}
	}
	for _, name := range embedded {
		files, err := OpenFolder(name, role, open)
		if !explicit && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c, err := model.LoadClassifier(files)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", role, name, err)
		}
		if c.Config.InChannels == shape[1] && c.Config.SampleSize == (model.SampleSize{shape[2], shape[3]}) {
			return c, nil
		}
		if explicit {
			return nil, fmt.Errorf("%s %s: reads %d channels of %v pixels, the model makes %v", role, name,
				c.Config.InChannels, c.Config.SampleSize, shape[1:])
		}
	}
	return nil, nil
}

// OpenFolder opens what a recipe names in some role, such as "model" or "clip".
func OpenFolder(name, role string, open Open) (fs.FS, error) {
	files, err := open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, Missing{role, name}
	case err != nil:
		return nil, fmt.Errorf("%s %s: %w", role, name, err)
	}
	return files, nil
}

// Missing is a folder that a recipe names and that is not there; it is
// fs.ErrNotExist.
type Missing struct{ Role, Name string }

func (e Missing) Is(target error) bool { return target == fs.ErrNotExist }

func (e Missing) Error() string {
	known := map[string][]string{"model": builtin.Denoisers, "guide": builtin.Guides, "judge": builtin.Judges}[e.Role]
	if known == nil {
		return fmt.Sprintf("%s %q does not exist; give the folder that holds it", e.Role, e.Name)
	}
	return fmt.Sprintf("%s %q does not exist: it is neither a folder nor one of the built-in ones (%s)", e.Role, e.Name, strings.Join(known, ", "))
}
