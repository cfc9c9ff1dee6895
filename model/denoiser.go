package model

import "github.com/sdo-go/sdo/graph"

// Denoiser is a denoising network's config as graphs are built from it:
// UNet2DConfig and UNet2DConditionConfig. It holds no numbers. The condition is
// whatever a call is told beside its sample and its timestep, for every row of
// its own: a class vector, or the hidden states of a prompt.
type Denoiser interface {
	Validate() error
	// SampleShape is that of n samples of the size in the config, [n C H W].
	SampleShape(n int) graph.Shape
	// ConditionNode declares the condition that BuildWith wants for n samples:
	// [n ...]; nil where the network takes none.
	ConditionNode(g *graph.Graph, name string, n int) *graph.Node
	// ConditionVaries tells whether the condition has a gradient: a label has
	// none.
	ConditionVaries() bool
	// BuildWith appends the network: sample [n C H W], timestep [n] and
	// condition to a prediction [n O H W].
	BuildWith(g *graph.Graph, sample, timestep, condition *graph.Node, o BuildOptions) *graph.Node
	// Params lists the state dict in the order the network uses it.
	Params() ([]Param, error)
	// Modules lists the layers that a LoRAConfig can target, in that order.
	Modules() ([]Module, error)
	// Select lists the parameters that patterns name (see Matches), in that
	// order. A pattern that names none is an error.
	Select(patterns []string) ([]Param, error)
}

var _ Denoiser = UNet2DConfig{}

// ConditionNode declares the class input, see ClassNode.
func (c UNet2DConfig) ConditionNode(g *graph.Graph, name string, n int) *graph.Node {
	return c.ClassNode(g, name, n)
}

// ConditionVaries holds for a class vector; a label or a time has no gradient.
func (c UNet2DConfig) ConditionVaries() bool { return c.ClassInput() == ClassVector }
