package cpu

import (
	"math"

	"gonum.org/v1/gonum/blas"

	"github.com/sdo-go/sdo/graph"
)

// Attention per image and head, in tiles of the score matrix: a worker holds
// ownRows x otherRows scores, never all Lq x Lk. The rows of a tile are its own,
// queries or keys, and it goes over those of the other side. For the backward
// pass nothing is saved but one log-sum-exp per query; scores are recomputed
// (arXiv 2205.14135, section 3.1). With s = scale*q k^T, p = exp(s - lse):
//
//	out = p v      delta = sum_c out*dout
//	dv = p^T dout  dp = dout v^T  ds = scale*p*(dp - delta)
//	dq = ds k      dk = ds^T q
//
// Cost: 4*N*Lq*Lk*C forward, 6, 6 and 4 for the gradients of q, k and v.
const ownRows, otherRows = 128, 256

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

// keys is how many keys the query r sees; it counts for all queries up to r as
// well.
func (h heads[T]) keys(r int) int {
	if h.causal {
		return r + 1
	}
	return h.lk
}

// first is the first query that sees key r, or a later one.
func (h heads[T]) first(r int) int {
	if h.causal {
		return r
	}
	return 0
}

// patch is a few rows of one image and head, and a worker's memory: tiles of
// scores, then two numbers a row.
type patch[T Float] struct {
	*call[T]
	image, head, r0, r1 int
	tiles               [2][]T
	tops, sums          []T
}

func (b patch[T]) rows() int { return b.r1 - b.r0 }

// perBlock is the kernel that visits blocks of the own rows of every image and
// head. products is the number of products of a score's length it takes.
func (h heads[T]) perBlock(own, other, tiles, products int, run func(b patch[T])) kernel[T] {
	rows, columns := min(own, ownRows), min(other, otherRows)
	blocks := (own + rows - 1) / rows
	size := rows * columns
	return kernel[T]{
		local: tiles*size + 2*rows,
		phases: []phase[T]{{h.n * h.count * blocks, products * 2 * rows * other * h.width, func(c *call[T], lo, hi int) {
			b := patch[T]{call: c, tops: c.local[tiles*size:][:rows], sums: c.local[tiles*size+rows:][:rows]}
			for k := range tiles {
				b.tiles[k] = c.local[k*size:][:size]
			}
			for item := lo; item < hi; item++ {
				pair := item / blocks
				b.image, b.head, b.r0 = pair/h.count, pair%h.count, item%blocks*rows
				b.r1 = min(b.r0+rows, own)
				run(b)
			}
		}}},
	}
}

// at is the part of a tensor of l rows an image that starts at row r of the
// block's head.
func (h heads[T]) at(x []T, l int, b patch[T], r int) []T {
	return x[(b.image*l+r)*h.channels+b.head*h.width:]
}

// query is where the numbers of query r begin in tensors of one a query.
func (h heads[T]) query(b patch[T], r int) int { return (b.image*h.count+b.head)*h.lq + r }

// products sets s [rows columns] to alpha * a b^T over one head's channels.
func (h heads[T]) products(alpha T, a []T, rows int, b []T, columns int, s []T) {
	h.gemm(blas.NoTrans, blas.Trans, rows, columns, h.width, alpha, a, h.channels, b, h.channels, 0, s, columns)
}

// apply adds s [rows columns] times b over one head's channels to y, which
// counts as zero for the first tile.
func (h heads[T]) apply(first bool, s []T, rows, columns int, b, y []T) {
	beta := T(1)
	if first {
		beta = 0
	}
	h.gemm(blas.NoTrans, blas.NoTrans, rows, h.width, columns, 1, s, columns, b, h.channels, beta, y, h.channels)
}

// softmax goes over the keys of a block of queries with a running maximum: it
// leaves the maximum of each row's scores and the sum of their exponentials.
// tile, if there is one, is shown each tile of exponentials, keys [k0, k1), after
// fade was told of each row whose maximum has grown.
func (h heads[T]) softmax(b patch[T], q, k []T, fade func(r int, by T), tile func(k0, k1 int)) {
	scores, rows, keys := b.tiles[0], b.rows(), h.keys(b.r1-1)
	query := h.at(q, h.lq, b, b.r0)
	for k0 := 0; k0 < keys; k0 += otherRows {
		k1 := min(k0+otherRows, keys)
		columns := k1 - k0
		h.products(h.scale, query, rows, h.at(k, h.lk, b, k0), columns, scores)
		for r := range rows {
			row := scores[r*columns:][:columns]
			seen := row[:min(max(h.keys(b.r0+r)-k0, 0), columns)]
			clear(row[len(seen):])
			if len(seen) == 0 {
				continue
			}
			top := highest(seen)
			switch {
			case k0 == 0:
				b.tops[r], b.sums[r] = top, 0
			case top > b.tops[r]:
				by := exp(b.tops[r] - top)
				b.tops[r] = top
				b.sums[r] *= by
				if fade != nil {
					fade(r, by)
				}
			}
			b.sums[r] += T(exps(seen, seen, b.tops[r]))
		}
		if tile != nil {
			tile(k0, k1)
		}
	}
}

// highest is the maximum of x, four at a time. A number that is none is found
// by the sum of the exponentials.
func highest[T Float](x []T) T {
	a := x[0]
	b, c, d := a, a, a
	for len(x) >= 4 {
		if x[0] > a {
			a = x[0]
		}
		if x[1] > b {
			b = x[1]
		}
		if x[2] > c {
			c = x[2]
		}
		if x[3] > d {
			d = x[3]
		}
		x = x[4:]
	}
	for _, v := range x {
		if v > a {
			a = v
		}
	}
	return max(max(a, b), max(c, d))
}

// expRow sets y to exp(x - max), and returns the maximum and the sum.
func expRow[T Float](y, x []T) (top T, total float64) {
	top = highest(x)
	return top, exps(y, x, top)
}

func attention[T Float](e *Executor[T], n *graph.Node) kernel[T] {
	h := newHeads(e, n.Shape, n.Inputs[1].Shape, n.Attrs)
	return h.perBlock(h.lq, h.lk, 1, 2, func(b patch[T]) {
		y := h.at(b.out, h.lq, b, b.r0)
		scale := func(r int, by T) {
			row := y[r*h.channels:][:h.width]
			for i := range row {
				row[i] *= by
			}
		}
		h.softmax(b, b.in[0], b.in[1], scale, func(k0, k1 int) {
			h.apply(k0 == 0, b.tiles[0], b.rows(), k1-k0, h.at(b.in[2], h.lk, b, k0), y)
		})
		for r := range b.rows() {
			scale(r, 1/b.sums[r])
		}
	})
}

func attentionLSE[T Float](e *Executor[T], n *graph.Node) kernel[T] {
	h := newHeads(e, n.Inputs[0].Shape, n.Inputs[1].Shape, n.Attrs)
	return h.perBlock(h.lq, h.lk, 1, 1, func(b patch[T]) {
		h.softmax(b, b.in[0], b.in[1], nil, nil)
		lse := b.out[h.query(b, b.r0):]
		for r := range b.rows() {
			lse[r] = b.tops[r] + T(math.Log(float64(b.sums[r])))
		}
	})
}

// attentionDelta is the inner product of out and dout of each query and head.
func attentionDelta[T Float](e *Executor[T], n *graph.Node) kernel[T] {
	x := n.Inputs[0].Shape
	h := newHeads(e, x, x, n.Attrs)
	return loop(h.n*h.count*h.lq, 2*h.width, func(c *call[T], lo, hi int) {
		for i := lo; i < hi; i++ {
			at := (i/(h.count*h.lq)*h.lq+i%h.lq)*h.channels + i/h.lq%h.count*h.width
			c.out[i] = T(dot(c.in[0][at:][:h.width], c.in[1][at:][:h.width]))
		}
	})
}

func attentionGradQ[T Float](e *Executor[T], n *graph.Node) kernel[T] {
	h := newHeads(e, n.Shape, n.Inputs[1].Shape, n.Attrs)
	return h.perBlock(h.lq, h.lk, 2, 3, func(b patch[T]) {
		q, dout, dq := h.at(b.in[0], h.lq, b, b.r0), h.at(b.in[3], h.lq, b, b.r0), h.at(b.out, h.lq, b, b.r0)
		lse, delta := b.in[4][h.query(b, b.r0):], b.in[5][h.query(b, b.r0):]
		rows, keys := b.rows(), h.keys(b.r1-1)
		for k0 := 0; k0 < keys; k0 += otherRows {
			columns := min(otherRows, keys-k0)
			k, v := h.at(b.in[1], h.lk, b, k0), h.at(b.in[2], h.lk, b, k0)
			h.products(h.scale, q, rows, k, columns, b.tiles[0])
			h.products(1, dout, rows, v, columns, b.tiles[1])
			for r := range rows {
				row, dp := b.tiles[0][r*columns:][:columns], b.tiles[1][r*columns:][:columns]
				seen := row[:min(max(h.keys(b.r0+r)-k0, 0), columns)]
				clear(row[len(seen):])
				exps(seen, seen, lse[r])
				dp = dp[:len(seen)]
				for i, p := range seen {
					seen[i] = h.scale * p * (dp[i] - delta[r])
				}
			}
			h.apply(k0 == 0, b.tiles[0], rows, columns, k, dq)
		}
	})
}

// The gradients of keys and values go over blocks of keys, rows of s^T. Under a
// causal mask the queries before a block's first key have no part in it.

// weights sets a tile to the probabilities of a block of keys and the queries
// from q0 on.
func (h heads[T]) weights(b patch[T], k, q, lse []T, q0, columns int) {
	s := b.tiles[0]
	h.products(h.scale, k, b.rows(), q, columns, s)
	for r := range b.rows() {
		row := s[r*columns:][:columns]
		blind := min(max(h.first(b.r0+r)-q0, 0), columns)
		clear(row[:blind])
		row = row[blind:]
		level := lse[blind:][:len(row)]
		for i, v := range level {
			row[i] -= v
		}
		exps(row, row, 0)
	}
}

func attentionGradK[T Float](e *Executor[T], n *graph.Node) kernel[T] {
	h := newHeads(e, n.Inputs[0].Shape, n.Shape, n.Attrs)
	return h.perBlock(h.lk, h.lq, 2, 3, func(b patch[T]) {
		k, v, dk := h.at(b.in[1], h.lk, b, b.r0), h.at(b.in[2], h.lk, b, b.r0), h.at(b.out, h.lk, b, b.r0)
		rows, start := b.rows(), h.first(b.r0)
		for q0 := start; q0 < h.lq; q0 += otherRows {
			columns := min(otherRows, h.lq-q0)
			q := h.at(b.in[0], h.lq, b, q0)
			h.weights(b, k, q, b.in[4][h.query(b, q0):], q0, columns)
			h.products(1, v, rows, h.at(b.in[3], h.lq, b, q0), columns, b.tiles[1])
			delta := b.in[5][h.query(b, q0):][:columns]
			for r := range rows {
				row, dp := b.tiles[0][r*columns:][:columns], b.tiles[1][r*columns:][:columns]
				for i, d := range delta {
					row[i] = h.scale * row[i] * (dp[i] - d)
				}
			}
			h.apply(q0 == start, b.tiles[0], rows, columns, q, dk)
		}
	})
}

func attentionGradV[T Float](e *Executor[T], n *graph.Node) kernel[T] {
	h := newHeads(e, n.Inputs[0].Shape, n.Shape, n.Attrs)
	return h.perBlock(h.lk, h.lq, 1, 2, func(b patch[T]) {
		k, dv, start := h.at(b.in[1], h.lk, b, b.r0), h.at(b.out, h.lk, b, b.r0), h.first(b.r0)
		for q0 := start; q0 < h.lq; q0 += otherRows {
			columns := min(otherRows, h.lq-q0)
			h.weights(b, k, h.at(b.in[0], h.lq, b, q0), b.in[3][h.query(b, q0):], q0, columns)
			h.apply(q0 == start, b.tiles[0], b.rows(), columns, h.at(b.in[2], h.lq, b, q0), dv)
		}
	})
}
