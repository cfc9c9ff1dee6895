package fashion

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// most is how many items a file may hold, so that a wrong header cannot ask for
// all memory: twice as many as the real one.
const most = 120_000

// readIDX reads a gzipped IDX file of unsigned bytes, the format of MNIST
// (LeCun, Cortes and Burges): two zero bytes, the type 8, the number of
// dimensions, each dimension as a big-endian uint32, the data. The first
// dimension counts items; the others must be those of an item. It returns the
// items one after the other, and at least one.
func readIDX(files fs.FS, name string, item ...int) (items []byte, err error) {
	file, err := files.Open(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s %w", name, ErrMissing)
		}
		return nil, err
	}
	defer file.Close()
	failed := func(err error) ([]byte, error) { return nil, fmt.Errorf("%s: %w", name, err) }
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return failed(err)
	}
	header := make([]byte, 4+4*(1+len(item)))
	if _, err := io.ReadFull(unzipped, header); err != nil {
		return failed(fmt.Errorf("the header of %d bytes cannot be read: %w", len(header), err))
	}
	if magic := []byte{0, 0, 8, byte(1 + len(item))}; !bytes.Equal(header[:4], magic) {
		return failed(fmt.Errorf("starts with % x, an IDX file of bytes in %d dimensions with % x", header[:4], 1+len(item), magic))
	}
	count := binary.BigEndian.Uint32(header[4:])
	if count == 0 || count > most {
		return failed(fmt.Errorf("says that it holds %d items, want 1 to %d", count, most))
	}
	size := int(count)
	for i, want := range item {
		if got := binary.BigEndian.Uint32(header[8+4*i:]); got != uint32(want) {
			return failed(fmt.Errorf("has %d as dimension %d, want %d", got, i+1, want))
		}
		size *= want
	}
	// What is there decides how much is kept, not what the header says. One byte
	// more shows a longer file and has the checksum at the end read.
	items, err = io.ReadAll(io.LimitReader(unzipped, int64(size)+1))
	if err != nil {
		return failed(err)
	}
	switch {
	case len(items) < size:
		return failed(fmt.Errorf("holds %d of the %d bytes of its %d items", len(items), size, count))
	case len(items) > size:
		return failed(fmt.Errorf("goes on after its %d items", count))
	}
	return items, nil
}
