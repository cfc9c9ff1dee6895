package engine

import (
	"errors"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
)

// headPrefix begins the names of the aesthetic head's parameters.
const headPrefix = "aesthetic."

// aesthetic is what the head's score of CLIP's image embedding is below the
// target, 0 beyond: its gradient does not grow with the distance, and a picture
// that is good enough is left alone.
func (b *termBuilder) aesthetic(t recipes.Term) (*graph.Node, error) {
	if b.model.Aesthetic == nil {
		return nil, errors.New("no head is at hand; name its file with aesthetic")
	}
	seen, err := b.look(0, nil)
	if err != nil {
		return nil, err
	}
	score := b.model.Aesthetic.Build(b.Graph, seen.embeds, model.BuildOptions{Prefix: headPrefix})
	return b.ReLU(b.Affine(score, -1, t.Score)), nil
}
