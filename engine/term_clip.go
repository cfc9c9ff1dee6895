package engine

import (
	"errors"
	"fmt"
	"image"
	"math/rand/v2"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

var errNoCLIP = errors.New("no CLIP is at hand; name the folder of a CLIPModel with clip")

// visionPrefix begins the names of the parameters of CLIP's vision tower.
const visionPrefix = "clip."

// clipped is what CLIP's vision tower makes of pictures.
type clipped struct {
	layers []*graph.Node // hidden states after each block, [N T D]
	embeds *graph.Node   // [N P]
}

// look has CLIP see cutout k of the pictures under noise of a standard deviation,
// in units of [-1, 1]. What is seen without noise serves all terms.
func (b *termBuilder) look(k int, noise *float64) (clipped, error) {
	clip := b.model.CLIP
	if clip == nil {
		return clipped{}, errNoCLIP
	}
	if seen, ok := b.seen[k]; ok && !(noise != nil && *noise > 0) {
		return seen, nil
	}
	pictures := b.pictures()
	n, c, h, w := pictures.Shape[0], pictures.Shape[1], pictures.Shape[2], pictures.Shape[3]
	if c != 3 {
		return clipped{}, fmt.Errorf("CLIP sees 3 channels, and the model's pictures have %d", c)
	}
	if at := cutout(k, w, h); at != image.Rect(0, 0, w, h) {
		pictures = b.Slice(b.Slice(pictures, 2, at.Min.Y, at.Max.Y), 3, at.Min.X, at.Max.X)
	}
	o := model.BuildOptions{Prefix: visionPrefix, Storage: storageOf(clip.Vision.Stored)}
	x := clip.Preprocess.Build(b.Graph, pictures, o)
	if noise != nil && *noise > 0 {
		size := clip.Preprocess.Size() * clip.Preprocess.Size()
		drawn := make([]float32, c*size)
		for i := range drawn {
			deviation := *noise / 2 / clip.Preprocess.Std[i/size]
			drawn[i] = float32(deviation * graph.Normal(smoothingSeed, uint32(k), uint32(i)))
		}
		x = b.AddBroadcast(x, b.Const(fmt.Sprintf("%s.noise.%d", b.prefix, k), drawn, len(drawn)), n, len(drawn), 1)
	}
	var seen clipped
	seen.layers, seen.embeds = clip.Vision.Config.Build(b.Graph, x, o)
	b.Block(b.prefix)
	if noise == nil || *noise == 0 {
		b.seen[k] = seen
	}
	return seen, nil
}

// cutoutSeed draws the places of cutouts; like smoothingSeed it is not the
// recipe's.
const cutoutSeed = 0xc07

// cutout is the part of a picture that cutout k shows: all of it, from 1 on a
// square of at least half the shorter side, anywhere.
func cutout(k, width, height int) image.Rectangle {
	if k == 0 {
		return image.Rect(0, 0, width, height)
	}
	random := rand.New(rand.NewPCG(cutoutSeed, uint64(k)))
	most := min(width, height)
	least := (most + 1) / 2
	side := least + int(random.Float64()*float64(most-least+1))
	x := int(random.Float64() * float64(width-side+1))
	y := int(random.Float64() * float64(height-side+1))
	return image.Rect(x, y, x+side, y+side)
}
