package engine

import (
	"fmt"
	"io/fs"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
)

func (b *termBuilder) pixels(t recipes.Term) (*graph.Node, error) {
	rgb, mask, err := t.Target(b.files, b.samples.Shape[3], b.samples.Shape[2])
	if err != nil {
		return nil, err
	}
	return b.match(rgb, mask)
}

func (b *termBuilder) inpaint(t recipes.Term) (*graph.Node, error) {
	rgb, mask, err := inpaintTarget(t, b.files, b.samples.Shape[3], b.samples.Shape[2])
	if err != nil {
		return nil, err
	}
	return b.match(rgb, mask)
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
// the pixels whose mask is 1, in the network's units of [-1, 1]. A model of one
// channel is held to the mean of the planes.
func (b *termBuilder) match(rgb, mask []float64) (*graph.Node, error) {
	s := b.samples.Shape
	n, c, pixels := s[0], s[1], s[2]*s[3]
	planes, err := inChannels(rgb, c)
	if err != nil {
		return nil, err
	}
	target, weight := make([]float32, c*pixels), make([]float32, c*pixels)
	counted := 0.0
	for _, m := range mask {
		counted += m
	}
	if counted == 0 {
		return nil, fmt.Errorf("no pixel counts: the mask is empty")
	}
	for i, v := range planes {
		target[i] = float32(1 - 2*v)
		weight[i] = float32(mask[i%pixels] / (counted * float64(c)))
	}
	size := c * pixels
	d := b.AddBroadcast(b.samples, b.Const(b.prefix+".target", target, size), n, size, 1)
	return b.RowSum(b.MulBroadcast(b.Mul(d, d), b.Const(b.prefix+".weight", weight, size), n, size, 1)), nil
}
