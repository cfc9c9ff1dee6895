package studio

import (
	"math"

	"github.com/sdo-go/sdo/graph"
)

// Pictures is a batch as RGBA bytes, row-major, one after the other.
type Pictures struct {
	Count  int     `json:"count"`
	Width  int     `json:"width"`
	Height int     `json:"height"`
	RGBA   *Buffer `json:"rgba"`
}

func (p *Pictures) buffers() []*Buffer {
	if p == nil {
		return nil
	}
	return []*Buffer{p.RGBA}
}

// newPictures turns images [N C H W] in [-1, 1] of one or three channels into
// bytes, rounding to nearest as the native reports do.
func newPictures(images []float64, shape graph.Shape) *Pictures {
	count, channels, size := len(images)/(shape[1]*shape[2]*shape[3]), shape[1], shape[2]*shape[3]
	rgba := make([]byte, 4*count*size)
	for n := range count {
		planes := images[n*channels*size:]
		for i := range size {
			out := rgba[4*(n*size+i):]
			for c := range 3 {
				out[c] = level(planes[c*(channels-1)/2*size+i])
			}
			out[3] = 255
		}
	}
	return &Pictures{count, shape[3], shape[2], &Buffer{Data: rgba}}
}

func level(v float64) byte {
	return byte(math.Round(255 * min(1, max(0, (v+1)/2))))
}
