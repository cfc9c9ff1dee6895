package report

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"maps"
	"slices"
	"sync"

	"golang.org/x/image/draw"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomedium"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// The ink of every picture this package draws.
var (
	paper = color.RGBA{250, 249, 247, 255}
	ink   = color.RGBA{38, 36, 33, 255}
	muted = color.RGBA{138, 132, 124, 255}
	rule  = color.RGBA{226, 222, 215, 255}
	good  = color.RGBA{46, 158, 91, 255}
	brand = color.RGBA{79, 70, 229, 255}
)

// sheet is a contact sheet: pictures in rows, enlarged by whole factors so
// that every pixel stays a square, with a heading and a caption each.
type sheet struct {
	heading string
	note    string // at the right of the heading
	caption []caption
	scale   int     // pixels per pixel
	done    float64 // share of the run, drawn as a bar; negative for none
}

type caption struct {
	text string
	mark bool // a green dot before it
}

const (
	sheetMargin  = 28
	sheetGap     = 12
	headingBand  = 40
	captionBand  = 30
	progressBand = 14
)

// columns lays n pictures out wider than high, full rows where n allows it.
func columns(n int) int {
	for c := min(n, 8); c*c >= n; c-- {
		if n%c == 0 {
			return c
		}
	}
	return min(n, 8)
}

func (s sheet) draw(pics []*image.NRGBA) (*image.RGBA, error) {
	cols := columns(len(pics))
	rows := (len(pics) + cols - 1) / cols
	w, h := pics[0].Bounds().Dx()*s.scale, pics[0].Bounds().Dy()*s.scale
	below := sheetGap
	if s.caption != nil {
		below = captionBand
	}
	title, err := face(gomedium.TTF, 20)
	if err != nil {
		return nil, err
	}
	small, err := face(goregular.TTF, 13)
	if err != nil {
		return nil, err
	}
	// One or two pictures are narrower than the line above them.
	line := advance(title, s.heading) + 2*sheetGap + advance(small, s.note)
	width := 2*sheetMargin + max(cols*w+(cols-1)*sheetGap, line)
	height := 2*sheetMargin + headingBand + rows*h + (rows-1)*below + below - sheetGap
	if s.done >= 0 {
		height += progressBand
	}
	canvas := image.NewRGBA(image.Rect(0, 0, width, height))
	fill(canvas, canvas.Bounds(), paper)

	write(canvas, title, ink, sheetMargin, sheetMargin+16, s.heading)
	write(canvas, small, muted, width-sheetMargin-advance(small, s.note), sheetMargin+16, s.note)

	for i, pic := range pics {
		x := sheetMargin + i%cols*(w+sheetGap)
		y := sheetMargin + headingBand + i/cols*(h+below)
		tile := image.Rect(x, y, x+w, y+h)
		fill(canvas, tile.Inset(-1), rule)
		draw.NearestNeighbor.Scale(canvas, tile, pic, pic.Bounds(), draw.Src, nil)
		if i < len(s.caption) {
			c := s.caption[i]
			if c.mark {
				dot(canvas, x+4, y+h+12, 4, good)
				write(canvas, small, muted, x+13, y+h+16, c.text)
			} else {
				write(canvas, small, muted, x, y+h+16, c.text)
			}
		}
	}
	if s.done >= 0 {
		bar := image.Rect(sheetMargin, height-sheetMargin+2, width-sheetMargin, height-sheetMargin+6)
		fill(canvas, bar, rule)
		bar.Max.X = bar.Min.X + int(float64(bar.Dx())*min(1, s.done)+0.5)
		fill(canvas, bar, brand)
	}
	return canvas, nil
}

// scaleFor picks the enlargement that brings a tile near the wanted size.
func scaleFor(width, wanted int) int { return max(1, wanted/width) }

func (r *Run) writeBefore(w io.Writer) error {
	s := sheet{heading: r.Recipe.Name + ", before", note: r.plural(), scale: scaleFor(r.Width, 128), done: -1}
	if j := r.Judge; j != nil {
		s.note = tally(j.Label, j.Before)
		s.caption = make([]caption, r.rows())
		for i, yes := range j.Before {
			s.caption[i].mark = yes
		}
	}
	return r.writeSheet(w, s, r.Result.Before)
}

func (r *Run) writeAfter(w io.Writer) error {
	s := sheet{heading: r.Recipe.Name + ", after", note: r.plural(), scale: scaleFor(r.Width, 128), done: -1,
		caption: make([]caption, r.rows())}
	for i, n := range r.Result.RowUpdates {
		s.caption[i].text = count(n, "update")
	}
	if j := r.Judge; j != nil {
		s.note = tally(j.Label, j.After)
		for i, yes := range j.After {
			s.caption[i].mark = yes
		}
	}
	return r.writeSheet(w, s, r.Result.Samples)
}

func (r *Run) writeSheet(w io.Writer, s sheet, batch []float64) error {
	pics, err := pictures(batch, r.rows(), r.Channels, r.Width, r.Height)
	if err != nil {
		return err
	}
	canvas, err := s.draw(pics)
	if err != nil {
		return err
	}
	return png.Encode(w, canvas)
}

func tally(label string, verdicts []bool) string {
	n := 0
	for _, v := range verdicts {
		if v {
			n++
		}
	}
	return fmt.Sprintf("the judge sees %s in %d of %d", label, n, len(verdicts))
}

func (r *Run) plural() string { return count(r.rows(), "picture") }

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func fill(dst draw.Image, r image.Rectangle, c color.Color) {
	draw.Draw(dst, r, image.NewUniform(c), image.Point{}, draw.Src)
}

// dot draws a filled circle, anti-aliased by coverage of a 4x4 grid per pixel.
func dot(dst *image.RGBA, cx, cy, radius int, c color.RGBA) {
	const grid = 4
	mask := image.NewAlpha(image.Rect(cx-radius-1, cy-radius-1, cx+radius+1, cy+radius+1))
	for y := mask.Rect.Min.Y; y < mask.Rect.Max.Y; y++ {
		for x := mask.Rect.Min.X; x < mask.Rect.Max.X; x++ {
			inside := 0
			for k := range grid * grid {
				dx := float64(x-cx) + (float64(k%grid)+0.5)/grid
				dy := float64(y-cy) + (float64(k/grid)+0.5)/grid
				if dx*dx+dy*dy <= float64(radius*radius) {
					inside++
				}
			}
			mask.SetAlpha(x, y, color.Alpha{uint8(inside * 255 / (grid * grid))})
		}
	}
	draw.DrawMask(dst, mask.Rect, image.NewUniform(c), image.Point{}, mask, mask.Rect.Min, draw.Over)
}

func write(dst draw.Image, f font.Face, c color.Color, x, y int, text string) {
	d := font.Drawer{Dst: dst, Src: image.NewUniform(c), Face: f, Dot: fixed.P(x, y)}
	d.DrawString(text)
}

func advance(f font.Face, text string) int { return font.MeasureString(f, text).Ceil() }

// faces holds parsed fonts; a film asks for the same two for every frame.
var faces sync.Map

func face(ttf []byte, size float64) (font.Face, error) {
	key := [2]any{&ttf[0], size}
	if f, ok := faces.Load(key); ok {
		return f.(font.Face), nil
	}
	parsed, err := opentype.Parse(ttf)
	if err != nil {
		return nil, fmt.Errorf("font: %w", err)
	}
	f, err := opentype.NewFace(parsed, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
	if err != nil {
		return nil, fmt.Errorf("font: %w", err)
	}
	faces.Store(key, f)
	return f, nil
}

// WriteSamples leaves pictures that were not steered: a contact sheet, the
// numbers and the recipe that made them. shape is [images channels height
// width]. It returns the names of the files.
func WriteSamples(dir string, recipe *recipes.Recipe, images []float64, shape graph.Shape) ([]string, error) {
	r := &Run{Recipe: recipe, Channels: shape[1], Width: shape[3], Height: shape[2],
		Result: &sdo.Result{Before: images, Samples: images, Latents: images, BestLoss: make([]float64, shape[0])}}
	if err := r.check(); err != nil {
		return nil, err
	}
	heading := recipe.Name
	if recipe.Prompt != "" {
		heading += ": " + recipe.Prompt
	}
	for _, name := range slices.Sorted(maps.Keys(recipe.Condition)) {
		heading += ", " + name + ": " + recipe.Condition[name]
	}
	return writeAll(dir, []file{
		{"samples.png", func(w io.Writer) error {
			return r.writeSheet(w, sheet{heading: heading, note: fmt.Sprintf("seed %d", recipe.Seed), scale: scaleFor(r.Width, 128), done: -1}, images)
		}},
		{"samples.safetensors", func(w io.Writer) error {
			return model.WriteSafetensors(w, model.Weights{"samples": r.tensor(images)}, model.F32, map[string]string{"recipe": recipe.Name})
		}},
		{"recipe.yaml", func(w io.Writer) error {
			_, err := w.Write(recipe.Canonical())
			return err
		}},
	})
}
