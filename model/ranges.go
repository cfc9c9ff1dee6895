package model

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"io"
	"io/fs"
	"math"
)

// ranges is an opened file of which parts are read on demand: mapped into memory
// where the operating system can, through its io.ReaderAt where it has one, such
// as a browser's file, and otherwise read whole.
type ranges struct {
	io.ReaderAt
	io.Closer
	size int64
}

// mapped is a file in the address space.
type mapped interface {
	io.ReaderAt
	io.Closer
	viewer
}

// viewer shows a range of a file without a copy. The bytes are there during the
// call only.
type viewer interface {
	view(at, n int64, use func(raw []byte)) error
}

func openRanges(fsys fs.FS, name string) (*ranges, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	r, readable := f.(io.ReaderAt)
	if !readable {
		defer f.Close()
		contents, err := io.ReadAll(f)
		return &ranges{bytes.NewReader(contents), io.NopCloser(nil), int64(len(contents))}, err
	}
	stat, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if m := mapFile(f, stat.Size()); m != nil {
		f.Close() // the mapping stays
		return &ranges{m, m, stat.Size()}, nil
	}
	return &ranges{r, f, stat.Size()}, nil
}

// readAt fills buf, whatever the reader says about the end of the file.
func readAt(r io.ReaderAt, buf []byte, at int64) error {
	if n, err := r.ReadAt(buf, at); n < len(buf) {
		return cmp.Or(err, io.ErrUnexpectedEOF)
	}
	return nil
}

// readerBytes is how much of a file is read at once where it is not mapped.
const readerBytes = 4 << 20

// floating tells the types that readFloats reads.
func (d DType) floating() bool { return d == F32 || d == F16 || d == BF16 || d == F64 }

// readFloats fills data with numbers of a floating type that begin at a byte of
// a file.
func readFloats(r io.ReaderAt, at int64, dtype DType, data []float32) error {
	width := dtypeBytes[dtype]
	if f, ok := r.(*ranges); ok {
		r = f.ReaderAt
	}
	if v, ok := r.(viewer); ok {
		return v.view(at, int64(len(data))*width, func(raw []byte) { decode(data, dtype, raw) })
	}
	buffer := make([]byte, min(int64(len(data))*width, readerBytes))
	for len(data) > 0 {
		n := min(len(data), len(buffer)/int(width))
		if err := readAt(r, buffer[:int64(n)*width], at); err != nil {
			return err
		}
		decode(data[:n], dtype, buffer)
		at += int64(n) * width
		data = data[n:]
	}
	return nil
}

// decode turns little-endian numbers of a floating type into float32. F64 is
// rounded.
func decode(data []float32, dtype DType, raw []byte) {
	le := binary.LittleEndian
	switch dtype {
	case F32:
		raw = raw[:4*len(data)]
		for i := range data {
			data[i] = math.Float32frombits(le.Uint32(raw[4*i:]))
		}
	case F16:
		raw = raw[:2*len(data)]
		for i := range data {
			data[i] = half(le.Uint16(raw[2*i:]))
		}
	case BF16:
		raw = raw[:2*len(data)]
		for i := range data {
			data[i] = math.Float32frombits(uint32(le.Uint16(raw[2*i:])) << 16)
		}
	case F64:
		raw = raw[:8*len(data)]
		for i := range data {
			data[i] = float32(math.Float64frombits(le.Uint64(raw[8*i:])))
		}
	}
}

// half is the number that sixteen bits of IEEE half precision mean. Exponent and
// fraction in float32's places are the number times 2^-112, subnormal ones
// included, and a multiplication by a power of two is exact.
func half(bits uint16) float32 {
	sign, rest := uint32(bits&0x8000)<<16, uint32(bits&0x7fff)<<13
	if bits&0x7c00 == 0x7c00 { // infinities, and NaNs with their payload
		return math.Float32frombits(sign | 0x7f800000 | rest)
	}
	return math.Float32frombits(sign | math.Float32bits(math.Float32frombits(rest)*0x1p112))
}
