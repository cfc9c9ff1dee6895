package engine

import (
	"fmt"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
)

// regionColor is the squared distance of the region's mean colour from the
// wanted one, averaged over the channels, in the network's units of [-1, 1].
func (b *termBuilder) regionColor(t recipes.Term) (*graph.Node, error) {
	pictures := b.pictures()
	s := pictures.Shape
	n, c, h, w := s[0], s[1], s[2], s[3]
	if c != 3 {
		return nil, fmt.Errorf("colours need 3 channels, the model has %d", c)
	}
	share := make([]float32, h*w)
	bounds := t.Region.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			share[y*w+x] = 1 / float32(bounds.Dx()*bounds.Dy())
		}
	}
	weighted := b.MulBroadcast(pictures, b.Const(b.prefix+".region", share, h*w), n*c, h*w, 1)
	mean := b.ReduceSum(weighted, 1, n*c, h*w, n, c)
	rgb := t.Color.RGB()
	color := make([]float32, c)
	for i, v := range rgb {
		color[i] = float32(1 - 2*v) // minus the colour in [-1, 1]
	}
	distance := b.AddBroadcast(mean, b.Const(b.prefix+".color", color, c), n, c, 1)
	return b.RowMean(b.Mul(distance, distance)), nil
}
