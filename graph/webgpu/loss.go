package webgpu

import (
	"math"

	"github.com/sdo-go/sdo/graph"
)

func crossEntropy(n *graph.Node, p *preset) ([]launch, error) {
	return overRows(n, p, "cross_entropy", floatWord(math.NaN()))
}

func crossEntropyGrad(n *graph.Node, p *preset) ([]launch, error) {
	return overRows(n, p, "cross_entropy_bwd")
}

// overRows launches a shader with one invocation per row of logits.
func overRows(n *graph.Node, p *preset, shader string, more ...uint32) ([]launch, error) {
	logits := n.Inputs[0].Shape
	return one(launch{
		shader:  shader,
		consts:  consts("WORKGROUP", p.lanes),
		uniform: append(words(logits[0], logits[1]), more...),
		bind:    operands(n),
		groups:  fold(logits[0], p.lanes),
	})
}
