package cpu

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/blas"

	"github.com/sdo-go/sdo/graph"
)

// Attention per image and head, a block of rows at a time: a worker holds
// attentionBlock rows of the score matrix, never all Lq x Lk. For the backward
// pass nothing is saved but one log-sum-exp per query; scores are recomputed
// (arXiv 2205.14135, section 3.1). With s = scale*q k^T, p = exp(s - lse):
//
//	out = p v      delta = sum_c out*dout
//	dv = p^T dout  dp = dout v^T  ds = scale*p*(dp - delta)
//	dq = ds k      dk = ds^T q
//
// Cost: 4*N*Lq*Lk*C forward, 6, 6 and 4 for the gradients of q, k and v.
const attentionBlock = 32

// heads is the geometry of one attention: row r of head h of image n starts at
// (n*L + r)*channels + h*width, in tensors of lq or lk rows.
type heads[T Float] struct {
	n, lq, lk, channels, count, width int
	scale                             T
	causal                            bool
	gemm                              gemm[T]
}

func newHeads[T Float](e *Executor[T], q, k graph.Shape, attrs any) heads[T] {
	a := attrs.(*graph.AttentionAttrs)
	return heads[T]{q[0], q[1], k[1], q[2], a.Heads, q[2] / a.Heads, T(a.Scale), a.Causal, e.gemm}
}

// keys is how many keys the query r sees; it counts for a block of queries up
// to r as well.
func (h heads[T]) keys(r int) int {
	if h.causal {
		return r + 1
	}
	return h.lk
}

// perBlock is the kernel that visits blocks of rows of every image and head.
// buffers is the number of block x width matrices a worker needs.
func (h heads[T]) perBlock(rows, width, buffers, cost int, run func(c *call[T], image, head, r0, r1 int)) kernel[T] {
	blocks := (rows + attentionBlock - 1) / attentionBlock
	items := h.n * h.count * blocks
	return kernel[T]{
		local: buffers * attentionBlock * width,
		phases: []phase[T]{{items, cost * attentionBlock * width * h.width, func(c *call[T], lo, hi int) {
			for item := lo; item < hi; item++ {
				pair, r0 := item/blocks, item%blocks*attentionBlock
				run(c, pair/h.count, pair%h.count, r0, min(r0+attentionBlock, rows))
			}
		}}},
	}
}

// at is the part of a tensor of l rows an image that starts at row r of a head.
func (h heads[T]) at(x []T, l, image, head, r int) []T {
	return x[(image*l+r)*h.channels+head*h.width:]
}

// products sets s [rows columns] to alpha * a b^T over one head's channels.
func (h heads[T]) products(alpha T, a []T, rows int, b []T, columns int, s []T) {
	h.gemm(blas.NoTrans, blas.Trans, rows, columns, h.width, alpha, a, h.channels, b, h.channels, 0, s, columns)
}

// apply sets y to s [rows columns] times b over one head's channels.
func (h heads[T]) apply(s []T, rows, columns int, b, y []T) {
	h.gemm(blas.NoTrans, blas.NoTrans, rows, h.width, columns, 1, s, columns, b, h.channels, 0, y, h.channels)
}

func attention[T Float](e *Executor[T], n *graph.Node) kernel[T] {
	h := newHeads(e, n.Shape, n.Inputs[1].Shape, n.Attrs)
	return h.perBlock(h.lq, h.lk, 1, 4, func(c *call[T], image, head, r0, r1 int) {
		q, k, v := h.at(c.in[0], h.lq, image, head, r0), h.at(c.in[1], h.lk, image, head, 0), h.at(c.in[2], h.lk, image, head, 0)
		p, keys := c.local, h.keys(r1-1)
		h.products(h.scale, q, r1-r0, k, keys, p)
		for r := range r1 - r0 {
			row := p[r*keys:][:keys]
			seen := row[:h.keys(r0+r)]
			_, total := expRow(seen, seen)
			share := T(1 / total)
			for i := range seen {
				seen[i] *= share
			}
			clear(row[len(seen):])
		}
		h.apply(p, r1-r0, keys, v, h.at(c.out, h.lq, image, head, r0))
	})
}

// expRow sets y to exp(x - max), and returns the maximum and the sum.
func expRow[T Float](y, x []T) (top T, total float64) {
	top = slices.Max(x)
	return top, exps(y, x, top)
}

func attentionLSE[T Float](e *Executor[T], n *graph.Node) kernel[T] {
	h := newHeads(e, n.Inputs[0].Shape, n.Inputs[1].Shape, n.Attrs)
	return h.perBlock(h.lq, h.lk, 1, 2, func(c *call[T], image, head, r0, r1 int) {
		s, keys := c.local, h.keys(r1-1)
		h.products(h.scale, h.at(c.in[0], h.lq, image, head, r0), r1-r0, h.at(c.in[1], h.lk, image, head, 0), keys, s)
		for r := range r1 - r0 {
			row := s[r*keys:][:h.keys(r0+r)]
			top, total := expRow(row, row)
			c.out[(image*h.count+head)*h.lq+r0+r] = top + T(math.Log(total))
		}
	})
}

// attentionDelta is the inner product of out and dout of each query and head.
func attentionDelta[T Float](e *Executor[T], n *graph.Node) kernel[T] {
	x := n.Inputs[0].Shape
	h := newHeads(e, x, x, n.Attrs)
	return loop(h.n*h.count*h.lq, 2*h.width, func(c *call[T], lo, hi int) {
		for i := lo; i < hi; i++ {
			image, head, r := i/(h.count*h.lq), i/h.lq%h.count, i%h.lq
			a, b := h.at(c.in[0], h.lq, image, head, r), h.at(c.in[1], h.lq, image, head, r)
			c.out[i] = T(dot(a[:h.width], b[:h.width]))
		}
	})
}

func attentionGradQ[T Float](e *Executor[T], n *graph.Node) kernel[T] {
	h := newHeads(e, n.Shape, n.Inputs[1].Shape, n.Attrs)
	return h.perBlock(h.lq, h.lk, 2, 6, func(c *call[T], image, head, r0, r1 int) {
		q, k := h.at(c.in[0], h.lq, image, head, r0), h.at(c.in[1], h.lk, image, head, 0)
		v, dout := h.at(c.in[2], h.lk, image, head, 0), h.at(c.in[3], h.lq, image, head, r0)
		perQuery := (image*h.count + head) * h.lq
		lse, delta := c.in[4][perQuery:], c.in[5][perQuery:]
		keys := h.keys(r1 - 1)
		s, dp := c.local, c.local[attentionBlock*h.lk:]
		h.products(h.scale, q, r1-r0, k, keys, s)
		h.products(1, dout, r1-r0, v, keys, dp)
		for r := r0; r < r1; r++ {
			row, dp := s[(r-r0)*keys:][:keys], dp[(r-r0)*keys:][:keys]
			seen := row[:h.keys(r)]
			exps(seen, seen, lse[r])
			for i, p := range seen {
				seen[i] = h.scale * p * (dp[i] - delta[r])
			}
			clear(row[len(seen):])
		}
		h.apply(s, r1-r0, keys, k, h.at(c.out, h.lq, image, head, r0))
	})
}

// probabilities turns one key's scores into its weights, one query a column.
func (h heads[T]) probabilities(s, lse []T) {
	for i, v := range lse[:len(s)] {
		s[i] -= v
	}
	exps(s, s, 0)
}

// The gradients of keys and values go over blocks of keys: rows of s^T. Under a
// causal mask the queries before a block's first key have no part in it, and
// row r of the block begins with r more.

// first is the first query that sees a key, or a block of keys, from r on.
func (h heads[T]) first(r int) int {
	if h.causal {
		return r
	}
	return 0
}

func attentionGradK[T Float](e *Executor[T], n *graph.Node) kernel[T] {
	h := newHeads(e, n.Inputs[0].Shape, n.Shape, n.Attrs)
	return h.perBlock(h.lk, h.lq, 2, 6, func(c *call[T], image, head, r0, r1 int) {
		q0 := h.first(r0)
		q, k := h.at(c.in[0], h.lq, image, head, q0), h.at(c.in[1], h.lk, image, head, r0)
		v, dout := h.at(c.in[2], h.lk, image, head, r0), h.at(c.in[3], h.lq, image, head, q0)
		perQuery := (image*h.count+head)*h.lq + q0
		lse, delta := c.in[4][perQuery:], c.in[5][perQuery:]
		s, dp, queries := c.local, c.local[attentionBlock*h.lq:], h.lq-q0
		h.products(h.scale, k, r1-r0, q, queries, s)
		h.products(1, v, r1-r0, dout, queries, dp)
		for r := range r1 - r0 {
			row, dp := s[r*queries:][:queries], dp[r*queries:][:queries]
			blind := h.first(r)
			clear(row[:blind])
			h.probabilities(row[blind:], lse[blind:])
			for i := blind; i < queries; i++ {
				row[i] = h.scale * row[i] * (dp[i] - delta[i])
			}
		}
		h.apply(s, r1-r0, queries, q, h.at(c.out, h.lk, image, head, r0))
	})
}

func attentionGradV[T Float](e *Executor[T], n *graph.Node) kernel[T] {
	h := newHeads(e, n.Inputs[0].Shape, n.Shape, n.Attrs)
	return h.perBlock(h.lk, h.lq, 1, 4, func(c *call[T], image, head, r0, r1 int) {
		q0 := h.first(r0)
		q, k, dout := h.at(c.in[0], h.lq, image, head, q0), h.at(c.in[1], h.lk, image, head, r0), h.at(c.in[2], h.lq, image, head, q0)
		lse := c.in[3][(image*h.count+head)*h.lq+q0:]
		s, queries := c.local, h.lq-q0
		h.products(h.scale, k, r1-r0, q, queries, s)
		for r := range r1 - r0 {
			row, blind := s[r*queries:][:queries], h.first(r)
			clear(row[:blind])
			h.probabilities(row[blind:], lse[blind:])
		}
		h.apply(s, r1-r0, queries, dout, h.at(c.out, h.lk, image, head, r0))
	})
}
