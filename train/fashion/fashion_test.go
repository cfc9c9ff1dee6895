package fashion

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// idx is a gzipped IDX file of bytes.
func idx(t *testing.T, data []byte, dims ...uint32) *fstest.MapFile {
	t.Helper()
	text := []byte{0, 0, 8, byte(len(dims))}
	for _, d := range dims {
		text = binary.BigEndian.AppendUint32(text, d)
	}
	return gzipped(t, append(text, data...))
}

func gzipped(t *testing.T, text []byte) *fstest.MapFile {
	t.Helper()
	var file bytes.Buffer
	w := gzip.NewWriter(&file)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &fstest.MapFile{Data: file.Bytes()}
}

// flat is n pictures, number i all of the value first+i, with labels i mod 10.
func flat(n, first int) (images, labels []byte) {
	for i := range n {
		images = append(images, bytes.Repeat([]byte{byte(first + i)}, pixels)...)
		labels = append(labels, byte(i%10))
	}
	return images, labels
}

// tiny is a data set of 13 pictures to train on and 3 to test by.
func tiny(t *testing.T) fstest.MapFS {
	images, labels := flat(13, 0)
	testImages, testLabels := flat(3, 200)
	return fstest.MapFS{
		"train-images-idx3-ubyte.gz": idx(t, images, 13, 28, 28),
		"train-labels-idx1-ubyte.gz": idx(t, labels, 13),
		"t10k-images-idx3-ubyte.gz":  idx(t, testImages, 3, 28, 28),
		"t10k-labels-idx1-ubyte.gz":  idx(t, testLabels, 3),
	}
}

func TestExamples(t *testing.T) {
	training, test, err := Open(tiny(t))
	if err != nil {
		t.Fatal(err)
	}
	if training.Len() != 13 || test.Len() != 3 || training.Shape().Size() != pixels {
		t.Fatalf("%d and %d pictures of %v", training.Len(), test.Len(), training.Shape())
	}
	if err := training.Attributes().Validate(); err != nil {
		t.Fatal(err)
	}
	image, again := make([]float32, pixels), make([]float32, pixels)
	var orders [][]int
	for epoch := range uint64(3) {
		var order []int
		for i := range uint64(13) {
			labels := training.Example(1, epoch*13+i, image)
			at := int((image[0]+1)*127.5 + 0.5)
			order = append(order, at)
			if labels[0] != at%10 {
				t.Errorf("picture %d has the label %d", at, labels[0])
			}
			if training.Example(1, epoch*13+i, again); !slices.Equal(image, again) {
				t.Error("the same arguments gave another picture")
			}
		}
		if sorted := slices.Sorted(slices.Values(order)); !slices.Equal(slices.Compact(sorted), sorted) || len(sorted) != 13 {
			t.Errorf("epoch %d dealt %v, want each of 13 once", epoch, order)
		}
		orders = append(orders, order)
	}
	if slices.Equal(orders[0], orders[1]) || slices.Equal(orders[1], orders[2]) {
		t.Error("two epochs have the same order")
	}
	test.Example(1, 5, image)
	if image[0] < 200./127.5-1 {
		t.Error("the test set shows a picture to train on")
	}
	first, second := training.Halves()
	if first.Len() != 6 || second.Len() != 7 || first.images[0] != 0 || second.images[0] != 6 || second.labels[0] != 6 {
		t.Errorf("halves of %d and %d pictures from %d and %d", first.Len(), second.Len(), first.images[0], second.images[0])
	}
}

func TestPixelValues(t *testing.T) {
	images := make([]byte, pixels)
	images[1], images[28] = 255, 128
	d := Dataset{images, []byte{9}}
	image := make([]float32, pixels)
	if labels := d.Example(3, 7, image); labels[0] != 9 || d.Attributes()[0].Values[9] != "boot" {
		t.Errorf("labels are %v", labels)
	}
	if image[0] != -1 || image[1] != 1 || image[28] <= 0 || image[28] > 0.01 {
		t.Errorf("black, white and grey became %v, %v and %v", image[0], image[1], image[28])
	}
}

// Every length has its permutations, and in them every picture comes early about
// as often as late.
func TestPlaces(t *testing.T) {
	for n := uint64(1); n < 70; n++ {
		seen := map[uint64]bool{}
		for i := range n {
			seen[place(1, 2, i, n)] = true
		}
		if uint64(len(seen)) != n || slices.Max(slices.Collect(maps.Keys(seen))) != n-1 {
			t.Fatalf("%d pictures have the places %v", n, slices.Sorted(maps.Keys(seen)))
		}
	}
	const n, epochs = 100, 400
	counts := [n]int{} // how often place i is among the first half
	for epoch := range uint64(epochs) {
		for i := range uint64(n / 2) {
			counts[place(5, epoch, i, n)]++
		}
	}
	// Standard deviation 10; six of them for a hundred counts.
	if slices.Min(counts[:]) < epochs/2-60 || slices.Max(counts[:]) > epochs/2+60 {
		t.Errorf("a picture comes early %d to %d times in %d epochs", slices.Min(counts[:]), slices.Max(counts[:]), epochs)
	}
}

func TestOpenRefuses(t *testing.T) {
	images, labels := flat(13, 0)
	good := tiny(t)
	broken := *good["train-images-idx3-ubyte.gz"]
	broken.Data = slices.Clone(broken.Data)
	broken.Data[len(broken.Data)-6]++ // in the checksum
	for name, c := range map[string]struct {
		file string
		data *fstest.MapFile
		want string
	}{
		"missing":     {"t10k-labels-idx1-ubyte.gz", nil, "t10k-labels-idx1-ubyte.gz is missing; Debian's package dataset-fashion-mnist puts it into /usr/share/datasets/fashion-mnist"},
		"not gzip":    {"train-labels-idx1-ubyte.gz", &fstest.MapFile{Data: []byte("label")}, "train-labels-idx1-ubyte.gz: "},
		"header":      {"train-labels-idx1-ubyte.gz", gzipped(t, []byte{0, 0, 8, 1, 0}), "train-labels-idx1-ubyte.gz: the header of 8 bytes cannot be read: unexpected EOF"},
		"magic":       {"train-images-idx3-ubyte.gz", idx(t, labels, 13), "train-images-idx3-ubyte.gz: starts with 00 00 08 01, an IDX file of bytes in 3 dimensions with 00 00 08 03"},
		"size":        {"train-images-idx3-ubyte.gz", idx(t, images, 13, 28, 27), "train-images-idx3-ubyte.gz: has 27 as dimension 2, want 28"},
		"none":        {"train-labels-idx1-ubyte.gz", idx(t, nil, 0), "train-labels-idx1-ubyte.gz: says that it holds 0 items, want 1 to 120000"},
		"hostile":     {"train-images-idx3-ubyte.gz", idx(t, images, 1<<32-1, 28, 28), "train-images-idx3-ubyte.gz: says that it holds 4294967295 items, want 1 to 120000"},
		"short":       {"train-images-idx3-ubyte.gz", idx(t, images, 14, 28, 28), "train-images-idx3-ubyte.gz: holds 10192 of the 10976 bytes of its 14 items"},
		"long":        {"train-images-idx3-ubyte.gz", idx(t, images, 12, 28, 28), "train-images-idx3-ubyte.gz: goes on after its 12 items"},
		"checksum":    {"train-images-idx3-ubyte.gz", &broken, "train-images-idx3-ubyte.gz: gzip: invalid checksum"},
		"counts":      {"train-labels-idx1-ubyte.gz", idx(t, labels[:12], 12), "train-labels-idx1-ubyte.gz: holds 12 labels for 13 images"},
		"wrong label": {"train-labels-idx1-ubyte.gz", idx(t, append(slices.Clone(labels[:12]), 10), 13), "train-labels-idx1-ubyte.gz: label 12 is 10, want 0 to 9"},
	} {
		files := maps.Clone(good)
		if files[c.file] = c.data; c.data == nil {
			delete(files, c.file)
		}
		_, _, err := Open(files)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: got %v\nwant %s", name, err, c.want)
		}
		if errors.Is(err, ErrMissing) != (c.data == nil) {
			t.Errorf("%s: errors.Is(%v, ErrMissing) is wrong", name, err)
		}
	}
}

// No file makes the reader panic or keep more than its header allows.
func FuzzReadIDX(f *testing.F) {
	f.Add([]byte{0, 0, 8, 1, 0, 0, 0, 2, 7, 9})
	f.Add([]byte{0, 0, 8, 1, 255, 255, 255, 255, 7, 9})
	f.Add([]byte{0, 0, 8, 3, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, text []byte) {
		items, err := readIDX(fstest.MapFS{"x": gzipped(t, text)}, "x")
		if err == nil && (len(items) == 0 || !bytes.Equal(items, text[8:])) {
			t.Errorf("% x was read as % x", text, items)
		}
	})
}
