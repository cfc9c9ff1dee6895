package edge

import (
	"bytes"
	"image"
	"image/png"
	"math"
	"sync"

	"github.com/sdo-go/sdo/engine"
	"github.com/sdo-go/sdo/graph"
)

// Pictures is a batch, each picture a PNG of its own.
type Pictures struct {
	Count  int      `json:"count"`
	Width  int      `json:"width"`
	Height int      `json:"height"`
	PNG    [][]byte `json:"png"` // base64 in JSON
}

// encoder keeps its tables from one picture to the next: they are a thousand
// times larger than a picture.
var encoder = png.Encoder{CompressionLevel: png.BestSpeed, BufferPool: &buffers{}}

type buffers struct{ sync.Pool }

func (b *buffers) Get() *png.EncoderBuffer {
	buffer, _ := b.Pool.Get().(*png.EncoderBuffer)
	return buffer
}

func (b *buffers) Put(buffer *png.EncoderBuffer) { b.Pool.Put(buffer) }

// newPictures encodes images of a batch's shape [N C H W] in [-1, 1]; one
// channel is grey.
func newPictures(images []float64, shape graph.Shape) (*Pictures, error) {
	p := &Pictures{Count: shape[0], Width: shape[3], Height: shape[2]}
	size := len(images) / shape[0]
	for n := range shape[0] {
		data, err := encode(picture(images[n*size:(n+1)*size], shape))
		if err != nil {
			return nil, err
		}
		p.PNG = append(p.PNG, data)
	}
	return p, nil
}

func encode(m image.Image) ([]byte, error) {
	var b bytes.Buffer
	err := encoder.Encode(&b, m)
	return b.Bytes(), err
}

// picture is one image of planes [C H W].
func picture(planes []float64, shape graph.Shape) *image.NRGBA {
	height, width := shape[2], shape[3]
	return &image.NRGBA{Pix: engine.RGBA(planes, shape), Stride: 4 * width, Rect: image.Rect(0, 0, width, height)}
}

// Scale and gap of a contact sheet, in pixels.
const (
	sheetScale = 8
	sheetGap   = 4
)

// sheetSize is how large a contact sheet of a batch is, in rows as long as there
// are rows.
func sheetSize(shape graph.Shape) (columns, width, height int) {
	count, pictureHeight, pictureWidth := shape[0], sheetScale*shape[2], sheetScale*shape[3]
	columns = int(math.Ceil(math.Sqrt(float64(count))))
	rows := (count + columns - 1) / columns
	return columns, columns*(pictureWidth+sheetGap) - sheetGap, rows*(pictureHeight+sheetGap) - sheetGap
}

// sheetBytes is what making a contact sheet takes.
func sheetBytes(shape graph.Shape) int64 {
	_, width, height := sheetSize(shape)
	return 4 * int64(width) * int64(height)
}

// contactSheet is a batch as one picture.
func contactSheet(images []float64, shape graph.Shape) ([]byte, error) {
	columns, width, height := sheetSize(shape)
	sheet := image.NewNRGBA(image.Rect(0, 0, width, height))
	size := len(images) / shape[0]
	for n := range shape[0] {
		small := picture(images[n*size:(n+1)*size], shape)
		left, top := n%columns*(sheetScale*shape[3]+sheetGap), n/columns*(sheetScale*shape[2]+sheetGap)
		for y := range sheetScale * shape[2] {
			row := sheet.Pix[sheet.PixOffset(left, top+y):]
			for x := range sheetScale * shape[3] {
				copy(row[4*x:4*x+4], small.Pix[small.PixOffset(x/sheetScale, y/sheetScale):])
			}
		}
	}
	return encode(sheet)
}
