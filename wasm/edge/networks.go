package edge

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/sdo-go/sdo/engine"
)

// library keeps the networks that were read last, so that a model is parsed once
// and not for every request.
type library struct {
	mu     sync.Mutex // held while a network is read, which waits for nothing
	latest []networks // at most mostNetworks, the last used first
}

type networks struct {
	key string
	*engine.Networks
}

// mostNetworks are kept: the models of the library, and adapted ones.
const mostNetworks = 4

// load reads what a run names, or finds it read.
func (l *library) load(a *asked) (*engine.Model, error) {
	r := a.recipe
	key, err := json.Marshal([]any{r.Model, r.LoRA, a.adapter, r.Guide, r.Judge})
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	at := slices.IndexFunc(l.latest, func(n networks) bool { return n.key == string(key) })
	var n networks
	if at >= 0 {
		n = l.latest[at]
		l.latest = slices.Delete(l.latest, at, at+1)
	} else if n.Networks, err = engine.LoadNetworks(r, a.open); err != nil {
		return nil, err
	}
	n.key = string(key)
	l.latest = slices.Insert(l.latest[:min(len(l.latest), mostNetworks-1)], 0, n)
	return n.Model(r)
}

// open finds the folders that a recipe names: those of the built-in networks,
// and that of its adapter, whose file is at hand.
func (a *asked) open(name string) (fs.FS, error) {
	if a.lora != nil && name == path.Dir(a.recipe.LoRA.Path) {
		return file{path.Base(a.recipe.LoRA.Path), bytes.NewReader(a.lora)}, nil
	}
	return engine.OpenBuiltin(name)
}

// file is a folder with one file in memory, and that file.
type file struct {
	name string
	*bytes.Reader
}

// Open opens the file anew.
func (f file) Open(name string) (fs.File, error) {
	if name != f.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	f.Reader.Seek(0, 0)
	return f, nil
}

func (f file) Stat() (fs.FileInfo, error) { return f, nil }
func (f file) Close() error               { return nil }

func (f file) Name() string       { return f.name }
func (f file) Mode() fs.FileMode  { return 0o444 }
func (f file) ModTime() time.Time { return time.Time{} }
func (f file) IsDir() bool        { return false }
func (f file) Sys() any           { return nil }
