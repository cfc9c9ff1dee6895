// Package recipes is the one declarative description of a run: what to sample,
// what to steer it towards and how. The command line, the page and the worker
// all read the same files.
//
// It knows the words of a recipe and checks them; it does not know any model.
// What a term means as numbers is package engine's business, and everything
// that depends on a model (its attributes, its picture size) is checked there
// through CheckAttributes and CheckPictures.
package recipes

import (
	"encoding/json"
	"fmt"
)

// Version is the recipe version this build reads and writes.
const Version = 1

// Limits of a recipe. They are the same for every model and every place a
// recipe runs, so that a recipe accepted by one is accepted by all.
const (
	MaxSteps   = 1000
	MaxImages  = 256
	MaxUpdates = 10000
	MaxSide    = 4096 // pixels of a picture
	MaxPrompt  = 2000 // bytes, of which a text encoder reads the first 77 tokens
	MaxCutouts = 64
	MaxLayer   = 100       // of a vision tower
	MaxSeed    = 1<<53 - 1 // the largest whole number JSON carries exactly
)

// The words a recipe may use.
var (
	Terms       = []string{"attribute", "region_color", "pixels", "inpaint", "symmetry", "total_variation", "clip_similarity", "clip_style", "aesthetic"}
	Freezes     = []string{"eps", "v", "x0", "solver"}
	Actives     = []string{"none", "first", "last", "all", "uniform", "importance", "cycle"} // or a whole number
	Samplers    = []string{"ddim", "ddpm", "euler", "heun", "dpmpp-2m", "lcm", "flow-euler", "unipc"}
	OnKarras    = []string{"euler", "heun", "dpmpp-2m", "unipc"} // samplers that can walk Karras' noise levels
	Spacings    = []string{"leading", "linspace", "trailing"}
	Optimizers  = []string{"adam", "adamw", "sgd"}
	Variables   = []string{"latents", "noises", "condition", "guidance_scale", "parameters"}
	LatentNorms = []string{"project", "penalty", "none"}
	Whitenesses = []string{"project", "none"}
	DTypes      = []string{"auto", "float16"}
	Sides       = []string{"left", "right", "top", "bottom"}
	Spaces      = []string{"pixels", "latents"}
)

// Recipe is one run. Parse fills in every default but what the method decides
// for itself, so a recipe that came from Parse is complete and its MarshalYAML
// form repeats the run on its own.
type Recipe struct {
	Version     int    `yaml:"version" json:"version"`
	Name        string `yaml:"name" json:"name"`
	Description string `yaml:"description,omitempty" json:"description,omitempty"`

	Model     string   `yaml:"model" json:"model"`                             // built-in name or diffusers folder
	Decoder   string   `yaml:"decoder,omitempty" json:"decoder,omitempty"`     // folder of an autoencoder instead of the pipeline's own; empty: its own
	DType     string   `yaml:"dtype,omitempty" json:"dtype,omitempty"`         // of DTypes, that weights are held in; empty: auto, as in their files
	LoRA      *Adapter `yaml:"lora,omitempty" json:"lora,omitempty"`           // merged into the model before anything else; nil: none
	Guide     string   `yaml:"guide,omitempty" json:"guide,omitempty"`         // classifier that attribute terms differentiate; empty: the model's own
	Judge     string   `yaml:"judge,omitempty" json:"judge,omitempty"`         // classifier that only reports; empty: the model's own
	CLIP      string   `yaml:"clip,omitempty" json:"clip,omitempty"`           // folder of a CLIPModel, which clip_similarity, clip_style and aesthetic terms look with
	Aesthetic string   `yaml:"aesthetic,omitempty" json:"aesthetic,omitempty"` // file of a linear head on CLIP's image embedding

	Seed           uint64            `yaml:"seed" json:"seed"` // image i starts from stream i of this seed
	NumImages      int               `yaml:"num_images" json:"num_images"`
	Height         int               `yaml:"height,omitempty" json:"height,omitempty"` // pixels; 0: the model's own
	Width          int               `yaml:"width,omitempty" json:"width,omitempty"`
	Sampler        Sampler           `yaml:"sampler" json:"sampler"`
	GuidanceScale  float64           `yaml:"guidance_scale" json:"guidance_scale"` // 1 asks the network once a step
	Condition      map[string]string `yaml:"condition,omitempty" json:"condition,omitempty"`
	Prompt         string            `yaml:"prompt,omitempty" json:"prompt,omitempty"`                   // of a model that takes text; empty is a prompt, too
	NegativePrompt string            `yaml:"negative_prompt,omitempty" json:"negative_prompt,omitempty"` // what guidance leads away from

	Start     *Start              `yaml:"start,omitempty" json:"start,omitempty"` // nil: from noise
	Variables map[string]Variable `yaml:"variables" json:"variables"`             // what changes, by name
	Objective []Term              `yaml:"objective" json:"objective"`
	Method    Method              `yaml:"method" json:"method"`
	Optimizer Optimizer           `yaml:"optimizer" json:"optimizer"` // of every variable that does not say otherwise
	Updates   int                 `yaml:"updates" json:"updates"`
	Guards    Guards              `yaml:"guards" json:"guards"`
	Tune      *Tune               `yaml:"tune,omitempty" json:"tune,omitempty"` // nil where no parameters change and the recipe says nothing

	source *value // where things were written, for errors found later
}

// Adapter is a trained LoRA: PEFT's folder, or a safetensors file.
type Adapter struct {
	Path  string  `yaml:"path" json:"path"`
	Scale float64 `yaml:"scale" json:"scale"` // of what it adds; 1 as it was trained
}

// Sampler names the solver and its grid.
type Sampler struct {
	Name              string  `yaml:"name" json:"name"`
	NumInferenceSteps int     `yaml:"num_inference_steps" json:"num_inference_steps"`
	TimestepSpacing   string  `yaml:"timestep_spacing" json:"timestep_spacing"`
	Eta               float64 `yaml:"eta" json:"eta"`                             // ddim's share of fresh noise, 0 to 1
	UseKarrasSigmas   bool    `yaml:"use_karras_sigmas" json:"use_karras_sigmas"` // noise levels of the samplers OnKarras
}

// Guards keep a run where the model was trained and its pictures near what they
// were.
type Guards struct {
	LatentNorm string    `yaml:"latent_norm" json:"latent_norm"` // project: onto the sphere of radius sqrt(d) after every update
	Whiteness  string    `yaml:"whiteness" json:"whiteness"`     // project: the latent's spectrum back to that of white noise (arXiv 2602.08646)
	DriftLimit float64   `yaml:"drift_limit" json:"drift_limit"` // root mean square change allowed, of a sample in steering, of held-out pictures in tuning; 0: any
	EarlyStop  EarlyStop `yaml:"early_stop" json:"early_stop"`
}

// EarlyStop says who decides that a picture is good enough to be left alone.
// It is written as false, true or a word.
type EarlyStop string

const (
	StopNever     EarlyStop = ""          // false
	StopObjective EarlyStop = "objective" // true: its terms are at or below stop_below
	StopJudge     EarlyStop = "judge"     // the judge says yes
)

func (e EarlyStop) plain() any {
	if e == StopJudge {
		return string(e)
	}
	return e == StopObjective
}

// MarshalJSON writes false, true or "judge".
func (e EarlyStop) MarshalJSON() ([]byte, error) { return json.Marshal(e.plain()) }

// MarshalYAML writes false, true or judge.
func (e EarlyStop) MarshalYAML() (any, error) { return e.plain(), nil }

// UnmarshalJSON reads what MarshalJSON writes.
func (e *EarlyStop) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case "false":
		*e = StopNever
	case "true":
		*e = StopObjective
	default:
		return json.Unmarshal(data, (*string)(e))
	}
	return nil
}

// Start begins a run from a picture instead of noise: DDIM inversion takes back
// Strength of the sampler's steps, and the run goes forward from there.
type Start struct {
	Source
	Strength float64 // above 0, at most 1
}

// plain holds the keys of the source and the strength.
func (s Start) plain() any {
	if s.Image != "" {
		return struct {
			Image    string  `yaml:"image" json:"image"`
			Strength float64 `yaml:"strength" json:"strength"`
		}{s.Image, s.Strength}
	}
	return struct {
		Seed     uint64  `yaml:"seed" json:"seed"`
		Index    int     `yaml:"index" json:"index"`
		Strength float64 `yaml:"strength" json:"strength"`
	}{s.Seed, s.Index, s.Strength}
}

// MarshalJSON writes an avatar or an image, and the strength.
func (s Start) MarshalJSON() ([]byte, error) { return json.Marshal(s.plain()) }

// MarshalYAML writes an avatar or an image, and the strength.
func (s Start) MarshalYAML() (any, error) { return s.plain(), nil }

// Tune says how network parameters are trained, beside what every recipe says.
// Only `sdo tune` reads it.
type Tune struct {
	BatchSize       int     `yaml:"batch_size" json:"batch_size"`             // fresh latents of a micro-batch
	Accumulate      int     `yaml:"accumulate" json:"accumulate"`             // micro-batches of an update
	Keep            float64 `yaml:"keep" json:"keep"`                         // weight of a sample's mean squared change from the untuned model's; 0: none
	EMADecay        float64 `yaml:"ema_decay" json:"ema_decay"`               // of the running average of the parameters; 0: none
	EvalEvery       int     `yaml:"eval_every" json:"eval_every"`             // updates from one look at held-out latents to the next
	EvalImages      int     `yaml:"eval_images" json:"eval_images"`           // held-out latents looked at
	CheckpointEvery int     `yaml:"checkpoint_every" json:"checkpoint_every"` // updates from one checkpoint to the next
}

// Term is one part of the objective. Term names its kind; the kind decides
// which of the other fields it may and must have.
type Term struct {
	Term      string   `yaml:"term" json:"term"`
	Weight    float64  `yaml:"weight" json:"weight"`
	StopBelow *float64 `yaml:"stop_below,omitempty" json:"stop_below,omitempty"` // unweighted loss at which this term is satisfied

	// attribute: the guide should see Value, ahead of every other value of the
	// attribute by at least Margin in log-odds, on average over Copies of the
	// picture with Gaussian noise of standard deviation Noise. A gradient that
	// must convince it through noise changes what a person sees, not a few
	// pixels that only the guide notices.
	Attribute string   `yaml:"attribute,omitempty" json:"attribute,omitempty"`
	Value     string   `yaml:"value,omitempty" json:"value,omitempty"`
	Margin    float64  `yaml:"margin,omitempty" json:"margin,omitempty"`
	Copies    int      `yaml:"copies,omitempty" json:"copies,omitempty"`
	Noise     *float64 `yaml:"noise,omitempty" json:"noise,omitempty"` // 0 is not the default, so it must be told from nothing

	// region_color: the mean colour of Region should be Color.
	Region *Rect `yaml:"region,flow,omitempty" json:"region,omitempty"`
	Color  Color `yaml:"color,omitempty" json:"color,omitempty"`

	// pixels: match a picture, drawn inline with Rows and Palette or read from
	// Image. Palette colour Free, or alpha 0, or black in Mask, compares
	// nothing.
	Rows    []string         `yaml:"rows,omitempty" json:"rows,omitempty"`
	Palette map[string]Color `yaml:"palette,omitempty" json:"palette,omitempty"`
	Image   string           `yaml:"image,omitempty" json:"image,omitempty"`
	Mask    string           `yaml:"mask,omitempty" json:"mask,omitempty"`

	// inpaint: agree with Source everywhere but under Hidden.
	Source *Source `yaml:"source,omitempty" json:"source,omitempty"`
	Hidden *Hidden `yaml:"hidden,omitempty" json:"hidden,omitempty"`

	// symmetry: be one's own mirror image; horizontal swaps left and right.
	Axis string `yaml:"axis,omitempty" json:"axis,omitempty"`

	// pixels, inpaint, symmetry, total_variation: where a latent model is
	// compared, its latents or, where this is empty, the pictures they decode to.
	Space string `yaml:"space,omitempty" json:"space,omitempty"`

	// clip_similarity: CLIP should see what Prompt says, on average over Cutouts
	// of the picture with Gaussian noise of standard deviation Noise.
	Prompt  string `yaml:"prompt,omitempty" json:"prompt,omitempty"`
	Cutouts int    `yaml:"cutouts,omitempty" json:"cutouts,omitempty"`

	// clip_style: have the Gram matrix of Image after CLIP's vision block Layer,
	// counted from 1.
	Layer int `yaml:"layer,omitempty" json:"layer,omitempty"`

	// aesthetic: be scored Score or more by the linear head.
	Score float64 `yaml:"target,omitempty" json:"target,omitempty"`
}

// Source is a picture, which an inpaint term restores or a run begins from:
// avatar Index of the training generator under Seed, or the file Image.
type Source struct {
	Seed  uint64
	Index int
	Image string
}

// plain holds the keys of the kind of source it is: both kinds at once, or
// neither, would not read back.
func (s Source) plain() any {
	if s.Image != "" {
		return struct {
			Image string `yaml:"image" json:"image"`
		}{s.Image}
	}
	return struct {
		Seed  uint64 `yaml:"seed" json:"seed"`
		Index int    `yaml:"index" json:"index"`
	}{s.Seed, s.Index}
}

// MarshalJSON writes an avatar or an image.
func (s Source) MarshalJSON() ([]byte, error) { return json.Marshal(s.plain()) }

// MarshalYAML writes an avatar or an image.
func (s Source) MarshalYAML() (any, error) { return s.plain(), nil }

// Vocabulary is the attributes a network knows: their names, and for each what
// it may be.
type Vocabulary struct {
	Names  []string
	Values func(name string) []string
}

// Told tells whether the recipe says what to draw, by attributes or in words.
func (r *Recipe) Told() bool {
	return len(r.Condition) > 0 || r.Prompt != "" || r.NegativePrompt != ""
}

// Looks tells which of the networks that read pictures the objective asks for.
func (r *Recipe) Looks() (clip, aesthetic bool) {
	for _, t := range r.Objective {
		aesthetic = aesthetic || t.Term == "aesthetic"
		clip = clip || t.Term == "clip_similarity" || t.Term == "clip_style"
	}
	return clip || aesthetic, aesthetic
}

// CheckAttributes holds the recipe's condition against the attributes the model
// was trained on, and its attribute terms against the guide's.
func (r *Recipe) CheckAttributes(model, guide Vocabulary) error {
	var c reader
	root := c.section(r.source, "")
	check := func(s *section, nameKey, valueKey, name, value string, known Vocabulary) {
		if !contains(known.Names, name) {
			c.add(s.at(nameKey), s.path(nameKey), "one of "+list(known.Names), quote(name), nearest(name, known.Names))
		} else if allowed := known.Values(name); !contains(allowed, value) {
			c.add(s.at(valueKey), s.path(valueKey), "one of "+list(allowed), quote(value), nearest(value, allowed))
		}
	}
	condition := root.child("condition")
	for _, name := range sortedKeys(r.Condition) {
		check(condition, name, name, name, r.Condition[name], model)
	}
	for i, t := range r.Objective {
		if t.Term == "attribute" {
			check(root.child("objective").child(fmt.Sprint(i)), "attribute", "value", t.Attribute, t.Value, guide)
		}
	}
	return c.err()
}

// Clone returns an independent copy.
func (r *Recipe) Clone() *Recipe {
	data, err := json.Marshal(r)
	if err != nil {
		panic("recipe: " + err.Error()) // every field is plain data
	}
	c := &Recipe{source: r.source}
	if err := json.Unmarshal(data, c); err != nil {
		panic("recipe: " + err.Error())
	}
	return c
}

// Validate checks a recipe built in Go by the rules of Parse.
func (r *Recipe) Validate() error {
	plain := *r
	if plain.Objective == nil {
		plain.Objective = []Term{} // none, which JSON would write as null
	}
	data, err := json.Marshal(&plain)
	if err != nil {
		return fmt.Errorf("recipe %q: %w", r.Name, err) // NaN and infinity are not JSON
	}
	_, err = Parse(data, "recipe "+quote(r.Name))
	return err
}

// Sampling is the recipe without what steers it or trains its network.
func (r *Recipe) Sampling() *Recipe {
	c, d := r.Clone(), Defaults()
	c.Objective, c.Updates, c.Tune = []Term{}, 0, nil // none, which JSON would write as null
	c.Variables, c.Method, c.Guards = d.Variables, d.Method, d.Guards
	return c
}
