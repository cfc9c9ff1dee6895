package model

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/sdo-go/sdo/graph"
)

// maxShared is how often the numbers of a file may be used over by its tensors,
// on average. Tied weights use some twice.
const maxShared = 8

// zipMagic begins every zip archive that is not empty.
const zipMagic = "PK\x03\x04"

// TorchFile is an opened file of torch.save that holds a state dict, or a
// dictionary with one under "state_dict" or "model_state_dict": a zip archive of a
// pickle that describes tensors and of their numbers, uncompressed. Of the pickle
// only what makes tensors is understood (see unpickle); nothing in it is ever run.
// Tensors are read on demand, strided ones made contiguous. Safe for concurrent use
// if the reader is.
type TorchFile struct {
	file    string
	r       io.ReaderAt
	tensors map[string]torchTensor
}

// torchTensor is a view of numbers in the file.
type torchTensor struct {
	TensorInfo
	at      int64 // the file's byte where its first number is
	strides []int // in elements
	span    int   // elements from its first number to its last, 0 for none
}

// ParseTorch checks a file held in memory. file names it in errors.
func ParseTorch(file string, contents []byte) (*TorchFile, error) {
	return OpenTorch(file, bytes.NewReader(contents), int64(len(contents)))
}

// OpenTorch reads and checks what a file of the given size says of its tensors.
func OpenTorch(file string, r io.ReaderAt, size int64) (*TorchFile, error) {
	f := &TorchFile{file: file, r: r, tensors: map[string]torchTensor{}}
	if err := f.open(size); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return f, nil
}

func (f *TorchFile) open(size int64) error {
	magic := make([]byte, min(size, int64(len(zipMagic))))
	if err := readAt(f.r, magic, 0); err != nil {
		return err
	}
	if string(magic) != zipMagic {
		return errors.New("the file is no zip archive as torch.save writes one since PyTorch 1.6; load it in Python with torch.load(..., weights_only=True) and save the state dict as safetensors")
	}
	archive, err := zip.NewReader(f.r, size)
	if err != nil {
		return fmt.Errorf("the zip archive cannot be read (%w); the file is damaged, fetch it again", err)
	}
	members := make(map[string]*zip.File, len(archive.File))
	program := ""
	for _, m := range archive.File {
		if members[m.Name] != nil {
			return fmt.Errorf("the zip archive has two members %.200q; the file is damaged, fetch it again", m.Name)
		}
		members[m.Name] = m
		folder, name, _ := strings.Cut(m.Name, "/")
		switch {
		case name == "constants.pkl":
			return errors.New("this is a TorchScript archive, a program; save model.state_dict() alone, as safetensors or with torch.save")
		case name == "data.pkl" && program != "":
			return fmt.Errorf("the zip archive has two data.pkl, in %.200q and %.200q; the file is damaged, fetch it again", folder, program)
		case name == "data.pkl":
			program = folder
		}
	}
	if program == "" {
		return errors.New("the zip archive has no data.pkl, so torch.save did not write it; give a file of torch.save(model.state_dict())")
	}
	if order := members[program+"/byteorder"]; order != nil {
		text, err := f.read(order, size, 16)
		if err != nil {
			return err
		}
		if string(text) != "little" {
			return fmt.Errorf("the byte order is %.200q, want little; save the file again on a little-endian machine", text)
		}
	}
	text, err := f.read(members[program+"/data.pkl"], size, maxPickleBytes)
	if err != nil {
		return err
	}
	value, err := unpickle(text)
	if errors.As(err, new(foreignGlobal)) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w; the file is no plain state dict of torch.save, or damaged", err)
	}
	tensors, err := stateDict(value)
	if err != nil {
		return err
	}
	return f.place(tensors, members, program+"/data/", size)
}

// stateDict finds the tensors in what a pickle leaves.
func stateDict(value any) (map[string]*pickleTensor, error) {
	dict, ok := value.(*pickleDict)
	if !ok {
		return nil, errors.New("the file holds no dictionary of tensors; save model.state_dict() alone, as safetensors or with torch.save")
	}
	for i, key := range dict.keys {
		if inner, ok := dict.values[i].(*pickleDict); ok && (key == any("state_dict") || key == any("model_state_dict")) {
			dict = inner
			break
		}
	}
	tensors := make(map[string]*pickleTensor, len(dict.keys))
	for i, key := range dict.keys {
		name, ok := key.(string)
		if !ok {
			return nil, errors.New("the file's dictionary has a key that is no text; save model.state_dict() alone, as safetensors or with torch.save")
		}
		tensor, ok := dict.values[i].(*pickleTensor)
		if !ok && strings.HasPrefix(name, "string_to_") {
			return nil, errors.New("the file is of textual inversion, the embedding of a new word, which is not supported")
		}
		if !ok {
			return nil, fmt.Errorf("the entry %.200q is no tensor; save model.state_dict() alone, as safetensors or with torch.save", name)
		}
		tensors[name] = tensor
	}
	return tensors, nil
}

// place finds every tensor's numbers in the archive.
func (f *TorchFile) place(tensors map[string]*pickleTensor, members map[string]*zip.File, folder string, size int64) error {
	damaged := func(name, format string, args ...any) error {
		return fmt.Errorf("tensor %.200q: %s; the file is damaged, fetch it again", name, fmt.Sprintf(format, args...))
	}
	type block struct{ at, count int64 }
	blocks := map[string]block{}
	stored, used := int64(0), int64(0)
	names := make([]string, 0, len(tensors))
	for name := range tensors {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t := tensors[name]
		width := dtypeBytes[t.storage.dtype]
		b, seen := blocks[t.storage.key]
		if !seen {
			m := members[folder+t.storage.key]
			if m == nil {
				return damaged(name, "the archive lacks its numbers, %.200q", folder+t.storage.key)
			}
			at, bytes, err := f.find(m, size)
			if err != nil {
				return fmt.Errorf("tensor %.200q: %w", name, err)
			}
			if b = (block{at, bytes}); stored > size-bytes {
				return damaged(name, "the archive's members overlap")
			}
			stored += bytes
			blocks[t.storage.key] = b
		}
		if t.storage.count > b.count/width || t.storage.count*width != b.count {
			return damaged(name, "%d numbers of %s have %d bytes in the archive", t.storage.count, t.storage.dtype, b.count)
		}
		placed := torchTensor{TensorInfo: TensorInfo{DType: t.storage.dtype, Shape: make([]int, len(t.shape))}, strides: make([]int, len(t.shape))}
		count, last := int64(1), int64(0)
		if slices.Contains(t.shape, 0) {
			count = 0
		}
		for i, extent := range t.shape {
			if extent > math.MaxInt32 {
				return damaged(name, "axis %d has extent %d", i, extent)
			}
			placed.Shape[i], placed.strides[i] = int(extent), int(t.strides[i])
			if count == 0 {
				continue
			}
			if count > t.storage.count/extent {
				return damaged(name, "its shape %v has more numbers than the %d that are stored", t.shape, t.storage.count)
			}
			count *= extent
			if extent > 1 {
				if t.strides[i] > (t.storage.count-last)/(extent-1) {
					return damaged(name, "its strides %v reach beyond the %d numbers that are stored", t.strides, t.storage.count)
				}
				last += t.strides[i] * (extent - 1)
			}
		}
		if count > 0 {
			if t.offset > t.storage.count-1-last {
				return damaged(name, "it begins at number %d of %d and reaches beyond them", t.offset, t.storage.count)
			}
			placed.at, placed.span = b.at+t.offset*width, int(last+1)
		}
		// What lies between a tensor's numbers is read with them.
		if used += max(count, int64(placed.span)) * width; used > maxShared*size {
			return damaged(name, "the file's tensors reach over more than %d times as many numbers as the file has", maxShared)
		}
		f.tensors[name] = placed
	}
	return nil
}

// find tells where a member's bytes are. torch.save compresses nothing.
func (f *TorchFile) find(m *zip.File, size int64) (at, bytes int64, err error) {
	if m.Method != zip.Store || m.Flags&1 != 0 || m.CompressedSize64 != m.UncompressedSize64 {
		return 0, 0, fmt.Errorf("the archive's member %.200q is compressed or encrypted, as torch.save never writes it; save the file again", m.Name)
	}
	if at, err = m.DataOffset(); err != nil {
		return 0, 0, fmt.Errorf("the archive's member %.200q cannot be found (%w); the file is damaged, fetch it again", m.Name, err)
	}
	if m.UncompressedSize64 > uint64(size) || at > size-int64(m.UncompressedSize64) {
		return 0, 0, fmt.Errorf("the archive's member %.200q reaches beyond the file, which is cut short; fetch it again", m.Name)
	}
	return at, int64(m.UncompressedSize64), nil
}

// read returns a small member.
func (f *TorchFile) read(m *zip.File, size, limit int64) ([]byte, error) {
	at, bytes, err := f.find(m, size)
	if err != nil {
		return nil, err
	}
	if bytes > limit {
		return nil, fmt.Errorf("the archive's member %.200q has %d bytes, the limit is %d; save model.state_dict() alone, as safetensors or with torch.save", m.Name, bytes, limit)
	}
	text := make([]byte, bytes)
	return text, readAt(f.r, text, at)
}

// Names lists the tensors, sorted.
func (f *TorchFile) Names() []string {
	names := make([]string, 0, len(f.tensors))
	for name := range f.tensors {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Info tells a tensor's type, under safetensors' name for it, and shape.
func (f *TorchFile) Info(name string) (TensorInfo, bool) {
	t, ok := f.tensors[name]
	return t.TensorInfo, ok
}

// Read loads a tensor of any floating type as float32. F64 is rounded.
func (f *TorchFile) Read(name string) (Tensor, error) {
	t, ok := f.tensors[name]
	switch {
	case !ok:
		return Tensor{}, fmt.Errorf("%s: no tensor %.200q", f.file, name)
	case !t.DType.floating():
		return Tensor{}, fmt.Errorf("%s: tensor %.200q has dtype %s, want F32, F16, BF16 or F64; convert the file", f.file, name, t.DType)
	}
	span := make([]float32, t.length())
	if err := readFloats(f.r, t.at, t.DType, span); err != nil {
		return Tensor{}, fmt.Errorf("%s: tensor %.200q: %w", f.file, name, err)
	}
	return Tensor{t.Shape, inOrder(t, span, 1)}, nil
}

// ReadHalves loads the bytes of a tensor of type F16.
func (f *TorchFile) ReadHalves(name string) ([]byte, error) {
	t, ok := f.tensors[name]
	switch {
	case !ok:
		return nil, fmt.Errorf("%s: no tensor %.200q", f.file, name)
	case t.DType != F16:
		return nil, fmt.Errorf("%s: tensor %.200q has dtype %s, want F16", f.file, name, t.DType)
	}
	span := make([]byte, 2*t.length())
	if err := readAt(f.r, span, t.at); err != nil {
		return nil, fmt.Errorf("%s: tensor %.200q: %w", f.file, name, err)
	}
	return inOrder(t, span, 2), nil
}

// length is how many numbers of the file the tensor lies among.
func (t torchTensor) length() int {
	if t.contiguous() {
		return graph.Shape(t.Shape).Size()
	}
	return t.span
}

// inOrder is a tensor's numbers, of width elements each, in the order of the axes.
func inOrder[E float32 | byte](t torchTensor, span []E, width int) []E {
	if t.contiguous() {
		return span
	}
	data := make([]E, width*graph.Shape(t.Shape).Size())
	index, from := make([]int, len(t.Shape)), 0
	for i := 0; i < len(data); i += width {
		copy(data[i:i+width], span[from*width:])
		for axis := len(index) - 1; axis >= 0; axis-- {
			if index[axis]++; index[axis] < t.Shape[axis] {
				from += t.strides[axis]
				break
			}
			from -= (index[axis] - 1) * t.strides[axis]
			index[axis] = 0
		}
	}
	return data
}

// contiguous tells whether the numbers lie in the order of the axes.
func (t torchTensor) contiguous() bool {
	step := 1
	for axis := len(t.Shape) - 1; axis >= 0; axis-- {
		if t.Shape[axis] > 1 && t.strides[axis] != step {
			return false
		}
		step *= t.Shape[axis]
	}
	return true
}

// looksPickled tells a file of torch.save, of today or before PyTorch 1.6, from
// one of safetensors by its first bytes: a zip archive, or a pickle by itself,
// which begins with its protocol and a number of ten bytes.
func looksPickled(r io.ReaderAt, size int64) (bool, error) {
	var magic [4]byte
	if size < int64(len(magic)) {
		return false, nil
	}
	err := readAt(r, magic[:], 0)
	return string(magic[:]) == zipMagic || string(magic[:]) == "\x80\x02\x8a\x0a", err
}
