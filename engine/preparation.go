package engine

import (
	"context"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// given is an input whose numbers do not change while a program is used.
type given struct {
	node   *graph.Node
	values []float64
}

// preparation is a program that runs once, before anything else of a run is on
// the device, and is freed with its weights: what encodes a prompt, a picture to
// begin from or a picture to compare with.
type preparation struct {
	plan    *graph.Plan
	weights []model.Source
	inputs  []given
	outputs []*graph.Node
	take    func(values [][]float64) error // of the outputs
	made    bool
}

// run makes the outputs and hands them over. Nothing stays on the device but the
// scratch arena.
func (p *preparation) run(ctx context.Context, exec graph.Executor) error {
	weights, vectors := newResident(exec, p.weights...), vectors{exec: exec}
	defer weights.free()
	defer vectors.free()
	program, err := weights.compile(p.plan)
	if err != nil {
		return err
	}
	defer program.Release()
	var feeds []graph.Feed
	for _, in := range p.inputs {
		v, err := vectors.new(len(in.values))
		if err != nil {
			return err
		}
		if err := exec.Write(ctx, v, in.values); err != nil {
			return err
		}
		feeds = append(feeds, graph.Feed{Node: in.node, From: v})
	}
	var fetches []graph.Fetch
	for _, out := range p.outputs {
		v, err := vectors.new(out.Shape.Size())
		if err != nil {
			return err
		}
		fetches = append(fetches, graph.Fetch{Node: out, To: v})
	}
	if err := program.Run(ctx, nil, 0, feeds, fetches); err != nil {
		return err
	}
	values := make([][]float64, len(fetches))
	for i, f := range fetches {
		if values[i], err = exec.Read(ctx, f.To); err != nil {
			return err
		}
	}
	return p.take(values)
}

// numbers is how many the inputs and outputs are.
func (p *preparation) numbers() (n int64) {
	for _, in := range p.inputs {
		n += int64(in.node.Shape.Size())
	}
	for _, out := range p.outputs {
		n += int64(out.Shape.Size())
	}
	return n
}
