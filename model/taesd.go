package model

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// TAESD was first released without a config, as a file for each direction that
// holds a sequence of layers (github.com/madebyollin/taesd, taesd.py). AutoencoderTiny
// has the same layers, but for the decoder's first, which has no parameters: it
// squeezes the latents.
var taesdSides = []struct {
	name   string // of the file, without its ending, and of AutoencoderTiny's side
	before int    // layers that AutoencoderTiny does not count
}{{"encoder", 0}, {"decoder", 1}}

// taesdFiles are the names that a direction's file can have.
func taesdFiles(side string) []string {
	return []string{"taesd_" + side + ".safetensors", "taesd_" + side + ".pth"}
}

// loadTAESD reads a folder with TAESD's files as they were first released; nil
// where there is neither.
func loadTAESD(fsys fs.FS, dir string) (*AutoencoderModel, error) {
	c := &Checkpoint{parts: map[string]Source{}}
	found, missing := 0, ""
	for _, side := range taesdSides {
		file := ""
		for _, name := range taesdFiles(side.name) {
			if name = path.Join(dir, name); file == "" && exists(fsys, name) {
				file = name
			}
		}
		if file == "" {
			missing = path.Join(dir, taesdFiles(side.name)[1])
			continue
		}
		found++
		part, err := c.open(fsys, file)
		if err != nil {
			c.Close()
			return nil, err
		}
		layers := &renamed{Source: part, names: map[string]string{}}
		for _, tensor := range part.Names() {
			name := taesdName(side.name, side.before, tensor)
			layers.names[name] = tensor
			c.parts[name] = layers
		}
		c.File = file
	}
	if found == 0 {
		return nil, nil
	}
	if missing != "" {
		c.Close()
		return nil, fmt.Errorf("%s: the file is missing, the other half of %s; fetch it, too", missing, c.File)
	}
	config := DefaultAutoencoderTinyConfig()
	params, err := config.Params()
	m := &AutoencoderModel{Config: config, checkpoint: c, Stored: c.Stored()}
	if err == nil {
		m.Weights, err = loadParams(c, params, nil)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return m, nil
}

// taesdName is AutoencoderTiny's name of a tensor; of none of a layer's, one that
// it does not have.
func taesdName(side string, before int, tensor string) string {
	layer, rest, _ := strings.Cut(tensor, ".")
	if n, err := strconv.Atoi(layer); err == nil && n >= before && strconv.Itoa(n) == layer {
		return fmt.Sprintf("%s.layers.%d.%s", side, n-before, rest)
	}
	return side + "." + tensor
}
