package report

import (
	"fmt"
	"image"
	"image/gif"
	"io"
)

// frameLimit bounds a film: more updates than this are thinned out evenly.
const frameLimit = 48

// thin keeps at most limit frames, always the first and the last.
func thin(frames []Frame, limit int) []Frame {
	if len(frames) <= limit {
		return frames
	}
	kept := make([]Frame, limit)
	for i := range kept {
		kept[i] = frames[i*(len(frames)-1)/(limit-1)]
	}
	return kept
}

// film returns the frames to show: at least before and after.
func (r *Run) film(limit int) []Frame {
	if len(r.Updates) > 1 {
		return thin(r.Updates, limit)
	}
	return []Frame{{0, r.Result.Before}, {r.Result.Updates, r.Result.Samples}}
}

// writeFilm writes the sheet over the updates as an endless GIF, at rest for a
// moment at both ends.
func (r *Run) writeFilm(w io.Writer) error {
	frames := r.film(frameLimit)
	last := max(1, frames[len(frames)-1].At)
	out := &gif.GIF{}
	for i, f := range frames {
		pics, err := pictures(f.Images, r.rows(), r.Channels, r.Width, r.Height)
		if err != nil {
			return err
		}
		canvas, err := sheet{
			heading: r.Recipe.Name, note: fmt.Sprintf("update %d of %d", f.At, last),
			scale: scaleFor(r.Width, 80), done: float64(f.At) / float64(last),
		}.draw(pics)
		if err != nil {
			return err
		}
		delay := 9 // hundredths of a second
		switch i {
		case 0:
			delay = 90
		case len(frames) - 1:
			delay = 240
		}
		out.Image = append(out.Image, quantize(canvas))
		out.Delay = append(out.Delay, delay)
		out.Disposal = append(out.Disposal, gif.DisposalNone)
	}
	// A frame need only hold what changed since the one before it.
	for i := len(out.Image) - 1; i > 0; i-- {
		out.Image[i] = changed(out.Image[i-1], out.Image[i])
	}
	return gif.EncodeAll(w, out)
}

// changed crops now to the rectangle in which it differs from before.
func changed(before, now *image.Paletted) *image.Paletted {
	b := now.Bounds()
	box := image.Rectangle{}
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			if before.Palette[before.ColorIndexAt(x, y)] != now.Palette[now.ColorIndexAt(x, y)] {
				box = box.Union(image.Rect(x, y, x+1, y+1))
			}
		}
	}
	if box.Empty() {
		box = image.Rect(0, 0, 1, 1)
	}
	return now.SubImage(box).(*image.Paletted)
}
