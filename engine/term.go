package engine

import (
	"fmt"
	"io/fs"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
)

// termBuilder appends one term after another to a graph.
type termBuilder struct {
	*graph.Graph
	model   *Model
	files   fs.FS
	options PlanOptions // that preparations are planned under
	samples *graph.Node // as the denoiser makes them, [N C H W]
	prefix  string      // names the constants of the current term

	decoded *graph.Node     // the samples as pictures, once a term asked for them
	seen    map[int]clipped // what CLIP sees of cutouts without noise, once a term asked for it
	prepare []*preparation  // make the numbers of given
	given   []*given
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
		return b.symmetry(t)
	case "total_variation":
		return b.totalVariation(t)
	case "clip_similarity":
		return b.clipSimilarity(t)
	case "clip_style":
		return b.clipStyle(t)
	case "aesthetic":
		return b.aesthetic(t)
	}
	return nil, fmt.Errorf("the term %q is unknown", t.Term)
}

// pictures are the samples, decoded where they are latents: [N C H W], about
// [-1, 1].
func (b *termBuilder) pictures() *graph.Node {
	if b.decoded == nil {
		b.decoded = b.model.decode(b.Graph, b.samples)
		b.Block(b.prefix)
	}
	return b.decoded
}

// compared is what a term looks at that may say in which space.
func (b *termBuilder) compared(t recipes.Term) (*graph.Node, error) {
	switch {
	case t.Space != "latents":
		return b.pictures(), nil
	case b.model.Decoder == nil:
		return nil, fmt.Errorf("space is latents, and model %s makes pixels; leave space out", b.model.Name)
	}
	return b.samples, nil
}

// pictureShape is that of one sample as a picture, [1 C H W].
func (b *termBuilder) pictureShape() (graph.Shape, error) {
	s := append(graph.Shape{1}, b.samples.Shape[1:]...)
	if b.model.Decoder == nil {
		return s, nil
	}
	return b.model.Decoder.Config.ImageShape(s)
}

// ahead gives the term an input whose numbers a graph of its own makes once,
// before the run: prompts and pictures to compare with cost nothing in the loop.
func (b *termBuilder) ahead(name string, weights model.Source, build func(g *graph.Graph) (out *graph.Node, inputs []given)) (*graph.Node, error) {
	p := &preparation{weights: []model.Source{weights}}
	g, err := graph.Build(func(g *graph.Graph) {
		var out *graph.Node
		out, p.inputs = build(g)
		p.outputs = []*graph.Node{out}
	})
	if err == nil {
		p.plan, err = graph.CompileWith(g, b.options.compile(0), p.outputs)
	}
	if err != nil {
		return nil, err
	}
	in := &given{node: b.Input(b.prefix+"."+name, p.outputs[0].Shape...)}
	p.take = func(values [][]float64) error {
		in.values = values[0]
		return nil
	}
	b.prepare, b.given = append(b.prepare, p), append(b.given, in)
	return in.node, nil
}
