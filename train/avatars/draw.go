package avatars

import (
	"image"
	"math/bits"
)

// RGB is an opaque sRGB colour.
type RGB [3]uint8

// Avatar says what is drawn: parts and colours. It is comparable, and two equal
// avatars have the same picture.
type Avatar struct {
	Background RGB
	Parts      [Kinds]uint8 // place in PartNames, 0 for none; of Skin ignored
	Inks       [Kinds]RGB   // colour of each kind; of Beard ignored
}

// Pixels of one picture, three channels.
const Pixels = 3 * Size * Size

// Draw writes the picture into dst[:Pixels] as [3,16,16], channels first, with
// values byte/127.5 - 1 in [-1, 1].
func (a Avatar) Draw(dst []float32) {
	const plane = Size * Size
	_ = dst[:Pixels]
	pixels := a.compose()
	for i, c := range pixels {
		dst[i] = float32(c[0])/127.5 - 1
		dst[plane+i] = float32(c[1])/127.5 - 1
		dst[2*plane+i] = float32(c[2])/127.5 - 1
	}
}

// Image is the picture for looking at, 16 by 16 pixels.
func (a Avatar) Image() *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, Size, Size))
	for i, c := range a.compose() {
		copy(img.Pix[4*i:], []uint8{c[0], c[1], c[2], 255})
	}
	return img
}

// compose lays the parts over the background, row by row from the top left.
func (a Avatar) compose() (canvas [Size * Size]RGB) {
	for i := range canvas {
		canvas[i] = a.Background
	}
	for kind, place := range a.Parts {
		if Kind(kind) == Skin {
			place = 1
		}
		for _, l := range parts[kind][place].layers {
			ink := a.color(l.ink)
			for y, row := range l.pixels {
				for ; row != 0; row &= row - 1 {
					x := Size - 1 - bits.TrailingZeros16(row)
					pixel := &canvas[y*Size+x]
					*pixel = pixel.under(ink, l.alpha)
				}
			}
		}
	}
	return canvas
}

var whiteInk = RGB{255, 255, 255}

func (a *Avatar) color(ink Kind) RGB {
	switch ink {
	case white:
		return whiteInk
	case black:
		return RGB{}
	}
	return a.Inks[ink]
}

// under is c seen through another colour at an opacity of alpha/255. The two
// roundings, to nearest for the colour above and up for the one below, are those
// of the reference renderer's eight-bit pipeline.
func (c RGB) under(above RGB, alpha uint8) RGB {
	opacity := int(alpha)
	for i := range c {
		c[i] = uint8((2*int(above[i])*opacity+255)/510 + (int(c[i])*(255-opacity)+255)/256)
	}
	return c
}
