package webgpu

import (
	"fmt"

	"github.com/sdo-go/sdo/graph"
)

// kernels maps an op to the function that lays out its launches. Each lives in
// the file of its family, forward and backward together, as do its shaders.
var kernels = map[string]kernel{
	"conv2d":             conv2d,
	"conv2d_grad_input":  conv2dGradInput,
	"conv2d_grad_weight": conv2dGradWeight,
	"matmul":             matmul,

	"group_norm_stats":       groupNormStats,
	"group_norm":             groupNorm,
	"group_norm_grad_input":  groupNormGradInput,
	"group_norm_grad_params": groupNormGradParams,

	"attention":        attention,
	"attention_lse":    attentionLSE,
	"attention_delta":  attentionDelta,
	"attention_grad_q": attentionGradQ,
	"attention_grad_k": attentionGradK,
	"attention_grad_v": attentionGradV,

	"silu":            activation("activation", silu),
	"relu":            activation("activation", relu),
	"softplus":        activation("activation", softplus),
	"sigmoid":         activation("activation", sigmoid),
	"smooth_abs":      activation("activation", smoothAbs),
	"silu_grad":       activation("activation_bwd", silu),
	"relu_grad":       activation("activation_bwd", relu),
	"softplus_grad":   activation("activation_bwd", softplus),
	"sigmoid_grad":    activation("activation_bwd", sigmoid),
	"smooth_abs_grad": activation("activation_bwd", smoothAbs),

	"gelu":            activation("activation", gelu),
	"gelu_tanh":       activation("activation", geluTanh),
	"quick_gelu":      activation("activation", quickGELU),
	"tanh":            activation("activation", tanh),
	"exp":             activation("activation", exp),
	"rsqrt":           activation("activation", rsqrt),
	"clamp":           activation("activation", clamp),
	"gelu_grad":       activation("activation_bwd", gelu),
	"gelu_tanh_grad":  activation("activation_bwd", geluTanh),
	"quick_gelu_grad": activation("activation_bwd", quickGELU),
	"tanh_grad":       activation("activation_bwd", tanh),
	"exp_grad":        activation("activation_bwd", exp),
	"rsqrt_grad":      activation("activation_bwd", rsqrt),
	"clamp_grad":      activation("activation_bwd", clamp),

	"geglu":      geglu("geglu", func(n *graph.Node) graph.Shape { return n.Shape }),
	"geglu_grad": geglu("geglu_bwd", func(n *graph.Node) graph.Shape { return n.Inputs[0].Shape }),

	"affine": affine,
	"add":    arithmetic(0),
	"sub":    arithmetic(1),
	"mul":    arithmetic(2),

	"add_broadcast": broadcast(0),
	"mul_broadcast": broadcast(1),
	"broadcast":     repeat,
	"scale_shift":   scaleShift,
	"reduce_sum":    reduceSum,

	"upsample_nearest2x":    upsample,
	"sum_pool2x":            sumPool,
	"upsample_nearest":      upsampleNearest,
	"upsample_nearest_grad": upsampleNearestGrad,
	"concat":                concat,
	"slice":                 slice,
	"slice_grad":            sliceGrad,
	"transpose":             transpose,
	"flip":                  flip,

	"time_embedding":    timeEmbedding,
	"fourier_embedding": fourierEmbedding,
	"embedding":         embedding,
	"embedding_grad":    embeddingGrad,

	"softmax_cross_entropy":      crossEntropy,
	"softmax_cross_entropy_grad": crossEntropyGrad,
	"bce_with_logits":            elementwise("bce"),
	"bce_with_logits_grad":       elementwise("bce_bwd"),
}

// temps returns the bytes of each scratch space that a node's launches share.
func temps(n *graph.Node, p *preset) []int64 {
	switch n.Op {
	case "conv2d", "conv2d_grad_input":
		g := newConvolution(n)
		return append([]int64{g.panel().bytes()}, g.gathered().temps(p)...)
	case "conv2d_grad_weight":
		if _, splits := newConvolution(n).splitRows(p); splits > 1 {
			return []int64{4 * int64(splits*n.Shape.Size())}
		}
	case "matmul":
		return newProduct(n).temps(p)
	case "attention":
		if bytes := attentionStateBytes(n, p); bytes > 0 {
			return []int64{bytes}
		}
	case "group_norm_stats", "group_norm_grad_input", "group_norm_grad_params":
		return normalisationTemps(n, p)
	case "reduce_sum":
		if r := newReduction(n, p); r.splits() > 1 {
			return []int64{4 * int64(r.splits()*r.p)}
		}
	}
	return nil
}

// consts are specialisation values: name, value, name, value, … with ints as
// u32, bools, and strings as they stand.
func consts(pairs ...any) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		switch v := pairs[i+1].(type) {
		case int:
			m[pairs[i].(string)] = fmt.Sprintf("%du", v)
		default:
			m[pairs[i].(string)] = fmt.Sprint(v)
		}
	}
	return m
}

// words are the u32 words of a uniform block.
func words(values ...int) []uint32 {
	block := make([]uint32, len(values))
	for i, v := range values {
		block[i] = uint32(v)
	}
	return block
}

// elementWidth is how many numbers a kernel that uses element.wgsl handles at
// once: 4 if all the given runs divide by it, else 1.
func elementWidth(runs ...int) int {
	for _, run := range runs {
		if run%4 != 0 {
			return 1
		}
	}
	return 4
}

// elements are the specialisation values of element.wgsl and others.
func elements(width int, pairs ...any) map[string]string {
	m := consts(pairs...)
	if width == 4 {
		m["T"], m["WIDTH"] = "vec4<f32>", "4.0"
	}
	return m
}

// teamRows splits a team into rows of columns, a power of two each, so that a
// run of inner numbers occupies the columns and the rows take several runs.
func teamRows(team, inner int) int {
	columns := 1
	for columns < inner && columns < team {
		columns *= 2
	}
	return team / columns
}

// ceil is a/b rounded up.
func ceil(a, b int) int { return (a + b - 1) / b }

// one wraps the usual case of a single launch.
func one(l launch) ([]launch, error) { return []launch{l}, nil }

// storage is the form a kernel finds an operand in: that of the parameter, if
// it is one.
func storage(n *graph.Node) graph.Storage { return root(n).Storage }

// root is the node that a view looks at.
func root(n *graph.Node) *graph.Node {
	for n.Op == graph.OpReshape {
		n = n.Inputs[0]
	}
	return n
}

// wantSingles refuses operands in half precision where a kernel cannot decode
// them; all but one operand of a few ops.
func wantSingles(n *graph.Node, inputs ...*graph.Node) error {
	for _, in := range inputs {
		if storage(in) == graph.F16 {
			return fmt.Errorf("%s: %v is stored in half precision, which only weights and tables may be", n.Op, in)
		}
	}
	return nil
}
