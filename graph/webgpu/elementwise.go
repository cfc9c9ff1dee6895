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
	gelu
	geluTanh
	quickGELU
	tanh
	exp
	rsqrt
	clamp
)

func activation(shader string, function int) kernel {
	return func(n *graph.Node, p *preset) ([]launch, error) {
		var a, b float64
		switch attrs := n.Attrs.(type) {
		case *graph.SmoothAbsAttrs:
			a = attrs.Eps
		case *graph.ClampAttrs:
			a, b = attrs.Lo, attrs.Hi
		}
		return one(mapNumbers(n, p, shader, []uint32{floatWord(a), floatWord(b)}, "FUNCTION", function))
	}
}

// geglu has one invocation per number, or four, of the half that is kept: of
// the output forward, of dy backward.
func geglu(shader string, half func(n *graph.Node) graph.Shape) kernel {
	return func(n *graph.Node, p *preset) ([]launch, error) {
		s := half(n)
		row := s[len(s)-1]
		width := elementWidth(row)
		count := s.Size() / width
		return one(launch{
			shader:  shader,
			consts:  elements(width, "WORKGROUP", p.lanes),
			uniform: words(count, row/width),
			bind:    operands(n),
			groups:  fold(count, p.lanes),
		})
	}
}

func affine(n *graph.Node, p *preset) ([]launch, error) {
	a := n.Attrs.(*graph.AffineAttrs)
	return one(mapNumbers(n, p, "affine", []uint32{floatWord(a.Scale), floatWord(a.Shift)}))
}

// arithmetic takes the values of OPERATION in arithmetic.wgsl.
func arithmetic(operation int) kernel { return elementwise("arithmetic", "OPERATION", operation) }
