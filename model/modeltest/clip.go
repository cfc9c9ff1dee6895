package modeltest

import (
	"fmt"
	"io/fs"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// clipTowers gives every tower that a folder has values for as a fixture.
func clipTowers(fsys fs.FS, name string) ([]Fixture, error) {
	var all []Fixture
	for _, tower := range []struct {
		name string
		open func(fsys fs.FS, name string) (Fixture, error)
	}{{"text", clipText}, {"vision", clipVision}} {
		if _, err := fs.Stat(fsys, tower.name+".safetensors"); err != nil {
			continue
		}
		f, err := tower.open(fsys, name+"/"+tower.name)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

func clipText(fsys fs.FS, name string) (Fixture, error) {
	tower, err := model.LoadCLIPText(fsys, ".")
	if err != nil {
		return Fixture{}, err
	}
	class := "CLIPTextModel"
	if tower.Config.Projection {
		class = "CLIPTextModelWithProjection"
	}
	f, err := newFixture(fsys, name, class, "text.safetensors", tower.Weights, tower.Config)
	if err != nil {
		return f, err
	}
	// The places of the ends of text, by the config's own rule.
	shape := f.Values["ids"].Shape
	texts := make([][]int, shape[0])
	for i, id := range f.Values["ids"].Data {
		texts[i/shape[1]] = append(texts[i/shape[1]], int(id))
	}
	var ends []float32
	for _, row := range tower.Config.Ends(texts) {
		ends = append(ends, float32(row))
	}
	f.Build = func(g *graph.Graph, in func(string) *graph.Node, o model.BuildOptions) map[string]*graph.Node {
		hidden, pooled := tower.Config.Build(g, in("ids"), g.Const("ends", ends, len(ends)), o)
		return map[string]*graph.Node{"hidden": hidden, "pooled": pooled}
	}
	return f, nil
}

func clipVision(fsys fs.FS, name string) (Fixture, error) {
	tower, err := model.LoadCLIPVision(fsys, ".")
	if err != nil {
		return Fixture{}, err
	}
	class := "CLIPVisionModel"
	if tower.Config.Projection {
		class = "CLIPVisionModelWithProjection"
	}
	f, err := newFixture(fsys, name, class, "vision.safetensors", tower.Weights, nil)
	if err != nil {
		return f, err
	}
	f.Build = func(g *graph.Graph, in func(string) *graph.Node, o model.BuildOptions) map[string]*graph.Node {
		layers, embeds := tower.Config.Build(g, in("pixels"), o)
		outputs := map[string]*graph.Node{"embeds": embeds}
		for i, layer := range layers {
			outputs[fmt.Sprintf("layer%d", i)] = layer
		}
		return outputs
	}
	return f, nil
}
