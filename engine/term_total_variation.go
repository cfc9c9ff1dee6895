package engine

import (
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
)

// smoothCorner rounds the absolute value of total variation: about one step of
// an 8-bit channel.
const smoothCorner = 1.0 / 128

// totalVariation is the mean rounded absolute difference of neighbouring
// pixels, across and down.
func (b *termBuilder) totalVariation(t recipes.Term) (*graph.Node, error) {
	x, err := b.compared(t)
	if err != nil {
		return nil, err
	}
	s := x.Shape
	var sum *graph.Node
	for axis := 2; axis <= 3; axis++ {
		if s[axis] < 2 {
			continue
		}
		d := b.Sub(b.Slice(x, axis, 1, s[axis]), b.Slice(x, axis, 0, s[axis]-1))
		sum = b.plus(sum, b.RowMean(b.SmoothAbs(d, smoothCorner)))
	}
	if sum == nil {
		return b.RowMean(b.Affine(x, 0, 0)), nil
	}
	return sum, nil
}
