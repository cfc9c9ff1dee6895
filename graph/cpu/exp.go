package cpu

import (
	"math"
	"unsafe"

	"github.com/sdo-go/sdo/graph/cpu/wide"
)

// In float64 exponentials are math.Exp. In float32 they are near, which is as
// exact as the format and about four times faster; it is the bulk of the time
// of group normalisation and attention, so rows of numbers go through it in
// loops of their own, where the compiler inlines it, or go to the vector
// instructions of the processor (package wide), within 2e-7.

const (
	expSteps = 32
	toStep   = expSteps / math.Ln2
	fromStep = math.Ln2 / expSteps
	toWhole  = 3 << 51 // adding it to a small float64 leaves a whole number in the low bits

	expHighest = 88.722  // e^x beyond is no float32
	expLowest  = -87.336 // e^x beyond is a denormal float32
)

var expTable = func() (table [expSteps]uint64) {
	for i := range table {
		table[i] = math.Float64bits(math.Exp2(float64(i) / expSteps))
	}
	return
}()

// near is e^x for |x| < 700 with relative error below 1e-9: x is split into a
// multiple of ln2/32, which a table knows, and a remainder below ln2/64, for
// which a cubic will do.
func near(x float64) float64 {
	shifted := x*toStep + toWhole
	k := math.Float64bits(shifted)
	r := x - (shifted-toWhole)*fromStep
	return math.Float64frombits(expTable[k%expSteps]+k/expSteps<<52) * (1 + r*(1+r*(0.5+r*(1.0/6))))
}

// exp is e^x. In float32, results that would be denormal are zero.
func exp[T Float](x T) T {
	if elementSize[T]() == 8 {
		return T(math.Exp(float64(x)))
	}
	switch {
	case x > expHighest:
		return T(math.Inf(1))
	case x < expLowest:
		return 0
	}
	return T(near(float64(x)))
}

// exps sets y to exp(x - shift) and returns the sum, for x at most about shift.
func exps[T Float](y, x []T, shift T) (total float64) {
	y = y[:len(x)]
	if elementSize[T]() == 8 {
		for i, v := range x {
			y[i] = T(math.Exp(float64(v - shift)))
			total += float64(y[i])
		}
		return total
	}
	done, total := wide.Exps(singles(y), singles(x), 1, -float32(shift))
	y = y[done:]
	for i, v := range x[done:] {
		v -= shift
		if v < expLowest {
			y[i] = 0
			continue
		}
		e := near(float64(v))
		y[i] = T(e)
		total += e
	}
	return total
}

// singles are numbers of 32 bits under their own name.
func singles[T Float](x []T) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(x))), len(x))
}

// sigmoids sets y to the sigmoid of scale*x + shift.
func sigmoids[T Float](y, x []T, scale, shift T) {
	y = y[:len(x)]
	if elementSize[T]() == 8 {
		for i, v := range x {
			y[i] = T(1 / (1 + math.Exp(float64(-(v*scale + shift)))))
		}
		return
	}
	done, _ := wide.Exps(singles(y), singles(x), -float32(scale), -float32(shift))
	for i, v := range y[:done] {
		y[i] = 1 / (1 + v)
	}
	y = y[done:]
	for i, v := range x[done:] {
		v = v*scale + shift
		if v < expLowest { // the sigmoid is 0 to working accuracy, and 1 at the other end
			v = expLowest
		} else if v > -expLowest {
			v = -expLowest
		}
		y[i] = T(1 / (1 + near(float64(-v))))
	}
}

// sigmoid is 1/(1 + e^-x).
func sigmoid[T Float](x T) T { return 1 / (1 + exp(-x)) }

// softplus is ln(1 + e^x), without overflow.
func softplus[T Float](x T) T {
	return max(x, 0) + T(math.Log1p(float64(exp(-max(x, -x)))))
}

// bells sets y to exp(-x^2/2).
func bells[T Float](y, x []T) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] = v * v * -0.5
	}
	exps(y, y, 0)
}

// normalCDF is Phi(x) = erfc(-x/sqrt(2))/2, the distribution function of the
// normal distribution, given exp(-x^2/2). In float32 it is by formula 7.1.26 of
// Abramowitz and Stegun, "Handbook of mathematical functions", within 2.5e-7.
func normalCDF[T Float](x, bell T) T {
	if elementSize[T]() == 8 {
		return T(math.Erfc(-float64(x)/math.Sqrt2) / 2)
	}
	t := 1 / (1 + 0.3275911/math.Sqrt2*max(x, -x))
	tail := bell * t * (0.127414796 + t*(-0.142248368+t*(0.7107068705+t*(-0.7265760135+t*0.5307027145))))
	if x > 0 {
		return 1 - tail
	}
	return tail
}
