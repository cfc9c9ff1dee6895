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

// Denoisers are the models that make pictures; the other networks are their guides
// and judges.
var Denoisers = []string{"avatars-16-s", "fashion-28"}

// The classifiers that steer and judge where a recipe names no others: of each
// list, the first that reads pictures of the model's shape. A guide and its
// judge were trained from different seeds, with different widths, on
// differently augmented pictures, and where those are limited on different
// ones; only the guide is ever differentiated.
var (
	Guides = []string{"avatars-16-guide", "fashion-28-guide"}
	Judges = []string{"avatars-16-judge", "fashion-28-judge"}
)

// File is a file of weights.
type File struct {
	Name  string // "avatars-16-s/attribute_embedder.safetensors"
	Bytes int64
}

// Weights are the files that hold the networks' numbers: embedded natively,
// fetched where a page or a worker has them beside the module.
var Weights = []File{
	{"avatars-16-guide/model.safetensors", 193442},
	{"avatars-16-judge/model.safetensors", 172362},
	{"avatars-16-s/attribute_embedder.safetensors", 13656},
	{"avatars-16-s/diffusion_pytorch_model.fp16.safetensors", 807310},
	{"fashion-28/attribute_embedder.safetensors", 2224},
	{"fashion-28/diffusion_pytorch_model.fp16.safetensors", 1273090},
	{"fashion-28-guide/model.safetensors", 152244},
	{"fashion-28-judge/model.safetensors", 137636},
}

// Bytes is the size of an embedded network's weights.
func Bytes(name string) (total int64) {
	for _, f := range Weights {
		if strings.HasPrefix(f.Name, name+"/") {
			total += f.Bytes
		}
	}
	return total
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
