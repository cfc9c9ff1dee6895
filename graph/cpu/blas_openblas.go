//go:build openblas && cgo

package cpu

/*
#cgo LDFLAGS: -lopenblas
void openblas_set_num_threads(int threads);
*/
import "C"

import (
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/netlib/blas/netlib"
)

// OpenBLAS keeps to the calling thread: kernels are already split over workers.
func init() {
	C.openblas_set_num_threads(1)
	blas32.Use(netlib.Implementation{})
	blas64.Use(netlib.Implementation{})
	library = "OpenBLAS"
}
