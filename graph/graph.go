// Package graph is a small static tensor language: nodes with shapes, reverse
// mode differentiation that appends nodes to the same graph, and a memory plan
// with exact bytes. It computes nothing itself: graph/cpu and graph/webgpu run
// plans. There is one element type (float32 on a GPU, float32 or float64 on the
// CPU); indices, labels and timesteps are whole numbers carried as floats.
//
// While a graph is being built a wrong shape is a programmer's error: builders
// panic with a *BuildError, one sentence naming the operation and the shapes.
// Build turns the panic into an error for graphs that follow a user's file.
package graph

import (
	"fmt"
	"strings"
)

// Shape lists the extents of a row-major tensor, outermost first.
type Shape []int

// Size is the number of elements.
func (s Shape) Size() int {
	n := 1
	for _, d := range s {
		n *= d
	}
	return n
}

// Equal reports whether two shapes have the same extents.
func (s Shape) Equal(o Shape) bool {
	if len(s) != len(o) {
		return false
	}
	for i := range s {
		if s[i] != o[i] {
			return false
		}
	}
	return true
}

func (s Shape) String() string {
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = fmt.Sprint(d)
	}
	return "[" + strings.Join(parts, " ") + "]"
}

// Kinds of leaves. Every other Op names a kernel; OpReshape is a view.
const (
	OpInput   = "input"
	OpParam   = "param"
	OpConst   = "const"
	OpReshape = "reshape"
)

// Node is one tensor of the program. Nodes are made by the builders below and
// never change afterwards.
type Node struct {
	ID      int
	Op      string
	Inputs  []*Node
	Shape   Shape
	Attrs   any       // *XxxAttrs of the operation, or nil
	Name    string    // inputs and parameters
	Storage Storage   // parameters: how the executor stores them
	Data    []float32 // constants

	graph *Graph
	block int // 1 + its block's place in Graph.blocks, 0 for none
}

func (n *Node) String() string {
	if n.Name != "" {
		return fmt.Sprintf("%s %q%v", n.Op, n.Name, n.Shape)
	}
	return fmt.Sprintf("%s#%d%v", n.Op, n.ID, n.Shape)
}

// IsLeaf reports whether no kernel computes the node.
func (n *Node) IsLeaf() bool { return n.Op == OpInput || n.Op == OpParam || n.Op == OpConst }

// Graph owns nodes in creation order, which is a topological order.
type Graph struct {
	Nodes  []*Node
	byName map[string]*Node
	blocks []string // names, one for every call of Block
	block  int      // that nodes are being added to
}

// New returns an empty graph.
func New() *Graph { return &Graph{byName: map[string]*Node{}} }

// BuildError is the panic value of a builder that was given impossible shapes.
type BuildError struct{ Message string }

func (e *BuildError) Error() string { return e.Message }

func fail(format string, args ...any) {
	panic(&BuildError{fmt.Sprintf(format, args...)})
}

// Build runs a builder and returns its BuildError, if any, as an error.
func Build(build func(g *Graph)) (g *Graph, err error) {
	defer func() {
		if r := recover(); r != nil {
			failure, ok := r.(*BuildError)
			if !ok {
				panic(r)
			}
			g, err = nil, failure
		}
	}()
	g = New()
	build(g)
	return g, nil
}

func (g *Graph) add(op string, shape Shape, attrs any, inputs ...*Node) *Node {
	for _, in := range inputs {
		if in == nil {
			fail("%s: an input is nil", op)
		}
		if in.graph != g {
			fail("%s: input %v belongs to another graph", op, in)
		}
	}
	for _, d := range shape {
		if d < 1 {
			fail("%s: result would have shape %v; every extent must be at least 1", op, shape)
		}
	}
	n := &Node{ID: len(g.Nodes), Op: op, Inputs: inputs, Shape: shape, Attrs: attrs, graph: g, block: g.block}
	g.Nodes = append(g.Nodes, n)
	return n
}

// Block begins a block: the nodes that follow belong to it until the next call.
// An empty name ends the last one. A plan under a memory budget may forget what
// the forward pass computed inside a block and compute it again in the backward
// pass (CompileOptions.TapeBudget), so a block should be something with small
// inputs and outputs beside what it holds: a residual block, a layer of a
// transformer. Naming the open block again goes on with it; any other call
// begins a new block, under a name that was used before, too.
func (g *Graph) Block(name string) {
	switch {
	case name == "":
		g.block = 0
		return
	case g.block > 0 && g.blocks[g.block-1] == name:
		return
	}
	g.blocks = append(g.blocks, name)
	g.block = len(g.blocks)
}

func (g *Graph) leaf(op, name string, shape Shape) *Node {
	if name == "" {
		fail("%s: a name is required", op)
	}
	if g.byName[name] != nil {
		fail("%s: the name %q is taken", op, name)
	}
	n := g.add(op, shape, nil)
	n.Name = name
	g.byName[name] = n
	return n
}

// Input declares a tensor that is fed before each run.
func (g *Graph) Input(name string, shape ...int) *Node { return g.leaf(OpInput, name, shape) }

// Param declares a tensor that stays on the device between runs.
func (g *Graph) Param(name string, shape ...int) *Node { return g.leaf(OpParam, name, shape) }

// Const declares a tensor with fixed contents, uploaded with the parameters.
func (g *Graph) Const(name string, data []float32, shape ...int) *Node {
	if Shape(shape).Size() != len(data) {
		fail("const %q: shape %v wants %d numbers, got %d", name, Shape(shape), Shape(shape).Size(), len(data))
	}
	n := g.leaf(OpConst, name, shape)
	n.Data = data
	return n
}

// Lookup finds an input, parameter or constant by name; nil when absent.
func (g *Graph) Lookup(name string) *Node { return g.byName[name] }

// Params lists the parameters in creation order.
func (g *Graph) Params() []*Node {
	var ps []*Node
	for _, n := range g.Nodes {
		if n.Op == OpParam {
			ps = append(ps, n)
		}
	}
	return ps
}
