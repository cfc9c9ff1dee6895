package train

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/sampler"
)

//go:embed recipes/*.json
var recipeFiles embed.FS

// Recipe is everything that decides what a training run ends in.
type Recipe struct {
	Name    string  `json:"name"`
	Task    string  `json:"task"`           // "diffusion" or "classifier"
	Data    string  `json:"data,omitempty"` // "avatars", the default, or "fashion-mnist"
	Half    string  `json:"half,omitempty"` // of fashion-mnist: train on its "first" or "second" half only
	Options Options `json:"options"`

	// Of a diffusion task: a diffusers config.json and scheduler_config.json,
	// and how often attributes are hidden (see Diffusion).
	UNet      json.RawMessage `json:"unet,omitempty"`
	Scheduler json.RawMessage `json:"scheduler,omitempty"`
	DropEach  float64         `json:"drop_each,omitempty"`
	DropAll   float64         `json:"drop_all,omitempty"`

	// Of a classifier task.
	Widths  []int  `json:"widths,omitempty"`
	Augment string `json:"augment,omitempty"` // "guide", "judge" or nothing
}

// Recipes lists the embedded training recipes.
func Recipes() []string {
	entries, err := recipeFiles.ReadDir("recipes")
	if err != nil {
		panic("train: " + err.Error()) // the folder is embedded
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".json")
	}
	return names
}

// FindRecipe reads an embedded training recipe by name.
func FindRecipe(name string) (*Recipe, error) {
	text, err := recipeFiles.ReadFile("recipes/" + name + ".json")
	if err != nil {
		return nil, fmt.Errorf("training recipe %q does not exist; there are %s", name, strings.Join(Recipes(), ", "))
	}
	return ParseRecipe(text, name+".json")
}

// ParseRecipe reads a training recipe; file stands for it in errors. Options
// that are not given take DefaultOptions.
func ParseRecipe(text []byte, file string) (*Recipe, error) {
	r := &Recipe{Options: DefaultOptions()}
	if err := model.DecodeStrict(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	data, err := r.source()
	if err == nil {
		_, err = r.task(data.schema, data.schema)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// task is what the recipe trains, on one data set and tested by another.
func (r *Recipe) task(training, test Dataset) (Task, error) {
	if r.Name == "" {
		return nil, fmt.Errorf("the name is missing")
	}
	if err := r.Options.Validate(); err != nil {
		return nil, err
	}
	switch r.Task {
	case "diffusion":
		return r.diffusion(training)
	case "classifier":
		return r.classifier(training, test)
	}
	return nil, fmt.Errorf(`task is %q, want "diffusion" or "classifier"`, r.Task)
}

func (r *Recipe) diffusion(data Dataset) (Diffusion, error) {
	var d Diffusion
	if !(r.DropEach >= 0 && r.DropEach < 1 && r.DropAll >= 0 && r.DropAll < 1) {
		return d, fmt.Errorf("drop_each %g and drop_all %g must lie in [0, 1)", r.DropEach, r.DropAll)
	}
	unet, err := model.ParseUNet2DConfig(r.UNet)
	if err != nil {
		return d, fmt.Errorf("unet: %w", err)
	}
	if unet.ClassInput() != model.ClassVector {
		return d, fmt.Errorf(`unet: class_embed_type must be "identity" to learn attributes`)
	}
	if shape := unet.SampleShape(1)[1:]; !shape.Equal(data.Shape()) || unet.OutChannels != shape[0] {
		return d, fmt.Errorf("unet: takes and gives images of %v, the data set's are %v", shape, data.Shape())
	}
	config, err := sampler.ParseConfig(r.Scheduler)
	if err != nil {
		return d, err
	}
	if config.PredictionType != sampler.PredictV {
		return d, fmt.Errorf("scheduler: prediction_type is %q, want %q", config.PredictionType, sampler.PredictV)
	}
	alphaBar, err := config.AlphaBars()
	return Diffusion{UNet: unet, Data: data, AlphaBar: alphaBar, DropEach: r.DropEach, DropAll: r.DropAll}, err
}

func (r *Recipe) classifier(training, test Dataset) (Classifier, error) {
	shape := training.Shape()
	c := Classifier{Config: model.NewClassifierConfig(shape[2], r.Widths, training.Attributes()), Data: training, Test: test}
	c.Config.InChannels = shape[0]
	var known bool
	if c.Augment, known = augmentations[r.Augment]; !known {
		return c, fmt.Errorf(`augment is %q, want "guide", "judge" or nothing`, r.Augment)
	}
	return c, c.Config.Validate()
}
