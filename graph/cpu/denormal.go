package cpu

import (
	"math"
	"unsafe"
)

// flush returns zero for gradients too small to matter. A saturated loss sends
// gradients of 1e-38 down the chain; float32 numbers below 1.2e-38 are denormal
// and make every multiplication that touches them about ten times slower
// (METHOD.md 2.9 e). Flushing well above that limit, where gradients enter and
// at each normalisation and activation, keeps the products between them normal
// too. This is the only rule of its kind: kernels that pass gradients on call
// flush, nothing else does.
func flush[T Float](x T) T {
	tiny := T(1e-30)
	if unsafe.Sizeof(x) == 8 {
		tiny = 1e-290 // float64's denormals begin at 2e-308
	}
	if math.Abs(float64(x)) < float64(tiny) {
		return 0
	}
	return x
}
