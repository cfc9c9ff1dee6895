package engine

import (
	"fmt"
	"io/fs"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
)

// termBuilder appends one term after another to a graph.
type termBuilder struct {
	*graph.Graph
	model   *Model
	files   fs.FS
	samples *graph.Node // as the denoiser makes them, [N C H W]
	prefix  string      // names the constants of the current term
}

// term returns the term's loss per row, [N].
func (b *termBuilder) term(t recipes.Term) (*graph.Node, error) {
	switch t.Term {
	case "attribute":
		return b.attribute(t)
	case "region_color":
		return b.regionColor(t)
	case "pixels":
		return b.pixels(t)
	case "inpaint":
		return b.inpaint(t)
	case "symmetry":
		return b.symmetry(), nil
	case "total_variation":
		return b.totalVariation(), nil
	}
	return nil, fmt.Errorf("the term %q is unknown", t.Term)
}
