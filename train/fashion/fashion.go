// Package fashion reads Fashion-MNIST, 70 000 grey pictures of clothes of 28 by
// 28 pixels in ten classes (Xiao, Rasul and Vollgraf, arXiv 1708.07747; MIT
// licence), and deals them out as an endless, reproducible supply. The pictures
// are not part of this project; see Folder.
package fashion

import (
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"math/rand/v2"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// Folder is where Debian's package puts the data set.
const Folder = "/usr/share/datasets/fashion-mnist"

// ErrMissing is in Open's error where one of the files is not there.
var ErrMissing = errors.New("is missing; Debian's package dataset-fashion-mnist puts it into " + Folder)

// Size is the side of a picture in pixels.
const Size = 28

const pixels = Size * Size

// classes in the order of the labels.
var classes = []string{"t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"}

// Dataset is some of the pictures with their labels. The zero value has none,
// but a shape and a schema.
type Dataset struct {
	images []byte // one picture after the other, 0 is black
	labels []byte
}

// Open reads the 60 000 pictures to train on and the 10 000 to test by from
// their four IDX files, all of which must be there.
func Open(files fs.FS) (training, test Dataset, err error) {
	if training, err = read(files, "train"); err != nil {
		return Dataset{}, Dataset{}, err
	}
	if test, err = read(files, "t10k"); err != nil {
		return Dataset{}, Dataset{}, err
	}
	return training, test, nil
}

func read(files fs.FS, split string) (d Dataset, err error) {
	if d.images, err = readIDX(files, split+"-images-idx3-ubyte.gz", Size, Size); err != nil {
		return d, err
	}
	name := split + "-labels-idx1-ubyte.gz"
	if d.labels, err = readIDX(files, name); err != nil {
		return d, err
	}
	if d.Len() != len(d.images)/pixels {
		return d, fmt.Errorf("%s: holds %d labels for %d images", name, d.Len(), len(d.images)/pixels)
	}
	for i, label := range d.labels {
		if int(label) >= len(classes) {
			return d, fmt.Errorf("%s: label %d is %d, want 0 to %d", name, i, label, len(classes)-1)
		}
	}
	return d, nil
}

// Len is how many pictures there are.
func (d Dataset) Len() int { return len(d.labels) }

// Halves splits the pictures in two sets that share none, the first half of the
// file and the rest.
func (d Dataset) Halves() (first, second Dataset) {
	n := d.Len() / 2
	return Dataset{d.images[:n*pixels], d.labels[:n]}, Dataset{d.images[n*pixels:], d.labels[n:]}
}

// Shape is [1 28 28].
func (Dataset) Shape() graph.Shape { return graph.Shape{1, Size, Size} }

// Attributes is one, the class.
func (Dataset) Attributes() model.Attributes {
	return model.Attributes{{Name: "class", Values: classes}}
}

// Example writes picture number index of the stream of a seed into image, black
// as -1 and white as 1, and returns its class. Every Len pictures the stream has
// dealt out all of them once, each time in another order.
func (d Dataset) Example(seed, index uint64, image []float32) (labels []int) {
	n := uint64(d.Len())
	at := int(place(seed, index/n, index%n, n))
	for i, v := range d.images[at*pixels:][:pixels] {
		image[i] = float32(v)/127.5 - 1
	}
	return []int{int(d.labels[at])}
}

// place is where the card number i of a deck of n lies after shuffling: a
// permutation of 0..n-1 for every seed and epoch that needs no table, so that a
// run resumes from a count. It is a Feistel network of four rounds on the
// smallest square of a power of two that holds n (Luby and Rackoff 1988),
// applied until the result lies below n again (cycle walking: Black and Rogaway,
// "Ciphers with arbitrary finite domains", 2002).
func place(seed, epoch, i, n uint64) uint64 {
	half := (bits.Len64(n-1) + 1) / 2
	mask := uint64(1)<<half - 1
	var keys [4]uint64
	for round, random := 0, rand.NewPCG(seed, epoch); round < len(keys); round++ {
		keys[round] = random.Uint64()
	}
	for {
		left, right := i>>half, i&mask
		for _, key := range keys {
			left, right = right, left^rand.NewPCG(key, right).Uint64()&mask
		}
		if i = left<<half | right; i < n {
			return i
		}
	}
}
