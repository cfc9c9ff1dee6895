package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// UNet2DCondition is a folder of a UNet2DConditionModel: config.json and weights,
// which are read when they are asked for.
type UNet2DCondition struct {
	Config  UNet2DConditionConfig
	Weights Source // names as the current diffusers spells them
	Stored  DType  // element type of the weights in the file

	text json.RawMessage // of config.json
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
	m := &UNet2DCondition{text: text}
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

// Save writes other weights of the network as a folder that diffusers opens in
// its place, as F32 or as F16 under diffusers' variant name; weights of the other
// type are removed. Each file is written atomically, the config last, as it was
// read.
func (m *UNet2DCondition) Save(dir string, weights Weights, dtype DType) error {
	params, err := m.Config.Params()
	if err != nil {
		return err
	}
	if err := weights.Check(params); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	name, stale := weightsFile, weightsF16File
	if dtype == F16 {
		name, stale = stale, name
	}
	if err := saveWeights(filepath.Join(dir, name), weights, dtype); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, stale)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return saveJSON(filepath.Join(dir, configFile), m.text)
}
