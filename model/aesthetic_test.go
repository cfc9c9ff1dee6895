package model_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// Heads of every kind from state dicts as torch.save writes them, scores and the way back
// to the embeddings. The fixture is made by tools/golden/clip.py.
func TestAestheticHeadsAgainstPyTorch(t *testing.T) {
	files := os.DirFS("testdata/aesthetic")
	values, _, err := model.LoadSafetensors(files, "fixture.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	values["seed"] = model.Tensor{Shape: []int{4}, Data: []float32{1, 2, 3, 4}}
	for name, layers := range map[string]int{"linear": 1, "improved": 5, "relu": 5} {
		t.Run(name, func(t *testing.T) {
			head, err := model.LoadAestheticHead(files, name+".pth")
			if err != nil {
				t.Fatal(err)
			}
			if len(head.Layers) != layers || head.Dim() != 12 || head.ReLU != (name == "relu") {
				t.Errorf("%d layers of embeddings of %d, ReLU %v, want %d of 12", len(head.Layers), head.Dim(), head.ReLU, layers)
			}
			g := graph.New()
			embeds := g.Input("embeds", 4, 12)
			score := head.Build(g, embeds, model.BuildOptions{Prefix: "clip."})
			grad := graph.Grad(g, []*graph.Node{score}, []*graph.Node{g.Input("seed", 4)}, []*graph.Node{embeds})
			got := evaluate(t, g, head.Weights, values, score, grad[0])
			near(t, "score", got[0], values[name+".score"], 1e-6)
			near(t, "gradient of the embeddings", got[1], values[name+".grad"], 1e-6)
		})
	}
}

func TestAestheticHeadRefusals(t *testing.T) {
	dir := t.TempDir()
	tensor := func(shape ...int) model.Tensor {
		return model.Tensor{Shape: shape, Data: make([]float32, graph.Shape(shape).Size())}
	}
	for want, weights := range map[string]model.Weights{
		"holds 0 layers": {"x": tensor(1)},
		`tensor "head.weight" is no layer of an aesthetic head`:                        {"head.weight": tensor(1, 2), "head.bias": tensor(1)},
		"gives 3 numbers, want 1":                                                      {"weight": tensor(3, 2), "bias": tensor(3)},
		"takes 4 numbers, the one before it gives 3":                                   {"layers.0.weight": tensor(3, 2), "layers.10.weight": tensor(1, 4)},
		`"layers.3" follows "layers.0", and what stands in between is not in the file`: {"layers.0.weight": tensor(3, 2), "layers.0.bias": tensor(3), "layers.3.weight": tensor(1, 3), "layers.3.bias": tensor(1)},
		"want that of a linear layer":                                                  {"weight": tensor(1, 2, 1, 1), "bias": tensor(1)},
		`tensor "bias" is missing`:                                                     {"weight": tensor(1, 2)},
		"has no place for":                                                             {"weight": tensor(1, 2), "bias": tensor(1), "x": tensor(1)},
	} {
		if err := model.SaveSafetensors(filepath.Join(dir, "head.safetensors"), weights, model.F32, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := model.LoadAestheticHead(os.DirFS(dir), "head.safetensors"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
