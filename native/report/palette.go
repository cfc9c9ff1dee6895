package report

import (
	"image"
	"image/color"
	"math"
	"slices"
)

// A sheet has few colours in large flat squares, so dithering would only add
// noise and the palette can be nearly exact: median cut over the colours that
// occur, each weighted by the square root of its area (a large background
// should not buy shades that faces need), then two rounds of moving every
// entry to the mean of what it stands for. What the sheet itself is drawn with
// is kept exactly: over a film it must not shimmer.

const paletteSize = 256

// swatch is one colour that occurs, with its weight.
type swatch struct {
	rgb    [3]float64
	weight float64
	key    uint32
}

// quantize maps an opaque image to its own palette of at most 256 colours.
func quantize(src *image.RGBA) *image.Paletted {
	counts := map[uint32]int{}
	b := src.Bounds()
	for i := 0; i < len(src.Pix); i += 4 {
		counts[pack(src.Pix[i:])]++
	}
	swatches := make([]swatch, 0, len(counts))
	for key, n := range counts {
		swatches = append(swatches, swatch{
			rgb:    [3]float64{float64(key >> 16 & 255), float64(key >> 8 & 255), float64(key & 255)},
			weight: math.Sqrt(float64(n)), key: key,
		})
	}
	// A map has no order; the same picture should give the same bytes.
	slices.SortFunc(swatches, func(a, b swatch) int { return int(a.key) - int(b.key) })

	var exact [][3]float64
	for _, c := range []color.RGBA{paper, rule, brand} {
		if counts[pack([]uint8{c.R, c.G, c.B})] > 0 {
			exact = append(exact, [3]float64{float64(c.R), float64(c.G), float64(c.B)})
		}
	}
	rest := slices.DeleteFunc(slices.Clone(swatches), func(s swatch) bool { return slices.Contains(exact, s.rgb) })
	entries := exact
	if len(rest) > 0 {
		entries = append(entries, medianCut(rest, paletteSize-len(exact))...)
	}
	index := make(map[uint32]uint8, len(swatches))
	for range 2 {
		assign(swatches, entries, index)
		entries = append(exact, means(swatches, entries, index)[len(exact):]...)
	}
	assign(swatches, entries, index)

	palette := make(color.Palette, len(entries))
	for i, e := range entries {
		palette[i] = color.RGBA{uint8(e[0] + 0.5), uint8(e[1] + 0.5), uint8(e[2] + 0.5), 255}
	}
	dst := image.NewPaletted(b, palette)
	for i := range dst.Pix {
		dst.Pix[i] = index[pack(src.Pix[4*i:])]
	}
	return dst
}

func pack(p []uint8) uint32 { return uint32(p[0])<<16 | uint32(p[1])<<8 | uint32(p[2]) }

// medianCut splits the box with the largest weighted spread until there are n.
func medianCut(swatches []swatch, n int) [][3]float64 {
	type box struct {
		swatches []swatch
		axis     int
		spread   float64
	}
	measure := func(s []swatch) box {
		b := box{swatches: s}
		for axis := range 3 {
			var w, sum, squares float64
			for _, c := range s {
				w += c.weight
				sum += c.weight * c.rgb[axis]
				squares += c.weight * c.rgb[axis] * c.rgb[axis]
			}
			if spread := squares - sum*sum/w; spread > b.spread {
				b.axis, b.spread = axis, spread
			}
		}
		return b
	}
	boxes := []box{measure(swatches)}
	for len(boxes) < n {
		widest := 0
		for i, b := range boxes {
			if b.spread > boxes[widest].spread {
				widest = i
			}
		}
		b := boxes[widest]
		if len(b.swatches) < 2 || b.spread <= 0 {
			break
		}
		slices.SortStableFunc(b.swatches, func(x, y swatch) int { return int(x.rgb[b.axis]) - int(y.rgb[b.axis]) })
		total := 0.0
		for _, c := range b.swatches {
			total += c.weight
		}
		cut, half := 1, b.swatches[0].weight
		for cut < len(b.swatches)-1 && half < total/2 {
			half += b.swatches[cut].weight
			cut++
		}
		boxes[widest] = measure(b.swatches[:cut])
		boxes = append(boxes, measure(b.swatches[cut:]))
	}
	entries := make([][3]float64, len(boxes))
	for i, b := range boxes {
		var w float64
		for _, c := range b.swatches {
			w += c.weight
			for k := range 3 {
				entries[i][k] += c.weight * c.rgb[k]
			}
		}
		for k := range 3 {
			entries[i][k] /= w
		}
	}
	return entries
}

// assign finds the nearest entry of every swatch.
func assign(swatches []swatch, entries [][3]float64, index map[uint32]uint8) {
	for _, c := range swatches {
		best, bestAt := 0, math.Inf(1)
		for i, e := range entries {
			dr, dg, db := c.rgb[0]-e[0], c.rgb[1]-e[1], c.rgb[2]-e[2]
			if d := dr*dr + dg*dg + db*db; d < bestAt {
				best, bestAt = i, d
			}
		}
		index[c.key] = uint8(best)
	}
}

// means moves every entry to the mean of its swatches; an entry without any
// stays.
func means(swatches []swatch, entries [][3]float64, index map[uint32]uint8) [][3]float64 {
	sums, weights := make([][3]float64, len(entries)), make([]float64, len(entries))
	for _, c := range swatches {
		i := index[c.key]
		weights[i] += c.weight
		for k := range 3 {
			sums[i][k] += c.weight * c.rgb[k]
		}
	}
	for i := range sums {
		if weights[i] == 0 {
			sums[i] = entries[i]
			continue
		}
		for k := range 3 {
			sums[i][k] /= weights[i]
		}
	}
	return sums
}
