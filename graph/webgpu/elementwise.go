package webgpu

import "github.com/sdo-go/sdo/graph"

// elementwise launches a shader that maps equal tensors number by number; more
// are words of its block after the count.
func elementwise(shader string, pairs ...any) kernel {
	return func(n *graph.Node, p *preset) ([]launch, error) {
		return one(mapNumbers(n, p, shader, nil, pairs...))
	}
}

func mapNumbers(n *graph.Node, p *preset, shader string, more []uint32, pairs ...any) launch {
	width := elementWidth(n.Shape.Size())
	count := n.Shape.Size() / width
	return launch{
		shader:  shader,
		consts:  elements(width, append([]any{"WORKGROUP", p.lanes}, pairs...)...),
		uniform: append(words(count), more...),
		bind:    operands(n),
		groups:  fold(count, p.lanes),
	}
}

// The values of FUNCTION in activation.wgsl and activation_bwd.wgsl.
const (
	silu = iota
	relu
	softplus
	sigmoid
	smoothAbs
)

func activation(shader string, function int) kernel {
	return func(n *graph.Node, p *preset) ([]launch, error) {
		var eps float64
		if a, ok := n.Attrs.(*graph.SmoothAbsAttrs); ok {
			eps = a.Eps
		}
		return one(mapNumbers(n, p, shader, []uint32{floatWord(eps)}, "FUNCTION", function))
	}
}

func affine(n *graph.Node, p *preset) ([]launch, error) {
	a := n.Attrs.(*graph.AffineAttrs)
	return one(mapNumbers(n, p, "affine", []uint32{floatWord(a.Scale), floatWord(a.Shift)}))
}

// arithmetic takes the values of OPERATION in arithmetic.wgsl.
func arithmetic(operation int) kernel { return elementwise("arithmetic", "OPERATION", operation) }
