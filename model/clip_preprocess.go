package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"

	"github.com/sdo-go/sdo/graph"
)

const preprocessorFile = "preprocessor_config.json"

// CLIPPreprocess says how pictures are made fit for an image tower: resized, cut
// to a square in their middle and normalised, as transformers' CLIPImageProcessor
// does.
type CLIPPreprocess struct {
	ShortestEdge int          // the shorter side is resized to, 0 for both sides to Height and Width
	Height       int          // of the square that is cut out, or that pictures are resized to
	Width        int          // equal to Height
	Filter       graph.Filter // of the resizing, which is antialiased
	Mean, Std    [3]float64   // of the channels of pictures in [0, 1]
}

// DefaultCLIPPreprocess holds the numbers of OpenAI's CLIP, for pictures of size
// pixels a side.
func DefaultCLIPPreprocess(size int) CLIPPreprocess {
	return CLIPPreprocess{
		ShortestEdge: size, Height: size, Width: size, Filter: graph.Bicubic,
		Mean: [3]float64{0.48145466, 0.4578275, 0.40821073},
		Std:  [3]float64{0.26862954, 0.26130258, 0.27577711},
	}
}

// Size is the side of the pictures that come out.
func (p CLIPPreprocess) Size() int { return p.Height }

// LoadCLIPPreprocess reads a preprocessor_config.json; where there is none, the
// defaults of transformers' class hold.
func LoadCLIPPreprocess(fsys fs.FS, dir string) (CLIPPreprocess, error) {
	name := path.Join(dir, preprocessorFile)
	text, err := ReadConfig(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return DefaultCLIPPreprocess(224), nil
	}
	if err != nil {
		return CLIPPreprocess{}, err
	}
	p, err := ParseCLIPPreprocess(text)
	if err != nil {
		return p, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// byteScale is what transformers scales pictures of bytes by.
const byteScale = 1. / 255

// edges is a size in a preprocessor_config.json: a number, or an object of
// height and width or of shortest_edge.
type edges struct{ height, width, shortest int }

func (e *edges) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	var side int
	if json.Unmarshal(text, &side) == nil {
		*e = edges{shortest: side}
		return nil
	}
	var o struct {
		Height   int `json:"height"`
		Width    int `json:"width"`
		Shortest int `json:"shortest_edge"`
	}
	if err := DecodeStrict(text, &o); err != nil {
		return err
	}
	*e = edges{o.Height, o.Width, o.Shortest}
	return nil
}

// channelValues are a number for each channel in a preprocessor_config.json, or one
// for all of them.
type channelValues [3]float64

func (c *channelValues) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	var all float64
	if json.Unmarshal(text, &all) == nil {
		*c = channelValues{all, all, all}
		return nil
	}
	var each []float64
	if json.Unmarshal(text, &each) != nil || len(each) != len(c) {
		return fmt.Errorf("image_mean or image_std is %s, want a number or three", onOneLine(text))
	}
	*c = channelValues(each)
	return nil
}

// ParseCLIPPreprocess reads a preprocessor_config.json: what a graph cannot
// compute is refused by name.
func ParseCLIPPreprocess(text []byte) (CLIPPreprocess, error) {
	p := DefaultCLIPPreprocess(224)
	c := struct {
		DoResize     bool          `json:"do_resize"`
		Size         edges         `json:"size"`
		Resample     int           `json:"resample"`
		DoCenterCrop bool          `json:"do_center_crop"`
		CropSize     edges         `json:"crop_size"`
		DoRescale    bool          `json:"do_rescale"`
		Rescale      float64       `json:"rescale_factor"`
		DoNormalize  bool          `json:"do_normalize"`
		ImageMean    channelValues `json:"image_mean"`
		ImageStd     channelValues `json:"image_std"`
	}{true, edges{shortest: 224}, 3, true, edges{height: 224, width: 224}, true, byteScale, true, p.Mean, p.Std}
	if err := json.Unmarshal(text, &c); err != nil { // null is the default, as in transformers
		return p, plain(err)
	}
	if !c.DoResize {
		return p, unsupported("do_resize", false, "true")
	}
	if !c.DoRescale {
		return p, unsupported("do_rescale", false, "true")
	}
	if math.Abs(c.Rescale/byteScale-1) > 1e-3 {
		return p, unsupported("rescale_factor", c.Rescale, "1/255, which takes bytes to numbers up to 1")
	}
	if !c.DoNormalize {
		return p, unsupported("do_normalize", false, "true")
	}
	switch c.Resample {
	case 2:
		p.Filter = graph.Bilinear
	case 3:
		p.Filter = graph.Bicubic
	default:
		return p, unsupported("resample", c.Resample, "2 (bilinear) or 3 (bicubic)")
	}
	p.ShortestEdge, p.Height, p.Width = c.Size.shortest, c.Size.height, c.Size.width
	if c.DoCenterCrop {
		if c.CropSize.shortest > 0 { // one number is both sides here
			c.CropSize.height, c.CropSize.width = c.CropSize.shortest, c.CropSize.shortest
		}
		p.Height, p.Width = c.CropSize.height, c.CropSize.width
	} else if p.ShortestEdge > 0 {
		return p, unsupported("do_center_crop", false, "true where size has a shortest_edge")
	}
	p.Mean, p.Std = c.ImageMean, c.ImageStd
	return p, p.Validate()
}

// Validate reports the first value that makes no picture.
func (p CLIPPreprocess) Validate() error {
	if p.Height < 1 || p.Height > maxSide || p.Width != p.Height {
		return fmt.Errorf("crop_size of %dx%d is not supported, want a square of at most %d pixels a side", p.Height, p.Width, maxSide)
	}
	if p.ShortestEdge != 0 && (p.ShortestEdge < p.Height || p.ShortestEdge > maxSide) {
		return unsupported("size", p.ShortestEdge, fmt.Sprintf("a number from crop_size, %d, to %d", p.Height, maxSide))
	}
	for i, std := range p.Std {
		if !(std > 0) || !isFinite(std) || !isFinite(p.Mean[i]) {
			return fmt.Errorf("image_mean %g and image_std %g must be numbers, the latter positive", p.Mean, p.Std)
		}
	}
	return nil
}

// Build appends the preparation to g: pictures [N 3 H W] in [-1, 1] to
// [N 3 Size Size], differentiable to the pictures. Nothing is rounded to bytes.
func (p CLIPPreprocess) Build(g *graph.Graph, images *graph.Node, o BuildOptions) *graph.Node {
	if err := p.Validate(); err != nil {
		fail("clip: %v", err)
	}
	s := images.Shape
	if len(s) != 4 || s[1] != 3 {
		fail("clip: pictures %v must be [N 3 H W]", s)
	}
	height, width := p.Height, p.Width
	if edge := p.ShortestEdge; edge > 0 {
		height, width = edge, edge
		if s[2] < s[3] {
			width = edge * s[3] / s[2]
		} else {
			height = edge * s[2] / s[3]
		}
	}
	x := g.Resize(images, height, width, graph.ResizeAttrs{Filter: p.Filter, Antialias: true})
	if height > p.Height {
		top := (height - p.Height) / 2
		x = g.Slice(x, 2, top, top+p.Height)
	}
	if width > p.Width {
		left := (width - p.Width) / 2
		x = g.Slice(x, 3, left, left+p.Width)
	}
	var scales, shifts []float64
	for i, std := range p.Std { // [-1, 1] to [0, 1] in the same step
		scales, shifts = append(scales, 0.5/std), append(shifts, (0.5-p.Mean[i])/std)
	}
	return newBuilder(g, o).perChannel("clip_preprocess", x, scales, shifts)
}
