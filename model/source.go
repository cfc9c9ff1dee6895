package model

import (
	"fmt"
	"slices"

	"github.com/sdo-go/sdo/graph"
)

// Source gives tensors by name, one at a time: a state dict that need not be in
// memory. Weights are one, and so is an opened Checkpoint.
type Source interface {
	// Names lists the tensors, sorted.
	Names() []string
	// Info tells a tensor's stored type and shape without reading it.
	Info(name string) (TensorInfo, bool)
	// Read returns a tensor as float32. The caller must not change the numbers.
	Read(name string) (Tensor, error)
	// ReadHalves returns a tensor of which Info says F16 as it is stored, two
	// bytes a number, the low one first. They are the caller's to keep.
	ReadHalves(name string) ([]byte, error)
}

// Names lists the tensors, sorted.
func (w Weights) Names() []string {
	names := make([]string, 0, len(w))
	for name := range w {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Info tells a tensor's shape; the type is F32, as it is in memory.
func (w Weights) Info(name string) (TensorInfo, bool) {
	t, ok := w[name]
	return TensorInfo{F32, t.Shape}, ok
}

// Read returns the tensor itself, not a copy.
func (w Weights) Read(name string) (Tensor, error) {
	t, ok := w[name]
	if !ok {
		return Tensor{}, fmt.Errorf("weights: no tensor %q", name)
	}
	return t, nil
}

// ReadHalves is refused: in memory there are none.
func (w Weights) ReadHalves(name string) ([]byte, error) {
	return nil, fmt.Errorf("weights: tensor %q is not stored in half precision", name)
}

// Collect reads a source whole.
func Collect(s Source) (Weights, error) {
	names := s.Names()
	weights := make(Weights, len(names))
	for _, name := range names {
		t, err := s.Read(name)
		if err != nil {
			return nil, err
		}
		weights[name] = t
	}
	return weights, nil
}

// Prefixed is a source under longer names, for a network that is built with
// BuildOptions.Prefix.
func Prefixed(prefix string, s Source) Source {
	r := &renamed{Source: s, names: map[string]string{}}
	for _, name := range s.Names() {
		r.names[prefix+name] = name
	}
	return r
}

// renamed gives some of a source's tensors, each under another name.
type renamed struct {
	Source
	names map[string]string      // the source's by ours
	shape map[string]graph.Shape // by our names, where it is not as stored: the same numbers in the same order
}

func (r *renamed) Names() []string {
	names := make([]string, 0, len(r.names))
	for name := range r.names {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (r *renamed) Info(name string) (TensorInfo, bool) {
	own, ok := r.names[name]
	if !ok {
		return TensorInfo{}, false
	}
	info, ok := r.Source.Info(own)
	if shape := r.shape[name]; shape != nil {
		info.Shape = shape
	}
	return info, ok
}

func (r *renamed) Read(name string) (Tensor, error) {
	own, ok := r.names[name]
	if !ok {
		return Tensor{}, fmt.Errorf("weights: no tensor %q", name)
	}
	t, err := r.Source.Read(own)
	if err != nil {
		return Tensor{}, err
	}
	if shape := r.shape[name]; shape != nil {
		t.Shape = shape
	}
	return t, nil
}

func (r *renamed) ReadHalves(name string) ([]byte, error) {
	own, ok := r.names[name]
	if !ok {
		return nil, fmt.Errorf("weights: no tensor %q", name)
	}
	return r.Source.ReadHalves(own)
}

// Upload puts the parameters of a plan on a device, each from the first source
// that has one of its name, in the storage its node asks for. A tensor is read
// when it is its turn, so a source larger than memory will do. The caller frees
// them.
func Upload(ex graph.Executor, plan *graph.Plan, sources ...Source) (map[*graph.Node]graph.Tensor, error) {
	tensors := map[*graph.Node]graph.Tensor{}
	for _, n := range plan.Params {
		if n.Op != graph.OpParam {
			continue
		}
		t, err := UploadParam(ex, n, sources...)
		if err != nil {
			for _, t := range tensors {
				ex.FreeVector(t)
			}
			return nil, err
		}
		tensors[n] = t
	}
	return tensors, nil
}

// UploadParam puts one parameter on a device, from the first source that has one
// of its name. Halves that are to stay so go there as they lie in the file.
func UploadParam(ex graph.Executor, n *graph.Node, sources ...Source) (t graph.Tensor, err error) {
	for _, s := range sources {
		info, ok := s.Info(n.Name)
		if !ok {
			continue
		}
		if !n.Shape.Equal(info.Shape) {
			return nil, fmt.Errorf("upload: parameter %q wants shape %v, the weights hold %v", n.Name, n.Shape, graph.Shape(info.Shape))
		}
		if info.DType == F16 && n.Storage == graph.F16 {
			var halves []byte
			if halves, err = s.ReadHalves(n.Name); err == nil {
				t, err = ex.NewHalfParam(halves)
			}
		} else {
			var read Tensor
			if read, err = s.Read(n.Name); err == nil {
				t, err = ex.NewParam(read.Data, n.Storage)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("upload of %q: %w", n.Name, err)
		}
		return t, nil
	}
	return nil, fmt.Errorf("upload: no weights for parameter %q", n.Name)
}
