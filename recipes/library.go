package recipes

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed *.yaml
var library embed.FS

// tunings are the embedded recipes that change the network itself.
var tunings = []string{"blue-palette", "everyone-wears-glasses"}

// Tunings returns the names of the embedded recipes for `sdo tune`, in
// alphabetical order.
func Tunings() []string { return slices.Clone(tunings) }

// List returns the names of the embedded recipes for `sdo steer`, in
// alphabetical order.
func List() []string {
	files, err := fs.Glob(library, "*.yaml")
	if err != nil {
		panic("recipes: " + err.Error()) // the pattern is a constant
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(f, ".yaml")
	}
	return slices.DeleteFunc(files, func(name string) bool { return contains(tunings, name) })
}

// Text returns the text of an embedded recipe.
func Text(name string) ([]byte, error) { return library.ReadFile(name + ".yaml") }

// Find reads an embedded recipe by name, or else the file of that name in
// files; files may be nil where there are none. Pictures that a recipe file
// names lie beside it: Find makes their paths relative to files.
func Find(name string, files fs.FS, overrides ...Override) (*Recipe, error) {
	if data, err := Text(name); err == nil {
		return Parse(data, name+".yaml", overrides...)
	}
	all := append(List(), tunings...)
	unknown := fmt.Errorf("recipe %s: not found; the built-in recipes are %s", cut(cmp.Or(name, `""`), 80), list(all))
	if hint := nearest(name, all); hint != "" {
		unknown = fmt.Errorf("recipe %s: not found; %s", name, hint)
	}
	if files == nil {
		return nil, unknown
	}
	data, err := read(files, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return nil, unknown
	}
	if err != nil {
		return nil, err
	}
	r, err := Parse(data, name, overrides...)
	if err != nil {
		return nil, err
	}
	beside := func(p *string) {
		if *p != "" && !path.IsAbs(*p) {
			*p = path.Join(path.Dir(name), *p)
		}
	}
	if r.Start != nil {
		beside(&r.Start.Image)
	}
	for i := range r.Objective {
		t := &r.Objective[i]
		beside(&t.Image)
		beside(&t.Mask)
		if t.Source != nil {
			beside(&t.Source.Image)
		}
	}
	return r, nil
}

// read reads a recipe's file, of which a pipe is as good as any, and no more of it
// than a recipe may have.
func read(files fs.FS, name string) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, fmt.Errorf("recipe %s: %w", name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("recipe %s: %w", name, err)
	}
	if info.IsDir() {
		return nil, fmt.Errorf("recipe %s: is a folder; give a YAML or JSON file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("recipe %s: %w", name, err)
	}
	if size := max(len(data), int(info.Size())); size > maxBytes {
		return nil, tooLong(name, size)
	}
	return data, nil
}
