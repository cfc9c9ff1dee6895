package studio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/model/builtin"
	"github.com/sdo-go/sdo/recipes"
)

// Folders of the store.
const (
	modelFolder = "models/"
	loraFolder  = "loras/"
	incoming    = "incoming/" // of adapters that nobody has looked into
)

// modelInfo describes a folder by its small files.
type modelInfo struct {
	Name       string           `json:"name"`
	Yours      bool             `json:"yours"`
	Class      string           `json:"class"`
	Draws      bool             `json:"draws"` // it makes pictures; what does not helps one that does
	Text       bool             `json:"text"`  // it takes a prompt
	Components []component      `json:"components"`
	Parameters int              `json:"parameters"`
	Bytes      int64            `json:"bytes"`
	Channels   int              `json:"channels"` // of its pictures
	Width      int              `json:"width"`
	Height     int              `json:"height"`
	Attributes model.Attributes `json:"attributes"`
	Guide      model.Attributes `json:"guide"`
	Judge      model.Attributes `json:"judge"`
}

// models describes every model there is.
func (s *Server) models() (all []modelInfo, err error) {
	names := slices.Clone(builtin.Denoisers)
	files, err := s.host.List(modelFolder)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		name, _, _ := strings.Cut(f.Path[len(modelFolder):], "/")
		if names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	for _, name := range names {
		info, err := s.info(name)
		if err != nil {
			continue // a folder that another build kept; add_model refuses it today
		}
		all = append(all, *info)
	}
	return all, nil
}

// info describes a model without reading its weights.
func (s *Server) info(name string) (*modelInfo, error) {
	files, err := s.open(name)
	if err != nil {
		return nil, fmt.Errorf("model %q is not here; choose another, or bring it on the Models page", name)
	}
	d, err := describe(files)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	info := &d.modelInfo
	info.Name = name
	stored, err := s.host.List(modelFolder + name + "/")
	if err != nil {
		return nil, err
	}
	for _, f := range stored {
		info.Yours = true
		d.weigh(f.Path[len(modelFolder+name+"/"):], f.Size)
	}
	if !info.Yours {
		info.Bytes = builtin.Bytes(name)
	}
	return info, nil
}

// reads is what the first embedded classifier for pictures of a shape reads;
// engine.LoadModel takes the same.
func reads(classifiers []string, shape graph.Shape) (model.Attributes, error) {
	for _, name := range classifiers {
		files, err := builtin.Open(name)
		if err != nil {
			return nil, err
		}
		text, err := fs.ReadFile(files, configFile)
		if err != nil {
			return nil, err
		}
		c, err := model.ParseClassifierConfig(text)
		if err != nil {
			return nil, err
		}
		if c.InChannels == shape[1] && c.SampleSize == (model.SampleSize{shape[2], shape[3]}) {
			return c.Attributes, nil
		}
	}
	return model.Attributes{}, nil
}

// open finds a folder by the name a recipe gives it: an embedded model, one that
// the page keeps, or "." for the adapters it keeps.
func (s *Server) open(name string) (fs.FS, error) {
	if name == "." {
		return folder{s.host, loraFolder}, nil
	}
	files, err := engine.OpenBuiltin(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return files, err
	}
	if !validName(name) {
		return nil, err
	}
	if kept, listed := s.host.List(modelFolder + name + "/"); listed != nil || len(kept) == 0 {
		return nil, err
	}
	return folder{s.host, modelFolder + name + "/"}, nil
}

// validName reports whether a name is one step of a path and nothing else.
func validName(name string) bool {
	return name != "" && len(name) <= 100 && fs.ValidPath(name) && name != "." && !strings.ContainsAny(name, `/\`)
}

func checkName(name string) error {
	if !validName(name) {
		return inputError{fmt.Errorf("the name is %q, want one of at most 100 characters without slashes", name)}
	}
	return nil
}

// folder is a part of a store as a file system.
type folder struct {
	store  Store
	prefix string
}

func (f folder) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) || name == "." {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	info, err := f.Stat(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	if info.Size() > wholeBytes {
		r := io.NewSectionReader(part{f.store, f.prefix + name}, 0, info.Size())
		return &stored{r, entry{path.Base(name), info.Size()}}, nil
	}
	data, err := f.store.Read(f.prefix + name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &stored{bytes.NewReader(data), entry{path.Base(name), int64(len(data))}}, nil
}

// wholeBytes is up to where a file is read at once: of a larger one only what is
// asked for, which takes a turn of the event loop each time.
const wholeBytes = 16 << 20

// part reads ranges of a file of a store.
type part struct {
	store Store
	path  string
}

// ReadAt is io.ReaderAt's, for the ranges of a section reader.
func (p part) ReadAt(into []byte, at int64) (int, error) {
	if err := p.store.ReadAt(p.path, into, at); err != nil {
		return 0, err
	}
	return len(into), nil
}

// Stat finds the size without reading the file.
func (f folder) Stat(name string) (fs.FileInfo, error) {
	files, err := f.store.List(f.prefix + name)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if file.Path == f.prefix+name {
			return entry{path.Base(name), file.Size}, nil
		}
	}
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

// stored is an opened file.
type stored struct {
	reader
	entry
}

// reader is of a file's contents, at hand or read in parts.
type reader interface {
	io.Reader
	io.ReaderAt
}

func (f *stored) Stat() (fs.FileInfo, error) { return f.entry, nil }
func (f *stored) Close() error               { return nil }

// entry describes a file.
type entry struct {
	name string
	size int64
}

func (e entry) Name() string       { return e.name }
func (e entry) Size() int64        { return e.size }
func (e entry) Mode() fs.FileMode  { return 0o444 }
func (e entry) ModTime() time.Time { return time.Time{} }
func (e entry) IsDir() bool        { return false }
func (e entry) Sys() any           { return nil }

// inspected is what a folder that nothing was read of but its small files is and
// needs.
type inspected struct {
	OK         bool        `json:"ok"`
	Message    string      `json:"message"`
	Components []component `json:"components"`
	Parameters int         `json:"parameters"`
	Bytes      int64       `json:"bytes"`
	Draws      bool        `json:"draws"`
	Channels   int         `json:"channels"`
	Width      int         `json:"width"`
	Height     int         `json:"height"`
	NumImages  int         `json:"num_images"` // that memory is counted for
	Sample     memory      `json:"sample"`
	Steer      memory      `json:"steer"`
}

// offered is a file of a folder that the page offers, with its text where it is
// small and JSON.
type offered struct {
	Path string  `json:"path"`
	Size int64   `json:"size"`
	Text *string `json:"text"`
}

func inspect(r *request, p struct {
	Name      string    `json:"name"`
	Files     []offered `json:"files"`
	NumImages int       `json:"num_images"`
}) (any, error) {
	files := offer{}
	i := inspected{NumImages: max(1, p.NumImages)}
	for _, f := range p.Files {
		files[f.Path] = f
		i.Bytes += f.Size
	}
	d, err := describe(files)
	if err == nil {
		for _, f := range p.Files {
			d.weigh(f.Path, f.Size)
		}
		i.Components, i.Parameters, i.Draws = d.Components, d.Parameters, d.Draws
		i.Channels, i.Width, i.Height = d.Channels, d.Width, d.Height
		err = r.server.inspect(&i, d, files, p.Name)
	}
	if err != nil {
		i.Message = err.Error()
		return i, nil
	}
	i.OK, i.Message = true, d.words()
	return i, nil
}

// inspect counts the memory of a folder that makes pictures.
func (s *Server) inspect(i *inspected, d *description, files fs.FS, name string) error {
	if !d.Draws {
		return nil
	}
	if d.Text {
		i.NumImages = 1 // which is much already
	}
	r := recipes.Defaults()
	r.Name, r.Model, r.NumImages, r.Prompt = "inspect", name, i.NumImages, ""
	m, err := d.model(files, &r)
	if err != nil {
		return err
	}
	exec := s.executor()
	sample, err := engine.NewPlan(&r, m, nil, m.Options())
	if err != nil {
		return err
	}
	i.Sample = newMemory(sample.Memory(exec))
	steered := r.Clone()
	steered.Objective = []recipes.Term{{Term: "total_variation", Weight: 1}}
	steer, err := engine.NewPlan(steered, m, nil, m.Options())
	if err != nil {
		return err
	}
	i.Steer = newMemory(steer.Memory(exec))
	return s.room(steer)
}

// offer is a folder of which only some texts are at hand.
type offer map[string]offered

func (o offer) Open(name string) (fs.File, error) {
	f, ok := o[name]
	if !ok || f.Text == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &stored{bytes.NewReader([]byte(*f.Text)), entry{path.Base(name), f.Size}}, nil
}

// addModel takes in a folder that the page has put into the store, and removes
// it again where it is no model.
func addModel(r *request, p struct {
	Name string `json:"name"`
}) (any, error) {
	s := r.server
	if err := checkName(p.Name); err != nil {
		return nil, err
	}
	if _, err := engine.OpenBuiltin(p.Name); err == nil {
		return nil, inputError{fmt.Errorf("%s is the name of a built-in model; choose another", p.Name)}
	}
	s.forget()
	if err := load(folder{s.host, modelFolder + p.Name + "/"}); err != nil {
		if failed := s.host.Remove(modelFolder + p.Name + "/"); failed != nil {
			return nil, failed
		}
		return nil, inputError{fmt.Errorf("model %s: %w", p.Name, err)}
	}
	return s.info(p.Name)
}

func removeModel(r *request, p struct {
	Name string `json:"name"`
}) (any, error) {
	if err := checkName(p.Name); err != nil {
		return nil, err
	}
	r.server.forget()
	return nil, r.server.host.Remove(modelFolder + p.Name + "/")
}

// addedLoRA is an adapter that the page keeps.
type addedLoRA struct {
	Name       string `json:"name"`
	Parameters int    `json:"parameters"`
}

// adapterFile is the file of an adapter that the page calls by its name, with
// the ending or without.
func adapterFile(name string) string {
	return strings.TrimSuffix(name, ".safetensors") + ".safetensors"
}

// addLoRA takes in a file that the page has put among the incoming ones. Whether
// it fits a model shows when it is used.
func addLoRA(r *request, p struct {
	Name string `json:"name"`
}) (added any, err error) {
	host, file := r.server.host, adapterFile(p.Name)
	if err := checkName(p.Name); err != nil {
		return nil, err
	}
	defer func() {
		if failed := host.Remove(incoming + file); err == nil {
			err = failed
		}
	}()
	if _, err := host.Read(loraFolder + file); !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return nil, err
		}
		return nil, inputError{fmt.Errorf("there is an adapter named %s; choose another name, or remove that one", p.Name)}
	}
	info, err := model.InspectLoRA(folder{host, incoming}, file)
	if err != nil {
		return nil, inputError{fmt.Errorf("lora %s: %w", p.Name, err)}
	}
	data, err := host.Read(incoming + file)
	if err != nil {
		return nil, err
	}
	return addedLoRA{file, info.Numbers}, host.Write(loraFolder+file, data)
}

func removeLoRA(r *request, p struct {
	Name string `json:"name"`
}) (any, error) {
	if err := checkName(p.Name); err != nil {
		return nil, err
	}
	r.server.forget()
	return nil, r.server.host.Remove(loraFolder + adapterFile(p.Name))
}

// freeAdapter is the first of name, name-2, name-3, … that no kept adapter has.
func (s *Server) freeAdapter(name string) (string, error) {
	kept, err := s.host.List(loraFolder)
	if err != nil {
		return "", err
	}
	for n := 1; ; n++ {
		file := adapterFile(name)
		if n > 1 {
			file = adapterFile(fmt.Sprintf("%s-%d", name, n))
		}
		if !slices.ContainsFunc(kept, func(f File) bool { return f.Path == loraFolder+file }) {
			return file, nil
		}
	}
}
