package studio

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/model/builtin"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sampler"
)

// Names of a diffusers folder's small files.
const (
	configFile     = "config.json"
	attributesFile = "attributes.json"
	schedulerFile  = "scheduler_config.json"
)

// component is a network of a folder.
type component struct {
	Name       string `json:"name"` // its subfolder; empty where it is all there is
	Class      string `json:"class"`
	Parameters int    `json:"parameters"`
	Bytes      int64  `json:"bytes"` // of its files
}

// description is what a folder's small files tell.
type description struct {
	modelInfo
	unet        *model.UNet2DConfig          // of a model of pixels
	condition   *model.UNet2DConditionConfig // of a model of latents, and what they decode with
	autoencoder model.Autoencoder
}

// describe reads the small files of a folder: a pipeline, a denoiser, or what
// helps one.
func describe(files fs.FS) (*description, error) {
	d := &description{modelInfo: modelInfo{Attributes: model.Attributes{}, Guide: model.Attributes{}, Judge: model.Attributes{}}}
	_, rootErr := fs.Stat(files, configFile)
	if model.IsPipeline(files) {
		class, err := model.PipelineClass(files)
		if err != nil {
			return nil, err
		}
		if class != "DDPMPipeline" && class != "DDIMPipeline" { // which are their network
			d.Class = class
			return d, d.describePipeline(files)
		}
	}
	if rootErr != nil {
		return d, d.describeUNet(files, "unet")
	}
	text, err := fs.ReadFile(files, configFile)
	if err != nil {
		return nil, err
	}
	var config struct {
		Class         string   `json:"_class_name"`
		Architectures []string `json:"architectures"`
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("%s: %w", configFile, err)
	}
	switch {
	case len(config.Architectures) == 1 && config.Architectures[0] == "CLIPModel":
		d.Class = "CLIPModel"
		return d, d.describeCLIP(text)
	case strings.HasPrefix(config.Class, "Autoencoder"):
		d.Class = config.Class
		return d, d.describeAutoencoder(text, "")
	}
	return d, d.describeUNet(files, ".")
}

// add counts a network in.
func (d *description) add(name, class string, params []model.Param) {
	c := component{Name: name, Class: class, Parameters: model.ParamCount(params)}
	d.Components, d.Parameters = append(d.Components, c), d.Parameters+c.Parameters
}

// weigh counts a file of the folder in.
func (d *description) weigh(file string, size int64) {
	d.Bytes += size
	for i, c := range d.Components {
		if c.Name == "" || strings.HasPrefix(file, c.Name+"/") {
			d.Components[i].Bytes += size
		}
	}
}

func (d *description) describeUNet(files fs.FS, dir string) error {
	text, err := fs.ReadFile(files, path.Join(dir, configFile))
	if err != nil {
		return fmt.Errorf("%s is missing; choose the folder of a diffusers pipeline or UNet2DModel, of a CLIPModel or of an autoencoder", configFile)
	}
	config, err := model.ParseUNet2DConfig(text)
	if err != nil {
		return err
	}
	params, err := config.Params()
	if err != nil {
		return fmt.Errorf("%s: %w", configFile, err)
	}
	shape := config.SampleShape(1)
	d.Class, d.Draws, d.unet = "UNet2DModel", true, &config
	d.Channels, d.Height, d.Width = shape[1], shape[2], shape[3]
	d.add("", d.Class, params)
	if text, err := fs.ReadFile(files, path.Join(dir, attributesFile)); err == nil {
		if d.Attributes, err = model.ParseAttributes(text); err != nil {
			return fmt.Errorf("%s: %w", attributesFile, err)
		}
	}
	if d.Guide, err = reads(builtin.Guides, shape); err == nil {
		d.Judge, err = reads(builtin.Judges, shape)
	}
	return err
}

func (d *description) describePipeline(files fs.FS) error {
	read := func(name string) ([]byte, error) {
		text, err := fs.ReadFile(files, name+"/"+configFile)
		if err != nil {
			return nil, fmt.Errorf("%s/%s is missing; fetch the whole folder of the pipeline", name, configFile)
		}
		return text, nil
	}
	text, err := read("unet")
	if err != nil {
		return err
	}
	unet, err := model.ParseUNet2DConditionConfig(text)
	if err != nil {
		return fmt.Errorf("unet/%s: %w", configFile, err)
	}
	params, err := unet.Params()
	if err != nil {
		return fmt.Errorf("unet: %w", err)
	}
	d.add("unet", "UNet2DConditionModel", params)
	if text, err = read("vae"); err != nil {
		return err
	}
	if err := d.describeAutoencoder(text, "vae"); err != nil {
		return err
	}
	if text, err = read("text_encoder"); err != nil {
		return err
	}
	encoder, err := model.ParseCLIPTextConfig(text)
	if err != nil {
		return fmt.Errorf("text_encoder/%s: %w", configFile, err)
	}
	if params, err = encoder.Params(); err != nil {
		return fmt.Errorf("text_encoder: %w", err)
	}
	d.add("text_encoder", "CLIPTextModel", params)
	unet.Tokens = encoder.MaxPositionEmbeddings
	shape, err := d.autoencoder.ImageShape(unet.SampleShape(1))
	if err != nil {
		return err
	}
	d.Draws, d.Text, d.condition = true, true, &unet
	d.Channels, d.Height, d.Width = shape[1], shape[2], shape[3]
	return nil
}

func (d *description) describeAutoencoder(text []byte, name string) error {
	a, err := model.ParseAutoencoderConfig(text)
	if err != nil {
		return fmt.Errorf("%s: %w", path.Join(name, configFile), err)
	}
	params, err := a.Params()
	if err != nil {
		return fmt.Errorf("%s: %w", path.Join(name, configFile), err)
	}
	class := "AutoencoderKL"
	if _, tiny := a.(model.AutoencoderTinyConfig); tiny {
		class = "AutoencoderTiny"
	}
	d.autoencoder = a
	d.add(name, class, params)
	return nil
}

func (d *description) describeCLIP(text []byte) error {
	words, err := model.ParseCLIPTextConfig(text)
	if err != nil {
		return fmt.Errorf("%s: %w", configFile, err)
	}
	vision, err := model.ParseCLIPVisionConfig(text)
	if err != nil {
		return fmt.Errorf("%s: %w", configFile, err)
	}
	params, err := words.Params()
	if err != nil {
		return fmt.Errorf("%s: %w", configFile, err)
	}
	more, err := vision.Params()
	if err != nil {
		return fmt.Errorf("%s: %w", configFile, err)
	}
	d.Channels, d.Height, d.Width = vision.NumChannels, vision.ImageSize, vision.ImageSize
	d.add("", d.Class, append(params, more...))
	return nil
}

// words says what it is.
func (d *description) words() string {
	switch {
	case d.Text:
		return fmt.Sprintf("a %s with %d parameters, for pictures of %dx%d pixels from a prompt", d.Class, d.Parameters, d.Width, d.Height)
	case d.Draws:
		return fmt.Sprintf("a %s with %d parameters, for pictures of %d channels and %dx%d pixels", d.Class, d.Parameters, d.Channels, d.Width, d.Height)
	case d.Class == "CLIPModel":
		return fmt.Sprintf("a CLIPModel with %d parameters, which tells how well pictures fit words", d.Parameters)
	}
	return fmt.Sprintf("an %s with %d parameters, which decodes a pipeline's latents", d.Class, d.Parameters)
}

// model is the denoiser without its weights, for plans.
func (d *description) model(files fs.FS, r *recipes.Recipe) (*engine.Model, error) {
	var scheduler json.RawMessage
	for _, name := range []string{schedulerFile, "scheduler/" + schedulerFile} {
		if text, err := fs.ReadFile(files, name); err == nil {
			scheduler = text
			break
		}
	}
	if d.unet != nil {
		return engine.NewModel(r.Model, &model.UNet2D{Config: *d.unet, Stored: model.F32, Scheduler: scheduler}, r)
	}
	if scheduler == nil {
		return nil, fmt.Errorf("scheduler/%s is missing, so the noise schedule is unknown; fetch the whole folder of the pipeline", schedulerFile)
	}
	m := &engine.Model{Name: r.Model, Denoiser: *d.condition, Stored: model.F32, Decoder: &model.AutoencoderModel{Config: d.autoencoder, Stored: model.F32}}
	if c := d.Components[0]; r.DType == "float16" || c.Bytes < 3*int64(c.Parameters) {
		m.Stored = model.F16
	}
	if c := d.Components[1]; r.DType == "float16" || c.Bytes < 3*int64(c.Parameters) {
		m.Decoder.Stored = model.F16
	}
	var err error
	if m.Scheduler, err = sampler.ParseConfig(scheduler); err != nil {
		return nil, err
	}
	return m, m.Scheduler.Validate()
}

// load reads a folder as a run would, and lets it go.
func load(files fs.FS) error {
	d, err := describe(files)
	switch {
	case err != nil:
		return err
	case d.Text:
		_, err = model.LoadPipeline(files)
	case d.Draws:
		_, err = model.LoadUNet2D(files)
	case d.Class == "CLIPModel":
		_, err = model.LoadCLIP(files)
	default:
		_, err = model.LoadAutoencoder(files, ".")
	}
	return err
}
