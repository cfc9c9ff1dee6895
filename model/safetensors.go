package model

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/x448/float16"

	"github.com/sdo-go/sdo/graph"
)

// Limits of the reader. The header cap is the reference implementation's; the
// rank cap only has to exceed every real tensor.
const (
	maxHeaderBytes = 100_000_000
	maxRank        = 8
)

// DType is a safetensors element type by its name in the file.
type DType string

const (
	F64  DType = "F64"
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
)

var dtypeBytes = map[DType]int64{
	"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1,
	"U16": 2, "I16": 2, F16: 2, BF16: 2,
	"U32": 4, "I32": 4, F32: 4,
	"U64": 8, "I64": 8, F64: 8,
}

// TensorInfo is what is known of a stored tensor before it is read.
type TensorInfo struct {
	DType DType
	Shape []int
}

// entry is one of the header's.
type entry struct {
	TensorInfo
	begin, end int64 // within the data section
}

// Safetensors is an opened file: its header has been checked in full, its
// tensors are read on demand. Safe for concurrent use if the reader is.
//
// Format: 8 bytes little-endian header length, a JSON object of name ->
// {dtype, shape, data_offsets} (padded with spaces), then the data, which the
// offsets must cover without a gap or an overlap.
type Safetensors struct {
	Metadata map[string]string // the "__metadata__" entry

	file    string
	r       io.ReaderAt
	data    int64 // where the data section starts
	tensors map[string]entry
}

// ParseSafetensors checks a file held in memory. file names it in errors.
func ParseSafetensors(file string, contents []byte) (*Safetensors, error) {
	return OpenSafetensors(file, bytes.NewReader(contents), int64(len(contents)))
}

// OpenSafetensors reads and checks the header of a file of the given size.
func OpenSafetensors(file string, r io.ReaderAt, size int64) (*Safetensors, error) {
	damaged := func(format string, args ...any) error {
		return fmt.Errorf("%s: %s; the file is damaged or not safetensors, fetch it again", file, fmt.Sprintf(format, args...))
	}
	var prefix [8]byte
	if size < 8 {
		return nil, damaged("only %d bytes, a header length alone takes 8", size)
	}
	if err := readAt(r, prefix[:], 0); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	length := binary.LittleEndian.Uint64(prefix[:])
	if length > maxHeaderBytes {
		return nil, damaged("header of %d bytes exceeds the limit of %d", length, maxHeaderBytes)
	}
	if int64(length) > size-8 {
		return nil, damaged("header of %d bytes does not fit a file of %d", length, size)
	}
	header := make([]byte, length)
	if err := readAt(r, header, 8); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	s := &Safetensors{file: file, r: r, data: 8 + int64(length), tensors: map[string]entry{}}
	if err := s.parseHeader(header); err != nil {
		return nil, damaged("%v", err)
	}
	if err := s.checkRanges(size - s.data); err != nil {
		return nil, damaged("%v", err)
	}
	return s, nil
}

// parseHeader walks the JSON token by token, because encoding/json would let a
// duplicate name overwrite the first.
func (s *Safetensors) parseHeader(header []byte) error {
	if len(header) == 0 || header[0] != '{' {
		return errors.New("the header is not a JSON object")
	}
	if !utf8.Valid(header) {
		return errors.New("the header is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(header))
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("the header is not JSON (%v)", err)
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return fmt.Errorf("the header is not JSON (%v)", err)
		}
		name := token.(string) // keys of an object are strings, or Token fails
		if name == "__metadata__" {
			if s.Metadata != nil {
				return errors.New("__metadata__ appears twice")
			}
			s.Metadata = map[string]string{}
			if err := d.Decode(&s.Metadata); err != nil || s.Metadata == nil {
				return errors.New("__metadata__ is not an object of strings")
			}
			continue
		}
		if _, twice := s.tensors[name]; twice {
			return fmt.Errorf("tensor %.200q appears twice", name)
		}
		info, err := parseInfo(d)
		if err != nil {
			return fmt.Errorf("tensor %.200q: %v", name, err)
		}
		s.tensors[name] = info
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("the header is not JSON (%v)", err)
	}
	if rest := strings.TrimLeft(string(header[d.InputOffset():]), " "); rest != "" {
		return errors.New("the header's JSON is followed by something else than spaces")
	}
	return nil
}

func parseInfo(d *json.Decoder) (entry, error) {
	var text json.RawMessage
	if err := d.Decode(&text); err != nil {
		return entry{}, fmt.Errorf("the header is not JSON (%v)", err)
	}
	var raw struct {
		DType   *DType
		Shape   *[]int64
		Offsets *[]int64
	}
	fields := map[string]any{"dtype": &raw.DType, "shape": &raw.Shape, "data_offsets": &raw.Offsets}
	if err := eachOnce(text, fields); err != nil {
		return entry{}, fmt.Errorf("entry is not {dtype, shape, data_offsets} with whole numbers (%s)", short(err.Error()))
	}
	if raw.DType == nil || raw.Shape == nil || raw.Offsets == nil || len(*raw.Offsets) != 2 {
		return entry{}, errors.New("entry lacks one of dtype, shape and two data_offsets")
	}
	width, known := dtypeBytes[*raw.DType]
	if !known {
		return entry{}, fmt.Errorf("unknown dtype %.200q", *raw.DType)
	}
	if len(*raw.Shape) > maxRank {
		return entry{}, fmt.Errorf("%d axes, the limit is %d", len(*raw.Shape), maxRank)
	}
	want := width
	shape := make([]int, len(*raw.Shape))
	for i, extent := range *raw.Shape {
		if extent < 0 || extent > math.MaxInt32 {
			return entry{}, fmt.Errorf("axis %d has extent %d", i, extent)
		}
		if extent > 0 && want > math.MaxInt64/extent {
			return entry{}, fmt.Errorf("shape %v overflows", *raw.Shape)
		}
		want *= extent
		shape[i] = int(extent)
	}
	begin, end := (*raw.Offsets)[0], (*raw.Offsets)[1]
	if begin < 0 || end < begin {
		return entry{}, fmt.Errorf("data_offsets [%d %d] are not a range", begin, end)
	}
	if end-begin != want {
		return entry{}, fmt.Errorf("%s%v takes %d bytes, data_offsets give it %d", *raw.DType, graph.Shape(shape), want, end-begin)
	}
	return entry{TensorInfo{*raw.DType, shape}, begin, end}, nil
}

// eachOnce decodes the values of an object that has no keys but those of fields,
// none of them twice: whoever reads the file must read the same.
func eachOnce(text []byte, fields map[string]any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return errors.New("no object")
	}
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		key := token.(string) // keys of an object are strings, or Token fails
		if fields[key] == nil || seen[key] {
			return fmt.Errorf("key %q is unknown or there twice", key)
		}
		seen[key] = true
		if err := d.Decode(fields[key]); err != nil {
			return err
		}
	}
	return nil
}

// checkRanges wants the tensors to tile the data section exactly.
func (s *Safetensors) checkRanges(size int64) error {
	names := s.Names()
	slices.SortStableFunc(names, func(a, b string) int {
		x, y := s.tensors[a], s.tensors[b]
		return cmp.Or(cmp.Compare(x.begin, y.begin), cmp.Compare(x.end, y.end))
	})
	at := int64(0)
	for _, name := range names {
		switch t := s.tensors[name]; {
		case t.begin < at:
			return fmt.Errorf("tensor %.200q overlaps another at byte %d", name, t.begin)
		case t.begin > at:
			return fmt.Errorf("%d bytes before tensor %.200q belong to none", t.begin-at, name)
		case t.end > size:
			return fmt.Errorf("tensor %.200q ends at byte %d of %d: the file is cut short", name, t.end, size)
		default:
			at = t.end
		}
	}
	if at != size {
		return fmt.Errorf("%d bytes after the last tensor belong to none", size-at)
	}
	return nil
}

// Names lists the tensors, sorted.
func (s *Safetensors) Names() []string {
	names := make([]string, 0, len(s.tensors))
	for name := range s.tensors {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Info returns a tensor's header entry.
func (s *Safetensors) Info(name string) (TensorInfo, bool) {
	t, ok := s.tensors[name]
	return t.TensorInfo, ok
}

// Read loads a tensor of any floating type as float32. F64 is rounded.
func (s *Safetensors) Read(name string) (Tensor, error) {
	info, ok := s.tensors[name]
	switch {
	case !ok:
		return Tensor{}, fmt.Errorf("%s: no tensor %.200q", s.file, name)
	case !info.DType.floating():
		return Tensor{}, fmt.Errorf("%s: tensor %.200q has dtype %s, want F32, F16, BF16 or F64; convert the file", s.file, name, info.DType)
	}
	data := make([]float32, graph.Shape(info.Shape).Size())
	if err := readFloats(s.r, s.data+info.begin, info.DType, data); err != nil {
		return Tensor{}, fmt.Errorf("%s: tensor %.200q: %w", s.file, name, err)
	}
	return Tensor{info.Shape, data}, nil
}

// ReadHalves loads the bytes of a tensor of type F16.
func (s *Safetensors) ReadHalves(name string) ([]byte, error) {
	info, ok := s.tensors[name]
	switch {
	case !ok:
		return nil, fmt.Errorf("%s: no tensor %.200q", s.file, name)
	case info.DType != F16:
		return nil, fmt.Errorf("%s: tensor %.200q has dtype %s, want F16", s.file, name, info.DType)
	}
	halves := make([]byte, info.end-info.begin)
	if err := readAt(s.r, halves, s.data+info.begin); err != nil {
		return nil, fmt.Errorf("%s: tensor %.200q: %w", s.file, name, err)
	}
	return halves, nil
}

// ReadInts loads a tensor of a whole-number type.
func (s *Safetensors) ReadInts(name string) (shape []int, data []int64, err error) {
	info, raw, err := s.bytes(name)
	if err != nil {
		return nil, nil, err
	}
	le := binary.LittleEndian
	data = make([]int64, graph.Shape(info.Shape).Size())
	for i := range data {
		switch info.DType {
		case "BOOL", "U8":
			data[i] = int64(raw[i])
		case "I8":
			data[i] = int64(int8(raw[i]))
		case "U16":
			data[i] = int64(le.Uint16(raw[2*i:]))
		case "I16":
			data[i] = int64(int16(le.Uint16(raw[2*i:])))
		case "U32":
			data[i] = int64(le.Uint32(raw[4*i:]))
		case "I32":
			data[i] = int64(int32(le.Uint32(raw[4*i:])))
		case "I64":
			data[i] = int64(le.Uint64(raw[8*i:]))
		case "U64":
			v := le.Uint64(raw[8*i:])
			if v > math.MaxInt64 {
				return nil, nil, fmt.Errorf("%s: tensor %.200q holds %d, which is too large", s.file, name, v)
			}
			data[i] = int64(v)
		default:
			return nil, nil, fmt.Errorf("%s: tensor %.200q has dtype %s, want whole numbers", s.file, name, info.DType)
		}
	}
	return info.Shape, data, nil
}

// ReadAll loads every tensor as float32.
func (s *Safetensors) ReadAll() (Weights, error) {
	weights := make(Weights, len(s.tensors))
	for name := range s.tensors {
		t, err := s.Read(name)
		if err != nil {
			return nil, err
		}
		weights[name] = t
	}
	return weights, nil
}

func (s *Safetensors) bytes(name string) (entry, []byte, error) {
	info, ok := s.tensors[name]
	if !ok {
		return info, nil, fmt.Errorf("%s: no tensor %.200q", s.file, name)
	}
	raw := make([]byte, info.end-info.begin)
	if err := readAt(s.r, raw, s.data+info.begin); err != nil {
		return info, nil, fmt.Errorf("%s: tensor %.200q: %w", s.file, name, err)
	}
	return info, raw, nil
}

// openSafetensors opens a file of a file system. close releases it.
func openSafetensors(fsys fs.FS, name string) (s *Safetensors, close func() error, err error) {
	f, err := openRanges(fsys, name)
	if err != nil {
		return nil, nil, err
	}
	if s, err = OpenSafetensors(name, f, f.size); err != nil {
		f.Close()
	}
	return s, f.Close, err
}

// WriteSafetensors writes tensors as F32, F16 or BF16, sorted by name, so that
// equal tensors make equal files. F16 rounds to nearest even; a finite number
// beyond its range is refused rather than written as infinity.
func WriteSafetensors(w io.Writer, tensors Weights, dtype DType, metadata map[string]string) error {
	return WriteSource(w, tensors, func(string) DType { return dtype }, metadata)
}

// WriteSource is WriteSafetensors for tensors that need not be in memory, each in
// a type of its own: they are read one at a time.
func WriteSource(w io.Writer, s Source, dtype func(name string) DType, metadata map[string]string) error {
	header := bytes.NewBufferString("{")
	if len(metadata) > 0 {
		text, err := json.Marshal(metadata) // sorts its keys
		if err != nil {
			return err
		}
		fmt.Fprintf(header, `"__metadata__":%s`, text)
	}
	names := s.Names()
	at := int64(0)
	for _, name := range names {
		info, _ := s.Info(name)
		as := dtype(name)
		if as != F32 && as != F16 && as != BF16 {
			return fmt.Errorf("safetensors: cannot write dtype %.200q, only F32, F16 and BF16", as)
		}
		if name == "__metadata__" || len(info.Shape) > maxRank {
			return fmt.Errorf("safetensors: tensor %.200q of shape %v cannot be written", name, graph.Shape(info.Shape))
		}
		if header.Len() > 1 {
			header.WriteByte(',')
		}
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		end := at + int64(graph.Shape(info.Shape).Size())*dtypeBytes[as]
		extents := make([]string, len(info.Shape))
		for i, extent := range info.Shape {
			extents[i] = strconv.Itoa(extent)
		}
		fmt.Fprintf(header, `%s:{"dtype":%q,"shape":[%s],"data_offsets":[%d,%d]}`, key, as, strings.Join(extents, ","), at, end)
		at = end
	}
	header.WriteByte('}')
	for header.Len()%8 != 0 {
		header.WriteByte(' ')
	}

	var prefix [8]byte
	binary.LittleEndian.PutUint64(prefix[:], uint64(header.Len()))
	if _, err := w.Write(prefix[:]); err != nil {
		return err
	}
	if _, err := w.Write(header.Bytes()); err != nil {
		return err
	}
	for _, name := range names {
		t, err := s.Read(name)
		if err != nil {
			return err
		}
		if info, _ := s.Info(name); graph.Shape(info.Shape).Size() != len(t.Data) {
			return fmt.Errorf("safetensors: tensor %.200q of shape %v with %d numbers cannot be written", name, graph.Shape(info.Shape), len(t.Data))
		}
		raw, err := encode(t.Data, dtype(name))
		if err != nil {
			return fmt.Errorf("safetensors: tensor %.200q: %w", name, err)
		}
		if _, err := w.Write(raw); err != nil {
			return err
		}
	}
	return nil
}

func encode(data []float32, dtype DType) ([]byte, error) {
	raw := make([]byte, 0, int64(len(data))*dtypeBytes[dtype])
	le := binary.LittleEndian
	for _, v := range data {
		switch dtype {
		case F32:
			raw = le.AppendUint32(raw, math.Float32bits(v))
		case F16:
			h := float16.Fromfloat32(v)
			if h.IsInf(0) && !math.IsInf(float64(v), 0) {
				return nil, fmt.Errorf("%g does not fit F16, write F32", v)
			}
			raw = le.AppendUint16(raw, h.Bits())
		case BF16:
			bits := math.Float32bits(v)
			if v == v { // round to nearest even; a NaN keeps its high bits
				bits += 0x7fff + bits>>16&1
			}
			raw = le.AppendUint16(raw, uint16(bits>>16))
		}
	}
	return raw, nil
}

// SaveSafetensors writes a file atomically.
func SaveSafetensors(path string, tensors Weights, dtype DType, metadata map[string]string) error {
	return WriteFileAtomic(path, func(w io.Writer) error { return WriteSafetensors(w, tensors, dtype, metadata) })
}

// LoadSafetensors reads every tensor of a file as float32, and its metadata.
func LoadSafetensors(fsys fs.FS, name string) (Weights, map[string]string, error) {
	s, close, err := openSafetensors(fsys, name)
	if err != nil {
		return nil, nil, err
	}
	defer close()
	weights, err := s.ReadAll()
	return weights, s.Metadata, err
}
