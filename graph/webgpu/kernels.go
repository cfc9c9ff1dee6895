package webgpu

import "github.com/sdo-go/sdo/graph"

// kernels maps an op to the function that lays out its launches.
var kernels = map[string]kernel{}

// temps returns the bytes of each scratch space that a node's launches share.
func temps(n *graph.Node) []int64 { return nil }
