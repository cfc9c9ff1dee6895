package engine

import (
	"context"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// reading is a planned classifier that nothing is differentiated through.
type reading struct {
	classifier    *model.Classifier
	plan          *graph.Plan
	image, logits *graph.Node
}

// newReading plans a classifier for images of shape [rows C H W].
func newReading(classifier *model.Classifier, shape graph.Shape, o PlanOptions) (*reading, error) {
	r := &reading{classifier: classifier}
	g, err := graph.Build(func(g *graph.Graph) {
		r.image = g.Input("image", shape...)
		r.logits = classifier.Config.Build(g, r.image, graph.F32)
	})
	if err == nil {
		r.plan, err = graph.CompileWith(g, o.compile(0), []*graph.Node{r.logits})
	}
	return r, err
}

// judge is a classifier on a device that only reads images. The classifier that
// reports success is never the one that was steered by.
type judge struct {
	*reading
	exec    graph.Executor
	weights *resident
	program graph.Program
	vectors vectors
	in, out graph.Tensor
}

// newJudge allocates a reading. On an error, too, the result must be released.
func newJudge(exec graph.Executor, r *reading) (*judge, error) {
	j := &judge{reading: r, exec: exec, weights: newResident(exec, r.classifier.Weights), vectors: vectors{exec: exec}}
	var err error
	if j.program, err = j.weights.compile(r.plan); err != nil {
		return j, err
	}
	if j.in, err = j.vectors.new(r.image.Shape.Size()); err != nil {
		return j, err
	}
	j.out, err = j.vectors.new(r.logits.Shape.Size())
	return j, err
}

// Read returns one label per attribute for each image.
func (j *judge) Read(ctx context.Context, images []float64) ([][]int, error) {
	if err := j.exec.Write(ctx, j.in, images); err != nil {
		return nil, err
	}
	return j.read(ctx, j.in)
}

// read is Read of images that are on the device.
func (j *judge) read(ctx context.Context, images graph.Tensor) ([][]int, error) {
	err := j.program.Run(ctx, nil, 0, []graph.Feed{{Node: j.image, From: images}}, []graph.Fetch{{Node: j.logits, To: j.out}})
	if err != nil {
		return nil, err
	}
	scores, err := j.exec.Read(ctx, j.out)
	if err != nil {
		return nil, err
	}
	attributes := j.classifier.Config.Attributes
	width := attributes.Logits()
	labels := make([][]int, j.image.Shape[0])
	for row := range labels {
		labels[row] = attributes.Read(scores[row*width : (row+1)*width])
	}
	return labels, nil
}

// Release frees everything the judge holds on the device.
func (j *judge) Release() {
	if j.program != nil {
		j.program.Release()
	}
	j.weights.free()
	j.vectors.free()
}
