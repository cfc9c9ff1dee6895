// Package builtin holds the trained networks that come with the binary, each a
// folder that diffusers (or, for the classifiers, package model) could read
// from disk just as well. The recipe and the log that made each lie beside its
// weights; `sdo train NAME` makes it again.
package builtin

import (
	"fmt"
	"io/fs"
	"strings"
)

// The classifiers that steer and judge where a recipe names no others: of each
// list, the first that reads pictures of the model's shape. A guide and its
// judge were trained from different seeds, with different widths, on
// differently augmented pictures, and where those are limited on different
// ones; only the guide is ever differentiated.
var (
	Guides = []string{"avatars-16-guide", "fashion-28-guide"}
	Judges = []string{"avatars-16-judge", "fashion-28-judge"}
)

// Weights are the files that hold the networks' numbers: embedded natively,
// fetched where a page or a worker has them beside the module.
var Weights = []string{
	"avatars-16-guide/model.safetensors",
	"avatars-16-judge/model.safetensors",
	"avatars-16-s/attribute_embedder.safetensors",
	"avatars-16-s/diffusion_pytorch_model.fp16.safetensors",
	"fashion-28/attribute_embedder.safetensors",
	"fashion-28/diffusion_pytorch_model.fp16.safetensors",
	"fashion-28-guide/model.safetensors",
	"fashion-28-judge/model.safetensors",
}

// Open returns an embedded folder, or an error that is fs.ErrNotExist.
func Open(name string) (fs.FS, error) {
	if strings.ContainsAny(name, `/\.`) {
		return nil, fmt.Errorf("built-in model %q: %w", name, fs.ErrNotExist)
	}
	if _, err := fs.Stat(folders, name); err != nil {
		return nil, fmt.Errorf("built-in model %q: %w", name, fs.ErrNotExist)
	}
	return fs.Sub(folders, name)
}

// Names lists the embedded folders, separated by commas.
func Names() string {
	entries, err := folders.ReadDir(".")
	if err != nil {
		panic("builtin: " + err.Error()) // the folder is embedded
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return strings.Join(names, ", ")
}
