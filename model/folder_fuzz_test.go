package model

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"testing"
	"testing/fstest"
	"time"
)

// fuzzFolders are sound folders and what reads them.
var fuzzFolders = []struct {
	dir  string
	load func(fsys fs.FS) error
}{
	{"testdata/stable-diffusion", func(fsys fs.FS) error {
		_, err := LoadPipeline(fsys)
		return err
	}},
	{"testdata/clip", func(fsys fs.FS) error {
		_, err := LoadCLIP(fsys)
		return err
	}},
	{"testdata/unet2d-attention", func(fsys fs.FS) error {
		_, err := LoadUNet2D(fsys)
		return err
	}},
	{"builtin/avatars-16-guide", func(fsys fs.FS) error {
		_, err := LoadClassifier(fsys)
		return err
	}},
	{"testdata/taesd", func(fsys fs.FS) error {
		_, err := LoadAutoencoder(fsys, ".")
		return err
	}},
}

// FuzzFolder changes one file of a sound folder: what the parts say of each other,
// and which tensors a changed config asks of weights that are as they were.
func FuzzFolder(f *testing.F) {
	var folders []fstest.MapFS
	for i, folder := range fuzzFolders {
		files := fstest.MapFS{}
		err := fs.WalkDir(os.DirFS(folder.dir), ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := fs.ReadFile(os.DirFS(folder.dir), name)
			files[name] = &fstest.MapFile{Data: text}
			if ext := path.Ext(name); ext == ".json" || ext == ".txt" {
				f.Add(uint8(i), name, text)
			}
			return err
		})
		if err != nil {
			f.Fatal(err)
		}
		if err := folder.load(files); err != nil {
			f.Fatalf("%s is not sound: %v", folder.dir, err)
		}
		folders = append(folders, files)
	}
	for _, index := range []string{
		`{"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}`,
		`{"_class_name": "LatentConsistencyModelPipeline", "safety_checker": [null, null], "image_encoder": [null, false], "requires_safety_checker": true}`,
	} {
		f.Add(uint8(0), pipelineFile, []byte(index))
		f.Add(uint8(2), pipelineFile, []byte(index))
	}
	f.Add(uint8(2), attributesFile, []byte(`{"attributes": [{"name": "mood", "values": ["glad", "sad"]}]}`))
	f.Add(uint8(1), "tokenizer.json", []byte(`{"model": {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": {}}}`))
	f.Add(uint8(4), "diffusion_pytorch_model.safetensors.index.json", []byte(`{"weight_map": {"a": "diffusion_pytorch_model.safetensors"}}`))
	f.Fuzz(func(t *testing.T, folder uint8, name string, contents []byte) {
		i := int(folder) % len(folders)
		if !fs.ValidPath(name) || path.Ext(name) == ".safetensors" { // which FuzzSafetensors changes
			t.Skip()
		}
		files := maps.Clone(folders[i])
		files[name] = &fstest.MapFile{Data: contents}
		size := len(contents)
		for _, file := range files {
			size += len(file.Data)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		if err := fuzzFolders[i].load(files); err != nil {
			sentence(t, err)
		}
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > configBound+256*uint64(size) {
			t.Errorf("%d bytes made the reader allocate %d", size, used)
		}
		if took > 20*time.Second {
			t.Errorf("%d bytes took %v", size, took)
		}
	})
}

// FuzzLoadParams gives weights one tensor too many, or another in place of one:
// what is taken for a network's is all of it, each once, in its shape and finite.
func FuzzLoadParams(f *testing.F) {
	params := []Param{
		{Name: "mid_block.attentions.0.to_q.weight", Shape: []int{4, 4}},
		{Name: "mid_block.attentions.0.to_q.bias", Shape: []int{4}},
		{Name: "mid_block.attentions.0.to_out.0.weight", Shape: []int{4, 2}},
		{Name: "conv.weight", Shape: []int{4, 3, 1, 1}},
		{Name: "text_model.embeddings.token_embedding.weight", Shape: []int{3, 4}},
	}
	for _, name := range []string{
		"mid_block.attentions.0.query.weight", "mid_block.attentions.0.proj_attn.weight", "mid_block.attentions.0.to_q.bias", "conv.weight", "time_proj.W",
		"embeddings.token_embedding.weight", "text_model.embeddings.position_ids", "vision_model.x", "", "attentions.", ".attentions.0.query.",
	} {
		for out := range len(params) + 1 {
			f.Add(uint8(out), name, []byte{4, 4}, float32(1))
			f.Add(uint8(out), name, []byte{4, 2, 1, 1}, float32(-1))
			f.Add(uint8(out), name, []byte{4, 3}, float32(1)/3)
		}
	}
	f.Fuzz(func(t *testing.T, out uint8, name string, extents []byte, value float32) {
		weights := Weights{}
		for i, p := range params {
			if i != int(out)%(len(params)+1) {
				weights[p.Name] = ones(p.Shape...)
			}
		}
		shape, size := []int{}, 1
		for _, extent := range extents {
			shape = append(shape, int(extent))
			size *= int(extent)
			if len(shape) > maxRank || size > 1<<12 {
				t.Skip()
			}
		}
		other := ones(shape...)
		for i := range other.Data {
			other.Data[i] = value
		}
		weights[name] = other
		if name == "__metadata__" {
			t.Skip() // is no tensor
		}
		files := fstest.MapFS{"w.safetensors": packed(t, weights, F32)}
		for _, rename := range []func(string) string{nil, modernName, towerName("text_model")} {
			c, err := OpenCheckpoint(files, "w.safetensors")
			if err != nil {
				sentence(t, err)
				return
			}
			s, err := loadParams(c, params, rename, "position_ids", "vision_model.**", "time_proj.W")
			if err != nil {
				sentence(t, err)
				continue
			}
			if len(s.Names()) != len(params) {
				t.Fatalf("%v are taken for the network's", s.Names())
			}
			for _, p := range params {
				read, err := s.Read(p.Name)
				if err != nil {
					sentence(t, err)
					continue
				}
				if !p.Shape.Equal(read.Shape) || p.Shape.Size() != len(read.Data) || slices.ContainsFunc(read.Data, func(v float32) bool { return v-v != 0 }) {
					t.Fatalf("%s of shape %v is read as %v with %d numbers", p.Name, p.Shape, read.Shape, len(read.Data))
				}
			}
		}
	})
}
