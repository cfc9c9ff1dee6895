package engine

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/sdo"
)

// lookedAt is how many tensors of a call are looked at in one go. More take
// fewer runs of the network and more memory.
const lookedAt = 16

var _ sdo.Explainer = (*denoiser)(nil)

// FirstBad names the first tensor inside a call that is not finite: the
// operation and the parameter it has, or follows. Under guidance the call
// without condition is looked through too. It runs the network's beginning again
// and again, each time keeping the next few tensors, and is for runs that have
// already failed; where it fails itself it says nothing.
func (d *denoiser) FirstBad(ctx context.Context, in sdo.Input) string {
	if where := d.firstBad(ctx, in); where != "" || in.Cond == nil {
		return where
	}
	in.Cond = nil
	if where := d.firstBad(ctx, in); where != "" {
		return where + ", asked without the condition"
	}
	return ""
}

func (d *denoiser) firstBad(ctx context.Context, in sdo.Input) string {
	var c call
	g, err := graph.Build(func(g *graph.Graph) {
		c = d.inputs(g, "")
		c.out = d.build(g, c.sample, c.timestep, c.condition, false)
	})
	if err != nil {
		return ""
	}
	whole, err := graph.Compile(g, []*graph.Node{c.out})
	if err != nil {
		return ""
	}
	for nodes := range slices.Chunk(whole.Segments[0].Nodes, lookedAt) {
		bad, err := d.badIn(ctx, g, c, in, nodes)
		switch {
		case err != nil:
			return ""
		case bad != nil:
			return d.describe(bad)
		}
	}
	return ""
}

// badIn is the first of some nodes of a call that holds a number which is not
// finite, nil where all are.
func (d *denoiser) badIn(ctx context.Context, g *graph.Graph, c call, in sdo.Input, nodes []*graph.Node) (*graph.Node, error) {
	plan, err := graph.Compile(g, nodes)
	if err != nil {
		return nil, err
	}
	program, err := d.weights.compile(plan)
	if err != nil {
		return nil, err
	}
	defer program.Release()
	seen := vectors{exec: d.exec}
	defer seen.free()
	var fetches []graph.Fetch
	for _, n := range nodes {
		to, err := seen.new(n.Shape.Size())
		if err != nil {
			return nil, err
		}
		fetches = append(fetches, graph.Fetch{Node: n, To: to})
	}
	feeds := slices.DeleteFunc(d.feeds(c, in), func(f graph.Feed) bool {
		return !slices.Contains(plan.Segments[0].Inputs, f.Node)
	})
	if err := program.Run(ctx, nil, 0, feeds, fetches); err != nil {
		return nil, err
	}
	for _, f := range fetches {
		values, err := d.exec.Read(ctx, f.To)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(values, notFinite) {
			return f.Node, nil
		}
	}
	return nil, nil
}

func notFinite(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) }

// describe names a node by its parameter, or by that of the nearest node before
// it which has one.
func (d *denoiser) describe(n *graph.Node) string {
	words := n.Op
	for {
		for _, in := range n.Inputs {
			if in.Op != graph.OpParam {
				continue
			}
			words += " with " + in.Name
			w, err := d.weights.read(in.Name)
			if err == nil && slices.ContainsFunc(w.Data, func(x float32) bool { return notFinite(float64(x)) }) {
				words += ", which is not finite itself"
			}
			return words
		}
		before := slices.IndexFunc(n.Inputs, func(in *graph.Node) bool { return !in.IsLeaf() })
		if before < 0 {
			return words
		}
		if n = n.Inputs[before]; n.Op != graph.OpReshape {
			words += fmt.Sprintf(" after %s", n.Op)
		}
	}
}
