package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
)

// Names of the files of a folder. The first four are diffusers' own; the last
// two stand beside them and diffusers ignores them.
const (
	configFile     = "config.json"
	schedulerFile  = "scheduler_config.json"
	weightsBase    = "diffusion_pytorch_model"
	weightsFile    = "diffusion_pytorch_model.safetensors"
	weightsF16File = "diffusion_pytorch_model.fp16.safetensors"
	attributesFile = "attributes.json"
	embedderFile   = "attribute_embedder.safetensors"

	classifierWeightsFile = "model.safetensors"
)

// UNet2D is a diffusers folder in memory: a network's config and weights, its
// scheduler as raw JSON, and the attribute embedder where there is one.
type UNet2D struct {
	Config    UNet2DConfig
	Scheduler json.RawMessage    // scheduler_config.json, nil without one
	Weights   Weights            // names as the current diffusers spells them
	Embedder  *AttributeEmbedder // nil without attributes.json
	Stored    DType              // element type of the weights in the file
}

// LoadUNet2D reads a diffusers folder: config.json and the weights at the root
// or under unet/, scheduler_config.json at the root or under scheduler/. The
// config is judged before the weights are opened, and every tensor's name and
// shape before one is read.
func LoadUNet2D(fsys fs.FS) (*UNet2D, error) {
	dir := "."
	if !exists(fsys, configFile) && exists(fsys, "unet/"+configFile) {
		dir = "unet"
	}
	text, err := readConfig(fsys, path.Join(dir, configFile))
	if err != nil {
		return nil, err
	}
	m := &UNet2D{}
	if m.Config, err = ParseUNet2DConfig(text); err != nil {
		return nil, err
	}
	for _, name := range []string{schedulerFile, "scheduler/" + schedulerFile} {
		if !exists(fsys, name) {
			continue
		}
		if m.Scheduler, err = readScheduler(fsys, name); err != nil {
			return nil, err
		}
		break
	}

	params, err := m.Config.Params()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", configFile, err)
	}
	weights, err := OpenWeights(fsys, dir, weightsBase)
	if err != nil {
		return nil, err
	}
	// Files of NCSN++ from before 2023 hold the time's frequencies twice.
	if m.Weights, m.Stored, err = weights.load(params, modernName, "time_proj.W"); err != nil {
		return nil, err
	}
	m.Embedder, err = loadEmbedder(fsys, dir, m.Config)
	return m, err
}

func loadEmbedder(fsys fs.FS, dir string, config UNet2DConfig) (*AttributeEmbedder, error) {
	name := path.Join(dir, attributesFile)
	if !exists(fsys, name) {
		return nil, nil
	}
	if config.ClassInput() != ClassVector {
		return nil, fmt.Errorf(`%s: attributes need a network with class_embed_type "identity"; remove the file or use another config`, name)
	}
	text, err := ReadConfig(fsys, name)
	if err != nil {
		return nil, err
	}
	attributes, err := ParseAttributes(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	e := &AttributeEmbedder{Attributes: attributes, Dim: config.TimeEmbedDim()}
	e.Weights, _, err = loadWeights(fsys, path.Join(dir, embedderFile), e.Params(), nil)
	return e, err
}

// attributesJSON is the file attributes.json.
type attributesJSON struct {
	Attributes Attributes `json:"attributes"`
}

// ParseAttributes reads an attributes.json: {"attributes": [{"name", "values"}]}.
func ParseAttributes(text []byte) (Attributes, error) {
	var file attributesJSON
	if err := DecodeStrict(text, &file); err != nil {
		return nil, err
	}
	return file.Attributes, file.Attributes.Validate()
}

// Save writes the folder, weights as F32 or as F16 under diffusers' variant
// name; weights of the other type are removed, since a loader would find both.
// Each file is written atomically; the config comes last, so that a folder with
// a config is complete.
func (m *UNet2D) Save(dir string, dtype DType) error {
	params, err := m.Config.Params()
	if err != nil {
		return err
	}
	if err := m.Weights.Check(params); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	name, stale := weightsFile, weightsF16File
	if dtype == F16 {
		name, stale = stale, name
	}
	if err := saveWeights(filepath.Join(dir, name), m.Weights, dtype); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, stale)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if e := m.Embedder; e != nil {
		if err := e.Weights.Check(e.Params()); err != nil {
			return fmt.Errorf("attribute embedder: %w", err)
		}
		if err := saveWeights(filepath.Join(dir, embedderFile), e.Weights, dtype); err != nil {
			return err
		}
		if err := saveJSON(filepath.Join(dir, attributesFile), attributesJSON{e.Attributes}); err != nil {
			return err
		}
	}
	if m.Scheduler != nil {
		if err := saveText(filepath.Join(dir, schedulerFile), m.Scheduler); err != nil {
			return err
		}
	}
	return saveJSON(filepath.Join(dir, configFile), m.Config)
}

// Classifier is an attribute classifier's folder in memory: config.json and
// model.safetensors.
type Classifier struct {
	Config  ClassifierConfig
	Weights Weights
	Stored  DType // element type of the weights in the file
}

// LoadClassifier reads a classifier's folder.
func LoadClassifier(fsys fs.FS) (*Classifier, error) {
	text, err := readConfig(fsys, configFile)
	if err != nil {
		return nil, err
	}
	c := &Classifier{}
	if c.Config, err = ParseClassifierConfig(text); err != nil {
		return nil, err
	}
	params, err := c.Config.Params()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", configFile, err)
	}
	c.Weights, c.Stored, err = loadWeights(fsys, classifierWeightsFile, params, nil)
	return c, err
}

// Save writes the folder; each file atomically, the config last.
func (c *Classifier) Save(dir string, dtype DType) error {
	params, err := c.Config.Params()
	if err != nil {
		return err
	}
	if err := c.Weights.Check(params); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := saveWeights(filepath.Join(dir, classifierWeightsFile), c.Weights, dtype); err != nil {
		return err
	}
	return saveJSON(filepath.Join(dir, configFile), c.Config)
}

// ClassName reads what kind of network a folder holds: "UNet2DModel",
// "AttributeClassifier", or a class this package cannot load.
func ClassName(fsys fs.FS) (string, error) {
	name := configFile
	if !exists(fsys, name) && exists(fsys, "unet/"+name) {
		name = "unet/" + name
	}
	text, err := readConfig(fsys, name)
	if err != nil {
		return "", err
	}
	var config struct {
		ClassName     string   `json:"_class_name"`
		Architectures []string `json:"architectures"` // of transformers' models
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return "", fmt.Errorf("%s: %w", name, plain(err))
	}
	if config.ClassName == "" && len(config.Architectures) > 0 {
		return config.Architectures[0], nil
	}
	return config.ClassName, nil
}

func saveWeights(file string, weights Weights, dtype DType) error {
	if err := SaveSafetensors(file, weights, dtype, map[string]string{"format": "pt"}); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func saveJSON(file string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return saveText(file, append(text, '\n'))
}

func saveText(file string, text []byte) error {
	return WriteFileAtomic(file, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// infinite is how Python writes numbers that JSON has no words for. Every config
// of diffusers' multistep solvers has one.
var infinite = regexp.MustCompile(`(:\s*)(-?Infinity|NaN)\b`)

// readScheduler reads a scheduler_config.json as it stands.
func readScheduler(fsys fs.FS, name string) (json.RawMessage, error) {
	text, err := readConfig(fsys, name)
	if err == nil && !json.Valid(infinite.ReplaceAll(text, []byte("${1}null"))) {
		err = fmt.Errorf("%s: not JSON; the file is damaged, fetch it again", name)
	}
	return text, err
}

// maxConfigBytes bounds a config of any kind. Real ones have some kilobytes.
const maxConfigBytes = 16 << 20

// ReadConfig reads a small file of a folder, whatever length the file claims to
// have.
func ReadConfig(fsys fs.FS, name string) ([]byte, error) {
	return readLimited(fsys, name, maxConfigBytes)
}

func readConfig(fsys fs.FS, name string) ([]byte, error) {
	text, err := ReadConfig(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: the file is missing; name a folder that holds a model in diffusers' layout", name)
	}
	return text, err
}

// exists tells whether a file is there. One that cannot be read is: whoever reads
// it says why not.
func exists(fsys fs.FS, name string) bool {
	_, err := fs.Stat(fsys, name)
	return !errors.Is(err, fs.ErrNotExist)
}
