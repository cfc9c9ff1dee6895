package engine

import (
	"fmt"
	"io/fs"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
)

// pixels is the mean squared difference from a sketch or a picture.
func (b *termBuilder) pixels(t recipes.Term) (*graph.Node, error) {
	shape, err := b.pictureShape()
	if err != nil {
		return nil, err
	}
	rgb, mask, err := t.Target(b.files, shape[3], shape[2])
	if err != nil {
		return nil, err
	}
	return b.match(t, rgb, mask)
}

// inpaint is the mean squared difference from the part of a picture that is not
// hidden.
func (b *termBuilder) inpaint(t recipes.Term) (*graph.Node, error) {
	shape, err := b.pictureShape()
	if err != nil {
		return nil, err
	}
	rgb, mask, err := inpaintTarget(t, b.files, shape[3], shape[2])
	if err != nil {
		return nil, err
	}
	return b.match(t, rgb, mask)
}

// inpaintTarget is the picture an inpaint term restores, planes in 0..1, with a
// mask that is 0 where it is hidden.
func inpaintTarget(t recipes.Term, files fs.FS, width, height int) (rgb, mask []float64, err error) {
	if rgb, mask, err = picture(*t.Source, files, width, height); err != nil {
		return nil, nil, err
	}
	hidden := t.Hidden.In(width, height)
	for y := hidden.Min.Y; y < hidden.Max.Y; y++ {
		for x := hidden.Min.X; x < hidden.Max.X; x++ {
			mask[y*width+x] = 0
		}
	}
	return rgb, mask, nil
}

// match is the mean squared difference from a picture, rgb planes in 0..1, over
// the pixels whose mask is 1, in the network's units: of [-1, 1], or of latents
// where the term says so. A model of one channel is held to the mean of the
// planes.
func (b *termBuilder) match(t recipes.Term, rgb, mask []float64) (*graph.Node, error) {
	compared, err := b.compared(t)
	if err != nil {
		return nil, err
	}
	shape, err := b.pictureShape()
	if err != nil {
		return nil, err
	}
	planes, err := inChannels(rgb, shape[1])
	if err != nil {
		return nil, err
	}
	for i, v := range planes {
		planes[i] = 2*v - 1
	}
	n, c, h, w := compared.Shape[0], compared.Shape[1], compared.Shape[2], compared.Shape[3]
	size := c * h * w
	var minus *graph.Node // the target
	if t.Space == "latents" {
		target, err := b.encoded(planes, mask, shape)
		if err != nil {
			return nil, err
		}
		minus, mask = b.Affine(target, -1, 0), shares(mask, shape[3], shape[2], w, h)
	} else {
		negated := make([]float32, size)
		for i, v := range planes {
			negated[i] = float32(-v)
		}
		minus = b.Const(b.prefix+".target", negated, size)
	}
	counted := 0.0
	for _, m := range mask {
		counted += m
	}
	if counted == 0 {
		return nil, fmt.Errorf("no pixel counts: the mask is empty")
	}
	weight := make([]float32, size)
	for i := range weight {
		weight[i] = float32(mask[i%(h*w)] / (counted * float64(c)))
	}
	d := b.AddBroadcast(compared, minus, n, size, 1)
	return b.RowSum(b.MulBroadcast(b.Mul(d, d), b.Const(b.prefix+".weight", weight, size), n, size, 1)), nil
}

// encoded are the latents of a picture of shape [1 C H W], grey where its mask
// is 0.
func (b *termBuilder) encoded(planes, mask []float64, shape graph.Shape) (*graph.Node, error) {
	for i := range planes {
		planes[i] *= mask[i%len(mask)]
	}
	a := b.model.Decoder
	return b.ahead("target", a.Weights, func(g *graph.Graph) (*graph.Node, []given) {
		image := g.Input("image", shape...)
		return a.Config.BuildEncoder(g, image, model.BuildOptions{Storage: storageOf(a.Stored)}), []given{{image, planes}}
	})
}

// shares is a mask of width x height pixels over a coarser grid: of each of its
// cells the share of the pixels that count.
func shares(mask []float64, width, height, columns, rows int) []float64 {
	coarse := make([]float64, columns*rows)
	for y := range height {
		for x := range width {
			coarse[y*rows/height*columns+x*columns/width] += mask[y*width+x]
		}
	}
	for i := range coarse {
		coarse[i] *= float64(columns*rows) / float64(width*height)
	}
	return coarse
}
