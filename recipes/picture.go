package recipes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	_ "image/png" // pictures named by a recipe
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// Color is "#rrggbb" in sRGB, or Free.
type Color string

// Free is the palette word for pixels a sketch says nothing about.
const Free Color = "free"

// RGB returns red, green and blue in 0..1; zero for Free.
func (c Color) RGB() [3]float64 {
	n, _ := strconv.ParseUint(strings.TrimPrefix(string(c), "#"), 16, 32)
	return [3]float64{float64(n>>16&255) / 255, float64(n>>8&255) / 255, float64(n&255) / 255}
}

func (c Color) valid() bool {
	if len(c) != 7 || c[0] != '#' {
		return false
	}
	_, err := strconv.ParseUint(string(c[1:]), 16, 32)
	return err == nil && !strings.ContainsAny(string(c), "+_")
}

// Rect is [x, y, width, height] in pixels, the origin at the top left.
type Rect [4]int

// Bounds returns the rectangle as image coordinates.
func (r Rect) Bounds() image.Rectangle { return image.Rect(r[0], r[1], r[0]+r[2], r[1]+r[3]) }

// Hidden is the part of a picture an inpaint term does not see: one half by
// its Side, or a Rect.
type Hidden struct {
	Side string
	Rect *Rect
}

// In returns the hidden rectangle of a width x height picture.
func (h Hidden) In(width, height int) image.Rectangle {
	switch h.Side {
	case "left":
		return image.Rect(0, 0, width/2, height)
	case "right":
		return image.Rect(width/2, 0, width, height)
	case "top":
		return image.Rect(0, 0, width, height/2)
	case "bottom":
		return image.Rect(0, height/2, width, height)
	}
	return h.Rect.Bounds()
}

func (h Hidden) plain() any {
	if h.Rect != nil {
		return h.Rect[:]
	}
	return h.Side
}

// MarshalJSON writes a side as its name and a rectangle as four numbers.
func (h Hidden) MarshalJSON() ([]byte, error) { return json.Marshal(h.plain()) }

// MarshalYAML writes a side as its name and a rectangle as four numbers.
func (h Hidden) MarshalYAML() (any, error) { return h.plain(), nil }

// UnmarshalJSON reads what MarshalJSON wrote.
func (h *Hidden) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &h.Side)
	}
	h.Rect = new(Rect)
	return json.Unmarshal(data, h.Rect)
}

// CheckPictures holds every region and sketch against the model's picture
// size: regions must lie inside, inline sketches must cover it exactly.
func (r *Recipe) CheckPictures(width, height int) error {
	var c reader
	frame := image.Rect(0, 0, width, height)
	root := c.section(r.source, "")
	for i, t := range r.Objective {
		s := root.child("objective").child(fmt.Sprint(i))
		inside := func(key string, r *Rect) {
			if r != nil && !r.Bounds().In(frame) {
				c.add(s.at(key), s.path(key), fmt.Sprintf("[x, y, width, height] inside %dx%d pixels", width, height),
					fmt.Sprint(r[:]), "")
			}
		}
		inside("region", t.Region)
		if t.Hidden != nil {
			inside("hidden", t.Hidden.Rect)
		}
		if len(t.Rows) > 0 && (len(t.Rows) != height || len([]rune(t.Rows[0])) != width) {
			c.add(s.at("rows"), s.path("rows"), fmt.Sprintf("%d rows of %d characters, the model's picture size", height, width),
				fmt.Sprintf("%d rows of %d", len(t.Rows), len([]rune(t.Rows[0]))), "")
		}
	}
	return c.err()
}

// Target returns the picture of a pixels term as planes: rgb is [3, height,
// width] in 0..1 and mask is [height, width], 1 where the picture counts.
// files is where Image and Mask are looked up; an inline sketch needs none.
// Larger pictures are refused rather than scaled: on a 16-pixel grid the
// choice of every pixel matters.
func (t *Term) Target(files fs.FS, width, height int) (rgb, mask []float64, err error) {
	n := width * height
	rgb, mask = make([]float64, 3*n), make([]float64, n)
	set := func(i int, c [3]float64) {
		mask[i] = 1
		for k := range c {
			rgb[k*n+i] = c[k]
		}
	}
	if len(t.Rows) > 0 {
		for y, row := range t.Rows {
			for x, r := range []rune(row) {
				if c := t.Palette[string(r)]; c != Free {
					set(y*width+x, c.RGB())
				}
			}
		}
		return rgb, mask, nil
	}
	img, err := Picture(files, t.Image, width, height)
	if err != nil {
		return nil, nil, err
	}
	each(img, func(i int, c color.NRGBA) {
		if c.A > 0 {
			set(i, [3]float64{float64(c.R) / 255, float64(c.G) / 255, float64(c.B) / 255})
		}
	})
	if t.Mask != "" {
		img, err := Picture(files, t.Mask, width, height)
		if err != nil {
			return nil, nil, err
		}
		each(img, func(i int, c color.NRGBA) {
			if c.R < 128 {
				mask[i] = 0
			}
		})
	}
	return rgb, mask, nil
}

// Reference returns the picture of a clip_style term as planes [3, height,
// width] in 0..1, in whatever size it has, up to MaxSide.
func (t *Term) Reference(files fs.FS) (rgb []float64, width, height int, err error) {
	img, err := picture(files, t.Image, func(width, height int) error {
		if width > MaxSide || height > MaxSide {
			return fmt.Errorf("is %dx%d pixels, want at most %dx%[3]d", width, height, MaxSide)
		}
		return nil
	})
	if err != nil {
		return nil, 0, 0, err
	}
	width, height = img.Bounds().Dx(), img.Bounds().Dy()
	rgb = make([]float64, 3*width*height)
	holes := false
	each(img, func(i int, c color.NRGBA) {
		holes = holes || c.A == 0
		for k, v := range [3]uint8{c.R, c.G, c.B} {
			rgb[k*width*height+i] = float64(v) / 255
		}
	})
	if holes {
		return nil, 0, 0, fmt.Errorf("picture %s: has transparent pixels, and every pixel is needed; fill them", t.Image)
	}
	return rgb, width, height, nil
}

// Picture reads a PNG of exactly width x height pixels.
func Picture(files fs.FS, name string, width, height int) (image.Image, error) {
	return picture(files, name, func(w, h int) error {
		if w != width || h != height {
			return fmt.Errorf("is %dx%d pixels, the model draws %dx%d", w, h, width, height)
		}
		return nil
	})
}

// picture reads a PNG whose size fits.
func picture(files fs.FS, name string, fits func(width, height int) error) (image.Image, error) {
	if files == nil {
		return nil, fmt.Errorf("picture %s: this recipe came without files; draw it with rows and palette instead", name)
	}
	file, err := files.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("picture %s: there is no such file", name)
	}
	if err != nil {
		return nil, fmt.Errorf("picture %s: %w", name, err)
	}
	defer file.Close()
	// The size is checked before decoding so that a lying header costs nothing.
	var head bytes.Buffer
	config, _, err := image.DecodeConfig(io.TeeReader(file, &head))
	if pathError := (*fs.PathError)(nil); errors.As(err, &pathError) {
		return nil, fmt.Errorf("picture %s: %w", name, pathError.Err)
	}
	if err != nil {
		return nil, fmt.Errorf("picture %s: not a PNG file: %w", name, err)
	}
	if err := fits(config.Width, config.Height); err != nil {
		return nil, fmt.Errorf("picture %s: %w", name, err)
	}
	img, _, err := image.Decode(io.MultiReader(&head, file))
	if err != nil {
		return nil, fmt.Errorf("picture %s: %w", name, err)
	}
	return img, nil
}

// each visits the pixels row by row, without premultiplied alpha.
func each(img image.Image, visit func(i int, c color.NRGBA)) {
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			visit((y-b.Min.Y)*b.Dx()+x-b.Min.X, color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA))
		}
	}
}
