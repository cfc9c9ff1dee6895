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
	r := &renamed{Source: s, read: s.Read, names: map[string]string{}}
	for _, name := range s.Names() {
		r.names[prefix+name] = name
	}
	return r
}

// renamed gives some of a source's tensors, each under another name.
type renamed struct {
	Source
	read  func(name string) (Tensor, error) // under the source's names
	names map[string]string                 // the source's by ours
	shape map[string]graph.Shape            // by our names, where it is not as stored: the same numbers in the same order
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
	t, err := r.read(own)
	if err != nil {
		return Tensor{}, err
	}
	if shape := r.shape[name]; shape != nil {
		t.Shape = shape
	}
	return t, nil
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
		data, err := find(n, sources)
		if err == nil {
			if tensors[n], err = ex.NewParam(data, n.Storage); err == nil {
				continue
			}
			delete(tensors, n)
			err = fmt.Errorf("upload %q: %w", n.Name, err)
		}
		for _, t := range tensors {
			ex.FreeVector(t)
		}
		return nil, err
	}
	return tensors, nil
}

// find reads the numbers of a parameter's node.
func find(n *graph.Node, sources []Source) ([]float32, error) {
	for _, s := range sources {
		info, ok := s.Info(n.Name)
		if !ok {
			continue
		}
		if !n.Shape.Equal(info.Shape) {
			return nil, fmt.Errorf("upload: parameter %q wants shape %v, the weights hold %v", n.Name, n.Shape, graph.Shape(info.Shape))
		}
		t, err := s.Read(n.Name)
		if err != nil {
			return nil, fmt.Errorf("upload: %w", err)
		}
		return t.Data, nil
	}
	return nil, fmt.Errorf("upload: no weights for parameter %q", n.Name)
}
