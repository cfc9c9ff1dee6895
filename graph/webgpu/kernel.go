package webgpu

import (
	"fmt"
	"math"

	"github.com/sdo-go/sdo/graph"
)

// launch is one dispatch of a node's kernel. Bindings are fixed by order:
// binding 0 is the uniform block, bindings 1, 2, ... are the operands.
type launch struct {
	// shader names a file of shaders.FS without ".wgsl"; its entry point is
	// "main".
	shader string
	// consts are the specialisation values: a "// param" line's name -> the
	// WGSL text of its right-hand side.
	consts map[string]string
	// uniform is binding 0, a struct of u32 and f32 words (words of f32 by
	// floatWord). It never changes after Compile. The block is padded to 16
	// bytes; a launch with no words still has the binding, so a shader may
	// leave it undeclared.
	uniform []uint32
	// bind lists bindings 1..len(bind). Every one is declared
	// var<storage, read_write>: the arena is one buffer and all bindings of a
	// buffer inside a compute pass must have the same usage.
	bind []operand
	// groups counts workgroups, at most maxGroups in each dimension.
	groups [3]uint32
}

// operand is what a launch binds: the tensor of a node, scratch space of the
// node being computed, or nothing that matters.
type operand struct {
	node     *graph.Node // nil for a temp
	temp     int         // index into what temps returned for the node
	unread   bool
	from, to int64 // bytes of a node's tensor, all if both are 0; from is aligned
}

// kernel turns a node into the launches that compute it, run in order, save that
// those which read parameters alone may run less often (packed.go). The preset
// holds the tile and workgroup sizes for the kind of adapter.
type kernel func(n *graph.Node, p *preset) ([]launch, error)

// maxGroups is the default limit of workgroups per dimension.
const maxGroups = 65535

// tensor binds the tensor of a node.
func tensor(n *graph.Node) operand { return operand{node: n} }

// temp binds scratch space k of the node being computed.
func temp(k int) operand { return operand{temp: k} }

// unread fills a binding that this variant of the kernel does not touch.
func unread() operand { return operand{unread: true} }

// operands binds inputs and output of a node in that order, the layout most
// kernels use.
func operands(n *graph.Node) []operand {
	bind := make([]operand, 0, len(n.Inputs)+1)
	for _, in := range n.Inputs {
		bind = append(bind, tensor(in))
	}
	return append(bind, tensor(n))
}

// fold spreads n invocations in workgroups of size over x and then y, because
// one dimension holds at most 65535 groups. The shader finds its element as
//
//	let i = id.x + id.y * (groups.x * size)
//
// with id the global_invocation_id and groups the num_workgroups built-in, and
// must return when i >= n: the last row of groups is rarely full.
func fold(n, size int) [3]uint32 {
	groups := max(1, ceil(n, size))
	rows := ceil(groups, maxGroups)
	return [3]uint32{uint32(ceil(groups, rows)), uint32(rows), 1}
}

// floatWord is the uniform word of an f32.
func floatWord(x float64) uint32 { return math.Float32bits(float32(x)) }

// variant names a specialised kernel, for the executor's pipeline cache.
func variant(shader string, consts map[string]string, operands int) string {
	return fmt.Sprint(shader, operands, consts) // fmt prints maps in key order
}
