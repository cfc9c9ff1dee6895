package cpu

import (
	"sync"

	"gonum.org/v1/gonum/blas"
)

// tiled is the matrix product for processors that gonum has no assembly for,
// WebAssembly and ARM among them. A tile of 4 x 2 results stays in registers
// (WebAssembly code by the Go compiler has sixteen for float32) while it runs
// down panels of A and B that were packed to be read in order, the scheme of
// Goto and van de Geijn, "Anatomy of high-performance matrix multiplication"
// (2008). It is about four times as fast there as gonum's plain loops.
func tiled[T Float]() gemm[T] {
	memory := sync.Pool{New: func() any { return new(panels[T]) }}
	return func(transA, transB blas.Transpose, m, n, k int, alpha T, a []T, lda int, b []T, ldb int, beta T, c []T, ldc int) {
		for i := range m {
			scaleRow(c[i*ldc:][:n], beta)
		}
		p := memory.Get().(*panels[T])
		for l := 0; l < k; l += panelInner {
			inner := min(panelInner, k-l)
			for j := 0; j < n; j += panelColumns {
				columns := min(panelColumns, n-j)
				pack(p.b[:], tileColumns, columns, inner, 1, b[start(transB, l, j, ldb):], ldb, transB == blas.Trans)
				for i := 0; i < m; i += panelRows {
					rows := min(panelRows, m-i)
					pack(p.a[:], tileRows, rows, inner, alpha, a[start(transA, i, l, lda):], lda, transA == blas.NoTrans)
					p.multiply(rows, columns, inner, c[i*ldc+j:], ldc)
				}
			}
		}
		memory.Put(p)
	}
}

const (
	tileRows, tileColumns = 4, 2

	panelRows    = 64
	panelColumns = 128
	panelInner   = 256
)

// panels are packed blocks of A and B: tile after tile, each with its rows (or
// columns) side by side for one inner index after another, padded with zeros.
type panels[T Float] struct {
	a [panelRows * panelInner]T
	b [panelColumns * panelInner]T
}

func scaleRow[T Float](x []T, by T) {
	switch by {
	case 0:
		clear(x)
	case 1:
	default:
		for i := range x {
			x[i] *= by
		}
	}
}

// pack copies count vectors of length inner, times alpha, in tiles of width.
// Vectors lie along rows of x if alongRows, along columns otherwise.
func pack[T Float](dst []T, width, count, inner int, alpha T, x []T, ldx int, alongRows bool) {
	for i := 0; i < count; i += width {
		for l := range inner {
			for w := range width {
				switch {
				case i+w >= count:
					dst[w] = 0
				case alongRows:
					dst[w] = alpha * x[(i+w)*ldx+l]
				default:
					dst[w] = alpha * x[l*ldx+i+w]
				}
			}
			dst = dst[width:]
		}
	}
}

// multiply adds the product of the packed blocks to c.
func (p *panels[T]) multiply(rows, columns, inner int, c []T, ldc int) {
	for j := 0; j < columns; j += tileColumns {
		for i := 0; i < rows; i += tileRows {
			r := tile4x2(p.a[i*inner:][:tileRows*inner], p.b[j*inner:][:tileColumns*inner])
			for y := range min(tileRows, rows-i) {
				out := c[(i+y)*ldc+j:]
				out[0] += r[2*y]
				if j+1 < columns {
					out[1] += r[2*y+1]
				}
			}
		}
	}
}

func tile4x2[T Float](a, b []T) [tileRows * tileColumns]T {
	var c00, c01, c10, c11, c20, c21, c30, c31 T
	for len(a) >= 4 && len(b) >= 2 {
		b0, b1 := b[0], b[1]
		c00 += a[0] * b0
		c01 += a[0] * b1
		c10 += a[1] * b0
		c11 += a[1] * b1
		c20 += a[2] * b0
		c21 += a[2] * b1
		c30 += a[3] * b0
		c31 += a[3] * b1
		a, b = a[4:], b[2:]
	}
	return [...]T{c00, c01, c10, c11, c20, c21, c30, c31}
}
