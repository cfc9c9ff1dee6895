package modeltest

import (
	"io/fs"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// autoencoder gives the two directions of a folder as a fixture each.
func autoencoder(fsys fs.FS, name string) ([]Fixture, error) {
	network, err := model.LoadAutoencoder(fsys, ".")
	if err != nil {
		return nil, err
	}
	class := "AutoencoderKL"
	if _, tiny := network.Config.(model.AutoencoderTinyConfig); tiny {
		class = "AutoencoderTiny"
	}
	var all []Fixture
	for _, side := range []struct {
		name, input string
		build       func(g *graph.Graph, x *graph.Node, o model.BuildOptions) *graph.Node
	}{
		{"decoder", "latents", network.Config.BuildDecoder},
		{"encoder", "images", network.Config.BuildEncoder},
	} {
		values := side.name + ".safetensors"
		if _, err := fs.Stat(fsys, values); err != nil {
			continue
		}
		f, err := newFixture(fsys, name+"/"+side.name, class, values, network.Weights, nil)
		if err != nil {
			return nil, err
		}
		f.Build = func(g *graph.Graph, in func(string) *graph.Node, o model.BuildOptions) map[string]*graph.Node {
			return map[string]*graph.Node{"": side.build(g, in(side.input), o)}
		}
		all = append(all, f)
	}
	return all, nil
}
