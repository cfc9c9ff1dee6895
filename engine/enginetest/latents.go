package enginetest

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/recipes"
)

// Latents is an example recipe over the tiny Stable Diffusion pipeline of
// model/testdata, steered by its tiny CLIP: one picture, 2 steps and 2 updates,
// and what is set on top.
type Latents struct {
	Root    string // of the repository
	Example string // a file of recipes/examples
	Set     []string
}

// Recipe reads the recipe.
func (l Latents) Recipe(t testing.TB) *recipes.Recipe {
	t.Helper()
	var overrides []recipes.Override
	for _, s := range append([]string{"model=stable-diffusion", "clip=clip", "num_images=1", "height=32", "width=32",
		"sampler.num_inference_steps=2", "updates=2", "objective.0.cutouts=2"}, l.Set...) {
		path, value, _ := strings.Cut(s, "=")
		overrides = append(overrides, recipes.Override{Path: path, Value: value, From: s})
	}
	r, err := recipes.Find(l.Example, os.DirFS(filepath.Join(l.Root, "recipes", "examples")), overrides...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Open finds the folders that the recipe names.
func (l Latents) Open(name string) (fs.FS, error) {
	dir := filepath.Join(l.Root, "model", "testdata", path.Base(name))
	if _, err := os.Stat(dir); err != nil {
		return nil, fs.ErrNotExist
	}
	return os.DirFS(dir), nil
}
