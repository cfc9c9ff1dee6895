package cpu

import "math"

// In float64 exponentials are math.Exp. In float32 they are near, which is as
// exact as the format and about four times faster; it is the bulk of the time
// of group normalisation and attention, so rows of numbers go through it in
// loops of their own, where the compiler inlines it.

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
	if elementSize[T]() == 8 {
		for i, v := range x {
			y[i] = T(math.Exp(float64(v - shift)))
			total += float64(y[i])
		}
		return total
	}
	for i, v := range x {
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

// sigmoids sets y to the sigmoid of scale*x + shift.
func sigmoids[T Float](y, x []T, scale, shift T) {
	y = y[:len(x)]
	if elementSize[T]() == 8 {
		for i, v := range x {
			y[i] = T(1 / (1 + math.Exp(float64(-(v*scale + shift)))))
		}
		return
	}
	for i, v := range x {
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

// normalCDF is Phi(x) = erfc(-x/sqrt(2))/2, the distribution function of the
// normal distribution. In float32 it is by the single precision polynomials of
// Moshier's Cephes library, within 1e-7 of itself.
func normalCDF[T Float](x T) T {
	if elementSize[T]() == 8 {
		return T(math.Erfc(-float64(x)/math.Sqrt2) / 2)
	}
	z := float64(x) * (1 / math.Sqrt2)
	s := z * z
	if s < 1 {
		p := 7.853861353153693e-5
		p = p*s - 8.010193625184903e-4
		p = p*s + 5.188327685732524e-3
		p = p*s - 2.685381193529856e-2
		p = p*s + 1.128358514861418e-1
		p = p*s - 3.761262582423300e-1
		p = p*s + 1.128379165726710
		return T(0.5 + 0.5*z*p)
	}
	a := math.Abs(z)
	if a > 13 {
		a, s = 13, 169 // e^-169 is nothing to a float32
	}
	q := 1 / a
	t := q * q
	var p float64
	if a < 2 {
		p = 2.326819970068386e-2
		p = p*t - 1.387039388740657e-1
		p = p*t + 3.687424674597105e-1
		p = p*t - 5.824733027278666e-1
		p = p*t + 6.210004621745983e-1
		p = p*t - 4.944515323274145e-1
		p = p*t + 3.404879937665872e-1
		p = p*t - 2.741127028184656e-1
		p = p*t + 5.638259427386472e-1
	} else {
		p = -1.047766399936249e+1
		p = p*t + 1.297719955372516e+1
		p = p*t - 7.495518717768503
		p = p*t + 2.921019019210786
		p = p*t - 1.015265279202700
		p = p*t + 4.218463358204948e-1
		p = p*t - 2.820767439740514e-1
		p = p*t + 5.641895067754075e-1
	}
	tail := 0.5 * near(-s) * q * p
	if z > 0 {
		return T(1 - tail)
	}
	return T(tail)
}
