package report

import (
	"fmt"
	"image"
	"image/gif"
	"io"
	"slices"

	"golang.org/x/image/draw"
)

// frameLimit bounds a film: more updates than this are thinned out evenly.
const frameLimit = 48

// filmSide bounds the pictures of a film, in pixels a side: dozens of frames of
// photographs at their own size would weigh more than all that a run leaves.
const filmSide = 256

// within is a size of the same shape that is at most side wide and high.
func within(size image.Point, side int) image.Point {
	longest := max(size.X, size.Y)
	if longest <= side {
		return size
	}
	return image.Pt(max(1, size.X*side/longest), max(1, size.Y*side/longest))
}

// resized is a picture at a size, itself where it has that.
func resized(pic *image.NRGBA, size image.Point) *image.NRGBA {
	if pic.Bounds().Size() == size {
		return pic
	}
	small := image.NewNRGBA(image.Rectangle{Max: size})
	draw.BiLinear.Scale(small, small.Bounds(), pic, pic.Bounds(), draw.Src, nil)
	return small
}

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

// Frame draws a batch [images, channels, height, width] in -1..1 for a film.
func (r *Run) Frame(at int, images []float64) (Frame, error) {
	size := r.Channels * r.Width * r.Height
	if size == 0 || len(images) == 0 || len(images)%size != 0 {
		return Frame{}, fmt.Errorf("report: frame %d holds %d numbers, want some of %d a picture", at, len(images), size)
	}
	pics, err := pictures(images, len(images)/size, r.Channels, r.Width, r.Height)
	if err != nil {
		return Frame{}, err
	}
	for i := range pics {
		pics[i] = resized(pics[i], within(image.Pt(r.Width, r.Height), filmSide))
	}
	return Frame{at, pics}, nil
}

// Films reports whether an update has a place in the film. That of a long run has
// one for every second, every fourth, and so on, so that what is kept of a run
// does not grow with it.
func (r *Run) Films(update int) bool { return update%(r.thinned+1) == 0 }

// Keep appends a frame to the film, or puts it in place of one of the same update,
// which was a stale look.
func (r *Run) Keep(f Frame) {
	if last := len(r.Updates) - 1; last >= 0 && r.Updates[last].At == f.At {
		r.Updates = r.Updates[:last]
	}
	if r.Updates = append(r.Updates, f); len(r.Updates) > 2*frameLimit {
		r.thinned = 2*r.thinned + 1
		r.Updates = slices.DeleteFunc(r.Updates, func(f Frame) bool { return !r.Films(f.At) })
	}
}

// film returns the frames to show, at least before and after. It ends with what is
// kept, the best of each picture.
func (r *Run) film(limit int) ([]Frame, error) {
	after, err := r.Frame(r.Result.Updates, r.Result.Samples)
	if err != nil {
		return nil, err
	}
	frames := slices.Clone(r.Updates)
	if len(frames) == 0 || r.Result.Updates == 0 {
		before, err := r.Frame(0, r.Result.Before)
		return []Frame{before, after}, err
	}
	if last := len(frames) - 1; frames[last].At >= after.At && last > 0 {
		frames = frames[:last]
	}
	return thin(append(frames, after), limit), nil
}

// writeFilm writes the sheet over the updates as an endless GIF, at rest for a
// moment at both ends.
func (r *Run) writeFilm(w io.Writer) error {
	frames, err := r.film(frameLimit)
	if err != nil {
		return err
	}
	last := max(1, frames[len(frames)-1].At)
	out := &gif.GIF{}
	for i, f := range frames {
		canvas, err := sheet{
			heading: r.Recipe.Name, note: fmt.Sprintf("update %d of %d", f.At, last),
			scale: scaleFor(r.Width, 80), done: float64(f.At) / float64(last),
		}.draw(f.Pictures)
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
