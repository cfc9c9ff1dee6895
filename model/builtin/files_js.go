package builtin

import (
	"bytes"
	"embed"
	"io/fs"
	"path"
	"slices"
	"time"
)

// In a browser or an edge worker weights are files of their own, so that a page
// loads those it uses, beside the module and not inside it.

//go:embed */*.json
var descriptions embed.FS

// Fetch reads a file of weights, "avatars-16-s/attribute_embedder.safetensors".
// Whoever starts the module sets it; what it returns is kept. Its errors name the
// file.
var Fetch func(name string) ([]byte, error)

var folders fs.ReadDirFS = remote{}

// weights are the files fetched so far.
var weights = map[string][]byte{}

// remote is the embedded descriptions, with weights that are fetched when they
// are opened.
type remote struct{}

func (remote) ReadDir(name string) ([]fs.DirEntry, error) { return descriptions.ReadDir(name) }

func (remote) Open(name string) (fs.File, error) {
	if path.Ext(name) != ".safetensors" {
		return descriptions.Open(name)
	}
	if Fetch == nil || !slices.ContainsFunc(Weights, func(f File) bool { return f.Name == name }) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	data, ok := weights[name]
	if !ok {
		var err error
		if data, err = Fetch(name); err != nil {
			return nil, err // it names the file
		}
		weights[name] = data
	}
	return &opened{bytes.NewReader(data), path.Base(name)}, nil
}

// opened is a fetched file.
type opened struct {
	*bytes.Reader
	name string
}

func (f *opened) Stat() (fs.FileInfo, error) { return f, nil }
func (f *opened) Close() error               { return nil }

func (f *opened) Name() string       { return f.name }
func (f *opened) Size() int64        { return f.Reader.Size() }
func (f *opened) Mode() fs.FileMode  { return 0o444 }
func (f *opened) ModTime() time.Time { return time.Time{} }
func (f *opened) IsDir() bool        { return false }
func (f *opened) Sys() any           { return nil }
