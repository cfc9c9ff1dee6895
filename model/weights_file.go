package model

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model/placeholder"
)

// Limits of an index of shards.
const (
	maxIndexBytes = 64 << 20
	maxShards     = 1000
)

// Checkpoint is an opened network's weights, of one file or several: names and
// shapes are known and checked, numbers are read on demand. Safe for concurrent
// use if the file system is. What is not closed is released when nothing refers
// to it any more.
type Checkpoint struct {
	File     string            // what was chosen: the file, or the index of the shards
	Beside   []string          // files of the folder that hold the same weights and were not chosen
	Metadata map[string]string // of a safetensors file

	parts  map[string]Source // by tensor
	closes []io.Closer
}

// weightsNames lists the names that weights called base can have in a folder, the
// first that is there being read: as they were trained before a variant in half
// precision, safetensors before pickles, one file before shards. transformers
// calls pickles pytorch_model, whatever safetensors are called.
func weightsNames(base string) []string {
	names := []string{
		base + ".safetensors", base + ".safetensors.index.json",
		base + ".fp16.safetensors", base + ".safetensors.index.fp16.json", base + ".safetensors.fp16.index.json", base + ".fp16.safetensors.index.json",
	}
	pickles := []string{base}
	if base == "model" {
		pickles = []string{"pytorch_model", base}
	}
	for _, b := range pickles {
		names = append(names, b+".bin", b+".bin.index.json", b+".fp16.bin", b+".bin.index.fp16.json", b+".pth", b+".pt")
	}
	return names
}

// variantNames lists the files of weights called base that are of some other
// variant, such as "ema" or "bf16", by format.
func variantNames(fsys fs.FS, dir, base string) []string {
	for _, form := range []string{".*.safetensors", ".safetensors.index.*.json", ".*.bin"} {
		bases := []string{base}
		if base == transformersBase && form == ".*.bin" {
			bases = append(bases, "pytorch_model")
		}
		var found []string
		for _, b := range bases {
			names, err := fs.Glob(fsys, path.Join(dir, b+form))
			if err != nil {
				return nil // dir holds what is no pattern
			}
			found = append(found, names...)
		}
		if found = slices.DeleteFunc(found, isShard); len(found) > 0 {
			return found
		}
	}
	return nil
}

// shardForm is how a file is named that holds a part of some weights.
var shardForm = regexp.MustCompile(`-\d{5}-of-\d{5}\b`)

func isShard(name string) bool { return shardForm.MatchString(path.Base(name)) }

// OpenWeights finds the weights called base in a folder, such as
// "diffusion_pytorch_model" or "model", and opens them; see weightsNames. A variant
// of another name is read where it is the only one.
func OpenWeights(fsys fs.FS, dir, base string) (*Checkpoint, error) {
	var there []string
	for _, name := range weightsNames(base) {
		if name = path.Join(dir, name); exists(fsys, name) {
			there = append(there, name)
		}
	}
	if len(there) == 0 {
		if there = variantNames(fsys, dir, base); len(there) > 1 {
			return nil, fmt.Errorf("%s: there are only variants of it, %s; leave the one that is meant", path.Join(dir, base+".safetensors"), short(strings.Join(there, ", ")))
		}
	}
	if len(there) == 0 {
		for form, whose := range map[string]string{"*.msgpack": "Flax", "*.onnx": "ONNX", "*.h5": "TensorFlow"} {
			if others, _ := fs.Glob(fsys, path.Join(dir, form)); len(others) > 0 { // a dir that is no pattern has none
				return nil, fmt.Errorf("%s: the file is missing; %s is there, but %s's files are not read; bring the same model with PyTorch's weights", path.Join(dir, base+".safetensors"), short(others[0]), whose)
			}
		}
		return nil, fmt.Errorf("%s: the file is missing, and so is every other form of it; the folder is incomplete, fetch it again", path.Join(dir, base+".safetensors"))
	}
	c, err := OpenCheckpoint(fsys, there[0])
	if err == nil {
		c.Beside = there[1:]
	}
	return c, err
}

// OpenCheckpoint opens a file of weights: safetensors, torch.save's (see
// TorchFile), or an index of shards of either.
func OpenCheckpoint(fsys fs.FS, name string) (*Checkpoint, error) {
	c := &Checkpoint{File: name, parts: map[string]Source{}}
	var err error
	if strings.HasSuffix(name, ".json") {
		err = c.addShards(fsys, name)
	} else {
		var part Source
		if part, err = c.open(fsys, name); errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s: the file is missing; the folder is incomplete, fetch it again", name)
		}
		if err == nil {
			for _, tensor := range part.Names() {
				c.parts[tensor] = part
			}
			if s, ok := part.(*Safetensors); ok {
				c.Metadata = s.Metadata
			}
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// open opens one file, which the checkpoint closes.
func (c *Checkpoint) open(fsys fs.FS, name string) (Source, error) {
	f, err := openRanges(fsys, name)
	if err != nil {
		return nil, err
	}
	c.closes = append(c.closes, f)
	head := make([]byte, min(f.size, placeholder.Bytes))
	if err = readAt(f, head, 0); err == nil {
		err = placeholder.Check(head)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	torch := slices.Contains([]string{".bin", ".pth", ".pt", ".ckpt"}, path.Ext(name))
	if !torch {
		if torch, err = looksPickled(f, f.size); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if torch {
		file, err := OpenTorch(name, f, f.size)
		return file, err
	}
	return OpenSafetensors(name, f, f.size)
}

// addShards opens the files that an index names. The index decides which tensor
// is in which; the size it tells is not held against them, since released ones
// count tied weights in different ways, and each shard is checked in full anyway.
func (c *Checkpoint) addShards(fsys fs.FS, name string) error {
	text, err := readLimited(fsys, name, maxIndexBytes)
	if err != nil {
		return err
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(text, &index); err != nil {
		return fmt.Errorf("%s: %w", name, plain(err))
	}
	if len(index.WeightMap) == 0 {
		return fmt.Errorf("%s: names no tensors in weight_map, so it is no index of weights; another file was meant, or it is damaged: fetch it again", name)
	}
	held := map[string][]string{} // tensors by shard
	for tensor, shard := range index.WeightMap {
		if shard == "" || strings.ContainsAny(shard, `/\`) || strings.ContainsFunc(shard, unicode.IsControl) || !fs.ValidPath(shard) || shard == "." {
			return fmt.Errorf("%s: weight_map puts a tensor into %.200q, want the name of a file beside the index; the file is damaged, fetch it again", name, shard)
		}
		held[shard] = append(held[shard], tensor)
	}
	if len(held) > maxShards {
		return fmt.Errorf("%s: names %d files, the limit is %d", name, len(held), maxShards)
	}
	shards := make([]string, 0, len(held))
	for shard := range held {
		shards = append(shards, shard)
	}
	slices.Sort(shards)
	for _, shard := range shards {
		file := path.Join(path.Dir(name), shard)
		part, err := c.open(fsys, file)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: the file is missing, which %s names; the folder is incomplete, fetch it again", file, name)
		}
		if err != nil {
			return err
		}
		slices.Sort(held[shard])
		for _, tensor := range held[shard] {
			if _, ok := part.Info(tensor); !ok {
				return fmt.Errorf("%s: lacks tensor %.200q, which %s says it holds; the files do not belong together, fetch them again", file, tensor, name)
			}
			c.parts[tensor] = part
		}
		for _, tensor := range part.Names() {
			if index.WeightMap[tensor] != shard {
				return fmt.Errorf("%s: holds tensor %.200q, which %s does not put there; the files do not belong together, fetch them again", file, tensor, name)
			}
		}
	}
	return nil
}

// readLimited reads a small file whole.
func readLimited(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s: has more than %d bytes, which is no file of this kind", name, limit)
	}
	if err == nil {
		if err = placeholder.Check(text[:min(len(text), placeholder.Bytes)]); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
	}
	return text, err
}

// Close releases the files. Reads that follow fail.
func (c *Checkpoint) Close() error {
	var err error
	for _, f := range c.closes {
		err = errors.Join(err, f.Close())
	}
	c.closes = nil
	return err
}

// Names lists the tensors, sorted.
func (c *Checkpoint) Names() []string {
	names := make([]string, 0, len(c.parts))
	for name := range c.parts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Info tells a tensor's stored type and shape.
func (c *Checkpoint) Info(name string) (TensorInfo, bool) {
	part, ok := c.parts[name]
	if !ok {
		return TensorInfo{}, false
	}
	return part.Info(name)
}

// Read returns a tensor of any floating type as float32.
func (c *Checkpoint) Read(name string) (Tensor, error) {
	part, ok := c.parts[name]
	if !ok {
		return Tensor{}, fmt.Errorf("%s: no tensor %.200q", c.File, name)
	}
	return part.Read(name)
}

// ReadHalves returns the bytes of a tensor that is stored as F16.
func (c *Checkpoint) ReadHalves(name string) ([]byte, error) {
	part, ok := c.parts[name]
	if !ok {
		return nil, fmt.Errorf("%s: no tensor %.200q", c.File, name)
	}
	return part.ReadHalves(name)
}

// checked gives the numbers of a checkpoint that a network computes with.
type checked struct{ *Checkpoint }

func (c checked) Read(name string) (Tensor, error) {
	t, err := c.Checkpoint.Read(name)
	if err != nil {
		return Tensor{}, err
	}
	return t, finite(c.File, name, t.Data)
}

func (c checked) ReadHalves(name string) ([]byte, error) {
	halves, err := c.Checkpoint.ReadHalves(name)
	if err != nil {
		return nil, err
	}
	if i := notFiniteHalf(halves); i >= 0 {
		return nil, notFinite(c.File, name, i, half(binary.LittleEndian.Uint16(halves[2*i:])))
	}
	return halves, nil
}

// finite refuses what no network computes with.
func finite(file, name string, data []float32) error {
	for i, v := range data {
		if v-v != 0 { // infinities and NaNs alone
			return notFinite(file, name, i, v)
		}
	}
	return nil
}

// notFiniteHalf is the index of the first infinity or NaN among halves, or -1. Four
// are looked at together: an exponent of ones overflows into the sign's place.
func notFiniteHalf(halves []byte) int {
	i := 0
	for ; i+8 <= len(halves); i += 8 {
		if four := binary.LittleEndian.Uint64(halves[i:]); (four&0x7c007c007c007c00+0x0400040004000400)&0x8000800080008000 != 0 {
			break
		}
	}
	for ; i < len(halves); i += 2 {
		if halves[i+1]&0x7c == 0x7c {
			return i / 2
		}
	}
	return -1
}

func notFinite(file, name string, at int, v float32) error {
	return fmt.Errorf("%s: tensor %.200q holds %g at element %d; the file is damaged, fetch it again", file, name, v, at)
}

// Stored is the element type that most numbers of the checkpoint have.
func (c *Checkpoint) Stored() DType {
	numbers := map[DType]int{}
	most := DType("")
	for _, name := range c.Names() {
		info, _ := c.Info(name)
		numbers[info.DType] += graph.Shape(info.Shape).Size()
		if most == "" || numbers[info.DType] > numbers[most] {
			most = info.DType
		}
	}
	return most
}

// loadParams maps a checkpoint onto the parameters of a network: every name, as
// rename gives it (nil for as it is), and every shape is checked before a number
// is read, and every number when it is. Parameters are missing from no file;
// tensors that no parameter is called by are refused unless ignore names them
// (patterns as of Matches, such as "position_ids" or "vision_model.**"). A
// linear layer's weight may be stored as a 1x1 convolution's and the other way
// round: the numbers are the same.
func loadParams(c *Checkpoint, params []Param, rename func(string) string, ignore ...string) (Source, error) {
	wanted := make(map[string]graph.Shape, len(params))
	for _, p := range params {
		wanted[p.Name] = p.Shape
	}
	r := &renamed{Source: checked{c}, names: map[string]string{}, shape: map[string]graph.Shape{}}
	shapes := map[string][]int{}
	for _, old := range c.Names() {
		name := old
		if rename != nil {
			name = rename(old)
		}
		want, known := wanted[name]
		if !known && slices.ContainsFunc(ignore, func(p string) bool { return Matches(p, name) }) {
			continue
		}
		if r.names[name] != "" {
			return nil, fmt.Errorf("%s: tensors %.200q and %.200q mean the same; the file is damaged, fetch it again", c.File, r.names[name], old)
		}
		info, _ := c.Info(old)
		r.names[name], shapes[name] = old, info.Shape
		if pointwise(info.Shape, want) {
			r.shape[name], shapes[name] = want, want
		}
	}
	if err := check(c.File, params, shapes); err != nil {
		return nil, err
	}
	return r, nil
}

// pointwise tells whether one shape is that of a linear layer's weight and the
// other that of the 1x1 convolution that computes the same.
func pointwise(a, b graph.Shape) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return len(a) == 2 && len(b) == 4 && b.Equal(graph.Shape{a[0], a[1], 1, 1})
}

// loadWeights reads the tensors of params from a file, under the names rename
// gives them, and closes it.
func loadWeights(fsys fs.FS, name string, params []Param, rename func(string) string) (Weights, DType, error) {
	c, err := OpenCheckpoint(fsys, name)
	if err != nil {
		return nil, "", err
	}
	return c.load(params, rename)
}

// load reads the parameters of a network into memory and closes the checkpoint.
func (c *Checkpoint) load(params []Param, rename func(string) string, ignore ...string) (Weights, DType, error) {
	defer c.Close()
	s, err := loadParams(c, params, rename, ignore...)
	if err != nil {
		return nil, "", err
	}
	weights, err := Collect(s)
	return weights, c.Stored(), err
}

// modernName maps the attention names of diffusers before 0.18 to today's.
func modernName(name string) string {
	block, layer, found := strings.Cut(name, "attentions.")
	if !found {
		return name
	}
	index, layer, _ := strings.Cut(layer, ".")
	part, kind, _ := strings.Cut(layer, ".")
	modern, old := map[string]string{"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}[part]
	if !old {
		return name
	}
	return block + "attentions." + index + "." + modern + "." + kind
}
