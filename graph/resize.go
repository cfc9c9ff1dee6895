package graph

import (
	"fmt"
	"math"
)

// Filter is how Resize interpolates between pixels.
type Filter int

const (
	Bilinear Filter = iota
	Bicubic
)

func (f Filter) String() string { return [...]string{"bilinear", "bicubic"}[f] }

// ResizeAttrs are the choices of PyTorch's F.interpolate with align_corners
// False.
type ResizeAttrs struct {
	Filter    Filter
	Antialias bool // widen the filter where the image shrinks, so that no pixel is passed over
}

// Resize interpolates x [N C H W] to [N C h w]. An axis at a time is multiplied
// by a constant matrix, first the one that leaves less to do.
func (g *Graph) Resize(x *Node, h, w int, attrs ResizeAttrs) *Node {
	wantRank("resize", "input", x, 4)
	if h < 1 || w < 1 {
		fail("resize: an image of %dx%d", h, w)
	}
	if attrs.Filter != Bilinear && attrs.Filter != Bicubic {
		fail("resize: unknown filter %d", attrs.Filter)
	}
	height, width := x.Shape[2], x.Shape[3]
	if width*h < w*height { // rows shrink by more
		return g.resizeColumns(g.resizeRows(x, w, attrs), h, attrs)
	}
	return g.resizeRows(g.resizeColumns(x, h, attrs), w, attrs)
}

// resizeRows makes rows w wide.
func (g *Graph) resizeRows(x *Node, w int, attrs ResizeAttrs) *Node {
	s := x.Shape
	if s[3] == w {
		return x
	}
	flat := g.Reshape(x, s[0]*s[1]*s[2], s[3])
	y := g.MatMul(flat, g.interpolation(s[3], w, attrs), nil, MatMulAttrs{TransB: true})
	return g.Reshape(y, s[0], s[1], s[2], w)
}

// resizeColumns makes columns h high.
func (g *Graph) resizeColumns(x *Node, h int, attrs ResizeAttrs) *Node {
	s := x.Shape
	if s[2] == h {
		return x
	}
	turned := g.Transpose(g.Reshape(x, s[0]*s[1], s[2], s[3]))
	y := g.resizeRows(g.Reshape(turned, s[0], s[1], s[3], s[2]), h, attrs)
	return g.Reshape(g.Transpose(g.Reshape(y, s[0]*s[1], s[3], h)), s[0], s[1], h, s[3])
}

// interpolation is the matrix [to from] that resizes an axis.
func (g *Graph) interpolation(from, to int, attrs ResizeAttrs) *Node {
	name := fmt.Sprintf("resize.%v.%d.%d", attrs.Filter, from, to)
	if attrs.Antialias {
		name += ".antialias"
	}
	if n := g.Lookup(name); n != nil {
		return n
	}
	data := make([]float32, 0, from*to)
	for i := range to {
		for _, v := range taps(i, from, to, attrs) {
			data = append(data, float32(v))
		}
	}
	return g.Const(name, data, to, from)
}

// taps are the weights of the from old pixels in new pixel i of to. Pixels are
// squares with their middle at a half.
func taps(i, from, to int, attrs ResizeAttrs) []float64 {
	weights := make([]float64, from)
	scale := float64(from) / float64(to)
	middle := (float64(i) + 0.5) * scale
	radius, kernel := 1.0, triangle
	if attrs.Filter == Bicubic {
		radius, kernel = 2, cubic(-0.75)
		if attrs.Antialias {
			kernel = cubic(-0.5)
		}
	}
	if attrs.Antialias { // weights beyond the border are shared out among the others
		wide := max(scale, 1)
		first, last := max(0, int(middle-radius*wide+0.5)), min(from, int(middle+radius*wide+0.5))
		total := 0.0
		for j := first; j < last; j++ {
			weights[j] = kernel((float64(j) - middle + 0.5) / wide)
			total += weights[j]
		}
		for j := first; j < last; j++ {
			weights[j] /= total
		}
		return weights
	}
	middle -= 0.5
	if attrs.Filter == Bilinear {
		middle = max(middle, 0)
	}
	for j := int(math.Floor(middle - radius)); j <= int(math.Ceil(middle+radius)); j++ { // the border pixel repeats
		weights[min(max(j, 0), from-1)] += kernel(float64(j) - middle)
	}
	return weights
}

func triangle(x float64) float64 { return max(0, 1-math.Abs(x)) }

// cubic is Keys' kernel, "Cubic convolution interpolation for digital image
// processing" (1981), with slope a at 1.
func cubic(a float64) func(float64) float64 {
	return func(x float64) float64 {
		switch x = math.Abs(x); {
		case x < 1:
			return ((a+2)*x-(a+3))*x*x + 1
		case x < 2:
			return ((a*x-5*a)*x+8*a)*x - 4*a
		}
		return 0
	}
}

// fir is the kernel of diffusers' upfirdn2d layers, an outer product of this
// with itself; its sum is 1 along each axis once divided by 8.
var fir = [4]float32{1, 3, 3, 1}

// FIRDownsample2x halves x [N C H W] under the filter (1 3 3 1)/8 along both
// axes, with zeros beyond the border: diffusers' FirDownsample2D.
func (g *Graph) FIRDownsample2x(x *Node) *Node {
	wantRank("fir_downsample2x", "input", x, 4)
	s := x.Shape
	y := g.Conv2D(g.Reshape(x, s[0]*s[1], 1, s[2], s[3]), g.firKernel("fir.down", 64), nil, firGeometry)
	return g.Reshape(y, s[0], s[1], y.Shape[2], y.Shape[3])
}

// FIRUpsample2x doubles x [N C H W] under the filter (1 3 3 1)/4 along both
// axes, with zeros beyond the border: diffusers' FirUpsample2D.
func (g *Graph) FIRUpsample2x(x *Node) *Node {
	wantRank("fir_upsample2x", "input", x, 4)
	s := x.Shape
	y := g.ConvTranspose2D(g.Reshape(x, s[0]*s[1], 1, s[2], s[3]), g.firKernel("fir.up", 16), 2*s[2], 2*s[3], firGeometry)
	return g.Reshape(y, s[0], s[1], 2*s[2], 2*s[3])
}

var firGeometry = Conv2DAttrs{Stride: 2, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1}

// firKernel treats every channel as an image of one.
func (g *Graph) firKernel(name string, divisor float32) *Node {
	if n := g.Lookup(name); n != nil {
		return n
	}
	data := make([]float32, 0, len(fir)*len(fir))
	for _, a := range fir {
		for _, b := range fir {
			data = append(data, a*b/divisor)
		}
	}
	return g.Const(name, data, 1, 1, len(fir), len(fir))
}
