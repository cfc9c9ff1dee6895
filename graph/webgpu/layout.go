package webgpu

import (
	"math"

	"github.com/sdo-go/sdo/graph"
)

// span is the size of one entry of everything outside an axis: the product of
// the extents from the axis on.
func span(s graph.Shape, axis int) int { return s[axis:].Size() }

// copyWindow copies columns [start, start+width) of the rows of x, which are
// xRow long, to columns from to of the rows of y.
func copyWindow(p *preset, rows, width int, x operand, xRow, start int, y operand, yRow, to int) launch {
	w := elementWidth(width, xRow, start, yRow, to)
	count := rows * width / w
	return launch{
		shader:  "copy_window",
		consts:  elements(w, "WORKGROUP", p.lanes),
		uniform: words(count, width/w, xRow/w, start/w, yRow/w, to/w),
		bind:    []operand{x, y},
		groups:  fold(count, p.lanes),
	}
}

func concat(n *graph.Node, p *preset) ([]launch, error) {
	axis := n.Attrs.(*graph.ConcatAttrs).Axis
	a, b, row := span(n.Inputs[0].Shape, axis), span(n.Inputs[1].Shape, axis), span(n.Shape, axis)
	rows := n.Shape.Size() / row
	return []launch{
		copyWindow(p, rows, a, tensor(n.Inputs[0]), a, 0, tensor(n), row, 0),
		copyWindow(p, rows, b, tensor(n.Inputs[1]), b, 0, tensor(n), row, a),
	}, nil
}

func slice(n *graph.Node, p *preset) ([]launch, error) {
	a, x := n.Attrs.(*graph.SliceAttrs), n.Inputs[0]
	row, width := span(x.Shape, a.Axis), span(n.Shape, a.Axis)
	start := a.From * span(n.Shape, a.Axis+1)
	return one(copyWindow(p, n.Shape.Size()/width, width, tensor(x), row, start, tensor(n), width, 0))
}

func sliceGrad(n *graph.Node, p *preset) ([]launch, error) {
	a, dy := n.Attrs.(*graph.SliceAttrs), n.Inputs[0]
	row, width := span(n.Shape, a.Axis), span(dy.Shape, a.Axis)
	start := a.From * span(n.Shape, a.Axis+1)
	w := elementWidth(row, width, start)
	count := n.Shape.Size() / w
	return one(launch{
		shader:  "slice_bwd",
		consts:  elements(w, "WORKGROUP", p.lanes),
		uniform: words(count, width/w, row/w, start/w),
		bind:    operands(n),
		groups:  fold(count, p.lanes),
	})
}

// numbers launches a shader with one invocation per number of the output.
func numbers(n *graph.Node, p *preset, shader string, block ...int) ([]launch, error) {
	return one(launch{
		shader:  shader,
		consts:  consts("WORKGROUP", p.lanes),
		uniform: words(append([]int{n.Shape.Size()}, block...)...),
		bind:    operands(n),
		groups:  fold(n.Shape.Size(), p.lanes),
	})
}

func transpose(n *graph.Node, p *preset) ([]launch, error) {
	return numbers(n, p, "transpose", n.Shape[2], n.Shape[1])
}

func flip(n *graph.Node, p *preset) ([]launch, error) {
	return numbers(n, p, "flip", n.Shape[len(n.Shape)-1])
}

func sumPool(n *graph.Node, p *preset) ([]launch, error) {
	return numbers(n, p, "sum_pool", n.Shape[3])
}

// upsample has one invocation per number of the input.
func upsample(n *graph.Node, p *preset) ([]launch, error) {
	x := n.Inputs[0].Shape
	return one(launch{
		shader:  "upsample",
		consts:  consts("WORKGROUP", p.lanes),
		uniform: words(x.Size(), x[3]),
		bind:    operands(n),
		groups:  fold(x.Size(), p.lanes),
	})
}

// nearest runs one invocation per number of the output, between images of shape
// small and shape large.
func nearest(n *graph.Node, p *preset, shader string, small, large graph.Shape) ([]launch, error) {
	scale := func(axis int) uint32 {
		return math.Float32bits(float32(small[axis]) / float32(large[axis]))
	}
	return one(launch{
		shader:  shader,
		consts:  consts("WORKGROUP", p.lanes),
		uniform: append(words(n.Shape.Size(), small[2], small[3], large[2], large[3]), scale(2), scale(3)),
		bind:    operands(n),
		groups:  fold(n.Shape.Size(), p.lanes),
	})
}

func upsampleNearest(n *graph.Node, p *preset) ([]launch, error) {
	return nearest(n, p, "upsample_nearest", n.Inputs[0].Shape, n.Shape)
}

func upsampleNearestGrad(n *graph.Node, p *preset) ([]launch, error) {
	return nearest(n, p, "upsample_nearest_bwd", n.Shape, n.Inputs[0].Shape)
}
