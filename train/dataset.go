package train

import (
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// Dataset is an endless, reproducible supply of labelled images.
type Dataset interface {
	// Shape is [channels height width].
	Shape() graph.Shape
	// Attributes is the schema of the labels.
	Attributes() model.Attributes
	// Example draws image number index of the stream seed into image, channel
	// by channel in [-1, 1], and returns one label per attribute. The same
	// arguments give the same image, always.
	Example(seed, index uint64, image []float32) (labels []int)
}

// Streams of random numbers, so that no two uses of one seed share any.
const (
	streamNoise = iota
	streamTime
	streamDrop
	streamAugment
)
