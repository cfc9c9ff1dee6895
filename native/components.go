package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/model/tokenizer"
	"github.com/sdo-go/sdo/native/hub"
	"github.com/sdo-go/sdo/sampler"
)

// component is a part of a model as `sdo model inspect` tells it: what the
// headers of its files say. Keys are stable.
type component struct {
	Name       string   `json:"component"` // the folder in a pipeline; empty for a model of one network
	Class      string   `json:"class"`
	What       string   `json:"what"` // its architecture in a few words
	Parameters int      `json:"parameters"`
	Stored     string   `json:"stored,omitempty"` // element type of most of its numbers
	Bytes      int64    `json:"bytes"`            // of its weights as stored
	File       string   `json:"file,omitempty"`   // the weights that are read, or the index of their shards
	Beside     []string `json:"beside,omitempty"` // files that hold the same and are not read
	Unused     bool     `json:"unused,omitempty"` // nothing here reads it
	Fault      string   `json:"fault,omitempty"`  // why it cannot be used
	dir        string
	weights    *model.Checkpoint
	denoiser   model.Denoiser
	attributes model.Attributes
}

const schedulerConfig = "scheduler_config.json"

// unusedComponents are parts of pipelines that nothing here reads.
var unusedComponents = []string{"safety_checker", "feature_extractor", "image_encoder"}

// componentsOf reads the headers of a folder: a pipeline's parts, or its one
// network and what stands beside it.
func componentsOf(folder fs.FS) (class string, all []*component, err error) {
	listed, class, err := listedComponents(folder)
	if err != nil {
		return "", nil, err
	}
	if len(listed) == 0 {
		c, err := componentOf(folder, "", ".", "")
		if err != nil {
			return "", nil, err
		}
		class, all = c.Class, append(all, c)
		if there(folder, schedulerConfig) {
			listed["scheduler"] = "Scheduler"
		}
	}
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		dir := name
		if !there(folder, name) && (there(folder, "config.json") || strings.HasSuffix(listed[name], "Scheduler")) {
			dir = "." // as the first pipelines were saved
		}
		c, err := componentOf(folder, name, dir, listed[name])
		if err != nil {
			c = &component{Name: name, Class: listed[name], Fault: err.Error()}
		}
		all = append(all, c)
	}
	return class, all, nil
}

// listedComponents are the parts of a pipeline with their classes, as
// model_index.json lists them, or else as folders tell; none for one network.
func listedComponents(folder fs.FS) (listed map[string]string, class string, err error) {
	listed = map[string]string{}
	text, err := model.ReadConfig(folder, hub.IndexFile)
	if errors.Is(err, fs.ErrNotExist) {
		if there(folder, "config.json") {
			return listed, "", nil
		}
		for name, class := range map[string]string{"unet": "", "vae": "", "text_encoder": "", "tokenizer": "CLIPTokenizer", "scheduler": "Scheduler"} {
			if there(folder, name) {
				listed[name] = class
			}
		}
		return listed, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	var index map[string]json.RawMessage
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, "", fmt.Errorf("%s: not a JSON object; the file is damaged, fetch it again", hub.IndexFile)
	}
	for name, text := range index {
		var entry []*string // [library, class], of nulls where the pipeline has none
		if json.Unmarshal(text, &entry) == nil && len(entry) == 2 && entry[1] != nil && fs.ValidPath(name) && !strings.HasPrefix(name, "_") {
			listed[name] = *entry[1]
		}
	}
	if len(listed) == 0 {
		if err := model.JudgePipeline(text); err != nil {
			return nil, "", err
		}
		return nil, "", fmt.Errorf("%s: lists no components; the file is damaged, fetch it again", hub.IndexFile)
	}
	json.Unmarshal(index["_class_name"], &class) // what is no string names no class
	return listed, class, nil
}

func there(folder fs.FS, name string) bool {
	_, err := fs.Stat(folder, name)
	return err == nil
}

// componentOf reads the headers of one part. listed is the class that
// model_index.json gives it. What is wrong with a part that is there is its
// Fault; an error is that there is none.
func componentOf(folder fs.FS, name, dir, listed string) (*component, error) {
	c := &component{Name: name, Class: listed, Unused: slices.Contains(unusedComponents, name), dir: dir}
	switch {
	case strings.HasSuffix(listed, "Scheduler"):
		return c, c.readScheduler(folder)
	case strings.Contains(listed, "Tokenizer"):
		return c, c.readTokenizer(folder)
	}
	file := path.Join(dir, "config.json")
	text, err := model.ReadConfig(folder, file)
	if errors.Is(err, fs.ErrNotExist) {
		if c.Unused {
			return c, nil
		}
		return nil, fmt.Errorf("%s: the file is missing; name a folder that holds a model in diffusers' or transformers' layout", file)
	}
	if err != nil {
		return nil, err
	}
	var config struct {
		ClassName     string   `json:"_class_name"`
		Architectures []string `json:"architectures"`
		ModelType     string   `json:"model_type"`
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("%s: not JSON; the file is damaged, fetch it again", file)
	}
	base := "diffusion_pytorch_model"
	if c.Class = config.ClassName; c.Class == "" {
		base = "model"
		switch {
		case len(config.Architectures) > 0:
			c.Class = config.Architectures[0]
		case config.ModelType != "":
			c.Class = config.ModelType
		case listed != "":
			c.Class = listed
		}
	}
	if c.Class == "AttributeClassifier" {
		base = "model"
	}
	if !c.Unused {
		if err := c.judge(text); err != nil {
			c.Fault = fmt.Sprintf("%s: %s", file, strings.TrimPrefix(err.Error(), "config.json: "))
			return c, nil
		}
	}
	weights, err := model.OpenWeights(folder, dir, base)
	if err != nil {
		c.Fault = err.Error()
		return c, nil
	}
	c.weigh(weights)
	if c.Unused {
		return c, nil
	}
	if err := c.load(folder); err != nil {
		c.Fault = err.Error()
	}
	return c, nil
}

// weigh counts what is stored. The parameters of a network whose config is
// understood are counted by that, for a file may hold others besides.
func (c *component) weigh(weights *model.Checkpoint) {
	parameters := 0
	c.weights, c.File, c.Beside, c.Stored = weights, weights.File, weights.Beside, string(weights.Stored())
	for _, name := range weights.Names() {
		info, _ := weights.Info(name)
		size := graph.Shape(info.Shape).Size()
		c.Bytes += int64(size) * elementBytes(info.DType)
		if isFloat(info.DType) {
			parameters += size
		}
	}
	c.Parameters = cmp.Or(c.Parameters, parameters)
}

// judge says in a few words what a network is, by its config alone, and fails
// where it is of no use here.
func (c *component) judge(config []byte) error {
	switch c.Class {
	case "UNet2DModel":
		unet, err := model.ParseUNet2DConfig(config)
		if err != nil {
			return err
		}
		c.denoiser = unet
		c.What = fmt.Sprintf("pixels %s, channels %s", times(unet.SampleShape(1)[1:]), join(unet.BlockOutChannels))
		if classes := unet.NumClassEmbeds; classes != nil {
			c.What += fmt.Sprintf(", %d classes", *classes)
		}
		return c.count(unet.Params())
	case "UNet2DConditionModel":
		unet, err := model.ParseUNet2DConditionConfig(config)
		if err != nil {
			return err
		}
		c.denoiser = unet
		c.What = fmt.Sprintf("latents %s, channels %s, prompts of %d", times(unet.SampleShape(1)[1:]), join(unet.BlockOutChannels), unet.ConditionDim())
		if unet.TimeCondProjDim != nil {
			c.What += ", told the guidance scale"
		}
		return c.count(unet.Params())
	case "AutoencoderKL", "AutoencoderTiny":
		m, err := model.ParseAutoencoderConfig(config)
		if err != nil {
			return err
		}
		latents, err := m.LatentShape(1, m.ScaleFactor(), m.ScaleFactor())
		if err != nil {
			return err
		}
		c.What = fmt.Sprintf("%d x %d pixels to %d numbers", m.ScaleFactor(), m.ScaleFactor(), latents[1])
		switch config := m.(type) {
		case model.AutoencoderKLConfig:
			c.What += fmt.Sprintf(", channels %s, scale %g", join(config.BlockOutChannels), config.ScalingFactor)
		case model.AutoencoderTinyConfig:
			c.What += fmt.Sprintf(", channels %s", join(config.DecoderBlockOutChannels))
		}
		return c.count(m.Params())
	case "CLIPTextModel", "CLIPTextModelWithProjection":
		m, err := model.ParseCLIPTextConfig(config)
		if err != nil {
			return err
		}
		c.What = describeText(m)
		return c.count(m.Params())
	case "CLIPVisionModel", "CLIPVisionModelWithProjection":
		m, err := model.ParseCLIPVisionConfig(config)
		if err != nil {
			return err
		}
		c.What = describeVision(m)
		return c.count(m.Params())
	case "CLIPModel":
		text, err := model.ParseCLIPTextConfig(config)
		if err != nil {
			return err
		}
		vision, err := model.ParseCLIPVisionConfig(config)
		if err != nil {
			return err
		}
		c.What = describeText(text) + "; " + describeVision(vision)
		return nil
	case "AttributeClassifier":
		m, err := model.ParseClassifierConfig(config)
		if err != nil {
			return err
		}
		c.attributes = m.Attributes
		c.What = fmt.Sprintf("pixels %d x %d x %d to %d attributes", m.InChannels, m.SampleSize[0], m.SampleSize[1], len(m.Attributes))
		return c.count(m.Params())
	}
	return fmt.Errorf("class %q is not supported", c.Class)
}

// load opens a network as a run does, which holds every tensor against the config.
func (c *component) load(folder fs.FS) (err error) {
	switch c.Class {
	case "UNet2DModel":
		unet, err := model.LoadUNet2D(folder)
		if err == nil && unet.Embedder != nil {
			c.attributes = unet.Embedder.Attributes
			c.What += fmt.Sprintf(", %d attributes", len(c.attributes))
		}
		return err
	case "UNet2DConditionModel":
		_, err = model.LoadUNet2DCondition(folder, c.dir)
	case "AutoencoderKL", "AutoencoderTiny":
		_, err = model.LoadAutoencoder(folder, c.dir)
	case "CLIPTextModel", "CLIPTextModelWithProjection":
		_, err = model.LoadCLIPText(folder, c.dir)
	case "CLIPVisionModel", "CLIPVisionModelWithProjection":
		_, err = model.LoadCLIPVision(folder, c.dir)
	case "CLIPModel":
		_, err = model.LoadCLIP(folder)
	}
	return err
}

// count takes the number of parameters from the architecture.
func (c *component) count(params []model.Param, err error) error {
	c.Parameters = model.ParamCount(params)
	return err
}

func describeText(c model.CLIPTextConfig) string {
	s := fmt.Sprintf("%s of %d, %d tokens of %d words, %s", noun(c.NumHiddenLayers, "layer"), c.HiddenSize, c.MaxPositionEmbeddings, c.VocabSize, c.HiddenAct)
	if c.Projection {
		s += fmt.Sprintf(", projected to %d", c.PooledDim())
	}
	return s
}

func describeVision(c model.CLIPVisionConfig) string {
	s := fmt.Sprintf("%s of %d, pictures of %d in patches of %d, %s", noun(c.NumHiddenLayers, "layer"), c.HiddenSize, c.ImageSize, c.PatchSize, c.HiddenAct)
	if c.Projection {
		s += fmt.Sprintf(", projected to %d", c.EmbeddingDim())
	}
	return s
}

func (c *component) readScheduler(folder fs.FS) error {
	file := path.Join(c.dir, schedulerConfig)
	text, err := model.ReadConfig(folder, file)
	if err != nil {
		return fmt.Errorf("%s: the file is missing; the folder is incomplete, fetch it again", file)
	}
	var config struct {
		ClassName string `json:"_class_name"`
	}
	if json.Unmarshal(text, &config) == nil && config.ClassName != "" {
		c.Class = config.ClassName
	}
	schedule, err := sampler.ParseConfig(text)
	schedule.ClipSample = false // sampling goes without, see package engine
	if err == nil {
		err = schedule.Validate()
	}
	if err != nil {
		c.Fault = fmt.Sprintf("%s: %v", file, err)
		return nil
	}
	c.What = describeSchedule(schedule)
	if sampler.StandIn(text) != "" {
		c.What += fmt.Sprintf("; %s stands in for it", sampler.SolverOf(text))
	}
	return nil
}

func describeSchedule(c sampler.Config) string {
	levels := fmt.Sprintf("%s %g to %g", c.BetaSchedule, c.BetaStart, c.BetaEnd)
	switch {
	case c.SigmaData > 0:
		levels = fmt.Sprintf("sigmas %g to %g", c.SigmaMin, c.SigmaMax)
	case c.PredictionType == sampler.PredictFlow:
		levels = fmt.Sprintf("shift %g", c.Shift)
	}
	return fmt.Sprintf("%d timesteps, %s, predicts %s", c.NumTrainTimesteps, levels, c.PredictionType)
}

func (c *component) readTokenizer(folder fs.FS) error {
	t, err := tokenizer.Load(folder, c.dir)
	if err != nil {
		c.Fault = err.Error()
		return nil
	}
	c.What = fmt.Sprintf("%d words", t.VocabSize())
	return nil
}

// elementBytes is the size of a stored number.
func elementBytes(d model.DType) int64 {
	switch {
	case strings.HasSuffix(string(d), "64"):
		return 8
	case strings.HasSuffix(string(d), "32"):
		return 4
	case strings.HasSuffix(string(d), "16"):
		return 2
	}
	return 1
}

func isFloat(d model.DType) bool { return strings.Contains(string(d), "F") }

func join(numbers []int) string { return strings.Trim(fmt.Sprint(numbers), "[]") }
