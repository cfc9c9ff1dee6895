package model

import (
	"cmp"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sdo-go/sdo/graph"
)

// AestheticHead predicts how much people like a picture from its CLIP embedding:
// LAION's linear head, or one of the "improved" ones, a chain of linear layers
// with or without ReLUs in between (christophschuhmann/improved-aesthetic-predictor).
type AestheticHead struct {
	Layers  []Module // names and weight shapes [out in], in order; the last gives one number
	ReLU    bool     // whether every layer but the last ends in one
	Weights Weights
}

// The numbers of the improved heads' linear layers. Files name no modules without
// parameters; these are dropout, and of the second ReLUs.
var (
	linearHead = []int{0, 2, 4, 6, 7}
	reluHead   = []int{0, 3, 6, 9, 11}
)

// LoadAestheticHead reads a head from a .safetensors file or a PyTorch state
// dict: weight [1 D] and bias [1], or layers.I.weight and layers.I.bias, numbered
// one after the other or as one of the improved heads.
func LoadAestheticHead(fsys fs.FS, name string) (*AestheticHead, error) {
	c, err := OpenCheckpoint(fsys, name)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	h := &AestheticHead{}
	if h.Layers, h.ReLU, err = aestheticLayers(c); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	source, err := loadParams(c, h.Params(), nil)
	if err != nil {
		return nil, err
	}
	h.Weights, err = Collect(source)
	return h, err
}

// aestheticLayers finds the layers among the tensors of a file, checks that each
// takes what the one before it gives, and tells what stands in between.
func aestheticLayers(s Source) (layers []Module, relu bool, err error) {
	place := map[string]int{}
	for _, tensor := range s.Names() {
		name, isWeight := strings.CutSuffix("."+tensor, ".weight")
		if !isWeight {
			continue
		}
		name = strings.TrimPrefix(name, ".")
		index, err := strconv.Atoi(strings.TrimPrefix(name, "layers."))
		if name != "" && (err != nil || index < 0) {
			return nil, false, fmt.Errorf("tensor %q is no layer of an aesthetic head, want weight or layers.I.weight", tensor)
		}
		info, _ := s.Info(tensor)
		if len(info.Shape) != 2 || min(info.Shape[0], info.Shape[1]) < 1 {
			return nil, false, fmt.Errorf("tensor %q has shape %v, want that of a linear layer", tensor, graph.Shape(info.Shape))
		}
		place[name] = index
		layers = append(layers, Module{name, info.Shape})
	}
	if len(layers) == 0 || len(layers) > maxLayers {
		return nil, false, fmt.Errorf("holds %d layers, want an aesthetic head with 1 to %d", len(layers), maxLayers)
	}
	slices.SortFunc(layers, func(a, b Module) int { return cmp.Compare(place[a.Name], place[b.Name]) })
	for i, layer := range layers {
		if i > 0 && layer.Weight[1] != layers[i-1].Weight[0] {
			return nil, false, fmt.Errorf("layer %q takes %d numbers, the one before it gives %d", layer.Name, layer.Weight[1], layers[i-1].Weight[0])
		}
	}
	if last := layers[len(layers)-1]; last.Weight[0] != 1 {
		return nil, false, fmt.Errorf("the last layer, %q, gives %d numbers, want 1", last.Name, last.Weight[0])
	}
	relu, err = between(layers, place)
	return layers, relu, err
}

// between tells from the numbers of the layers whether ReLUs stand between them.
func between(layers []Module, place map[string]int) (relu bool, err error) {
	numbers := make([]int, len(layers))
	for i, layer := range layers {
		numbers[i] = place[layer.Name]
	}
	if slices.Equal(numbers, reluHead) {
		return true, nil
	}
	if slices.Equal(numbers, linearHead) {
		return false, nil
	}
	for i := range layers[1:] {
		if numbers[i+1] != numbers[i]+1 {
			return false, fmt.Errorf("%q follows %q, and what stands in between is not in the file; if it changes nothing, as dropout does, number the layers one after the other",
				layers[i+1].Name, layers[i].Name)
		}
	}
	return false, nil
}

// Dim is the width of the embeddings that the head judges.
func (h *AestheticHead) Dim() int { return h.Layers[0].Weight[1] }

// Params lists the state dict in the order the head uses it.
func (h *AestheticHead) Params() []Param {
	var params []Param
	for _, layer := range h.Layers {
		weight, bias := linearNames(layer.Name)
		uniform := initialiser{bound: 1 / math.Sqrt(float64(layer.Weight[1]))}
		params = append(params, Param{weight, layer.Weight, uniform}, Param{bias, layer.Weight[:1], uniform})
	}
	return params
}

// linearNames are a layer's weight and bias. The only layer of LAION's linear head
// has no name.
func linearNames(layer string) (weight, bias string) {
	if layer == "" {
		return "weight", "bias"
	}
	return layer + ".weight", layer + ".bias"
}

// Build appends the head to g: embeddings [N Dim] of an image tower, of any
// length, to scores [N]. People's scores go from 1 to 10.
func (h *AestheticHead) Build(g *graph.Graph, embeds *graph.Node, o BuildOptions) *graph.Node {
	if len(embeds.Shape) != 2 || embeds.Shape[1] != h.Dim() {
		fail("aesthetic head: embeddings %v must be [N %d]", embeds.Shape, h.Dim())
	}
	b := newBuilder(g, o)
	x := g.L2Normalize(embeds, 1e-12)
	params := h.Params()
	for i := 0; i < len(params); i += 2 {
		if i > 0 && h.ReLU {
			x = g.ReLU(x)
		}
		weight, bias := params[i], params[i+1]
		x = g.Linear(x, b.weight(weight.Name, weight.init, weight.Shape...), b.param(bias.Name, graph.F32, bias.init, bias.Shape...))
	}
	return g.Reshape(x, x.Shape[0])
}
