package model

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sdo-go/sdo/graph"
)

// packed is a safetensors file in memory.
func packed(t testing.TB, weights Weights, dtype DType) *fstest.MapFile {
	t.Helper()
	var out bytes.Buffer
	if err := WriteSafetensors(&out, weights, dtype, map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	return &fstest.MapFile{Data: out.Bytes()}
}

func indexJSON(t testing.TB, weightMap map[string]string) *fstest.MapFile {
	t.Helper()
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{"total_size": 12}, "weight_map": weightMap})
	if err != nil {
		t.Fatal(err)
	}
	return &fstest.MapFile{Data: text}
}

func ones(shape ...int) Tensor {
	t := Tensor{shape, make([]float32, graph.Shape(shape).Size())}
	for i := range t.Data {
		t.Data[i] = 1
	}
	return t
}

// Of all forms of the weights the one that was trained is read, safetensors
// before pickles, and the others are told.
func TestOpenWeightsChooses(t *testing.T) {
	single, half := packed(t, Weights{"w": ones(2)}, F32), packed(t, Weights{"w": ones(2)}, F16)
	pickle := &fstest.MapFile{Data: archive(t, map[string]string{"a/data.pkl": program(floats4, "K\x00", "K\x04\x85", "K\x01\x85"), "a/data/0": sixteen}, nil)}
	index := indexJSON(t, map[string]string{"w": "unet/part.safetensors"[5:]})
	all := fstest.MapFS{
		"unet/m.safetensors": single, "unet/m.fp16.safetensors": half, "unet/m.bin": pickle, "unet/part.safetensors": half,
		"unet/m.safetensors.index.json": index, "unet/m.safetensors.index.fp16.json": index, "unet/m.safetensors.fp16.index.json": index,
		"unet/m.fp16.safetensors.index.json": index, "unet/m.pth": pickle,
		"model/pytorch_model.bin": pickle, "model/model.pt": pickle,
	}
	for _, want := range []string{
		"m.safetensors F32", "m.safetensors.index.json F16", "m.fp16.safetensors F16", "m.safetensors.index.fp16.json F16",
		"m.safetensors.fp16.index.json F16", "m.fp16.safetensors.index.json F16", "m.bin F32", "m.pth F32",
	} {
		c, err := OpenWeights(all, "unet", "m")
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(c.File[len("unet/"):], " ", c.Stored()); got != want {
			t.Errorf("read %s, want %s", got, want)
		}
		var beside []string
		for _, name := range c.Beside {
			if all[name] == nil {
				t.Errorf("%s is told and is not there", name)
			}
			beside = append(beside, name)
		}
		c.Close()
		delete(all, c.File)
		if len(beside) > 0 && all[beside[0]] == nil {
			t.Errorf("next is %s", beside[0])
		}
	}
	if _, err := OpenWeights(all, "unet", "m"); err == nil || !strings.HasPrefix(err.Error(), "unet/m.safetensors: the file is missing, and so is every other form") {
		t.Errorf("no weights at all: %v", err)
	}
	if c, err := OpenWeights(all, "model", "model"); err != nil || c.File != "model/pytorch_model.bin" || !slices.Equal(c.Beside, []string{"model/model.pt"}) {
		t.Errorf("transformers' pickle: %+v, %v", c, err)
	}
}

// A variant that a folder holds alone is read, whatever it is called, shards or
// not; of several none is guessed.
func TestOpenWeightsOfOneVariant(t *testing.T) {
	average, index := packed(t, Weights{"w": ones(2)}, F16), indexJSON(t, map[string]string{"w": "m.bf16-00001-of-00001.safetensors"})
	pickle := &fstest.MapFile{Data: archive(t, map[string]string{"a/data.pkl": program(floats4, "K\x00", "K\x04\x85", "K\x01\x85"), "a/data/0": sixteen}, nil)}
	for want, files := range map[string]fstest.MapFS{
		"d/m.ema.safetensors":             {"d/m.ema.safetensors": average},
		"d/m.safetensors.index.bf16.json": {"d/m.safetensors.index.bf16.json": index, "d/m.bf16-00001-of-00001.safetensors": average},
		"d/m.non_ema.bin":                 {"d/m.non_ema.bin": pickle},
		"d/m.safetensors":                 {"d/m.safetensors": average, "d/m.ema.safetensors": average},
	} {
		c, err := OpenWeights(files, "d", "m")
		if err != nil || c.File != want {
			t.Errorf("%s: %+v, %v", want, c, err)
		}
	}
	if c, err := OpenWeights(fstest.MapFS{"d/pytorch_model.ema.bin": pickle}, "d", "model"); err != nil || c.File != "d/pytorch_model.ema.bin" {
		t.Errorf("transformers' pickle: %+v, %v", c, err)
	}
	two := fstest.MapFS{"d/m.ema.safetensors": average, "d/m.bf16.safetensors": average}
	if _, err := OpenWeights(two, "d", "m"); err == nil || !strings.Contains(err.Error(), "d/m.safetensors: there are only variants of it, d/m.bf16.safetensors, d/m.ema.safetensors; leave") {
		t.Errorf("two variants: %v", err)
	}
	alone := fstest.MapFS{"d/m.bf16-00001-of-00002.safetensors": average, "[d/m.ema.safetensors": average}
	for _, dir := range []string{"d", "[d"} {
		if _, err := OpenWeights(alone, dir, "m"); err == nil || !strings.Contains(err.Error(), "the file is missing") {
			t.Errorf("a shard alone, or a folder that is no pattern: %v", err)
		}
	}
}

func TestShards(t *testing.T) {
	files := fstest.MapFS{
		"m-1.safetensors": packed(t, Weights{"a": ones(2, 3), "b": ones(1)}, F16),
		"m-2.safetensors": packed(t, Weights{"c": ones(5)}, F32),
		"m.safetensors.index.json": indexJSON(t, map[string]string{
			"a": "m-1.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"}),
	}
	c, err := OpenWeights(files, ".", "m")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	weights, err := Collect(c)
	if err != nil || fmt.Sprint(slices.Sorted(maps.Keys(weights))) != "[a b c]" || fmt.Sprint(weights["c"]) != fmt.Sprint(ones(5)) {
		t.Errorf("read %v, %v", weights, err)
	}
	if c.Stored() != F16 {
		t.Errorf("most numbers are %s, want F16", c.Stored())
	}

	for name, c := range map[string]struct {
		weightMap map[string]string
		without   string
		want      string
	}{
		"missing shard":     {nil, "m-2.safetensors", "m-2.safetensors: the file is missing, which m.safetensors.index.json names"},
		"missing tensor":    {map[string]string{"d": "m-2.safetensors"}, "", `m-2.safetensors: lacks tensor "d"`},
		"unnamed tensor":    {map[string]string{"b": ""}, "", `m-1.safetensors: holds tensor "b", which m.safetensors.index.json does not put there`},
		"wrong shard":       {map[string]string{"b": "m-2.safetensors"}, "", `tensor "b"`},
		"parent folder":     {map[string]string{"b": "../m-1.safetensors"}, "", `puts a tensor into "../m-1.safetensors"`},
		"another folder":    {map[string]string{"b": "x/m-1.safetensors"}, "", "want the name of a file beside the index"},
		"root":              {map[string]string{"b": "/m-1.safetensors"}, "", "want the name of a file beside"},
		"backslash":         {map[string]string{"b": `..\m-1.safetensors`}, "", "want the name of a file beside"},
		"the folder itself": {map[string]string{"b": "."}, "", "want the name of a file beside"},
		"the folder above":  {map[string]string{"b": ".."}, "", "want the name of a file beside"},
		"no name":           {map[string]string{"b": "-"}, "", "the file is missing"},
		"many shards":       {thousand(), "", "the limit is 1000"},
	} {
		changed := maps.Clone(files)
		delete(changed, c.without)
		weightMap := map[string]string{"a": "m-1.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"}
		for tensor, shard := range c.weightMap {
			if weightMap[tensor] = shard; shard == "" {
				delete(weightMap, tensor)
			}
		}
		changed["m.safetensors.index.json"] = indexJSON(t, weightMap)
		_, err := OpenWeights(changed, ".", "m")
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	for text, want := range map[string]string{
		`{}`: "names no tensors", `{"weight_map":{}}`: "names no tensors", `[`: "unexpected end of JSON", `[]`: "where an object should", `{"weight_map":{"a":1}}`: "weight_map",
		`{"weight_map":{"a":""}}`: "want the name of a file beside",
	} {
		files["m.safetensors.index.json"] = &fstest.MapFile{Data: []byte(text)}
		if _, err := OpenWeights(files, ".", "m"); err == nil || !strings.HasPrefix(err.Error(), "m.safetensors.index.json: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", text, err, want)
		}
	}
}

func thousand() map[string]string {
	m := map[string]string{}
	for i := range maxShards + 1 {
		m[fmt.Sprint(i)] = fmt.Sprint(i, ".safetensors")
	}
	return m
}

// Names are mapped and shapes checked before a number is read; a linear layer's
// weight may be a 1x1 convolution's.
// Git without its large files leaves pointers, a browser the page about a file.
func TestPlaceholders(t *testing.T) {
	pointer := []byte("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n")
	page := []byte("<!doctype html>\n<html class=\"\">")
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"model.safetensors":            {pointer, "a pointer of Git LFS stands in the file's place; run git lfs pull in its folder, or download the file itself"},
		"model.bin":                    {pointer, "a pointer of Git LFS"},
		"model.safetensors.index.json": {pointer, "a pointer of Git LFS"},
		"model.fp16.safetensors":       {page, "a web page stands in the file's place; download the file itself"},
	} {
		_, err := OpenWeights(fstest.MapFS{name: {Data: c.text}}, ".", "model")
		if err == nil || !strings.HasPrefix(err.Error(), name+": "+c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := OpenWeights(fstest.MapFS{"unet/diffusion_flax_model.msgpack": {}}, "unet", weightsBase); err == nil ||
		err.Error() != "unet/diffusion_pytorch_model.safetensors: the file is missing; unet/diffusion_flax_model.msgpack is there, but Flax's files are not read; bring the same model with PyTorch's weights" {
		t.Errorf("weights of Flax: %v", err)
	}
	for _, text := range [][]byte{pointer, page} {
		if _, err := LoadPipeline(fstest.MapFS{pipelineFile: {Data: text}}); err == nil || !strings.Contains(err.Error(), pipelineFile+": a ") {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func TestLoadParams(t *testing.T) {
	params := []Param{{Name: "x.attentions.0.to_q.weight", Shape: graph.Shape{3, 2}}, {Name: "y.weight", Shape: graph.Shape{2, 3, 1, 1}}, {Name: "z", Shape: graph.Shape{2}}}
	weights := Weights{"x.attentions.0.query.weight": ones(3, 2, 1, 1), "y.weight": ones(2, 3), "z": ones(2), "e.position_ids": ones(1, 4), "vision.a.b": ones(1)}
	load := func() (Source, error) {
		c, err := OpenWeights(fstest.MapFS{"m.safetensors": packed(t, weights, F32)}, ".", "m")
		if err != nil {
			t.Fatal(err)
		}
		return loadParams(c, params, modernName, "position_ids", "vision.**")
	}
	s, err := load()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Collect(Prefixed("unet/", s))
	if err != nil || len(got) != 3 {
		t.Fatal(got, err)
	}
	for _, p := range params {
		info, ok := s.Info(p.Name)
		if !ok || !p.Shape.Equal(info.Shape) || !p.Shape.Equal(got["unet/"+p.Name].Shape) {
			t.Errorf("%s has shape %v and %v, want %v", p.Name, info.Shape, got["unet/"+p.Name].Shape, p.Shape)
		}
	}
	if _, ok := s.Info("e.position_ids"); ok {
		t.Error("what is ignored is there")
	}
	for _, c := range []struct {
		want   string
		change func(w Weights)
	}{
		{`m.safetensors: tensor "z" is missing`, func(w Weights) { delete(w, "z") }},
		{`"z" has shape [2 1], the config wants [2]`, func(w Weights) { w["z"] = ones(2, 1) }},
		{`first "position"`, func(w Weights) { w["position"] = ones(1) }},
		{"mean the same", func(w Weights) { w["x.attentions.0.to_q.weight"] = ones(3, 2) }},
		{"has shape [2 3 1 1]", func(w Weights) { w["x.attentions.0.query.weight"] = ones(2, 3, 1, 1) }},
	} {
		whole := maps.Clone(weights)
		c.change(weights)
		if _, err := load(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
		weights = whole
	}
	s, err = load()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read("nothing"); err == nil {
		t.Error("a tensor that is not there was read")
	}
}

// Halves that stay halves are handed on as they are stored, under every name, and
// held to the same checks.
func TestUploadOfHalves(t *testing.T) {
	stored := Weights{"w": {Shape: []int{2, 3}, Data: []float32{1, -2, 0x1p-24, 65504, 0, 0.5}}}
	params := []Param{{Name: "layer", Shape: graph.Shape{2, 3, 1, 1}}}
	open := func() Source {
		c, err := OpenWeights(fstest.MapFS{"m.safetensors": packed(t, stored, F16)}, ".", "m")
		if err != nil {
			t.Fatal(err)
		}
		s, err := loadParams(c, params, func(string) string { return "layer" })
		if err != nil {
			t.Fatal(err)
		}
		return Prefixed("unet/", s)
	}
	for _, storage := range []graph.Storage{graph.F32, graph.F16} {
		seen := &uploads{}
		node := &graph.Node{Op: graph.OpParam, Name: "unet/layer", Shape: graph.Shape{2, 3, 1, 1}, Storage: storage}
		if _, err := UploadParam(seen, node, open()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(seen.data, stored["w"].Data) || seen.halves != (storage == graph.F16) {
			t.Errorf("as %v %v was uploaded, halves %v", storage, seen.data, seen.halves)
		}
		stored["w"].Data[4] = float32(math.Inf(1))
		want := `upload of "unet/layer": m.safetensors: tensor "w" holds +Inf at element 4; the file is damaged, fetch it again`
		if _, err := UploadParam(seen, node, open()); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
		stored["w"].Data[4] = 0
	}
}

// uploads is an executor that looks at parameters only.
type uploads struct {
	graph.Executor
	data   []float32
	halves bool
}

func (u *uploads) NewParam(data []float32, _ graph.Storage) (graph.Tensor, error) {
	u.data, u.halves = data, false
	return nil, nil
}

func (u *uploads) NewHalfParam(halves []byte) (graph.Tensor, error) {
	u.data, u.halves = make([]float32, len(halves)/2), true
	decode(u.data, F16, halves)
	return nil, nil
}

// mapFS holds weights as m.safetensors.
func mapFS(t testing.TB, weights Weights) fstest.MapFS {
	t.Helper()
	return fstest.MapFS{"m.safetensors": packed(t, weights, F32)}
}

func TestNotFiniteHalf(t *testing.T) {
	for bits := range 1 << 16 {
		for at := range 6 {
			halves := []byte{0xff, 0x7b, 0xff, 0xfb, 0, 0x80, 1, 0, 0, 0x3c, 0xff, 0x83}
			binary.LittleEndian.PutUint16(halves[2*at:], uint16(bits))
			want := -1
			if v := half(uint16(bits)); v-v != 0 {
				want = at
			}
			if got := notFiniteHalf(halves); got != want {
				t.Fatalf("%#04x at %d: got %d", bits, at, got)
			}
		}
	}
}
