package cpu

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/blas64"
)

// library names the BLAS behind every matrix product: gonum's own, in Go and
// assembly, or OpenBLAS when built with the tag openblas.
var library = "gonum"

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
	return f.(gemm[T])
}

func trans(t bool) blas.Transpose {
	if t {
		return blas.Trans
	}
	return blas.NoTrans
}
