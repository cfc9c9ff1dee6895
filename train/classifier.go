package train

import (
	"context"
	"math/rand/v2"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// Classifier trains a network that reads all attributes of an image at once:
// the sum over attributes of the softmax cross entropy.
type Classifier struct {
	Config  model.ClassifierConfig
	Data    Dataset
	Test    Dataset // for Accuracy: like Data, and none of what it was trained on
	Augment Augmentation
}

// Params are the classifier's.
func (c Classifier) Params() ([]model.Param, error) { return c.Config.Params() }

// Loss is the summed cross entropy of all attributes, per image.
func (c Classifier) Loss(g *graph.Graph, batch int) *graph.Node {
	images := g.Input("images", append(graph.Shape{batch}, c.Data.Shape()...)...)
	labels := g.Input("labels", len(c.Config.Attributes), batch)
	logits := c.Config.Build(g, images, graph.F32)
	var total *graph.Node
	from := 0
	for i, a := range c.Config.Attributes {
		own := g.Slice(logits, 1, from, from+len(a.Values))
		from += len(a.Values)
		loss := g.SoftmaxCrossEntropy(own, g.Reshape(g.Slice(labels, 0, i, i+1), batch))
		if total == nil {
			total = loss
		} else {
			total = g.Add(total, loss)
		}
	}
	return total
}

// Fill draws images, augments them, and writes their labels.
func (c Classifier) Fill(seed uint64, step, batch int, inputs map[string][]float64) {
	size := c.Data.Shape().Size()
	image := make([]float32, size)
	random := rand.New(rand.NewPCG(seed, uint64(streamAugment)<<56|uint64(step)))
	for b := range batch {
		labels := c.Data.Example(seed, uint64(step)*uint64(batch)+uint64(b), image)
		if c.Augment != (Augmentation{}) {
			c.Augment.Apply(image, c.Data.Shape(), random)
		}
		for i, x := range image {
			inputs["images"][b*size+i] = float64(x)
		}
		for a, label := range labels {
			inputs["labels"][a*batch+b] = float64(label)
		}
	}
}

// Accuracy is, for each attribute in schema order, the share of images of a
// stream of the test set that the weights read right. Images are not augmented.
func (c Classifier) Accuracy(ctx context.Context, exec graph.Executor, weights model.Weights, seed uint64, batches, batch int) ([]float64, error) {
	var logits *graph.Node
	g, err := graph.Build(func(g *graph.Graph) {
		images := g.Input("images", append(graph.Shape{batch}, c.Data.Shape()...)...)
		logits = c.Config.Build(g, images, graph.F32)
	})
	if err != nil {
		return nil, err
	}
	plan, err := graph.Compile(g, []*graph.Node{logits})
	if err != nil {
		return nil, err
	}
	params, err := model.Upload(exec, plan, weights)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, p := range params {
			exec.FreeVector(p)
		}
	}()
	program, err := exec.Compile(plan, params)
	if err != nil {
		return nil, err
	}
	defer program.Release()
	images, err := exec.NewVector(g.Lookup("images").Shape.Size())
	if err != nil {
		return nil, err
	}
	defer exec.FreeVector(images)
	out, err := exec.NewVector(logits.Shape.Size())
	if err != nil {
		return nil, err
	}
	defer exec.FreeVector(out)

	attributes := c.Config.Attributes
	inputs := map[string][]float64{
		"images": make([]float64, images.Len()),
		"labels": make([]float64, len(attributes)*batch),
	}
	plain := Classifier{Config: c.Config, Data: c.Test}
	right := make([]float64, len(attributes))
	for step := range batches {
		plain.Fill(seed, step, batch, inputs)
		if err := exec.Write(ctx, images, inputs["images"]); err != nil {
			return nil, err
		}
		err := program.Run(ctx, nil, 0, []graph.Feed{{Node: g.Lookup("images"), From: images}},
			[]graph.Fetch{{Node: logits, To: out}})
		if err != nil {
			return nil, err
		}
		scores, err := exec.Read(ctx, out)
		if err != nil {
			return nil, err
		}
		for b := range batch {
			row := scores[b*attributes.Logits():][:attributes.Logits()]
			for a, label := range attributes.Read(row) {
				if label == int(inputs["labels"][a*batch+b]) {
					right[a]++
				}
			}
		}
	}
	for a := range right {
		right[a] /= float64(batches * batch)
	}
	return right, nil
}
