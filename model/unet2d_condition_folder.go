package model

import (
	"fmt"
	"io/fs"
	"path"
)

// UNet2DCondition is a folder of a UNet2DConditionModel: config.json and weights,
// which are read when they are asked for.
type UNet2DCondition struct {
	Config  UNet2DConditionConfig
	Weights Source // names as the current diffusers spells them
	Stored  DType  // element type of the weights in the file
}

// LoadUNet2DCondition reads a folder, such as unet/ of a Stable Diffusion
// pipeline. The config is judged before the weights are opened, and every
// tensor's name and shape before one is read.
func LoadUNet2DCondition(fsys fs.FS, dir string) (*UNet2DCondition, error) {
	name := path.Join(dir, configFile)
	text, err := readConfig(fsys, name)
	if err != nil {
		return nil, err
	}
	m := &UNet2DCondition{}
	if m.Config, err = ParseUNet2DConditionConfig(text); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	params, err := m.Config.Params()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	weights, err := OpenWeights(fsys, dir, weightsBase)
	if err != nil {
		return nil, err
	}
	if m.Weights, err = loadParams(weights, params, modernName); err != nil {
		return nil, err
	}
	m.Stored = weights.Stored()
	return m, nil
}
