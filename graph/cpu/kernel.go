package cpu

import "github.com/sdo-go/sdo/graph"

// Float is the element type of an executor.
type Float interface{ float32 | float64 }

// kernel computes a node: its phases run in order.
type kernel[T Float] struct {
	phases []phase[T]
	shared int  // elements of working memory that all workers see
	local  int  // elements of working memory private to each worker
	halves bool // reads its first operand from call.half where that is held packed
}

// phase is a loop over independent items that is split over the workers. run
// does the items [lo, hi).
type phase[T Float] struct {
	items int
	cost  int // rough floating point operations of one item
	run   func(c *call[T], lo, hi int)
}

// call holds the operands of one execution of a kernel.
type call[T Float] struct {
	out           []T
	in            [][]T
	half          []uint16 // first operand of a kernel that asked for it and where it is held packed
	shared, local []T      // working memory; contents are undefined at the start
}

// maker makes the kernel of a node once, when a plan is compiled.
type maker[T Float] func(e *Executor[T], n *graph.Node) kernel[T]

// kernels names every operation. The op table's completeness test compares it
// with graph.Ops.
func kernels[T Float]() map[string]maker[T] {
	return map[string]maker[T]{
		"conv2d":             conv2d[T],
		"conv2d_grad_input":  conv2dGradInput[T],
		"conv2d_grad_weight": conv2dGradWeight[T],
		"matmul":             matmul[T],

		"group_norm_stats":       groupNormStats[T],
		"group_norm":             groupNorm[T],
		"group_norm_grad_input":  groupNormGradInput[T],
		"group_norm_grad_params": groupNormGradParams[T],

		"attention":        attention[T],
		"attention_lse":    attentionLSE[T],
		"attention_delta":  attentionDelta[T],
		"attention_grad_q": attentionGradQ[T],
		"attention_grad_k": attentionGradK[T],
		"attention_grad_v": attentionGradV[T],

		"silu":            siluKernel[T],
		"silu_grad":       siluGrad[T],
		"relu":            relu[T],
		"relu_grad":       reluGrad[T],
		"softplus":        softplusKernel[T],
		"softplus_grad":   softplusGrad[T],
		"sigmoid":         sigmoidKernel[T],
		"sigmoid_grad":    sigmoidGrad[T],
		"smooth_abs":      smoothAbs[T],
		"smooth_abs_grad": smoothAbsGrad[T],

		"gelu":            geluKernel[T],
		"gelu_grad":       geluGrad[T],
		"gelu_tanh":       geluTanh[T],
		"gelu_tanh_grad":  geluTanhGrad[T],
		"quick_gelu":      quickGELU[T],
		"quick_gelu_grad": quickGELUGrad[T],
		"geglu":           geglu[T],
		"geglu_grad":      gegluGrad[T],
		"tanh":            tanhKernel[T],
		"tanh_grad":       tanhGrad[T],
		"exp":             expKernel[T],
		"exp_grad":        expGrad[T],
		"rsqrt":           rsqrt[T],
		"rsqrt_grad":      rsqrtGrad[T],
		"clamp":           clamp[T],
		"clamp_grad":      clampGrad[T],

		"affine":        affine[T],
		"add":           add[T],
		"sub":           sub[T],
		"mul":           mul[T],
		"add_broadcast": addBroadcast[T],
		"mul_broadcast": mulBroadcast[T],
		"broadcast":     broadcast[T],
		"reduce_sum":    reduceSum[T],
		"scale_shift":   scaleShift[T],

		"upsample_nearest2x":    upsampleNearest2x[T],
		"sum_pool2x":            sumPool2x[T],
		"upsample_nearest":      upsampleNearest[T],
		"upsample_nearest_grad": upsampleNearestGrad[T],
		"concat":                concat[T],
		"slice":                 slice[T],
		"slice_grad":            sliceGrad[T],
		"transpose":             transpose[T],
		"flip":                  flip[T],

		"time_embedding":    timeEmbedding[T],
		"fourier_embedding": fourierEmbedding[T],
		"embedding":         embedding[T],
		"embedding_grad":    embeddingGrad[T],

		"softmax_cross_entropy":      softmaxCrossEntropy[T],
		"softmax_cross_entropy_grad": softmaxCrossEntropyGrad[T],
		"bce_with_logits":            bceWithLogits[T],
		"bce_with_logits_grad":       bceWithLogitsGrad[T],
	}
}

// loop is the kernel of a single phase without working memory.
func loop[T Float](items, cost int, run func(c *call[T], lo, hi int)) kernel[T] {
	return kernel[T]{phases: []phase[T]{{items, cost, run}}}
}
