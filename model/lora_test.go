package model_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/model/modeltest"
)

var testdata = os.DirFS("testdata")

// attention is the network the adapter of testdata/lora belongs to, and the
// inputs of its fixture.
func attention(t *testing.T) (*model.UNet2D, model.Weights) {
	t.Helper()
	files, err := fs.Sub(testdata, "unet2d-attention")
	if err != nil {
		t.Fatal(err)
	}
	network, err := model.LoadUNet2D(files)
	if err != nil {
		t.Fatal(err)
	}
	values, _, err := model.LoadSafetensors(files, "fixture.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	return network, values
}

func TestLoRAAgainstPEFT(t *testing.T) {
	double, single := cpu.New[float64](cpu.Options{}), cpu.New[float32](cpu.Options{})
	defer double.Close()
	defer single.Close()
	t.Run("float64", func(t *testing.T) {
		modeltest.LoRA(t, testdata, double, modeltest.Tolerance{Forward: 1e-6, Backward: 1e-6})
	})
	t.Run("float32", func(t *testing.T) {
		modeltest.LoRA(t, testdata, single, modeltest.Tolerance{Forward: 1e-5, Backward: 1e-4})
	})
}

// An adapter merged is the adapter as branches: linear layers, convolutions with
// and without stride. Numbers are multiples of 1/64 here, so that float32 holds
// W + s B A exactly.
func TestMergedEqualsBranch(t *testing.T) {
	ex := cpu.New[float64](cpu.Options{})
	defer ex.Close()
	network, values := attention(t)
	lora := drawn(t, network, model.LoRAConfig{Rank: 2, Alpha: 1, Targets: []string{"**"}})
	weights := maps.Clone(network.Weights)
	for _, w := range []model.Weights{weights, lora.Weights} {
		for name, tensor := range w {
			if strings.HasSuffix(name, ".weight") {
				tensor.Data = slices.Clone(tensor.Data)
				for i, v := range tensor.Data {
					tensor.Data[i] = float32(math.Round(float64(v)*64) / 64)
				}
				w[name] = tensor
			}
		}
	}
	network.Weights = weights
	want, _, _ := modeltest.AdaptedUNet2D(t, network, lora, values, ex)
	merged, err := lora.Merge(weights)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range modules(t, network) {
		merged[m.Name+model.MergedWeight] = merged[m.Name+".weight"]
	}
	got := modeltest.MergedUNet2D(t, network.Config, lora.LoRAConfig, merged, values, ex)
	if e := relative(got, want); !(e < 1e-12) {
		t.Errorf("the merged network's output differs by %.2g relative, want below 1e-12", e)
	}
	network.Weights = merged
	plain := modeltest.MergedUNet2D(t, network.Config, model.LoRAConfig{Rank: 1, Alpha: 1, Targets: []string{"conv_in"}}, merged, values, ex)
	if e := relative(plain, want); !(e < 1e-12) {
		t.Errorf("the network with merged weights differs by %.2g relative, want below 1e-12", e)
	}
}

// drawn is an adapter whose B is not zero.
func drawn(t *testing.T, network *model.UNet2D, config model.LoRAConfig) *model.LoRA {
	t.Helper()
	lora, err := model.NewLoRA(config, network.Config, 5)
	if err != nil {
		t.Fatal(err)
	}
	for name, tensor := range lora.Weights {
		if !strings.HasSuffix(name, ".lora_B.weight") {
			continue
		}
		for i, v := range tensor.Data {
			if v != 0 {
				t.Fatalf("%s starts at %g, want 0", name, v)
			}
			tensor.Data[i] = float32(0.2 * graph.Normal(7, uint32(len(name)), uint32(i)))
		}
	}
	return lora
}

func modules(t *testing.T, network *model.UNet2D) []model.Module {
	t.Helper()
	modules, err := network.Config.Modules()
	if err != nil {
		t.Fatal(err)
	}
	return modules
}

func relative(got, want []float64) float64 {
	difference, norm := 0.0, 0.0
	for i := range want {
		difference += (got[i] - want[i]) * (got[i] - want[i])
		norm += want[i] * want[i]
	}
	return math.Sqrt(difference / norm)
}

// The gradients of an adapter in every layer are the slopes of <output, seed>:
// central differences, one random direction a tensor.
func TestLoRAGradientsAgainstDifferences(t *testing.T) {
	ex := cpu.New[float64](cpu.Options{})
	defer ex.Close()
	network, values := attention(t)
	lora := drawn(t, network, model.LoRAConfig{Rank: 3, Alpha: 2, Targets: []string{"**"}})
	_, grads, params := modeltest.AdaptedUNet2D(t, network, lora, values, ex)
	if len(params) != 2*len(modules(t, network)) {
		t.Fatalf("%d parameters for %d modules", len(params), len(modules(t, network)))
	}
	largest := 0.0
	for _, g := range grads {
		largest = math.Max(largest, norm(g))
	}
	for i, p := range params {
		const h = 1.0 / (1 << 14) // the weights are float32; how far they really moved is counted
		at := func(h float64) (sum float64, moved []float64) {
			data := slices.Clone(lora.Weights[p.Name].Data)
			moved = make([]float64, len(data))
			for j := range data {
				before := data[j]
				data[j] += float32(h * graph.Normal(3, uint32(i), uint32(j)))
				moved[j] = float64(data[j]) - float64(before)
			}
			other := &model.LoRA{LoRAConfig: lora.LoRAConfig, Weights: maps.Clone(lora.Weights)}
			other.Weights[p.Name] = model.Tensor{Shape: p.Shape, Data: data}
			output, _, _ := modeltest.AdaptedUNet2D(t, network, other, values, ex)
			for j, v := range output {
				sum += v * float64(values["seed"].Data[j])
			}
			return sum, moved
		}
		up, to := at(h)
		down, from := at(-h)
		want := 0.0
		for j, g := range grads[i] {
			want += g * (to[j] - from[j])
		}
		if math.Abs(up-down-want) > 1e-5*(math.Abs(want)+2*h*1e-2*largest) {
			t.Errorf("%s: the output moves by %.8g, its gradient says %.8g", p.Name, up-down, want)
		}
	}
}

func norm(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	return math.Sqrt(sum)
}

func TestLoRATargets(t *testing.T) {
	network, _ := attention(t)
	all := modules(t, network)
	for _, c := range []struct {
		targets string
		want    string // names, or what the error says
		count   int
	}{
		{"conv_in", "conv_in", 1},
		{"mid_block.attentions.0.to_q", "mid_block.attentions.0.to_q", 1},
		{"to_q", "down_blocks.1.attentions.0.to_q mid_block.attentions.0.to_q up_blocks.0.attentions.0.to_q up_blocks.0.attentions.1.to_q", 4},
		{"mid_block.attentions.*.to_*", "mid_block.attentions.0.to_q mid_block.attentions.0.to_k mid_block.attentions.0.to_v", 3},
		{"mid_block.attentions.**", "mid_block.attentions.0.to_q mid_block.attentions.0.to_k mid_block.attentions.0.to_v mid_block.attentions.0.to_out.0", 4},
		{"conv_out,conv_in,*_in", "conv_in conv_out", 2},
		{"**", "", len(all)},
		{"*", "conv_in conv_out", 2},
		{"q", `pattern "q" names nothing`, 0},
		{"to_query", `the nearest names are "down_blocks.1.attentions.0.to_q"`, 0},
		{"conv_im", `"conv_in"`, 0},
		{"conv_in,norm1", `"norm1" names nothing`, 0},
		{"mid_block.*", `pattern "mid_block.*" names nothing`, 0},
		{"conv_in[", "names nothing", 0},
		{"conv.in", "names nothing", 0},
	} {
		config := model.LoRAConfig{Rank: 1, Alpha: 1, Targets: strings.Split(c.targets, ",")}
		matched, err := config.Match(all)
		var names []string
		for _, m := range matched {
			names = append(names, m.Name)
		}
		switch {
		case c.count == 0 && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want one with %s", c.targets, err, c.want)
		case c.count > 0 && (err != nil || len(names) != c.count || c.want != "" && strings.Join(names, " ") != c.want):
			t.Errorf("%s: %v, %v, want %s", c.targets, names, err, c.want)
		}
	}
	for _, bad := range []model.LoRAConfig{{}, {Rank: 1 << 20, Alpha: 1, Targets: []string{"**"}}, {Rank: 1, Alpha: math.NaN(), Targets: []string{"**"}}, {Rank: 1, Alpha: 1}} {
		if _, err := bad.Params(network.Config); err == nil || !strings.HasPrefix(err.Error(), "lora: ") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// Both kinds of file hold the same adapter, and what is written reads back: as
// PEFT wrote it, tensor by tensor.
func TestLoRAFiles(t *testing.T) {
	network, _ := attention(t)
	peft, err := model.LoadLoRA(testdata, "lora/peft", network.Config)
	if err != nil {
		t.Fatal(err)
	}
	if peft.Rank != 2 || peft.Alpha != 3 || len(peft.Targets) != 21 {
		t.Errorf("rank %d, alpha %g, %d targets; want 2, 3, 21", peft.Rank, peft.Alpha, len(peft.Targets))
	}
	same := func(what string, got *model.LoRA, err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		} else if fmt.Sprint(got) != fmt.Sprint(peft) {
			t.Errorf("%s differs: %v %v", what, got.LoRAConfig, peft.LoRAConfig)
		}
	}
	kohya, err := model.LoadLoRA(testdata, "lora/kohya.safetensors", network.Config)
	same("kohya-ss' file", kohya, err)

	dir := t.TempDir()
	if err := peft.SavePEFT(filepath.Join(dir, "peft"), model.F32); err != nil {
		t.Fatal(err)
	}
	if err := kohya.SaveKohya(filepath.Join(dir, "kohya.safetensors"), model.F32); err != nil {
		t.Fatal(err)
	}
	written := os.DirFS(dir)
	for _, name := range []string{"peft", "kohya.safetensors"} {
		again, err := model.LoadLoRA(written, name, network.Config)
		same(name+" written and read", again, err)
	}
	for _, name := range []string{"peft/adapter_model.safetensors", "kohya.safetensors"} {
		got, _, err := model.LoadSafetensors(written, name)
		if err != nil {
			t.Fatal(err)
		}
		want, _, err := model.LoadSafetensors(testdata, "lora/"+name)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s differs from the file it is written after (%v)", name, err)
		}
	}

	if err := peft.SavePEFT(filepath.Join(dir, "half"), model.F16); err != nil {
		t.Fatal(err)
	}
	half, err := model.LoadLoRA(written, "half", network.Config)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range peft.Weights {
		if rounded := model.AsStored(want.Data, graph.F16); !slices.Equal(half.Weights[name].Data, rounded) {
			t.Errorf("%s is not what half precision makes of it", name)
		}
	}
	odd := &model.LoRA{LoRAConfig: peft.LoRAConfig, Weights: peft.Weights}
	odd.Alpha = 0.1
	if err := odd.SaveKohya(filepath.Join(dir, "odd.safetensors"), model.F16); err == nil || !strings.Contains(err.Error(), "alpha 0.1 is not a number of F16") {
		t.Errorf("an alpha that the file cannot hold: %v", err)
	}
}

// Single files under PEFT's names: with diffusers' metadata, or none, where
// alpha is the rank, as diffusers takes it.
func TestLoRASingleFile(t *testing.T) {
	network, _ := attention(t)
	peft, err := model.LoadLoRA(testdata, "lora/peft", network.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		prefix, metadata string
		alpha            float64
		want             string
	}{
		{"", "", 2, ""},
		{"unet.", "", 2, ""},
		{"unet.", `{"unet.r": 2, "unet.lora_alpha": 5, "unet.use_dora": false}`, 5, ""},
		{"", `{"r": 2, "lora_alpha": 0.5, "init_lora_weights": true}`, 0.5, ""},
		{"base_model.model.", "", 0, "does not say its alpha"},
		{"", `{"r": 4, "lora_alpha": 1}`, 0, "the config says rank 4 for"},
		{"", `{"r": 2, "lora_alpha": 1, "use_rslora": true}`, math.Sqrt2, ""},
		{"", `{"r": 2, "lora_alpha": 1, "use_rslora": 7}`, 0, "use_rslora is neither true nor false"},
		{"", `{"r": 2, "lora_alpha": 1, "rank_pattern": {"to_q": 8}}`, 0, `the config says rank 8 for "mid_block.attentions.0.to_q", the tensors have 2`},
		{"", `{"r": 8, "lora_alpha": 1, "rank_pattern": {".*": 2}}`, 1, ""},
		{"", `{"r": 2, "lora_alpha": 1, "alpha_pattern": {"": 7, "to_out.0|[a-z]*_proj|conv.*": 3, "^mid_.*q": 3}}`, 3, ""},
		{"", `{"r": 2, "lora_alpha": 1, "alpha_pattern": {"to_q": 0}}`, 0, "alpha_pattern: is not an object of patterns and positive numbers"},
		{"", `{"r": 2, "lora_alpha": 1, "alpha_pattern": ["to_q"]}`, 0, "alpha_pattern: is not an object"},
		{"", `{"r": 2, "lora_alpha": 1, "rank_pattern": {"to_q": 1.5}}`, 0, "rank_pattern: is not an object"},
		{"", `{"r": 2, "lora_alpha": 1, "rank_pattern": {"(?i)to_q": 2}}`, 0, `rank_pattern: "(?i)to_q" is not a pattern that is understood here`},
		{"", `{"r": 2, "lora_alpha": 1, "rank_pattern": {"a{1000}": 2}}`, 0, "is not a pattern"},
		{"", `{"r": 2, "lora_alpha": 1, "rank_pattern": {"\\pL": 2}}`, 0, "is not a pattern"},
		{"", `{"r": 2, "lora_alpha": 1, "rank_pattern": {"to_[": 2}}`, 0, "is not a pattern"},
		{"", `{"r": 2, "lora_alpha": 1, "use_dora": true}`, 0, `"use_dora": true is not supported, want a plain LoRA`},
		{"", `{"r": 2, "lora_alpha": 1, "lora_bias": true}`, 0, `"lora_bias": true is not supported`},
		{"text_encoder.", "", 0, "adapts the text encoder only"},
		{"text_encoder_2.", "", 0, "belongs to a network that the supported pipelines do not have"},
		{"", `{"r": 2, "lora_alpha": 1, "new_thing": 7}`, 0, `"new_thing": 7 is not supported`},
		{"", `{"r": 2}`, 0, "lora_alpha is not a positive number"},
		{"", `{"lora_alpha": 2}`, 0, "r is not a positive whole number"},
		{"", `{"r": 2, "lora_alpha": 1, "peft_type": "LOHA"}`, 0, "peft_type"},
		{"", `[`, 0, "JSON"},
	} {
		tensors, metadata := model.Weights{}, map[string]string{}
		for name, tensor := range peft.Weights {
			tensors[c.prefix+name] = tensor
		}
		if c.metadata != "" {
			metadata["lora_adapter_metadata"] = c.metadata
		}
		got, err := model.LoadLoRA(files(t, tensors, metadata), "a.safetensors", network.Config)
		switch {
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "a.safetensors: ")):
			t.Errorf("prefix %q, metadata %s: error %v, want one with %q", c.prefix, c.metadata, err, c.want)
		case c.want == "" && (err != nil || got.Alpha != c.alpha):
			t.Errorf("prefix %q, metadata %s: %v, want alpha %g", c.prefix, c.metadata, err, c.alpha)
		}
	}
}

// files holds tensors as a.safetensors.
func files(t *testing.T, tensors model.Weights, metadata map[string]string) fs.FS {
	t.Helper()
	var contents strings.Builder
	if err := model.WriteSafetensors(&contents, tensors, model.F32, metadata); err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{"a.safetensors": {Data: []byte(contents.String())}}
}

// What is not an adapter of the network is refused with one sentence that names
// the file.
func TestLoRARefusesWhatDoesNotFit(t *testing.T) {
	network, _ := attention(t)
	read := func(name string) model.Weights {
		w, _, err := model.LoadSafetensors(testdata, name)
		if err != nil {
			t.Fatal(err)
		}
		for name, tensor := range w {
			if bare, ok := strings.CutPrefix(name, "base_model.model."); ok {
				delete(w, name)
				w[bare] = tensor
			}
		}
		return w
	}
	const peft, kohya = "lora/peft/adapter_model.safetensors", "lora/kohya.safetensors"
	const q, kq = "mid_block.attentions.0.to_q", "lora_unet_mid_block_attentions_0_to_q"
	shaped := func(shape ...int) model.Tensor {
		return model.Tensor{Shape: shape, Data: make([]float32, graph.Shape(shape).Size())}
	}
	for name, c := range map[string]struct {
		file   string
		change func(w model.Weights)
		want   string
	}{
		"nothing":             {peft, func(w model.Weights) { clear(w) }, "holds no tensors"},
		"unknown module":      {peft, func(w model.Weights) { w["mid_block.x.lora_A.weight"] = shaped(2, 16) }, "a layer that the network does not have"},
		"a network's weights": {peft, func(w model.Weights) { clear(w); w["conv_in.weight"] = shaped(8, 3, 3, 3) }, "no part of a low-rank branch"},
		"DoRA":                {peft, func(w model.Weights) { w[q+".lora_magnitude_vector.weight"] = shaped(16) }, "belongs to DoRA, which also scales the weights' columns; only plain LoRA is supported"},
		"no B":                {peft, func(w model.Weights) { delete(w, q+".lora_B.weight") }, "lacks A or B"},
		"no A":                {peft, func(w model.Weights) { delete(w, q+".lora_A.weight") }, "lacks A or B"},
		"other input":         {peft, func(w model.Weights) { w[q+".lora_A.weight"] = shaped(2, 17) }, "has shape [2 17], want [2 16]"},
		"other output":        {peft, func(w model.Weights) { w[q+".lora_B.weight"] = shaped(8, 2) }, "has shape [8 2], want [16 2]"},
		"other rank":          {peft, func(w model.Weights) { w[q+".lora_A.weight"] = shaped(3, 16) }, "has shape [16 2], want [16 3] for rank 3"},
		"linear for conv":     {peft, func(w model.Weights) { w["conv_out.lora_A.weight"] = shaped(2, 72) }, "of a conv layer"},
		"axes missing":        {peft, func(w model.Weights) { w["conv_out.lora_B.weight"] = shaped(6) }, "want [3 2 1 1]"},
		"twice":               {peft, func(w model.Weights) { w[q+".lora.down.weight"] = shaped(2, 16) }, "mean the same"},
		"LoHa":                {peft, func(w model.Weights) { w[q+".hada_w1_a"] = shaped(2, 16) }, "belongs to LoHa"},
		"LoKr":                {peft, func(w model.Weights) { w["lora_unet_conv_in.lokr_w1"] = shaped(2, 16) }, "belongs to LoKr"},
		"OFT":                 {peft, func(w model.Weights) { w["lora_unet_conv_in.oft_blocks"] = shaped(2, 16) }, "belongs to OFT"},
		"whole":               {peft, func(w model.Weights) { w["lora_unet_conv_in.diff"] = shaped(8, 3, 3, 3) }, "a difference of whole weights"},
		"middle":              {peft, func(w model.Weights) { w["lora_unet_conv_in.lora_mid.weight"] = shaped(2, 2, 3, 3) }, "a third matrix"},
		"bias":                {peft, func(w model.Weights) { w[q+".lora_B.bias"] = shaped(16) }, "a LoRA with a bias"},
		"numbers for names":   {peft, func(w model.Weights) { clear(w); w["unet:3:down"] = shaped(2, 16) }, "belongs to cloneofsimo's LoRA"},
		"textual inversion":   {peft, func(w model.Weights) { clear(w); w["<cat-toy>"] = shaped(768) }, "belongs to textual inversion, the embedding of a new word; only plain LoRA is supported"},
		"no layer":            {peft, func(w model.Weights) { w["unet.x.to_y_lora.up.weight"] = shaped(2, 16) }, "no part of a low-rank branch"},
		"no name":             {peft, func(w model.Weights) { w["unet..lora_A.weight"] = shaped(2, 16) }, "no part of a low-rank branch"},
		"rank 0": {peft, func(w model.Weights) {
			w["down_blocks.0.resnets.0.time_emb_proj.lora_A.weight"] = shaped(0, 32)
		}, "of shape [0 32] has no rank from 1 to 4096"},
		"scalar A": {peft, func(w model.Weights) {
			w["down_blocks.0.resnets.0.time_emb_proj.lora_A.weight"] = shaped()
		}, "of shape [] has no rank"},
		"not a number": {peft, func(w model.Weights) {
			w[q+".lora_A.weight"] = shaped(2, 16)
			w[q+".lora_A.weight"].Data[9] = float32(math.Inf(1))
		}, "holds +Inf at element 9"},
		"kohya: unknown module": {kohya, func(w model.Weights) { w["lora_unet_mid_block_x.lora_up.weight"] = shaped(2, 16) }, "a layer that the network does not have"},
		"kohya: text encoder":   {kohya, func(w model.Weights) { w["lora_te2_x.lora_up.weight"] = shaped(2, 16) }, "as Stable Diffusion XL's second text encoder"},
		"kohya: first names":    {kohya, func(w model.Weights) { w["lora_unet_input_blocks_1_1_proj_in.lora_up.weight"] = shaped(2, 16) }, "named after the blocks of the first implementation"},
		"kohya: other names":    {kohya, func(w model.Weights) { w[kq+".lora_A.weight"] = shaped(2, 16) }, "mean the same"},
		"kohya: negative alpha": {kohya, func(w model.Weights) { w[kq+".alpha"] = model.Tensor{Shape: []int{}, Data: []float32{-9}} }, "not one positive number"},
		"kohya: alpha 0":        {kohya, func(w model.Weights) { w[kq+".alpha"] = shaped() }, "not one positive number"},
		"kohya: two alphas":     {kohya, func(w model.Weights) { w[kq+".alpha"] = shaped(2) }, "not one positive number"},
		"kohya: alpha alone":    {kohya, func(w model.Weights) { delete(w, kq+".lora_up.weight"); delete(w, kq+".lora_down.weight") }, "lacks A or B"},
	} {
		w := read(c.file)
		c.change(w)
		_, err := model.LoadLoRA(files(t, w, nil), "a.safetensors", network.Config)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		} else if !strings.HasPrefix(err.Error(), "a.safetensors: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q is not one sentence that names the file", name, err)
		}
	}
	contents, err := fs.ReadFile(testdata, peft)
	if err != nil {
		t.Fatal(err)
	}
	config, err := fs.ReadFile(testdata, "lora/peft/adapter_config.json")
	if err != nil {
		t.Fatal(err)
	}
	cut := fstest.MapFS{"a/adapter_config.json": {Data: config}, "a/adapter_model.safetensors": {Data: contents[:len(contents)-5]}}
	if _, err := model.LoadLoRA(cut, "a", network.Config); err == nil || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("a file cut short: %v", err)
	}
	delete(cut, "a/adapter_config.json")
	if _, err := model.LoadLoRA(cut, "a", network.Config); err == nil || !strings.Contains(err.Error(), "adapter_config.json: the file is missing") {
		t.Errorf("a folder without a config: %v", err)
	}
	if _, err := model.LoadLoRA(cut, "b", network.Config); err == nil || !strings.Contains(err.Error(), "b: there is no such file or folder") {
		t.Errorf("no file: %v", err)
	}
	if contents, err = fs.ReadFile(testdata, kohya); err != nil {
		t.Fatal(err)
	}
	saved := fstest.MapFS{"a/pytorch_lora_weights.safetensors": {Data: contents}}
	if _, err := model.LoadLoRA(saved, "a", network.Config); err != nil || !model.IsLoRAFolder(saved, "a") || model.IsLoRAFolder(saved, ".") {
		t.Errorf("a folder that diffusers saved: %v", err)
	}
}

// An adapter of another network is refused by Merge, too.
func TestMergeRefusesAnotherNetwork(t *testing.T) {
	network, _ := attention(t)
	lora := drawn(t, network, model.LoRAConfig{Rank: 1, Alpha: 1, Targets: []string{"conv_in"}})
	for want, change := range map[string]func(w model.Weights){
		`no layer "conv_in"`: func(w model.Weights) { delete(w, "conv_in.weight") },
		"belongs to another": func(w model.Weights) {
			w["conv_in.weight"] = model.Tensor{Shape: []int{8, 3, 1, 1}, Data: make([]float32, 24)}
		},
	} {
		weights := maps.Clone(network.Weights)
		change(weights)
		if _, err := lora.Merge(weights); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// A config written here is one PEFT's keys can be looked up in.
func TestPEFTConfigKeys(t *testing.T) {
	network, _ := attention(t)
	lora := drawn(t, network, model.LoRAConfig{Rank: 1, Alpha: 0.5, Targets: []string{"to_q"}})
	dir := t.TempDir()
	if err := lora.SavePEFT(dir, model.F32); err != nil {
		t.Fatal(err)
	}
	known, written := map[string]any{}, map[string]any{}
	for file, into := range map[string]any{"testdata/lora/peft/adapter_config.json": &known, filepath.Join(dir, "adapter_config.json"): &written} {
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for key := range written {
		if _, ok := known[key]; !ok {
			t.Errorf("PEFT has no key %q", key)
		}
	}
}
