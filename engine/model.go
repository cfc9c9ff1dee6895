package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/model/builtin"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sampler"
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

	single map[string]bool // weights of the denoiser that are held in single precision whatever the storage: those with an adapter merged
}

// aids are the weights of what is built beside the denoiser, under the names
// that it has there. A tensor is the first's that has its name.
func (m *Model) aids() (sources []model.Source) {
	if m.Guide != nil {
		sources = append(sources, m.Guide.Weights)
	}
	return sources
}

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
	UNet         *model.UNet2D
	Guide, Judge *model.Classifier // nil where there is none
}

// LoadNetworks reads the networks a recipe names; see LoadModel.
func LoadNetworks(r *recipes.Recipe, open Open) (*Networks, error) {
	files, err := openFolder(r.Model, "model", open)
	if err != nil {
		return nil, err
	}
	n := &Networks{}
	if n.UNet, err = model.LoadUNet2D(files); err != nil {
		return nil, fmt.Errorf("model %s: %w", r.Model, err)
	}
	if err := adapt(n.UNet, r.LoRA, open); err != nil {
		return nil, err
	}
	if n.Guide, err = loadClassifier(r.Guide, builtin.Guides, "guide", n.UNet, open); err != nil {
		return nil, err
	}
	n.Judge, err = loadClassifier(r.Judge, builtin.Judges, "judge", n.UNet, open)
	return n, err
}

// Model is the networks under a recipe's words.
func (n *Networks) Model(r *recipes.Recipe) (*Model, error) {
	m, err := NewModel(r.Model, n.UNet, r)
	if err != nil {
		return nil, err
	}
	m.Guide, m.Judge = n.Guide, n.Judge
	return m, m.check(r)
}

// adapt merges an adapter into a network; nil changes nothing. What is merged is
// held in single precision: halves would round away small changes.
func adapt(unet *model.UNet2D, a *recipes.Adapter, open Open) error {
	if a == nil {
		return nil
	}
	name := filepath.ToSlash(filepath.Clean(a.Path))
	folder, err := openFolder(path.Dir(name), "folder of the lora", open)
	if err != nil {
		return err
	}
	lora, err := model.LoadLoRA(folder, path.Base(name), unet.Config)
	if err != nil {
		return fmt.Errorf("lora %s: %w", a.Path, err)
	}
	lora.LoRAConfig = lora.Strengthened(a.Scale)
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
	if unet.Scheduler == nil {
		return nil, fmt.Errorf("model %s: has no scheduler_config.json, so its noise schedule is unknown; add diffusers' file to the folder", name)
	}
	var err error
	if m.Scheduler, err = sampler.ParseConfig(unet.Scheduler); err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	// Clipping changes samples a little and gradients a lot; steering always
	// goes without (docs/method.md), whatever the folder's sampler did.
	m.Scheduler.ClipSample = false
	m.Scheduler.UseKarrasSigmas = r.Sampler.UseKarrasSigmas
	if r.Sampler.TimestepSpacing != "" {
		m.Scheduler.TimestepSpacing = sampler.Spacing(r.Sampler.TimestepSpacing)
	}
	if err := m.Scheduler.Validate(); err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	if unet.Config.OutChannels != unet.Config.InChannels {
		return nil, fmt.Errorf("model %s: gives %d channels for %d; networks that also predict a variance are not supported",
			name, unet.Config.OutChannels, unet.Config.InChannels)
	}
	return m, nil
}

// pixels is a network of pixels as a model, without anything beside it.
func pixels(unet *model.UNet2D) *Model {
	return &Model{UNet: unet, Denoiser: unet.Config, Weights: unet.Weights, Stored: unet.Stored}
}

// Storage is how the weights are best held on a device: as they are in the
// file. Arithmetic is float32 either way, so packed halves lose nothing.
func (m *Model) Storage() graph.Storage { return storageOf(m.Stored) }

// Options plan a run without a memory budget and with weights as in the file.
func (m *Model) Options() PlanOptions { return PlanOptions{Storage: m.Storage()} }

func storageOf(stored model.DType) graph.Storage {
	if stored == model.F16 {
		return graph.F16
	}
	return graph.F32
}

// check holds a recipe's words and pictures against the model.
func (m *Model) check(r *recipes.Recipe) error {
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
	shape := m.Denoiser.SampleShape(1)
	return r.CheckPictures(shape[3], shape[2])
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
func loadClassifier(name string, embedded []string, role string, unet *model.UNet2D, open Open) (*model.Classifier, error) {
	explicit := name != ""
	if explicit {
		embedded = []string{name}
	}
	shape := unet.Config.SampleShape(1)
	for _, name := range embedded {
		files, err := openFolder(name, role, open)
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

func openFolder(name, role string, open Open) (fs.FS, error) {
	files, err := open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s %q does not exist: it is neither a folder nor one of the built-in models (%s): %w",
			role, name, builtin.Names(), fs.ErrNotExist)
	}
	return files, err
}
