package cpu

// flush returns zero for gradients too small to matter. A saturated loss sends
// gradients of 1e-38 down the chain; float32 numbers below 1.2e-38 are denormal
// and make every multiplication that touches them about ten times slower
// (docs/method.md, Around it). Flushing well above that limit, at 1e-30, where gradients
// enter and at each normalisation and activation keeps the products between
// them normal too. This is the only rule of its kind: kernels that pass
// gradients on call flush, nothing else does. In float64, the reference, it
// does nothing.
func flush[T Float](x T) T {
	if wide := float64(x); elementSize[T]() == 4 && wide*wide < 1e-60 {
		return 0
	}
	return x
}
