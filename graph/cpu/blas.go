package cpu

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/blas64"
)

// gemm is C = alpha*op(A)*op(B) + beta*C for row-major matrices, where op(A) is
// m x k and op(B) is k x n.
type gemm[T Float] func(transA, transB blas.Transpose, m, n, k int, alpha T, a []T, lda int, b []T, ldb int, beta T, c []T, ldc int)

func newGemm[T Float]() gemm[T] {
	var f any
	switch any(T(0)).(type) {
	case float32:
		f = gemm[float32](blas32.Implementation().Sgemm)
	case float64:
		f = gemm[float64](blas64.Implementation().Dgemm)
	}
	switch library {
	case "gonum":
		return inBlocks(f.(gemm[T]))
	case "tiled Go":
		return tiled[T]()
	}
	return f.(gemm[T])
}

// inBlocks hands a product to gonum in pieces. Gonum starts goroutines of its
// own from four blocks of 64 x 64 results on, but the kernels here are split
// over workers already; and pieces that fit the cache are faster.
func inBlocks[T Float](whole gemm[T]) gemm[T] {
	const rows, columns, inner = 64, 192, 128
	return func(transA, transB blas.Transpose, m, n, k int, alpha T, a []T, lda int, b []T, ldb int, beta T, c []T, ldc int) {
		for l := 0; l < k; l += inner {
			for j := 0; j < n; j += columns {
				right := b[start(transB, l, j, ldb):]
				for i := 0; i < m; i += rows {
					left := a[start(transA, i, l, lda):]
					whole(transA, transB, min(rows, m-i), min(columns, n-j), min(inner, k-l),
						alpha, left, lda, right, ldb, beta, c[i*ldc+j:], ldc)
				}
			}
			beta = 1
		}
	}
}

// start is where element (i, j) of op(A) lies.
func start(t blas.Transpose, i, j, lda int) int {
	if t == blas.Trans {
		i, j = j, i
	}
	return i*lda + j
}

func trans(t bool) blas.Transpose {
	if t {
		return blas.Trans
	}
	return blas.NoTrans
}
