package engine

import (
	"fmt"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
)

// clipStyle is the mean squared difference of the Gram matrix of the patches'
// hidden states after a block of CLIP's vision tower from that of a picture: the
// style loss of SDO's authors. The class token, which sums up what a picture
// shows, is left out.
func (b *termBuilder) clipStyle(t recipes.Term) (*graph.Node, error) {
	seen, err := b.look(0, nil)
	if err != nil {
		return nil, err
	}
	if t.Layer > len(seen.layers) {
		return nil, fmt.Errorf("layer is %d, and CLIP's vision tower has %d blocks", t.Layer, len(seen.layers))
	}
	rgb, width, height, err := t.Reference(b.files)
	if err != nil {
		return nil, err
	}
	for i, v := range rgb {
		rgb[i] = 2*v - 1
	}
	clip := b.model.CLIP
	wanted, err := b.ahead("style", clip.Vision.Weights, func(g *graph.Graph) (*graph.Node, []given) {
		image := g.Input("image", 1, 3, height, width)
		o := model.BuildOptions{Storage: storageOf(clip.Vision.Stored)}
		layers, _ := clip.Vision.Config.Build(g, clip.Preprocess.Build(g, image, o), o)
		return gram(g, layers[t.Layer-1], 0), []given{{image, rgb}}
	})
	if err != nil {
		return nil, err
	}
	var losses *graph.Node
	for row := range b.samples.Shape[0] {
		loss := b.MeanSquaredError(gram(b.Graph, seen.layers[t.Layer-1], row), wanted)
		if losses == nil {
			losses = loss
		} else {
			losses = b.Concat(losses, loss, 0)
		}
	}
	return losses, nil
}

// gram tells which features of a row's patches occur together: of hidden states
// [N 1+T D] the mean over T patches of the products of all pairs, [1 D D].
func gram(g *graph.Graph, hidden *graph.Node, row int) *graph.Node {
	tokens, width := hidden.Shape[1], hidden.Shape[2]
	patches := g.Slice(g.Slice(hidden, 0, row, row+1), 1, 1, tokens)
	patches = g.Reshape(patches, tokens-1, width)
	products := g.MatMul(patches, patches, nil, graph.MatMulAttrs{TransA: true})
	return g.Reshape(g.Affine(products, 1/float64(tokens-1), 0), 1, width, width)
}
