package engine

import (
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
)

// symmetry is the mean squared difference from the mirror image.
func (b *termBuilder) symmetry(t recipes.Term) (*graph.Node, error) {
	x, err := b.compared(t)
	if err != nil {
		return nil, err
	}
	return b.MeanSquaredError(x, b.Flip(x)), nil
}
