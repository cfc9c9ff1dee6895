package engine

import (
	"github.com/sdo-go/sdo/graph"
)

// symmetry is the mean squared difference from the mirror image.
func (b *termBuilder) symmetry() *graph.Node {
	x := b.samples
	return b.MeanSquaredError(x, b.Flip(x))
}
