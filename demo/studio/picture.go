package studio

import (
	"github.com/sdo-go/sdo/engine"
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

// newPictures turns images of a batch's shape [N C H W] into bytes.
func newPictures(images []float64, shape graph.Shape) *Pictures {
	count := len(images) / (shape[1] * shape[2] * shape[3])
	return &Pictures{count, shape[3], shape[2], &Buffer{Data: engine.RGBA(images, shape)}}
}
