package cpu

import "math"

// roundHalf rounds x to the nearest float16, ties to even, and returns it as a
// float32. Parameters stored as F16 go through it, so that this executor
// computes with exactly the weights a GPU unpacks.
func roundHalf(x float32) float32 {
	bits := math.Float32bits(x)
	switch magnitude := math.Float32frombits(bits &^ (1 << 31)); {
	case magnitude != magnitude:
		return x
	case magnitude >= 65520: // halfway from the largest float16 to the next power of two
		return float32(math.Copysign(math.Inf(1), float64(x)))
	case magnitude < 1.0/(1<<14): // float16 denormals are multiples of 2^-24
		return float32(math.RoundToEven(float64(x)*(1<<24)) / (1 << 24))
	}
	const dropped = 13 // 23 - 10 bits of the fraction
	bits += 1<<(dropped-1) - 1 + bits>>dropped&1
	return math.Float32frombits(bits &^ (1<<dropped - 1))
}
