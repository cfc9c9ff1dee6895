package modeltest

import (
	"context"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// runner is a compiled graph on a device with its weights.
type runner struct {
	ex       graph.Executor
	plan     *graph.Plan
	segments [][]*graph.Node
	params   map[*graph.Node]graph.Tensor
	program  graph.Program
	tape     graph.Tape
}

func newRunner(ex graph.Executor, g *graph.Graph, weights []model.Source, segments ...[]*graph.Node) (*runner, error) {
	r := &runner{ex: ex, segments: segments}
	var err error
	if r.plan, err = graph.Compile(g, segments...); err != nil {
		return nil, err
	}
	if r.params, err = model.Upload(ex, r.plan, weights...); err != nil {
		return nil, err
	}
	if r.program, err = ex.Compile(r.plan, r.params); err != nil {
		r.release()
		return nil, err
	}
	if r.tape, err = r.program.NewTape(); err != nil {
		r.release()
		return nil, err
	}
	return r, nil
}

// run feeds the inputs of a segment from values, by name, and returns what the
// segment was asked for.
func (r *runner) run(segment int, values model.Weights) ([][]float64, error) {
	ctx := context.Background()
	var vectors []graph.Tensor
	defer func() {
		for _, v := range vectors {
			r.ex.FreeVector(v)
		}
	}()
	vector := func(n *graph.Node) (graph.Tensor, error) {
		v, err := r.ex.NewVector(n.Shape.Size())
		if err == nil {
			vectors = append(vectors, v)
		}
		return v, err
	}
	var feeds []graph.Feed
	for _, in := range r.plan.Segments[segment].Inputs {
		v, err := vector(in)
		if err != nil {
			return nil, err
		}
		if err := r.ex.Write(ctx, v, float64s(values[in.Name].Data)); err != nil {
			return nil, err
		}
		feeds = append(feeds, graph.Feed{Node: in, From: v})
	}
	var fetches []graph.Fetch
	for _, n := range r.segments[segment] {
		v, err := vector(n)
		if err != nil {
			return nil, err
		}
		fetches = append(fetches, graph.Fetch{Node: n, To: v})
	}
	if err := r.program.Run(ctx, r.tape, segment, feeds, fetches); err != nil {
		return nil, err
	}
	results := make([][]float64, len(fetches))
	for i, f := range fetches {
		var err error
		if results[i], err = r.ex.Read(ctx, f.To); err != nil {
			return nil, err
		}
	}
	return results, nil
}

func (r *runner) release() {
	if r.tape != nil {
		r.tape.Release()
	}
	if r.program != nil {
		r.program.Release()
	}
	for _, t := range r.params {
		r.ex.FreeVector(t)
	}
}

func float64s(xs []float32) []float64 {
	ys := make([]float64, len(xs))
	for i, x := range xs {
		ys[i] = float64(x)
	}
	return ys
}
