package cpu

import (
	"fmt"
	"testing"

	"gonum.org/v1/gonum/blas/blas64"
)

func TestTiledProductIsBLAS(t *testing.T) {
	for _, size := range [][3]int{{1, 1, 1}, {3, 5, 7}, {65, 300, 131}, {4, 2, 600}, {130, 9, 3}} {
		for _, transA := range []bool{false, true} {
			for _, transB := range []bool{false, true} {
				m, k, n := size[0], size[1], size[2]
				lda, ldb, ldc := k+3, n+1, n+2
				if transA {
					lda = m + 2
				}
				if transB {
					ldb = k + 1
				}
				a, b := normals(1, lda*max(m, k)), normals(2, ldb*max(n, k))
				for _, beta := range []float64{0, 1, 0.5} {
					got, want := normals(3, m*ldc), normals(3, m*ldc)
					tiled[float64]()(trans(transA), trans(transB), m, n, k, -1.5, a, lda, b, ldb, beta, got, ldc)
					blas64.Implementation().Dgemm(trans(transA), trans(transB), m, n, k, -1.5, a, lda, b, ldb, beta, want, ldc)
					wantClose(t, fmt.Sprint(size, transA, transB, beta), got, want, 1e-28)
				}
			}
		}
	}
}

func BenchmarkProducts(b *testing.B) {
	const size = 256
	x, y := make([]float32, size*size), make([]float32, size*size)
	for i, v := range normals(1, size*size) {
		x[i] = float32(v)
	}
	for name, f := range map[string]gemm[float32]{"tiled": tiled[float32](), "library": newGemm[float32]()} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f(trans(false), trans(false), size, size, size, 1, x, size, x, size, 0, y, size)
			}
			b.ReportMetric(2*size*size*size*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}
