// Command picture stacks the before.png and after.png of an output folder into
// the one picture that README shows.
package main

import (
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: picture OUTPUT_FOLDER FILE.png")
		os.Exit(2)
	}
	if err := stack(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

func stack(dir, target string) error {
	var pictures []image.Image
	size := image.Point{}
	for _, name := range []string{"before.png", "after.png"} {
		file, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		picture, err := png.Decode(file)
		file.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		pictures = append(pictures, picture)
		size.X, size.Y = max(size.X, picture.Bounds().Dx()), size.Y+picture.Bounds().Dy()
	}
	canvas := image.NewRGBA(image.Rectangle{Max: size})
	y := 0
	for _, picture := range pictures {
		draw.Draw(canvas, canvas.Bounds().Add(image.Pt(0, y)), picture, picture.Bounds().Min, draw.Src)
		y += picture.Bounds().Dy()
	}
	file, err := os.Create(target)
	if err != nil {
		return err
	}
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(file, canvas); err != nil {
		return err
	}
	return file.Close()
}
