package model

import (
	"github.com/sdo-go/sdo/graph"
)

var _ Denoiser = UNet2DConditionConfig{}

// ConditionNode declares the condition that BuildWith wants for n samples:
// [n Tokens ConditionDim], the hidden states of a text encoder.
func (c UNet2DConditionConfig) ConditionNode(g *graph.Graph, name string, n int) *graph.Node {
	return g.Input(name, n, c.Tokens, c.ConditionDim())
}

// ConditionVaries holds always: the hidden states of a prompt have a gradient.
func (c UNet2DConditionConfig) ConditionVaries() bool { return true }

// ClassNode declares what BuildOptions.Class is for n samples; nil where the
// network takes no class.
func (c UNet2DConditionConfig) ClassNode(g *graph.Graph, name string, n int) *graph.Node {
	switch c.ClassInput() {
	case NoClass:
		return nil
	case ClassVector:
		return g.Input(name, n, c.classDim())
	}
	return g.Input(name, n)
}

// classDim is the width of a class vector.
func (c UNet2DConditionConfig) classDim() int {
	if *c.ClassEmbedType == "identity" {
		return c.TimeEmbedDim()
	}
	return *c.ProjectionClassEmbeddingsDim
}

// Params lists the state dict in the order the network uses it.
func (c UNet2DConditionConfig) Params() ([]Param, error) {
	b, err := c.declare()
	if err != nil {
		return nil, err
	}
	return b.params, nil
}

// Modules lists the layers that a LoRAConfig can target, in the order the
// network uses them.
func (c UNet2DConditionConfig) Modules() ([]Module, error) {
	b, err := c.declare()
	if err != nil {
		return nil, err
	}
	return b.modules, nil
}

// Select lists the parameters that patterns name, in the order the network uses
// them. A pattern that names none is an error.
func (c UNet2DConditionConfig) Select(patterns []string) ([]Param, error) {
	params, err := c.Params()
	if err != nil {
		return nil, err
	}
	return selectParams(params, patterns)
}

func (c UNet2DConditionConfig) declare() (*builder, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return declare(func(b *builder) {
		c.SampleSize, c.Tokens = SampleSize{}, 1 // parameters do not depend on them
		shape := c.SampleShape(1)
		shape[2], shape[3] = max(shape[2], c.ConvInKernel), max(shape[3], c.ConvInKernel)
		class := c.ClassNode(b.Graph, "class", 1)
		c.build(b, b.Input("sample", shape...), b.Input("timestep", 1), c.ConditionNode(b.Graph, "condition", 1), class, 0)
	})
}

// BuildWith appends the network to g: sample [N C H W], timestep [N] and
// condition [N T ConditionDim] to a prediction [N O H W]. H and W may be odd.
// Parameters are named as in diffusers' state dict; weight operands are stored
// as the options say, biases and norms always in f32. A config that Validate
// refuses, shapes that do not fit and a LoRA that fits no layer panic with a
// *graph.BuildError.
//
// It is diffusers' UNet2DConditionModel.forward
// (models/unets/unet_2d_condition.py), layer by layer, with the rewrites of
// UNet2DConfig.Build.
func (c UNet2DConditionConfig) BuildWith(g *graph.Graph, sample, timestep, condition *graph.Node, o BuildOptions) *graph.Node {
	b := newBuilder(g, o)
	b.adapter = newAdapter(o, c)
	return c.build(b, sample, timestep, condition, o.Class, o.GuidanceEmbedding)
}

func (c UNet2DConditionConfig) build(b *builder, sample, timestep, condition, class *graph.Node, guidance float64) *graph.Node {
	if err := c.Validate(); err != nil {
		fail("unet: %v", err)
	}
	if len(sample.Shape) != 4 || sample.Shape[1] != c.InChannels {
		fail("unet: sample %v must be [N C H W] with %d channels", sample.Shape, c.InChannels)
	}
	if condition == nil || len(condition.Shape) != 3 || condition.Shape[2] != c.ConditionDim() || condition.Shape[0] != sample.Shape[0] {
		fail("unet: condition %v must be [N T D] with D = %d for sample %v", condition, c.ConditionDim(), sample.Shape)
	}
	fail("unet: %s is not written yet", unet2DConditionClass)
	return nil
}
