package edge

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/model/builtin"
)

// library keeps the networks that were read last, so that a model is parsed once
// and not for every request.
type library struct {
	mu     sync.Mutex // held while a network is read, which waits for nothing
	latest []networks // the last used first
}

type networks struct {
	key   string
	plain bool // a model with the guide and the judge that come with it
	*engine.Networks
}

// mostNetworks are kept of each kind: the plain ones that nearly every run names,
// and those with an adapter or classifiers of a caller's choice, which must not
// drive the others out.
const mostNetworks = 2

// load reads what a run names, or finds it read.
func (l *library) load(a *asked) (*engine.Model, error) {
	r := a.recipe
	key, err := json.Marshal([]any{r.Model, r.LoRA, a.adapter, r.Guide, r.Judge})
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := networks{key: string(key), plain: r.LoRA == nil && r.Guide == "" && r.Judge == ""}
	if at := slices.IndexFunc(l.latest, func(o networks) bool { return o.key == n.key }); at >= 0 {
		n = l.latest[at]
		l.latest = slices.Delete(l.latest, at, at+1)
	} else if n.Networks, err = engine.LoadNetworks(r, a.open); err != nil {
		return nil, err
	}
	l.latest = slices.Insert(l.latest, 0, n)
	kept := map[bool]int{}
	l.latest = slices.DeleteFunc(l.latest, func(o networks) bool {
		kept[o.plain]++
		return kept[o.plain] > mostNetworks
	})
	return n.Model(r)
}

// weightsSum is the SHA-256 of all built-in weights: a run goes on with those it
// began with.
var weightsSum = sync.OnceValue(func() string {
	sum := sha256.New()
	for _, f := range builtin.Weights {
		folder, name := path.Split(f.Name)
		files, err := builtin.Open(path.Clean(folder))
		if err == nil {
			var data []byte
			data, err = fs.ReadFile(files, name)
			sum.Write(data)
		}
		if err != nil {
			panic("edge: " + err.Error()) // they are in the program, or beside it
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
})

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
