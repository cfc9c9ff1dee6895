package engine

import (
	"fmt"
	"math"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
)

// attribute is max(0, CE - softplus(-margin)), where CE is the cross entropy of
// the wanted value among the attribute's values, averaged over noisy copies of
// the picture. CE = softplus(-o) for log-odds o of the value against all others
// together, so the loss and its gradient vanish once o reaches the margin: a
// satisfied picture is left alone, and no denormal gradients run through the
// network (docs/method.md, Around it). The noise is drawn once, so the loss stays a
// function of the picture; averaging over it is randomised smoothing (Cohen et
// al., arXiv 1902.02918), which takes small adversarial directions away.
func (b *termBuilder) attribute(t recipes.Term) (*graph.Node, error) {
	guide := b.model.Guide
	if guide == nil {
		return nil, fmt.Errorf("the model has no classifier to steer by")
	}
	_, label, err := guide.Config.Attributes.Value(t.Attribute, t.Value)
	if err != nil {
		return nil, err
	}
	pictures := b.pictures()
	rows := pictures.Shape[0]
	labels := make([]float32, rows)
	for i := range labels {
		labels[i] = float32(label)
	}
	wanted := b.Const(b.prefix+".label", labels, rows)
	var sum *graph.Node
	for k := range t.Copies {
		logits := guide.Config.Build(b.Graph, b.noisy(pictures, t.Noise, k), graph.F32)
		own, err := guide.Config.AttributeLogits(b.Graph, logits, t.Attribute)
		if err != nil {
			return nil, err
		}
		sum = b.plus(sum, b.SoftmaxCrossEntropy(own, wanted))
	}
	return b.ReLU(b.Affine(sum, 1/float64(t.Copies), -math.Log1p(math.Exp(-t.Margin)))), nil
}

// smoothingSeed draws the copies' noise. It is not the recipe's seed: the
// metric stays the same when the pictures change.
const smoothingSeed = 0x5d0

// noisy is copy k of every picture with Gaussian noise of a standard deviation,
// the same for each; the pictures themselves where that is 0 or nil.
func (b *termBuilder) noisy(pictures *graph.Node, deviation *float64, k int) *graph.Node {
	if deviation == nil || *deviation == 0 {
		return pictures
	}
	rows := pictures.Shape[0]
	noise := make([]float32, pictures.Shape.Size()/rows)
	for i := range noise {
		noise[i] = float32(*deviation * graph.Normal(smoothingSeed, uint32(k), uint32(i)))
	}
	return b.AddBroadcast(pictures, b.Const(fmt.Sprintf("%s.noise.%d", b.prefix, k), noise, len(noise)), rows, len(noise), 1)
}

// plus adds to a sum that begins as nil.
func (b *termBuilder) plus(sum, more *graph.Node) *graph.Node {
	if sum == nil {
		return more
	}
	return b.Add(sum, more)
}
