package model

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/sdo-go/sdo/graph"
)

// Checkpoint is an opened network's weights, of one file or several: names and
// shapes are known and checked, numbers are read on demand. Safe for concurrent
// use if the file system is.
type Checkpoint struct {
	Files []string // what was opened, in the file system

	file   string            // what errors name
	parts  map[string]Source // by tensor
	closes []func() error
}

// OpenWeights finds the weights called base in a folder, such as
// "diffusion_pytorch_model" or "model".
func OpenWeights(fsys fs.FS, dir, base string) (*Checkpoint, error) {
	name := path.Join(dir, base+".safetensors")
	if half := path.Join(dir, base+".fp16.safetensors"); !exists(fsys, name) && exists(fsys, half) {
		name = half
	}
	if bin := path.Join(dir, base+".bin"); !exists(fsys, name) && exists(fsys, bin) {
		return nil, fmt.Errorf("%s: pickled weights are never opened here; convert them to %s with diffusers' save_pretrained", bin, base+".safetensors")
	}
	return openCheckpoint(fsys, name)
}

func openCheckpoint(fsys fs.FS, name string) (*Checkpoint, error) {
	s, close, err := openSafetensors(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: the file is missing; the folder is incomplete, fetch it again", name)
	}
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{Files: []string{name}, file: name, parts: map[string]Source{}, closes: []func() error{close}}
	for _, tensor := range s.Names() {
		c.parts[tensor] = s
	}
	return c, nil
}

// Close releases the files. Reads that follow fail.
func (c *Checkpoint) Close() error {
	var err error
	for _, close := range c.closes {
		err = errors.Join(err, close())
	}
	c.closes = nil
	return err
}

// Names lists the tensors, sorted.
func (c *Checkpoint) Names() []string {
	names := make([]string, 0, len(c.parts))
	for name := range c.parts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Info tells a tensor's stored type and shape.
func (c *Checkpoint) Info(name string) (TensorInfo, bool) {
	part, ok := c.parts[name]
	if !ok {
		return TensorInfo{}, false
	}
	return part.Info(name)
}

// Read returns a tensor of any floating type as float32.
func (c *Checkpoint) Read(name string) (Tensor, error) {
	part, ok := c.parts[name]
	if !ok {
		return Tensor{}, fmt.Errorf("%s: no tensor %q", c.file, name)
	}
	return part.Read(name)
}

// readFinite is Read for numbers that a network computes with.
func (c *Checkpoint) readFinite(name string) (Tensor, error) {
	t, err := c.Read(name)
	if err != nil {
		return Tensor{}, err
	}
	return t, finite(c.file, name, t.Data)
}

// finite refuses what no network computes with.
func finite(file, name string, data []float32) error {
	for i, v := range data {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("%s: tensor %q holds %g at element %d; the file is damaged, fetch it again", file, name, v, i)
		}
	}
	return nil
}

// Stored is the element type that most numbers of the checkpoint have.
func (c *Checkpoint) Stored() DType {
	numbers := map[DType]int{}
	most := DType("")
	for _, name := range c.Names() {
		info, _ := c.Info(name)
		numbers[info.DType] += graph.Shape(info.Shape).Size()
		if most == "" || numbers[info.DType] > numbers[most] {
			most = info.DType
		}
	}
	return most
}

// loadParams maps a checkpoint onto the parameters of a network: every name, as
// rename gives it (nil for as it is), and every shape is checked before a number
// is read, and every number when it is. Parameters are missing from no file;
// tensors that no parameter is called by are refused unless ignore names them
// (patterns as of Matches, such as "position_ids" or "vision_model.**"). A
// linear layer's weight may be stored as a 1x1 convolution's and the other way
// round: the numbers are the same.
func loadParams(c *Checkpoint, params []Param, rename func(string) string, ignore ...string) (Source, error) {
	wanted := make(map[string]graph.Shape, len(params))
	for _, p := range params {
		wanted[p.Name] = p.Shape
	}
	r := &renamed{Source: c, read: c.readFinite, names: map[string]string{}, shape: map[string]graph.Shape{}}
	shapes := map[string][]int{}
	for _, old := range c.Names() {
		name := old
		if rename != nil {
			name = rename(old)
		}
		want, known := wanted[name]
		if !known && slices.ContainsFunc(ignore, func(p string) bool { return Matches(p, name) }) {
			continue
		}
		if r.names[name] != "" {
			return nil, fmt.Errorf("%s: tensors %q and %q mean the same; the file is damaged, fetch it again", c.file, r.names[name], old)
		}
		info, _ := c.Info(old)
		r.names[name], shapes[name] = old, info.Shape
		if pointwise(info.Shape, want) {
			r.shape[name], shapes[name] = want, want
		}
	}
	if err := check(c.file, params, shapes); err != nil {
		return nil, err
	}
	return r, nil
}

// pointwise tells whether one shape is that of a linear layer's weight and the
// other that of the 1x1 convolution that computes the same.
func pointwise(a, b graph.Shape) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return len(a) == 2 && len(b) == 4 && b.Equal(graph.Shape{a[0], a[1], 1, 1})
}

// loadWeights reads the tensors of params from a file, under the names rename
// gives them, and closes it.
func loadWeights(fsys fs.FS, name string, params []Param, rename func(string) string) (Weights, DType, error) {
	c, err := openCheckpoint(fsys, name)
	if err != nil {
		return nil, "", err
	}
	return c.load(params, rename)
}

// load reads the parameters of a network into memory and closes the checkpoint.
func (c *Checkpoint) load(params []Param, rename func(string) string) (Weights, DType, error) {
	defer c.Close()
	s, err := loadParams(c, params, rename)
	if err != nil {
		return nil, "", err
	}
	weights, err := Collect(s)
	return weights, c.Stored(), err
}

// modernName maps the attention names of diffusers before 0.18 to today's.
func modernName(name string) string {
	block, layer, found := strings.Cut(name, "attentions.")
	if !found {
		return name
	}
	index, layer, _ := strings.Cut(layer, ".")
	part, kind, _ := strings.Cut(layer, ".")
	modern, old := map[string]string{"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}[part]
	if !old {
		return name
	}
	return block + "attentions." + index + "." + modern + "." + kind
}
