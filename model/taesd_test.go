package model

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// taesd is TAESD with numbers that tell every tensor from the others, under
// AutoencoderTiny's names and, by file, under those of its first release.
func taesd(t *testing.T) (modern Weights, original map[string]Weights) {
	t.Helper()
	params, err := DefaultAutoencoderTinyConfig().Params()
	if err != nil {
		t.Fatal(err)
	}
	modern, original = Weights{}, map[string]Weights{"taesd_encoder": {}, "taesd_decoder": {}}
	for i, p := range params {
		tensor := ones(p.Shape...)
		for j := range tensor.Data {
			tensor.Data[j] = float32(i) + float32(j%7)/8
		}
		modern[p.Name] = tensor
		side, name, _ := strings.Cut(p.Name, ".layers.")
		if side == "decoder" { // whose first layer squeezes the latents
			var layer int
			var rest string
			fmt.Sscanf(name, "%d.%s", &layer, &rest)
			name = fmt.Sprintf("%d.%s", layer+1, rest)
		}
		original["taesd_"+side][name] = tensor
	}
	// As taesd.py numbers them.
	for file, names := range map[string][]string{
		"taesd_encoder": {"0.weight", "0.bias", "1.conv.0.weight", "1.conv.2.bias", "2.weight", "3.conv.4.weight", "6.weight", "10.weight", "14.weight", "14.bias"},
		"taesd_decoder": {"1.weight", "1.bias", "3.conv.0.weight", "5.conv.4.bias", "7.weight", "8.conv.0.weight", "12.weight", "17.weight", "18.conv.2.weight", "19.weight", "19.bias"},
	} {
		for _, name := range names {
			if _, ok := original[file][name]; !ok {
				t.Fatalf("%s lacks %q, which TAESD has", file, name)
			}
		}
	}
	return modern, original
}

// pickledWeights is what torch.save makes of a state dict.
func pickledWeights(t *testing.T, w Weights) []byte {
	t.Helper()
	number := func(n int) string { return "J" + string(binary.LittleEndian.AppendUint32(nil, uint32(n))) }
	text, members := "\x80\x02}(", map[string]string{}
	for i, name := range w.Names() {
		tensor := w[name]
		key := fmt.Sprintf("%03d", i)
		storage := "(U\x07storagectorch\nFloatStorage\nU\x03" + key + "U\x03cpu" + number(len(tensor.Data)) + "tQ"
		shape, strides, step := "t", "t", 1
		for _, extent := range slices.Backward(tensor.Shape) {
			shape, strides = number(extent)+shape, number(step)+strides
			step *= extent
		}
		text += "U" + string([]byte{byte(len(name))}) + name + tensorProgram(storage, "K\x00", "("+shape, "("+strides)
		raw := make([]byte, 0, 4*len(tensor.Data))
		for _, v := range tensor.Data {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
		members["taesd/data/"+key] = string(raw)
	}
	members["taesd/data.pkl"] = text + "u."
	return archive(t, members, nil)
}

// TAESD's files of before it had a config are read as the AutoencoderTiny they
// became, from a pickle or safetensors.
func TestTAESDOfItsFirstRelease(t *testing.T) {
	modern, original := taesd(t)
	pickles := fstest.MapFS{}
	tensors := fstest.MapFS{}
	for name, w := range original {
		pickles[name+".pth"] = &fstest.MapFile{Data: pickledWeights(t, w)}
		tensors["dir/"+name+".safetensors"] = packed(t, w, F32)
	}
	for dir, files := range map[string]fstest.MapFS{".": pickles, "dir": tensors} {
		m, err := LoadAutoencoder(files, dir)
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		got, err := Collect(m.Weights)
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		if !slices.Equal(got.Names(), modern.Names()) || m.Stored != F32 {
			t.Errorf("%s: holds %d tensors of %s, want %d of F32", dir, len(got), m.Stored, len(modern))
		}
		for name, want := range modern {
			if !slices.Equal(got[name].Shape, want.Shape) || !slices.Equal(got[name].Data, want.Data) {
				t.Errorf("%s: tensor %q is another", dir, name)
			}
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}

	for want, change := range map[string]func(files fstest.MapFS){
		"taesd_encoder.pth: the file is missing, the other half of taesd_decoder.pth": func(files fstest.MapFS) { delete(files, "taesd_encoder.pth") },
		"config.json: the file is missing":                                            func(files fstest.MapFS) { clear(files) },
		`holds 1 tensors the config has no place for, first "decoder.layers.0.x"`: func(files fstest.MapFS) {
			w := maps.Clone(original["taesd_decoder"])
			w["1.x"] = ones(1)
			files["taesd_decoder.pth"] = &fstest.MapFile{Data: pickledWeights(t, w)}
		},
		`holds 2 tensors the config has no place for, first "decoder.0.weight"`: func(files fstest.MapFS) {
			w := maps.Clone(original["taesd_decoder"])
			w["0.weight"], w["01.weight"] = ones(1), ones(1)
			files["taesd_decoder.pth"] = &fstest.MapFile{Data: pickledWeights(t, w)}
		},
		`tensor "decoder.layers.18.weight" has shape [3 64 1 1], the config wants [3 64 3 3]`: func(files fstest.MapFS) {
			w := maps.Clone(original["taesd_decoder"])
			w["19.weight"] = ones(3, 64, 1, 1)
			files["taesd_decoder.pth"] = &fstest.MapFile{Data: pickledWeights(t, w)}
		},
	} {
		files := maps.Clone(pickles)
		change(files)
		if _, err := LoadAutoencoder(files, "."); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
