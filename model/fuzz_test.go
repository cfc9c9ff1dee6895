package model

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sdo-go/sdo/graph"
)

// Whatever a file holds, reading it ends in an error or in numbers, in time and
// memory within a constant of its length. Run one with
//
//	go test ./model -run xxx -fuzz FuzzTorchFile -fuzztime 10m
//
// or all with make fuzz. Found cases belong into testdata/fuzz.

// fuzzBound is how many bytes reading a file of a length may allocate in all:
// the tables of names, a program's values, and numbers as float32, some used over.
func fuzzBound(length int) uint64 { return 4<<20 + 256*uint64(length) }

// bounded runs a reader and fails where it allocates more than its file is worth
// or takes more time than any file of this size needs.
func bounded(t *testing.T, length int, read func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	read()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > fuzzBound(length) {
		t.Errorf("%d bytes made the reader allocate %d, the bound is %d", length, used, fuzzBound(length))
	}
	if took > 20*time.Second {
		t.Errorf("%d bytes took %v", length, took)
	}
}

// readable reads every tensor that Names tells of and holds it against Info.
func readable(t *testing.T, s Source) {
	t.Helper()
	for _, name := range s.Names() {
		info, ok := s.Info(name)
		if !ok {
			t.Fatalf("no tensor %q, which is among the names", name)
		}
		read, err := s.Read(name)
		if err != nil {
			sentence(t, err)
			continue
		}
		if !graph.Shape(read.Shape).Equal(info.Shape) || graph.Shape(read.Shape).Size() != len(read.Data) {
			t.Fatalf("tensor %q of shape %v has %d numbers, was told as %v", name, read.Shape, len(read.Data), info.Shape)
		}
	}
}

// sentence wants an error to be one line of bounded length.
func sentence(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); len(text) > 4096 || strings.Contains(text, "\n") {
		t.Errorf("an error of %d bytes: %.300q", len(text), text)
	}
}

// seed adds the files of a folder to a corpus.
func seed(f *testing.F, dir string, add func(contents []byte)) {
	f.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		contents, err := os.ReadFile(path.Join(dir, e.Name()))
		if err != nil {
			f.Fatal(err)
		}
		add(contents)
	}
}

// FuzzSafetensorsHeader changes the header alone, at its right length, which
// FuzzSafetensors must guess.
func FuzzSafetensorsHeader(f *testing.F) {
	for _, header := range []string{
		`{}`, `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, `{"__metadata__":{"a":"b"},"a":{"dtype":"F16","shape":[],"data_offsets":[0,2]},"b":{"dtype":"BF16","shape":[0,7],"data_offsets":[2,2]}}   `,
		`{"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"u":{"dtype":"U8","shape":[3],"data_offsets":[8,11]},"d":{"dtype":"F64","shape":[1,1],"data_offsets":[11,19]}}`,
	} {
		f.Add([]byte(header), []byte("0123456789abcdefghi"))
		f.Add([]byte(header), []byte("01234567"))
	}
	f.Fuzz(func(t *testing.T, header, data []byte) {
		contents := append(file(string(header), 0), data...)
		bounded(t, len(contents), func() {
			s, err := ParseSafetensors("fuzz", contents)
			if err != nil {
				sentence(t, err)
				return
			}
			readable(t, s)
			for _, name := range s.Names() {
				if shape, whole, err := s.ReadInts(name); err == nil && graph.Shape(shape).Size() != len(whole) {
					t.Fatalf("tensor %q of shape %v has %d whole numbers", name, shape, len(whole))
				}
			}
		})
	})
}

// FuzzTorchFile changes files of torch.save byte by byte.
func FuzzTorchFile(f *testing.F) {
	seed(f, "testdata/torch", func(contents []byte) { f.Add(contents) })
	f.Add(archive(f, map[string]string{"a/data.pkl": program(floats4, "K\x00", "K\x02K\x02\x86", "K\x02K\x01\x86"), "a/data/0": sixteen}, nil))
	f.Fuzz(func(t *testing.T, contents []byte) {
		bounded(t, len(contents), func() {
			s, err := ParseTorch("fuzz", contents)
			if err != nil {
				sentence(t, err)
				return
			}
			readable(t, s)
		})
	})
}

// FuzzPickle changes the program in a sound archive: what FuzzTorchFile reaches
// only where it happens to leave the archive whole.
func FuzzPickle(f *testing.F) {
	seed(f, "testdata/torch", func(contents []byte) {
		r, err := zip.NewReader(bytes.NewReader(contents), int64(len(contents)))
		if err != nil {
			return
		}
		for _, m := range r.File {
			if path.Base(m.Name) == "data.pkl" {
				if text, err := fs.ReadFile(r, m.Name); err == nil {
					f.Add(text)
				}
			}
		}
	})
	f.Add([]byte(program(floats4, "K\x00", "K\x02K\x02\x86", "K\x02K\x01\x86")))
	// What state_dict() gives has an attribute; a trainer's dictionary has lists.
	a := tensorProgram(floats4, "K\x00", "K\x04\x85", "K\x01\x85")
	f.Add([]byte("\x80\x02ccollections\nOrderedDict\n)Rq\x00(U\x01a" + a + "U\x01b" + a + "u}U\x09_metadatah\x00sb."))
	f.Add([]byte("\x80\x02}(U\x0astate_dict}(U\x01actorch._utils\n_rebuild_parameter\n" + a + "\x88ccollections\nOrderedDict\n)R\x87RuU\x06epochs](K\x01G\x3f\xf0\x00\x00\x00\x00\x00\x00eU\x04last]Nau."))
	f.Fuzz(func(t *testing.T, text []byte) {
		contents := archive(t, map[string]string{"a/data.pkl": string(text), "a/data/0": sixteen, "a/data/1": sixteen[8:], "a/data/2": ""}, nil)
		bounded(t, len(contents), func() {
			s, err := ParseTorch("fuzz", contents)
			if err != nil {
				sentence(t, err)
				return
			}
			readable(t, s)
		})
	})
}

func FuzzShardIndex(f *testing.F) {
	for _, text := range []string{
		`{"metadata":{"total_size":12},"weight_map":{"a":"m-1.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}}`,
		`{"weight_map":{"a":"../m-1.safetensors"}}`, `{"weight_map":{"a":"/etc/passwd"}}`, `{"weight_map":{"a":"m.safetensors.index.json"}}`, `{"weight_map":{}}`, `[]`, `{"weight_map":{"a":1}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		files := &opened{MapFS: fstest.MapFS{
			"m/m-1.safetensors":          packed(t, Weights{"a": ones(2, 3), "b": ones(1)}, F16),
			"m/m-2.safetensors":          packed(t, Weights{"c": ones(5)}, F32),
			"secret.safetensors":         packed(t, Weights{"d": ones(5)}, F32),
			"m/m.safetensors.index.json": {Data: text},
		}}
		bounded(t, len(text), func() {
			c, err := OpenWeights(files, "m", "m")
			if err != nil {
				sentence(t, err)
			} else {
				readable(t, c)
				c.Close()
			}
		})
		for _, name := range files.names {
			if path.Dir(name) != "m" {
				t.Errorf("opened %q, outside the folder", name)
			}
		}
	})
}

// opened remembers what was opened.
type opened struct {
	fstest.MapFS
	names []string
}

func (o *opened) Open(name string) (fs.File, error) {
	o.names = append(o.names, name)
	return o.MapFS.Open(name)
}

// fuzzModules are layers of every kind and of names that could be confused.
type fuzzModules struct{}

func (fuzzModules) Modules() ([]Module, error) {
	return []Module{
		{"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", graph.Shape{4, 4}},
		{"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0", graph.Shape{4, 4}},
		{"down_blocks.0.attentions.0.proj_in", graph.Shape{4, 4, 1, 1}},
		{"conv_in", graph.Shape{4, 3, 3, 3}},
		{"text_model.encoder.layers.0.self_attn.q_proj", graph.Shape{4, 4}},
	}, nil
}

// FuzzLoRANames gives an adapter's tensors any two names beside a sound branch.
func FuzzLoRANames(f *testing.F) {
	for _, names := range [][2]string{
		{"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight", "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight"},
		{"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight"},
		{"down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.down.weight", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight"},
		{"text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.down.weight", "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight"},
		{"base_model.model.conv_in.lora_A.weight", "lora_unet_conv_in.alpha"}, {"lora_te2_x.alpha", "conv_in.hada_w1_a"}, {"lora_unet_input_blocks_1_1.lora_up.weight", ""},
	} {
		f.Add(names[0], names[1], true)
		f.Add(names[0], names[1], false)
	}
	f.Fuzz(func(t *testing.T, one, two string, flat bool) {
		if len(one)+len(two) > 1<<12 {
			t.Skip()
		}
		first, second := ones(2, 4), ones(4, 2)
		if !flat {
			first, second = ones(2, 4, 1, 1), ones(4, 2, 1, 1)
		}
		weights := Weights{one: first, two: second, "conv_in.lora_A.weight": ones(2, 3, 3, 3), "conv_in.lora_B.weight": ones(4, 2, 1, 1)}
		var out bytes.Buffer
		if WriteSafetensors(&out, weights, F32, nil) != nil {
			t.Skip() // "__metadata__" is no tensor
		}
		files := fstest.MapFS{"a.safetensors": {Data: out.Bytes()}}
		bounded(t, out.Len(), func() {
			for _, load := range []func(fs.FS, string, Adaptable) (*LoRA, error){LoadLoRA, LoadTextLoRA} {
				l, err := load(files, "a.safetensors", fuzzModules{})
				if err != nil {
					sentence(t, err)
				} else if l != nil {
					sound(t, l)
				}
			}
			if _, err := InspectLoRA(files, "a.safetensors"); err != nil {
				sentence(t, err)
			}
		})
	})
}

// sound holds an adapter that was read against itself.
func sound(t *testing.T, l *LoRA) {
	t.Helper()
	params, err := l.Params(fuzzModules{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Weights.Check(params); err != nil {
		t.Fatal(err)
	}
	for _, module := range l.Targets {
		if s := l.Scale(module); !(s > 0) || math.IsInf(s, 0) {
			t.Errorf("%s has scale %g", module, s)
		}
	}
}

// FuzzAdapterConfig reads an adapter's config from PEFT's folder and from a
// file's metadata.
func FuzzAdapterConfig(f *testing.F) {
	known, err := os.ReadFile("testdata/lora/peft/adapter_config.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(known))
	for _, text := range []string{
		`{"r":2,"lora_alpha":3}`, `{"unet.r":2,"unet.lora_alpha":3,"text_encoder.r":2,"text_encoder.lora_alpha":1}`, `{"r":2,"lora_alpha":4,"use_rslora":true}`,
		`{"r":8,"lora_alpha":1,"rank_pattern":{"^conv_in":2,"to_[qk]|.*0":2},"alpha_pattern":{"to_q":0.5}}`, `{"r":2,"lora_alpha":1e308,"use_rslora":true}`, `{"r":2,"lora_alpha":1,"use_dora":true}`, `{"peft_type":"LOHA"}`, `[`,
	} {
		f.Add(text)
	}
	weights := Weights{"conv_in.lora_A.weight": ones(2, 3, 3, 3), "conv_in.lora_B.weight": ones(4, 2, 1, 1)}
	f.Fuzz(func(t *testing.T, text string) {
		folder := fstest.MapFS{"a/adapter_config.json": {Data: []byte(text)}, "a/adapter_model.safetensors": packed(t, weights, F32)}
		var out bytes.Buffer
		if err := WriteSafetensors(&out, weights, F32, map[string]string{adapterMetadata: text}); err != nil {
			t.Fatal(err)
		}
		folder["b.safetensors"] = &fstest.MapFile{Data: out.Bytes()}
		bounded(t, len(text), func() {
			for _, name := range []string{"a", "b.safetensors"} {
				l, err := LoadLoRA(folder, name, fuzzModules{})
				if err != nil {
					sentence(t, err)
				} else if l != nil {
					sound(t, l)
				}
				if _, err := InspectLoRA(folder, name); err != nil {
					sentence(t, err)
				}
			}
		})
		if !json.Valid([]byte(text)) {
			if _, err := LoadLoRA(folder, "a", fuzzModules{}); err == nil {
				t.Errorf("a config that is no JSON is taken: %q", text)
			}
		}
	})
}
