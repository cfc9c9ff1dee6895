package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

var testAttributes = Attributes{{"hat", []string{"no", "yes"}}, {"mood", []string{"happy", "sad", "calm"}}}

func smallUNet(t *testing.T) *UNet2D {
	config, err := ParseUNet2DConfig(configJSON(map[string]any{"class_embed_type": "identity"}))
	if err != nil {
		t.Fatal(err)
	}
	params, err := config.Params()
	if err != nil {
		t.Fatal(err)
	}
	embedder := &AttributeEmbedder{Attributes: testAttributes, Dim: config.TimeEmbedDim()}
	embedder.Weights = Init(embedder.Params(), 2)
	return &UNet2D{Config: config, Scheduler: json.RawMessage(`{"_class_name":"DDIMScheduler"}`), Weights: Init(params, 1), Embedder: embedder}
}

// saved writes a folder and returns its files by name.
func saved(t *testing.T, save func(dir string) error) fstest.MapFS {
	dir := t.TempDir()
	if err := save(dir); err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		contents, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = &fstest.MapFile{Data: contents}
	}
	return files
}

func TestUNet2DFolderRoundTrip(t *testing.T) {
	m := smallUNet(t)
	files := saved(t, func(dir string) error { return m.Save(dir, F32) })
	got, err := LoadUNet2D(files)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Weights, m.Weights) || !reflect.DeepEqual(got.Embedder, m.Embedder) || !reflect.DeepEqual(got.Config, m.Config) {
		t.Error("the folder that was read differs from the one that was written")
	}
	var scheduler bytes.Buffer
	if json.Compact(&scheduler, got.Scheduler); scheduler.String() != string(m.Scheduler) || got.Stored != F32 {
		t.Errorf("scheduler %s, stored as %s", scheduler.String(), got.Stored)
	}
	if name, err := ClassName(files); err != nil || name != "UNet2DModel" {
		t.Errorf("class %q, %v", name, err)
	}

	// A pipeline's layout, with parts in folders of their own.
	pipeline := fstest.MapFS{"model_index.json": &fstest.MapFile{Data: []byte("{}")}, "scheduler/scheduler_config.json": files[schedulerFile]}
	for _, name := range []string{configFile, weightsFile, attributesFile, embedderFile} {
		pipeline["unet/"+name] = files[name]
	}
	if got, err = LoadUNet2D(pipeline); err != nil || got.Scheduler == nil || got.Embedder == nil {
		t.Errorf("pipeline folder: %+v, %v", got, err)
	}
}

func TestSaveLeavesOneSetOfWeights(t *testing.T) {
	m := smallUNet(t)
	files := saved(t, func(dir string) error {
		if err := m.Save(dir, F32); err != nil {
			return err
		}
		return m.Save(dir, F16)
	})
	if files[weightsFile] != nil || files[weightsF16File] == nil {
		t.Error("saving as F16 left the F32 weights for the loader to find")
	}
	got, err := LoadUNet2D(files)
	if err != nil || got.Stored != F16 {
		t.Fatalf("stored %v, %v", got, err)
	}
	for name, w := range m.Weights {
		for i, v := range w.Data {
			if math.Abs(float64(got.Weights[name].Data[i]-v)) > 1e-3*math.Abs(float64(v))+1e-7 {
				t.Fatalf("%s[%d] = %g, want %g", name, i, got.Weights[name].Data[i], v)
			}
		}
	}
}

func TestOldAttentionNames(t *testing.T) {
	m := smallUNet(t)
	files := saved(t, func(dir string) error { return m.Save(dir, F32) })
	old := Weights{}
	renamed := 0
	for name, w := range m.Weights {
		for now, before := range map[string]string{".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."} {
			if strings.Contains(name, now) {
				name = strings.Replace(name, now, before, 1)
				renamed++
				break
			}
		}
		old[name] = w
	}
	write := func() {
		var out bytes.Buffer
		if err := WriteSafetensors(&out, old, F32, nil); err != nil {
			t.Fatal(err)
		}
		files[weightsFile] = &fstest.MapFile{Data: out.Bytes()}
	}
	write()
	got, err := LoadUNet2D(files)
	if err != nil || renamed != 4*8 || !reflect.DeepEqual(got.Weights, m.Weights) {
		t.Errorf("%d old names were not read as the new ones: %v", renamed, err)
	}
	old["mid_block.attentions.0.to_q.weight"] = m.Weights["mid_block.attentions.0.to_q.weight"]
	write()
	if _, err := LoadUNet2D(files); err == nil || !strings.Contains(err.Error(), "mean the same") {
		t.Errorf("an old and a new name side by side: %v", err)
	}
}

// unreadable is a folder in which one file is there and cannot be opened.
type unreadable struct {
	fs.FS
	name string
}

func (u unreadable) Open(name string) (fs.File, error) {
	if name == u.name {
		return nil, errors.New(name + " is on a disk that is gone")
	}
	return u.FS.Open(name)
}

// A file that cannot be read is not said to be missing.
// Files of NCSN++ hold the frequencies of the time a second time, as time_proj.W.
func TestFrequenciesHeldTwice(t *testing.T) {
	files := fstest.MapFS{}
	for _, name := range []string{configFile, weightsF16File} {
		contents, err := os.ReadFile("testdata/unet2d-ncsnpp/" + name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: contents}
	}
	m, err := LoadUNet2D(files)
	if err != nil {
		t.Fatal(err)
	}
	twice := maps.Clone(m.Weights)
	twice["time_proj.W"] = twice["time_proj.weight"]
	again := saved(t, func(dir string) error { return SaveSafetensors(filepath.Join(dir, weightsFile), twice, F32, nil) })
	again[configFile] = files[configFile]
	got, err := LoadUNet2D(again)
	if err != nil || len(got.Weights) != len(m.Weights) {
		t.Errorf("%d tensors, want %d; %v", len(got.Weights), len(m.Weights), err)
	}
}

func TestFolderThatCannotBeRead(t *testing.T) {
	m := smallUNet(t)
	files := saved(t, func(dir string) error { return m.Save(dir, F16) })
	for _, name := range []string{configFile, weightsF16File, schedulerFile, attributesFile, embedderFile} {
		if files[name] == nil {
			t.Fatalf("the folder has no %s", name)
		}
		want := name + " is on a disk that is gone"
		if _, err := LoadUNet2D(unreadable{files, name}); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// A scheduler's file is kept as it stands, with the one number of diffusers'
// multistep solvers that is not JSON.
func TestFolderKeepsTheScheduler(t *testing.T) {
	m := smallUNet(t)
	m.Scheduler = json.RawMessage(`{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity}`)
	files := saved(t, func(dir string) error { return m.Save(dir, F32) })
	back, err := LoadUNet2D(files)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back.Scheduler, m.Scheduler) {
		t.Errorf("the scheduler is %s, was %s", back.Scheduler, m.Scheduler)
	}
}

func TestFolderRefusals(t *testing.T) {
	m := smallUNet(t)
	whole := saved(t, func(dir string) error { return m.Save(dir, F32) })
	weights := func(change func(w Weights)) []byte {
		w := m.Weights.Clone()
		change(w)
		var out bytes.Buffer
		if err := WriteSafetensors(&out, w, F32, nil); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	const conv = "conv_in.weight"
	for name, c := range map[string]struct {
		file     string
		contents []byte // nil removes the file
		want     string
	}{
		"no config":        {configFile, nil, "config.json: the file is missing"},
		"unsupported":      {configFile, configJSON(map[string]any{"act_fn": "tanh"}), "act_fn"},
		"no weights":       {weightsFile, nil, weightsFile + ": the file is missing"},
		"cut weights":      {weightsFile, whole[weightsFile].Data[:len(whole[weightsFile].Data)-1], "cut short"},
		"other config":     {configFile, configJSON(map[string]any{"class_embed_type": "identity", "in_channels": 4}), `tensor "conv_in.weight" has shape [8 3 3 3], the config wants [8 4 3 3]`},
		"missing tensor":   {weightsFile, weights(func(w Weights) { delete(w, conv) }), `tensor "conv_in.weight" is missing`},
		"extra tensor":     {weightsFile, weights(func(w Weights) { w["z"] = Tensor{[]int{1}, []float32{1}} }), `1 tensors the config has no place for, first "z"`},
		"not a number":     {weightsFile, weights(func(w Weights) { w[conv].Data[7] = float32(math.NaN()) }), "holds NaN at element 7"},
		"scheduler":        {schedulerFile, []byte("{"), "scheduler_config.json: not JSON"},
		"no embedder":      {embedderFile, nil, embedderFile + ": the file is missing"},
		"attributes empty": {attributesFile, []byte(`{"attributes":[]}`), "the list is empty"},
		"attributes typo":  {attributesFile, []byte(`{"atributes":[]}`), `unknown key "atributes"`},
		"attributes other": {attributesFile, []byte(`{"attributes":[{"name":"hat","values":["no","yes"]}]}`), `no place for, first "mood.weight"`},
		"value added":      {attributesFile, []byte(`{"attributes":[{"name":"hat","values":["no","yes","two"]},{"name":"mood","values":["a","b","c"]}]}`), `tensor "hat.weight" has shape [3 32], the config wants [4 32]`},
		"no class input":   {configFile, configJSON(nil), `class_embed_type "identity"`},
	} {
		files := fstest.MapFS{}
		for k, v := range whole {
			files[k] = v
		}
		files[c.file] = &fstest.MapFile{Data: c.contents}
		if c.contents == nil {
			delete(files, c.file)
		}
		_, err := LoadUNet2D(files)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

func TestSaveRefusesWrongWeights(t *testing.T) {
	m := smallUNet(t)
	delete(m.Weights, "conv_out.bias")
	if err := m.Save(t.TempDir(), F32); err == nil || !strings.Contains(err.Error(), "conv_out.bias") {
		t.Errorf("incomplete weights were saved: %v", err)
	}
}

func TestClassifierFolder(t *testing.T) {
	c := &Classifier{Config: NewClassifierConfig(8, []int{8, 16}, testAttributes), Stored: F32}
	params, err := c.Config.Params()
	if err != nil {
		t.Fatal(err)
	}
	c.Weights = Init(params, 3)
	files := saved(t, func(dir string) error { return c.Save(dir, F32) })
	got, err := LoadClassifier(files)
	if err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("read %+v, %v", got, err)
	}
	for text, want := range map[string]string{
		`{"_class_name":"UNet2DModel"}`: `_class_name "UNet2DModel"`,
		`{"_class_name":"AttributeClassifier","sample_size":8,"widths":[12],"attributes":[]}`:                  "norm_num_groups 8 does not divide the width 12",
		`{"_class_name":"AttributeClassifier","sample_size":8,"widths":[8],"attributes":[]}`:                   "the list is empty",
		`{"_class_name":"AttributeClassifier","sample_size":8,"widths":[8],"in_channels":4611686018427387904}`: "in_channels 4611686018427387904 is not supported, want a number from 1 to 1048576",
		`{"_class_name":"AttributeClassifier","sample_size":8,"widths":[` + strings.Repeat("0,", 5000) + `0]}`: "… must be 1 to 16 positive numbers",
		`{"_class_name":"AttributeClassifier","sample_size":8,"widths":[],"attributes":[]}`:                    "widths [] must be",
		`{"_class_name":"AttributeClassifier","sample_size":8,"widths":[8],"norm_eps":0,"attributes":[]}`:      "norm_eps 0",
	} {
		files[configFile] = &fstest.MapFile{Data: []byte(text)}
		if _, err := LoadClassifier(files); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", text, err, want)
		}
	}
}

// A config that claims to be larger than memory, as a file with holes can, is
// refused and not made room for.
func TestConfigOfATerabyte(t *testing.T) {
	whole := folderFiles(t, "testdata/stable-diffusion")
	for _, name := range []string{"model_index.json", "unet/config.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt", "text_encoder/config.json", "vae/config.json"} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, whole); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, name), 1<<40); err != nil {
			t.Skip(err) // a file system without holes
		}
		if _, err := LoadPipeline(os.DirFS(dir)); err == nil || !strings.Contains(err.Error(), name+": has more than ") {
			t.Errorf("%s of a terabyte: %v", name, err)
		}
	}
}
