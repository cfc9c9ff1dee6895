package report

import (
	"fmt"
	"image"
	"image/color"
	"math"

	"gorgonia.org/tensor"
)

// pictures turns a batch [n, channels, height, width] in -1..1 into n pictures,
// grey ones for one channel. The change from planes to pixels is one
// transposition of the host tensor.
func pictures(batch []float64, n, channels, width, height int) ([]*image.NRGBA, error) {
	t := tensor.New(tensor.WithShape(n, channels, height, width), tensor.WithBacking(append([]float64(nil), batch...)))
	if err := t.T(0, 2, 3, 1); err != nil {
		return nil, fmt.Errorf("pictures: %w", err)
	}
	if err := t.Transpose(); err != nil {
		return nil, fmt.Errorf("pictures: %w", err)
	}
	pixels := t.Data().([]float64)
	out := make([]*image.NRGBA, n)
	for k := range out {
		out[k] = image.NewNRGBA(image.Rect(0, 0, width, height))
		for i := range width * height {
			p := pixels[(k*width*height+i)*channels:][:channels]
			// The first channel and the last are the same one in a grey picture.
			out[k].SetNRGBA(i%width, i/width, color.NRGBA{level(p[0]), level(p[channels/2]), level(p[channels-1]), 255})
		}
	}
	return out, nil
}

// level maps -1..1 to a byte; what lies outside is clipped, NaN is black.
func level(x float64) uint8 {
	return uint8(math.Round(math.Max(0, math.Min(1, (x+1)/2)) * 255))
}
