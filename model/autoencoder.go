package model

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"path"

	"github.com/sdo-go/sdo/graph"
)

// Autoencoder is the config of a network between pictures and latents:
// AutoencoderKLConfig or AutoencoderTinyConfig. Pictures are [N C H W] in [-1, 1];
// latents are as a denoiser takes and gives them, so the scaling that diffusers
// leaves to the pipeline is inside the graphs.
type Autoencoder interface {
	Validate() error
	// LatentShape is the shape of the latents of n pictures.
	LatentShape(n, height, width int) (graph.Shape, error)
	// ImageShape is the shape of the pictures that latents decode to.
	ImageShape(latents graph.Shape) (graph.Shape, error)
	// ScaleFactor is the number of pixels, to a side, of one latent.
	ScaleFactor() int
	// BuildDecoder maps latents to pictures, which may leave [-1, 1].
	BuildDecoder(g *graph.Graph, latents *graph.Node, o BuildOptions) *graph.Node
	// BuildEncoder maps pictures to latents.
	BuildEncoder(g *graph.Graph, images *graph.Node, o BuildOptions) *graph.Node
	DecoderParams() ([]Param, error)
	EncoderParams() ([]Param, error)
	// Params lists the state dict: the encoder's parameters, then the decoder's.
	Params() ([]Param, error)
}

// AutoencoderModel is an autoencoder's folder: config.json and weights, which are
// read when they are asked for.
type AutoencoderModel struct {
	Config  Autoencoder
	Weights Source
	Stored  DType // element type of the weights in the file

	checkpoint *Checkpoint
}

// Close releases the files of the weights.
func (m *AutoencoderModel) Close() error { return m.checkpoint.Close() }

// LoadAutoencoder reads a folder of an AutoencoderKL or an AutoencoderTiny, or of
// TAESD's files from before it had a config. The config is judged before the
// weights are opened, every tensor's name and shape before one is read.
func LoadAutoencoder(fsys fs.FS, dir string) (*AutoencoderModel, error) {
	name := path.Join(dir, configFile)
	if !exists(fsys, name) {
		if m, err := loadTAESD(fsys, dir); m != nil || err != nil {
			return m, err
		}
	}
	text, err := readConfig(fsys, name)
	if err != nil {
		return nil, err
	}
	config, err := ParseAutoencoderConfig(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	params, err := config.Params()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	m := &AutoencoderModel{Config: config}
	if m.checkpoint, m.Weights, err = openParams(fsys, dir, weightsBase, params, modernName); err != nil {
		return nil, err
	}
	m.Stored = m.checkpoint.Stored()
	return m, nil
}

// ParseAutoencoderConfig reads a config.json of either class: unknown keys, wrong
// types and values this package cannot compute are refused by name.
func ParseAutoencoderConfig(text []byte) (Autoencoder, error) {
	var config struct {
		ClassName string `json:"_class_name"`
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, plain(err)
	}
	switch config.ClassName {
	case autoencoderKLClass:
		return ParseAutoencoderKLConfig(text)
	case autoencoderTinyClass:
		return ParseAutoencoderTinyConfig(text)
	}
	return nil, fmt.Errorf("_class_name %.100q is not supported, want %q or %q", config.ClassName, autoencoderKLClass, autoencoderTinyClass)
}

// latentShape divides a picture into latents.
func latentShape(n, height, width, channels, scale int) (graph.Shape, error) {
	if n < 1 || min(height, width) < scale || height%scale != 0 || width%scale != 0 || max(height, width) > maxSide {
		return nil, fmt.Errorf("autoencoder: %d pictures of %dx%d pixels have no latents, want a height and a width that are multiples of %d up to %d",
			n, height, width, scale, maxSide)
	}
	return graph.Shape{n, channels, height / scale, width / scale}, nil
}

func imageShape(latents graph.Shape, channels, out, scale int) (graph.Shape, error) {
	if len(latents) != 4 || latents[1] != channels {
		return nil, fmt.Errorf("autoencoder: latents of shape %v, want [N %d H W]", latents, channels)
	}
	return graph.Shape{latents[0], out, scale * latents[2], scale * latents[3]}, nil
}

// bothParams lists the parameters of both directions.
func bothParams(c Autoencoder) ([]Param, error) {
	encoder, err := c.EncoderParams()
	if err != nil {
		return nil, err
	}
	decoder, err := c.DecoderParams()
	return append(encoder, decoder...), err
}

// declaredParams lists what a builder function declares for a valid config.
func declaredParams(validate func() error, build func(b *builder)) ([]Param, error) {
	if err := validate(); err != nil {
		return nil, err
	}
	b, err := declare(build)
	if err != nil {
		return nil, err
	}
	return b.params, nil
}

// checkScale reports a factor that latents cannot be divided by.
func checkScale(key string, scale float64) error {
	if scale == 0 || !isFinite(scale) || !isFinite(1/scale) {
		return unsupported(key, scale, "a number other than 0")
	}
	return nil
}

// checkShift reports an optional number that is none.
func checkShift(key string, shift *float64) error {
	if shift != nil && !isFinite(*shift) {
		return unsupported(key, *shift, "a finite number")
	}
	return nil
}

func isFinite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
