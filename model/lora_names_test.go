package model

import (
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sdo-go/sdo/graph"
)

// tinyPipeline opens the denoiser and the text encoder that the adapters of
// testdata/lora-names are for.
func tinyPipeline(t testing.TB) map[string]Adaptable {
	t.Helper()
	files := os.DirFS("testdata/stable-diffusion")
	unet, err := LoadUNet2DCondition(files, "unet")
	if err != nil {
		t.Fatal(err)
	}
	text, err := LoadCLIPText(files, "text_encoder")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]Adaptable{"unet": unet.Config, "text_encoder": text.Config}
}

// added is what an adapter adds to each layer's weight.
func added(t *testing.T, l *LoRA, network Adaptable) map[string][]float64 {
	t.Helper()
	modules, err := l.Modules(network)
	if err != nil {
		t.Fatal(err)
	}
	deltas := map[string][]float64{}
	for _, m := range modules {
		a, b := LoRANames(m.Name)
		deltas[m.Name] = l.MergeInto(m.Name, make([]float32, m.Weight.Size()), float64s(l.Weights[a].Data), float64s(l.Weights[b].Data), m.Weight[0])
	}
	return deltas
}

// Adapters under every trainer's names add to each layer what they add in
// diffusers and PEFT: of linear layers, of 1x1 and 3x3 convolutions, of the text
// encoder, with ranks and alphas by layer, patterns of them, rank-stabilised
// scales, in safetensors and in a pickle.
func TestLoRANamesAgainstDiffusers(t *testing.T) {
	files := os.DirFS("testdata/lora-names")
	want, _, err := LoadSafetensors(files, "deltas.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	networks := tinyPipeline(t)
	for file, naming := range map[string]string{"kohya.safetensors": KohyaNaming, "pipeline.safetensors": PEFTNaming,
		"earlier.safetensors": DiffusersNaming, "processors.bin": DiffusersNaming, "peft": PEFTNaming} {
		got := map[string][]float64{}
		tensors, beside := 0, 0
		for part, load := range map[string]func() (*LoRA, error){
			"unet":         func() (*LoRA, error) { return LoadLoRA(files, file, networks["unet"]) },
			"text_encoder": func() (*LoRA, error) { return LoadTextLoRA(files, file, networks["text_encoder"]) },
		} {
			if part == "text_encoder" && file == "peft" {
				continue // PEFT's folder is of one network and does not say which
			}
			l, err := load()
			if err != nil {
				t.Errorf("%s: %s: %v", file, part, err)
				continue
			}
			if l == nil {
				continue
			}
			tensors, beside = tensors+len(l.Weights), beside+l.Beside
			for module, delta := range added(t, l, networks[part]) {
				got[file+"/"+part+"/"+module] = delta
			}
		}
		for name, delta := range want {
			if !strings.HasPrefix(name, file+"/") {
				continue
			}
			ours, ok := got[name]
			if !ok {
				t.Errorf("%s: nothing is added", name)
				continue
			}
			delete(got, name)
			difference, norm := 0.0, 0.0
			for i, v := range delta.Data {
				difference += math.Pow(ours[i]-float64(v), 2)
				norm += math.Pow(float64(v), 2)
			}
			if e := math.Sqrt(difference / norm); !(e < 1e-6) {
				t.Errorf("%s: differs by %.2g relative, want below 1e-6", name, e)
			}
		}
		for name := range got {
			t.Errorf("%s: something is added, and nothing in diffusers", name)
		}
		info, err := InspectLoRA(files, file)
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Naming != naming || 2*len(info.Modules) != tensors {
			t.Errorf("%s: %s names of %d modules, want %s of %d", file, info.Naming, len(info.Modules), naming, tensors/2)
		}
		if text := strings.Count(strings.Join(info.Modules, " "), TextPrefix); text != info.Text || (beside > 0) != (text > 0) {
			t.Errorf("%s: %d modules of the text encoder, %d told, %d tensors beside", file, text, info.Text, beside)
		}
	}
}

// An adapter with ranks and alphas of its own in each layer is the same after it
// was written, under both names and in both precisions.
func TestLoRAOfManyRanksRoundTrip(t *testing.T) {
	network := tinyPipeline(t)["unet"]
	l, err := LoadLoRA(os.DirFS("testdata/lora-names"), "kohya.safetensors", network)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Ranks) == 0 || len(l.Alphas) == 0 {
		t.Fatalf("ranks %v, alphas %v: the fixture has one of each", l.Ranks, l.Alphas)
	}
	l.Beside = 0
	dir := t.TempDir()
	for _, dtype := range []DType{F32, F16} {
		if err := l.SavePEFT(filepath.Join(dir, "peft"), dtype); err != nil {
			t.Fatal(err)
		}
		if err := l.SaveKohya(filepath.Join(dir, "kohya.safetensors"), dtype); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"peft", "kohya.safetensors"} {
			again, err := LoadLoRA(os.DirFS(dir), name, network)
			if err != nil {
				t.Error(err)
			} else if !reflect.DeepEqual(again, l) {
				t.Errorf("%s, %s: %+v, want %+v", name, dtype, again.LoRAConfig, l.LoRAConfig)
			}
		}
	}
	strong := l.Strengthened(2)
	for _, module := range l.Targets {
		if strong.Scale(module) != 2*l.Scale(module) {
			t.Errorf("%s: twice as strong is %g, was %g", module, strong.Scale(module), l.Scale(module))
		}
	}
}

// A linear layer's adapter may be stored as a 1x1 convolution's and the other way
// round; alphas may be whole numbers of whatever type.
func TestLoRAOfPointwiseConvolutions(t *testing.T) {
	network := fixed{{"proj_in", graph.Shape{4, 6, 1, 1}}, {"to_q", graph.Shape{5, 4}}}
	weights := Weights{
		"lora_unet_proj_in.lora_down.weight": ones(2, 6), "lora_unet_proj_in.lora_up.weight": ones(4, 2),
		"lora_unet_to_q.lora_down.weight": ones(3, 4, 1, 1), "lora_unet_to_q.lora_up.weight": ones(5, 3, 1, 1),
	}
	l, err := LoadLoRA(mapFS(t, weights), "m.safetensors", network)
	if err != nil {
		t.Fatal(err)
	}
	params, err := l.Params(network)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Weights.Check(params); err != nil {
		t.Error(err)
	}
	if l.Scale("proj_in") != 1 || l.Scale("to_q") != 1 {
		t.Errorf("scales %g and %g without alphas, want 1", l.Scale("proj_in"), l.Scale("to_q"))
	}
	header := `{"lora_unet_to_q.alpha":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"lora_unet_to_q.lora_down.weight":{"dtype":"F16","shape":[1,4],"data_offsets":[8,16]},` +
		`"lora_unet_to_q.lora_up.weight":{"dtype":"F16","shape":[5,1],"data_offsets":[16,26]}}`
	contents := append(file(header, 0), 6)
	files := mapFS(t, weights)
	files["m.safetensors"].Data = append(contents, make([]byte, 25)...)
	if l, err = LoadLoRA(files, "m.safetensors", network); err != nil || l.Alpha != 6 {
		t.Errorf("an alpha of I64: %+v, %v", l, err)
	}
}

// A module whose alpha a file leaves out has its rank for one, whatever others
// have.
func TestLoRAOfSomeAlphas(t *testing.T) {
	network := fixed{{"proj_in", graph.Shape{4, 6}}, {"to_q", graph.Shape{5, 4}}, {"to_k", graph.Shape{5, 4}}}
	files := mapFS(t, Weights{
		"lora_unet_proj_in.lora_down.weight": ones(2, 6), "lora_unet_proj_in.lora_up.weight": ones(4, 2), "lora_unet_proj_in.alpha": ones(),
		"lora_unet_to_k.lora_down.weight": ones(2, 4), "lora_unet_to_k.lora_up.weight": ones(5, 2), "lora_unet_to_k.alpha": ones(),
		"lora_unet_to_q.lora_down.weight": ones(3, 4), "lora_unet_to_q.lora_up.weight": ones(5, 3),
	})
	l, err := LoadLoRA(files, "m.safetensors", network)
	if err != nil {
		t.Fatal(err)
	}
	if l.Scale("proj_in") != 0.5 || l.Scale("to_k") != 0.5 || l.Scale("to_q") != 1 {
		t.Errorf("scales %g, %g and %g, want 0.5 twice and 1", l.Scale("proj_in"), l.Scale("to_k"), l.Scale("to_q"))
	}
	info, err := InspectLoRA(files, "m.safetensors")
	if err != nil || info.Alpha != 1 || !slices.Equal(info.Alphas, []float64{1, 3}) {
		t.Errorf("%+v, %v", info, err)
	}
}

// The weights of PEFT's folder may be named instead of the folder. Without the
// config nobody knows their alpha.
func TestWeightsOfPEFTsFolder(t *testing.T) {
	network := fixed{{"to_q", graph.Shape{5, 4}}}
	weights := Weights{"base_model.model.to_q.lora_A.weight": ones(2, 4), "base_model.model.to_q.lora_B.weight": ones(5, 2)}
	files := fstest.MapFS{
		"a/adapter_config.json":       {Data: []byte(`{"r": 2, "lora_alpha": 16}`)},
		"a/adapter_model.safetensors": packed(t, weights, F32),
		"b/adapter_model.safetensors": packed(t, weights, F32),
		"c/adapter_config.json":       {Data: []byte(`{"r": 2, "lora_alpha": 16, "use_dora": true}`)},
		"c/adapter_model.safetensors": packed(t, weights, F32),
	}
	for _, name := range []string{"a", "a/adapter_model.safetensors"} {
		if l, err := LoadLoRA(files, name, network); err != nil || l.Scale("to_q") != 8 {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	if _, err := LoadLoRA(files, "b/adapter_model.safetensors", network); err == nil || !strings.Contains(err.Error(), "does not say its alpha") {
		t.Error(err)
	}
	if info, err := InspectLoRA(files, "b/adapter_model.safetensors"); err != nil || !info.Alone || info.Alpha != 0 {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := LoadLoRA(files, "c/adapter_model.safetensors", network); err == nil || !strings.Contains(err.Error(), `c/adapter_config.json: "use_dora": true is not supported`) {
		t.Error(err)
	}
}

// fixed is a network of some layers.
type fixed []Module

func (f fixed) Modules() ([]Module, error) { return f, nil }

// Branches of different ranks are built and merged alike.
func TestBranchesOfManyRanks(t *testing.T) {
	network := tinyPipeline(t)["unet"]
	l, err := LoadLoRA(os.DirFS("testdata/lora-names"), "pipeline.safetensors", network)
	if err != nil {
		t.Fatal(err)
	}
	g, err := graph.Build(func(g *graph.Graph) {
		c := network.(UNet2DConditionConfig)
		c.BuildWith(g, g.Input("sample", c.SampleShape(1)...), g.Input("timestep", 1), c.ConditionNode(g, "condition", 1), BuildOptions{LoRA: &l.LoRAConfig})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(l.Weights)) {
		if n := g.Lookup(name); n == nil || !n.Shape.Equal(l.Weights[name].Shape) {
			t.Errorf("%s: the graph has %v, the adapter %v", name, n, l.Weights[name].Shape)
		}
	}
}

// Patterns of a config cost time for every module; one that would take minutes is
// refused before any is tried.
func TestPatternsThatTakeForever(t *testing.T) {
	weights := Weights{"conv_in.lora_A.weight": ones(2, 3, 3, 3), "conv_in.lora_B.weight": ones(4, 2, 1, 1)}
	for _, keys := range []string{
		`"` + strings.Repeat("(.*|.+)*y|", 50_000) + `z": 2`,
		strings.Repeat(`"(.*|.+)*y": 2,`, 250) + `"z": 2`,
	} {
		folder := fstest.MapFS{
			"a/adapter_config.json":       {Data: []byte(`{"r": 2, "lora_alpha": 3, "rank_pattern": {` + keys + `}}`)},
			"a/adapter_model.safetensors": packed(t, weights, F32),
		}
		if _, err := LoadLoRA(folder, "a", fuzzModules{}); err == nil || !strings.Contains(err.Error(), "rank_pattern: patterns with *, +, |, ( or [ of more than 2048 bytes") {
			t.Errorf("%.30s…: %v", keys, err)
		}
	}
}
