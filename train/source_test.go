package train

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sdo-go/sdo/train/avatars"
)

// fashionFiles is a Fashion-MNIST of eight pictures to train on, picture i all
// of the value i, and one to test by, of the value 200.
func fashionFiles(t *testing.T) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	add := func(name string, data []byte, dims ...uint32) {
		var file bytes.Buffer
		w := gzip.NewWriter(&file)
		header := []byte{0, 0, 8, byte(len(dims))}
		for _, d := range dims {
			header = binary.BigEndian.AppendUint32(header, d)
		}
		if _, err := w.Write(append(header, data...)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: file.Bytes()}
	}
	var images []byte
	for i := range 8 {
		images = append(images, bytes.Repeat([]byte{byte(i)}, 28*28)...)
	}
	add("train-images-idx3-ubyte.gz", images, 8, 28, 28)
	add("train-labels-idx1-ubyte.gz", []byte{0, 1, 2, 3, 4, 5, 6, 7}, 8)
	add("t10k-images-idx3-ubyte.gz", bytes.Repeat([]byte{200}, 28*28), 1, 28, 28)
	add("t10k-labels-idx1-ubyte.gz", []byte{9}, 1)
	return files
}

// The halves of a stored data set share no picture, and neither is tested by
// what it was trained on.
func TestRecipesTakeTheirData(t *testing.T) {
	values := func(d Dataset) (seen string) {
		found := map[int]bool{}
		image := make([]float32, d.Shape().Size())
		for i := range uint64(16) {
			d.Example(1, i, image)
			found[int((image[0]+1)*127.5+0.5)] = true
		}
		for _, v := range []int{0, 1, 2, 3, 4, 5, 6, 7, 200} {
			if found[v] {
				seen += string(rune('0' + v%100))
			}
		}
		return seen
	}
	for half, want := range map[string]string{"": "01234567", "first": "0123", "second": "4567"} {
		r, err := ParseRecipe([]byte(`{"name": "x", "task": "classifier", "data": "fashion-mnist", "half": "`+half+`", "widths": [8]}`), "x.json")
		if err != nil {
			t.Fatal(err)
		}
		task, err := r.open(fashionFiles(t))
		if err != nil {
			t.Fatal(err)
		}
		c := task.(Classifier)
		if got := values(c.Data); got != want {
			t.Errorf("half %q trains on pictures %s, want %s", half, got, want)
		}
		if got := values(c.Test); got != "0" { // 200
			t.Errorf("half %q is tested by pictures %s", half, got)
		}
		if c.Config.InChannels != 1 || c.Config.SampleSize != [2]int{28, 28} {
			t.Errorf("the classifier reads %d channels of %v", c.Config.InChannels, c.Config.SampleSize)
		}
		if _, err := r.open(nil); err == nil || !strings.Contains(err.Error(), "Session.Data") {
			t.Errorf("without files: %v", err)
		}
	}
	r, err := ParseRecipe([]byte(`{"name": "x", "task": "classifier", "widths": [8]}`), "x.json")
	if err != nil {
		t.Fatal(err)
	}
	if task, err := r.open(nil); err != nil || task.(Classifier).Data != (avatars.Dataset{}) {
		t.Errorf("a recipe without data trains on %T, %v", task.(Classifier).Data, err)
	}
}
