// Package engine puts the pieces together: it turns a recipe into a problem for
// package sdo over any graph executor, and a finished run into numbers and
// pictures. The desktop binary, the page and the worker call it and nothing
// below it; it knows no device, no file system and no command line.
package engine

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// resident keeps one copy of a network's parameters on a device and shares it
// between all programs of that network.
type resident struct {
	exec    graph.Executor
	weights []model.Source // the first that has a name counts
	tensors map[string]graph.Tensor
}

func newResident(exec graph.Executor, weights ...model.Source) *resident {
	return &resident{exec: exec, weights: weights, tensors: map[string]graph.Tensor{}}
}

// read finds a tensor.
func (r *resident) read(name string) (model.Tensor, error) {
	for _, source := range r.weights {
		if _, ok := source.Info(name); ok {
			return source.Read(name)
		}
	}
	return model.Tensor{}, fmt.Errorf("engine: the weights hold no %q", name)
}

// compile makes a plan ready, uploading the parameters that no earlier program
// has.
func (r *resident) compile(plan *graph.Plan) (graph.Program, error) {
	params := map[*graph.Node]graph.Tensor{}
	for _, n := range plan.Params {
		if n.Op != graph.OpParam {
			continue
		}
		if r.tensors[n.Name] == nil {
			tensor, err := model.UploadParam(r.exec, n, r.weights...)
			if err != nil {
				return nil, fmt.Errorf("engine: %w", err)
			}
			r.tensors[n.Name] = tensor
		}
		params[n] = r.tensors[n.Name]
	}
	return r.exec.Compile(plan, params)
}

// free returns the parameters to the device.
func (r *resident) free() {
	for _, t := range r.tensors {
		r.exec.FreeVector(t)
	}
	clear(r.tensors)
}

// vectors allocates device vectors and frees them together.
type vectors struct {
	exec graph.Executor
	all  []graph.Tensor
}

func (v *vectors) new(n int) (graph.Tensor, error) {
	t, err := v.exec.NewVector(n)
	if err == nil {
		v.all = append(v.all, t)
	}
	return t, err
}

func (v *vectors) free() {
	for _, t := range v.all {
		v.exec.FreeVector(t)
	}
	v.all = nil
}

// renamed gives tensors of a source under further names.
type renamed struct {
	model.Source
	own map[string]string // the source's names by ours
}

// Names lists ours.
func (r renamed) Names() []string { return slices.Sorted(maps.Keys(r.own)) }

func (r renamed) Info(name string) (model.TensorInfo, bool) {
	own, ok := r.own[name]
	if !ok {
		return model.TensorInfo{}, false
	}
	return r.Source.Info(own)
}

func (r renamed) Read(name string) (model.Tensor, error) { return r.Source.Read(r.own[name]) }

func (r renamed) ReadHalves(name string) ([]byte, error) { return r.Source.ReadHalves(r.own[name]) }
