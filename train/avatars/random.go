// Package avatars makes the pictures the built-in models are trained on: pixel
// portraits of 16 by 16 pixels with their true attributes, in unlimited supply.
// Nothing is stored: picture i of a seed is a function of the two numbers, so a
// training run resumes exactly from a count.
//
// The parts are DiceBear's Pixel Art (design CC0 1.0), baked once into
// parts.json by tools/avatars; this package only composes them. It is not a
// general SVG renderer and does not reproduce DiceBear's seeds or palettes.
//
// Labels are meant to be readable from the pixels: parts nobody could name at
// this size are never drawn, colours that touch are kept apart, and what another
// part would hide is left out rather than labelled.
package avatars

import (
	"math"
	"math/bits"
	"math/rand/v2"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// At is avatar number index of the unlimited sequence of a seed: the same on
// every machine, in any order.
func At(seed, index uint64) Avatar { return Random(rand.New(Source(seed, index))) }

// Batch draws avatars first, first+1, ... of a seed into images, [n,3,16,16]
// in [-1,1], and writes their labels, [n, len(Attributes())], as floats, the
// element type of the graphs. n is len(images)/Pixels; labels may be nil.
func Batch(seed, first uint64, images, labels []float32) {
	for i := range len(images) / Pixels {
		a := At(seed, first+uint64(i))
		a.Draw(images[i*Pixels:])
		if labels == nil {
			continue
		}
		for j, label := range a.Labels() {
			labels[i*attributeCount+j] = float32(label)
		}
	}
}

// Dataset is the avatars as a supply of training images.
type Dataset struct{}

// Shape is [3 16 16].
func (Dataset) Shape() graph.Shape { return graph.Shape{3, Size, Size} }

// Attributes is the schema of the labels.
func (Dataset) Attributes() model.Attributes { return Attributes() }

// Example draws avatar number index of a seed into image and returns its labels.
func (Dataset) Example(seed, index uint64, image []float32) (labels []int) {
	a := At(seed, index)
	a.Draw(image)
	return a.Labels()
}

// Source is a counter-based stream of random bits for one picture of a seed
// (SplitMix64, Steele et al. 2014). Streams of neighbouring indices are unrelated.
func Source(seed, index uint64) rand.Source {
	s := splitMix(mix(seed) ^ mix(index+golden))
	return &s
}

type splitMix uint64

const golden = 0x9e3779b97f4a7c15 // 2^64 over the golden ratio

func (s *splitMix) Uint64() uint64 {
	*s += golden
	return mix(uint64(*s))
}

// mix is the finaliser of SplitMix64, a bijection.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Shares of the groups. Under a hat only hair that shows below it is drawn, so
// bare heads are rarer without one to come out at about a fifth of all.
var (
	hairShares      = []float64{.12, .25, .16, .15, .17, .15}
	hairUnderHat    = []float64{.3, 0, 0, .4, .3, 0}
	moodShares      = []float64{.5, .5}
	glassesShares   = []float64{.5, .25, .25}
	hatShares       = []float64{.75, .25}
	beardShares     = []float64{.8, .2}
	jewelleryShares = []float64{.7, .3} // some of these are hidden by hair
)

// Colours nearer than this, in sRGB steps, are not put beside each other.
const (
	apart       = 60 // colours with a label
	barelyApart = 40 // a face on its background, frames and mouths on a face
)

// Random draws an avatar. Its parts follow the shares above; colours are uniform
// over those of the palette that stand out from their neighbours.
func Random(rng *rand.Rand) (a Avatar) {
	pick := func(gs groups, shares []float64) uint8 {
		u := rng.Float64()
		for i, share := range shares {
			if u -= share; u < 0 || i == len(shares)-1 {
				return one(rng, gs[i].places)
			}
		}
		panic("unreachable")
	}
	a.Parts[Clothing] = one(rng, shirts.places)
	a.Parts[Eyes] = uint8(1 + rng.IntN(len(parts[Eyes])-1))
	a.Parts[Mouth] = pick(moods, moodShares)
	a.Parts[Glasses] = pick(glassesKinds, glassesShares)
	a.Parts[Beard] = pick(beards, beardShares)
	if a.Parts[Hat] = pick(hats, hatShares); a.Parts[Hat] == 0 {
		a.Parts[Hair] = pick(hairStyles, hairShares)
	} else if a.Parts[Hair] = pick(hairStyles, hairUnderHat); a.visible(Hair) < 10 {
		a.Parts[Hair] = 0
	}
	if a.Parts[Accessories] = pick(jewellery, jewelleryShares); a.visible(Accessories) < 2 {
		a.Parts[Accessories] = 0
	}

	a.Background = one(rng, backgroundColors).RGB
	a.Inks[Skin] = choose(rng, skinColors, barelyApart, func(c RGB) int { return nearest(c, a.Background) })
	face := a.Inks[Skin].under(whiteInk, 26) // the highlight of parts.json
	a.Inks[Hair] = choose(rng, hairColors, apart, func(c RGB) int {
		d := nearest(c, a.Background, face)
		if a.Parts[Beard] != 0 {
			d = min(d, nearest(beardColor(face, c), face))
		}
		return d
	})
	a.Inks[Clothing] = choose(rng, clothingColors, apart, func(c RGB) int { return nearest(c, a.Background, a.Inks[Skin]) })
	a.Inks[Hat] = choose(rng, hatColors, apart, func(c RGB) int { return nearest(c, a.Background, a.Inks[Hair], face) })
	a.Inks[Eyes] = one(rng, eyeColors).RGB
	a.Inks[Glasses] = choose(rng, frameColors, barelyApart, func(c RGB) int { return nearest(c, face) })
	a.Inks[Accessories] = choose(rng, jewelleryColors, barelyApart, func(c RGB) int { return nearest(c, a.Background, face) })
	a.Inks[Mouth] = choose(rng, mouthColors, apart, func(c RGB) int {
		if a.Parts[Beard] != 0 {
			return nearest(c, face, beardColor(face, a.Inks[Hair]))
		}
		return nearest(c, face)
	})
	return a
}

// visible counts the pixels of a part's own colour that no later part covers.
func (a *Avatar) visible(kind Kind) (count int) {
	shown := parts[kind][a.Parts[kind]].ink
	for above := kind + 1; above < Kinds; above++ {
		for y, row := range parts[above][a.Parts[above]].ink {
			shown[y] &^= row
		}
	}
	for _, row := range shown {
		count += bits.OnesCount16(row)
	}
	return count
}

// choose picks uniformly among the colours that stand out by at least the given
// distance, or takes the one that stands out most if none does.
func choose(rng *rand.Rand, palette []Color, least int, standsOut func(RGB) int) RGB {
	var enough []RGB
	best, most := RGB{}, -1
	for _, c := range palette {
		d := standsOut(c.RGB)
		if d >= least*least {
			enough = append(enough, c.RGB)
		}
		if d > most {
			best, most = c.RGB, d
		}
	}
	if enough == nil {
		return best
	}
	return one(rng, enough)
}

// beardColor is the face seen through a beard: hair colour at 86 % below white at
// 27 %, the layers of every beard in parts.json.
func beardColor(face, hair RGB) RGB { return face.under(hair, 219).under(whiteInk, 69) }

// nearest is the squared distance, in sRGB steps, to the nearest of the others.
func nearest(c RGB, others ...RGB) int {
	least := math.MaxInt
	for _, other := range others {
		sum := 0
		for i := range c {
			d := int(c[i]) - int(other[i])
			sum += d * d
		}
		least = min(least, sum)
	}
	return least
}

func one[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }
