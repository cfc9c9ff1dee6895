package engine

import (
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
)

// clipSimilarity is 1 - the cosine of CLIP's embeddings of picture and prompt,
// averaged over cutouts of the picture. Cutouts and their noise are drawn once,
// so the loss stays a function of the picture.
func (b *termBuilder) clipSimilarity(t recipes.Term) (*graph.Node, error) {
	text, err := b.wanted(t.Prompt)
	if err != nil {
		return nil, err
	}
	var sum *graph.Node
	for k := range t.Cutouts {
		seen, err := b.look(k, t.Noise)
		if err != nil {
			return nil, err
		}
		n, width := seen.embeds.Shape[0], seen.embeds.Shape[1]
		sum = b.plus(sum, b.RowSum(b.MulBroadcast(b.L2Normalize(seen.embeds, unitEps), text, n, width, 1)))
	}
	return b.Affine(sum, -1/float64(t.Cutouts), 1), nil
}

// unitEps keeps an embedding of zeros from a division by nothing.
const unitEps = 1e-12

// wanted is CLIP's embedding of a prompt, of length 1: [1 P].
func (b *termBuilder) wanted(prompt string) (*graph.Node, error) {
	clip := b.model.CLIP
	if clip == nil {
		return nil, errNoCLIP
	}
	tokens, err := clip.Tokenizer.Encode(prompt)
	if err != nil {
		return nil, err
	}
	ids := make([]float64, len(tokens))
	for i, token := range tokens {
		ids[i] = float64(token)
	}
	return b.ahead("prompt", clip.Text.Weights, func(g *graph.Graph) (*graph.Node, []given) {
		in, end := g.Input("ids", 1, len(ids)), g.Input("end", 1)
		_, embeds := clip.Text.Config.Build(g, in, end, model.BuildOptions{Storage: storageOf(clip.Text.Stored)})
		return g.L2Normalize(embeds, unitEps), []given{{in, ids}, {end, clip.Text.Config.Ends([][]int{tokens})}}
	})
}
