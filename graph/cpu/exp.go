package cpu

import (
	"math"
	"unsafe"
)

// exp is e^x. In float64 it is math.Exp; in float32 it reduces x to a multiple
// of ln2/32 and a remainder below ln2/64, takes the multiple from a table and a
// cubic for the rest, all in float64: relative error below 6.1e-8, half a unit
// in the last place of the result. Results below the smallest normal number
// are zero, so exp makes no denormals.
func exp[T Float](x T) T {
	if unsafe.Sizeof(x) == 8 {
		return T(math.Exp(float64(x)))
	}
	return T(exp32(float32(x)))
}

const (
	expSteps = 32
	toStep   = expSteps / math.Ln2
	fromStep = math.Ln2 / expSteps
	toWhole  = 3 << 51 // adding it to a small float64 rounds to a whole number
)

var expTable = func() (table [expSteps]uint64) {
	for i := range table {
		table[i] = math.Float64bits(math.Exp2(float64(i) / expSteps))
	}
	return
}()

func exp32(x float32) float32 {
	switch {
	case x != x:
		return x
	case x > 88.72283:
		return float32(math.Inf(1))
	case x < -87.33654:
		return 0
	}
	v := float64(x)
	shifted := v*toStep + toWhole
	k := int64(math.Float64bits(shifted)<<13) >> 13 // low bits are the whole number
	r := v - (shifted-toWhole)*fromStep
	scale := math.Float64frombits(expTable[k&(expSteps-1)] + uint64(k>>5)<<52)
	return float32(scale * (1 + r*(1+r*(0.5+r*(1.0/6)))))
}

// sigmoid is 1/(1 + e^-x).
func sigmoid[T Float](x T) T { return 1 / (1 + exp(-x)) }

// softplus is ln(1 + e^x), without overflow.
func softplus[T Float](x T) T {
	return max(x, 0) + T(math.Log1p(float64(exp(-max(x, -x)))))
}

// siluSlope is the derivative of x*sigmoid(x).
func siluSlope[T Float](x T) T {
	s := sigmoid(x)
	return s * (1 + x*(1-s))
}
