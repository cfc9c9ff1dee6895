package engine

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// objective is a recipe's weighted sum of terms as one graph on the device: an
// sdo.Objective. Its first segment scores, its second differentiates.
type objective struct {
	*metric
	exec    graph.Executor
	program graph.Program
	tape    graph.Tape
	vectors vectors
	fixed   []graph.Feed   // the metric's given inputs
	losses  graph.Tensor   // of the sum
	terms   []graph.Tensor // of each term
	last    [][]float64    // of each term, from the last evaluation
}

// metric is the planned sum; nothing has been allocated for it yet.
type metric struct {
	rows               int
	plan               *graph.Plan
	image, total, grad *graph.Node
	parts              []part
	prepare            []*preparation // make the numbers of given
	given              []*given       // inputs beside the image, the same in every evaluation
}

// part is one term of the sum.
type part struct {
	name      string
	stopBelow *float64
	node      *graph.Node // unweighted loss per row
}

// newMetric plans a recipe's terms for a batch of samples of shape [rows C H W],
// pictures in [-1, 1] or latents. m has the classifier that attribute terms
// differentiate; files is where pictures are looked up. Both may lack what no
// term needs.
func newMetric(r *recipes.Recipe, m *Model, shape graph.Shape, files fs.FS, o PlanOptions) (*metric, error) {
	if len(r.Objective) == 0 {
		return nil, fmt.Errorf("recipe %q: has no objective; add at least one term", r.Name)
	}
	c := &metric{rows: shape[0]}
	var broken error // of a term's own data, as opposed to its shapes
	g, err := graph.Build(func(g *graph.Graph) {
		c.image = g.Input("image", shape...)
		b := &termBuilder{Graph: g, model: m, files: files, options: o, samples: c.image, seen: map[int]clipped{}}
		for i, t := range r.Objective {
			b.prefix = fmt.Sprintf("objective.%d", i)
			g.Block(b.prefix)
			node, err := b.term(t)
			if err != nil {
				broken = fmt.Errorf("recipe %q: %s (%s): %w", r.Name, b.prefix, t.Term, err)
				return
			}
			c.parts = append(c.parts, part{name: t.Term, stopBelow: t.StopBelow, node: node})
			c.total = b.plus(c.total, g.Affine(node, t.Weight, 0))
		}
		c.prepare, c.given = b.prepare, b.given
		g.Block("")
		one := make([]float32, c.rows)
		for i := range one {
			one[i] = 1
		}
		seed := g.Const("loss_seed", one, c.rows)
		c.grad = graph.Grad(g, []*graph.Node{c.total}, []*graph.Node{seed}, []*graph.Node{c.image})[0]
	})
	if broken != nil {
		return nil, broken
	}
	if err == nil {
		scores := []*graph.Node{c.total}
		for _, p := range c.parts {
			scores = append(scores, p.node)
		}
		c.plan, err = graph.CompileWith(g, o.compile(1), scores, []*graph.Node{c.grad})
	}
	if err != nil {
		return nil, fmt.Errorf("recipe %q: %w", r.Name, err)
	}
	return c, nil
}

// newObjective allocates a metric whose preparations were made; its weights are
// among the aids. On an error, too, the result must be released.
func newObjective(exec graph.Executor, m *metric, aids *resident) (*objective, error) {
	o := &objective{metric: m, exec: exec, vectors: vectors{exec: exec}, last: make([][]float64, len(m.parts))}
	var err error
	if o.program, err = aids.compile(m.plan); err != nil {
		return o, err
	}
	for _, g := range m.given {
		to, err := o.vectors.new(g.node.Shape.Size())
		if err != nil {
			return o, err
		}
		if err := exec.Write(context.Background(), to, g.values); err != nil {
			return o, err
		}
		o.fixed = append(o.fixed, graph.Feed{Node: g.node, From: to})
	}
	if o.tape, err = o.program.NewTape(); err != nil {
		return o, err
	}
	if o.losses, err = o.vectors.new(m.rows); err != nil {
		return o, err
	}
	for range m.parts {
		losses, err := o.vectors.new(m.rows)
		if err != nil {
			return o, err
		}
		o.terms = append(o.terms, losses)
	}
	return o, nil
}

// Evaluate returns the weighted sum per row and, where grad is not nil, the
// gradient of the sum over rows.
func (o *objective) Evaluate(ctx context.Context, x sdo.Vector, grad sdo.Vector) ([]float64, error) {
	fetches := []graph.Fetch{{Node: o.total, To: o.losses}}
	for i, p := range o.parts {
		fetches = append(fetches, graph.Fetch{Node: p.node, To: o.terms[i]})
	}
	if err := o.program.Run(ctx, o.tape, 0, append(o.fixed[:len(o.fixed):len(o.fixed)], graph.Feed{Node: o.image, From: x}), fetches); err != nil {
		return nil, err
	}
	if grad != nil {
		if err := o.program.Run(ctx, o.tape, 1, nil, []graph.Fetch{{Node: o.grad, To: grad}}); err != nil {
			return nil, err
		}
	}
	for i, losses := range o.terms {
		last, err := o.exec.Read(ctx, losses)
		if err != nil {
			return nil, err
		}
		o.last[i] = last
	}
	return o.exec.Read(ctx, o.losses)
}

// Satisfied says which rows of the last evaluation are good enough: every term
// with a stop_below is at or below it. Without such a term no row ever is.
func (o *objective) Satisfied() []bool {
	satisfied := make([]bool, o.rows)
	for row := range satisfied {
		any := false
		satisfied[row] = true
		for i, p := range o.parts {
			if p.stopBelow != nil {
				any = true
				satisfied[row] = satisfied[row] && o.last[i][row] <= *p.stopBelow
			}
		}
		satisfied[row] = satisfied[row] && any
	}
	return satisfied
}

// Release frees everything the objective holds on the device; its weights are
// the aids' owner's.
func (o *objective) Release() {
	if o.tape != nil {
		o.tape.Release()
	}
	if o.program != nil {
		o.program.Release()
	}
	o.vectors.free()
}
