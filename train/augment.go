package train

import (
	"math"
	"math/rand/v2"

	"github.com/sdo-go/sdo/graph"
)

// Augmentation changes pictures in ways that leave every label true, so that a
// classifier learns the attribute and not the exact pixels. Each zero field
// switches its change off. Strengths are drawn anew for every picture, uniformly
// up to the given ones.
type Augmentation struct {
	Flip       bool    // mirror every second picture
	Shift      int     // move by up to so many pixels each way, repeating the edge
	Blur       float64 // weight of the 3x3 mean in a blend with the picture
	Contrast   float64 // scale all values by 1 +- this
	Brightness float64 // add up to +- this to all values, which span [-1, 1]
	Tint       float64 // the same for each channel by itself
	Noise      float64 // standard deviation of Gaussian noise
	Cutout     float64 // side, in picture widths, of a square of one random gray, on every second picture
}

// Two classifiers that must not share their mistakes learn from pictures changed
// in different ways: the guide, whose gradient is followed, chiefly by noise and
// light, and the judge, which only reports, by tint, blur and missing squares.
var augmentations = map[string]Augmentation{
	"":      {},
	"guide": {Flip: true, Blur: .25, Contrast: .2, Brightness: .15, Noise: 1},
	"judge": {Flip: true, Blur: .5, Contrast: .2, Tint: .08, Noise: .15, Cutout: 3. / 16},
}

// Apply changes one picture of shape [channels height width] in place. Values
// may leave [-1, 1].
func (a Augmentation) Apply(image []float32, shape graph.Shape, random *rand.Rand) {
	upTo := func(limit float64) float32 { return float32(limit * random.Float64()) }
	between := func(limit float64) float32 { return float32(limit * (2*random.Float64() - 1)) }

	height, width := shape[1], shape[2]
	mirror := a.Flip && random.IntN(2) == 0
	dx, dy := random.IntN(2*a.Shift+1)-a.Shift, random.IntN(2*a.Shift+1)-a.Shift
	contrast, brightness := 1+between(a.Contrast), between(a.Brightness)
	blur, noise := upTo(a.Blur), upTo(a.Noise)
	side := min(int(math.Round(a.Cutout*float64(width))), height)
	cut := side > 0 && random.IntN(2) == 0
	left, top, gray := random.IntN(width-side+1), random.IntN(height-side+1), between(1)

	source := make([]float32, height*width)
	at := func(x, y int) float32 { return source[clamp(y, height)*width+clamp(x, width)] }
	for channel := range shape[0] {
		plane := image[channel*len(source):][:len(source)]
		copy(source, plane)
		shade := brightness + between(a.Tint)
		for i := range plane {
			x, y := i%width, i/width
			if cut && left <= x && x < left+side && top <= y && y < top+side {
				plane[i] = gray
				continue
			}
			x, y = x+dx, y+dy
			if mirror {
				x = width - 1 - x
			}
			v := at(x, y)
			if blur > 0 {
				var sum float32
				for j := range 9 {
					sum += at(x+j%3-1, y+j/3-1)
				}
				v += blur * (sum/9 - v)
			}
			plane[i] = v*contrast + shade
			if noise > 0 {
				plane[i] += noise * float32(random.NormFloat64())
			}
		}
	}
}

func clamp(i, length int) int { return min(max(i, 0), length-1) }
