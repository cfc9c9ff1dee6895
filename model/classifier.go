package model

import (
	"fmt"
	"slices"

	"github.com/sdo-go/sdo/graph"
)

const classifierClass = "AttributeClassifier"

// ClassifierConfig describes a small convolutional network that reads the
// attributes of an image. Level i has LayersPerLevel convolutions of Widths[i]
// channels, each followed by group norm and SiLU; the first of every level but
// the first halves the image. One linear layer over all that is left gives the
// logits of all attributes side by side. It looks at every place separately,
// without pooling: a mouth is a few pixels at a known place, and an average over
// the picture all but loses it.
type ClassifierConfig struct {
	ClassName      string     `json:"_class_name"`
	InChannels     int        `json:"in_channels"`
	SampleSize     SampleSize `json:"sample_size"`
	Widths         []int      `json:"widths"`
	LayersPerLevel int        `json:"layers_per_level"`
	NormNumGroups  int        `json:"norm_num_groups"`
	NormEps        float64    `json:"norm_eps"`
	Attributes     Attributes `json:"attributes"`
}

// NewClassifierConfig fills in what is rarely changed: RGB, two convolutions a
// level, groups of 8.
func NewClassifierConfig(size int, widths []int, attributes Attributes) ClassifierConfig {
	return ClassifierConfig{
		ClassName: classifierClass, InChannels: 3, SampleSize: SampleSize{size, size}, Widths: widths,
		LayersPerLevel: 2, NormNumGroups: 8, NormEps: 1e-5, Attributes: attributes,
	}
}

// ParseClassifierConfig reads a classifier's config.json.
func ParseClassifierConfig(text []byte) (ClassifierConfig, error) {
	c := NewClassifierConfig(0, nil, nil)
	c.ClassName = ""
	if err := DecodeStrict(text, &c); err != nil {
		return c, fmt.Errorf("config.json: %w", err)
	}
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("config.json: %w", err)
	}
	return c, nil
}

// Validate reports the first value that makes no network.
func (c ClassifierConfig) Validate() error {
	switch {
	case c.ClassName != classifierClass:
		return fmt.Errorf("_class_name %.100q is not supported, want %q", c.ClassName, classifierClass)
	case c.InChannels < 1 || c.LayersPerLevel < 1 || c.NormNumGroups < 1 || !(c.NormEps > 0 && c.NormEps < 1):
		return fmt.Errorf("in_channels %d, layers_per_level %d and norm_num_groups %d must be positive, norm_eps %g between 0 and 1",
			c.InChannels, c.LayersPerLevel, c.NormNumGroups, c.NormEps)
	case c.InChannels > maxChannels:
		return unsupported("in_channels", c.InChannels, fmt.Sprintf("a number from 1 to %d", maxChannels))
	case min(c.SampleSize[0], c.SampleSize[1]) < 1 || max(c.SampleSize[0], c.SampleSize[1]) > maxSide:
		return fmt.Errorf("sample_size %v must be 1 to %d pixels a side", c.SampleSize, maxSide)
	case c.LayersPerLevel > maxLayers:
		return fmt.Errorf("layers_per_level %d is not supported, want at most %d", c.LayersPerLevel, maxLayers)
	case len(c.Widths) == 0 || len(c.Widths) > maxLevels || slices.Min(c.Widths) < 1 || slices.Max(c.Widths) > maxChannels:
		return fmt.Errorf("widths %s must be 1 to %d positive numbers", short(fmt.Sprint(c.Widths)), maxLevels)
	}
	for _, w := range c.Widths {
		if w%c.NormNumGroups != 0 {
			return fmt.Errorf("norm_num_groups %d does not divide the width %d", c.NormNumGroups, w)
		}
	}
	return c.Attributes.Validate()
}

// Build appends the network to g: images [N C H W] in [-1, 1] to logits
// [N Attributes.Logits()], differentiable to the images.
func (c ClassifierConfig) Build(g *graph.Graph, images *graph.Node, storage graph.Storage) *graph.Node {
	return c.build(&builder{Graph: g, storage: storage}, images)
}

// Params lists the state dict in the order the network uses it.
func (c ClassifierConfig) Params() ([]Param, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	b, err := declare(func(b *builder) {
		c.build(b, b.Input("images", 1, c.InChannels, c.SampleSize[0], c.SampleSize[1]))
	})
	if err != nil {
		return nil, err
	}
	return b.params, nil
}

func (c ClassifierConfig) build(b *builder, x *graph.Node) *graph.Node {
	if err := c.Validate(); err != nil {
		fail("classifier: %v", err)
	}
	for i, width := range c.Widths {
		for j := range c.LayersPerLevel {
			name := fmt.Sprintf("levels.%d.layers.%d", i, j)
			geometry := graph.Same(3)
			if i > 0 && j == 0 {
				geometry.Stride = 2
			}
			x = b.conv(name+".conv", x, width, 3, geometry)
			x = b.groupNorm(name+".norm", x, c.NormNumGroups, c.NormEps, true)
		}
	}
	flat := b.Reshape(x, x.Shape[0], x.Shape[1:].Size())
	return b.linear("head", flat, c.Attributes.Logits())
}

// AttributeLogits cuts one attribute's logits [N values] out of all logits.
func (c ClassifierConfig) AttributeLogits(g *graph.Graph, logits *graph.Node, attribute string) (*graph.Node, error) {
	from, to, err := c.Attributes.LogitRange(attribute)
	if err != nil {
		return nil, err
	}
	return g.Slice(logits, 1, from, to), nil
}
