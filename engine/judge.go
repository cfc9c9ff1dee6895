package engine

import (
	"context"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// Judge is a classifier on a device that only reads images. The classifier that
// reports success is never the one that was steered by.
type Judge struct {
	exec          graph.Executor
	attributes    model.Attributes
	program       graph.Program
	image, logits *graph.Node
	vectors       vectors
	in, out       graph.Tensor
}

// NewJudge compiles a classifier for images of shape [rows C H W].
func NewJudge(exec graph.Executor, classifier *model.Classifier, shape graph.Shape) (*Judge, error) {
	j := &Judge{exec: exec, attributes: classifier.Config.Attributes, vectors: vectors{exec: exec}}
	g, err := graph.Build(func(g *graph.Graph) {
		j.image = g.Input("image", shape...)
		j.logits = classifier.Config.Build(g, j.image, graph.F32)
	})
	if err != nil {
		return nil, err
	}
	plan, err := graph.Compile(g, []*graph.Node{j.logits})
	if err != nil {
		return nil, err
	}
	if j.program, err = newResident(exec, classifier.Weights).compile(plan); err != nil {
		return nil, err
	}
	if j.in, err = j.vectors.new(shape.Size()); err != nil {
		return nil, err
	}
	j.out, err = j.vectors.new(j.logits.Shape.Size())
	return j, err
}

// Read returns one label per attribute for each image.
func (j *Judge) Read(ctx context.Context, images []float64) ([][]int, error) {
	if err := j.exec.Write(ctx, j.in, images); err != nil {
		return nil, err
	}
	err := j.program.Run(ctx, nil, 0, []graph.Feed{{Node: j.image, From: j.in}}, []graph.Fetch{{Node: j.logits, To: j.out}})
	if err != nil {
		return nil, err
	}
	scores, err := j.exec.Read(ctx, j.out)
	if err != nil {
		return nil, err
	}
	width := j.attributes.Logits()
	labels := make([][]int, j.image.Shape[0])
	for row := range labels {
		labels[row] = j.attributes.Read(scores[row*width : (row+1)*width])
	}
	return labels, nil
}

// Release frees everything the judge holds on the device.
func (j *Judge) Release() {
	j.program.Release()
	j.vectors.free()
}
