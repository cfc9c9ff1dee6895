package graph

import "math"

// Philox is the counter-based generator Philox4x32-10 (Salmon et al., "Parallel
// random numbers: as easy as 1, 2, 3", SC 2011). Every device computes the same
// bits from the same counter, in any order.
func Philox(counter [4]uint32, key [2]uint32) [4]uint32 {
	const m0, m1 = 0xD2511F53, 0xCD9E8D57
	const w0, w1 = 0x9E3779B9, 0xBB67AE85
	for range 10 {
		p0, p1 := uint64(m0)*uint64(counter[0]), uint64(m1)*uint64(counter[2])
		counter = [4]uint32{
			uint32(p1>>32) ^ counter[1] ^ key[0], uint32(p1),
			uint32(p0>>32) ^ counter[3] ^ key[1], uint32(p0),
		}
		key[0] += w0
		key[1] += w1
	}
	return counter
}

// Normal is element i of a stream of independent standard normal numbers. Four
// elements share one Philox block; each pair of words makes two by Box-Muller
// from uniforms (r>>9 + 1/2) * 2^-23, which float32 holds exactly. A GPU gets
// the same bits and differs only by the rounding of ln, sin and cos.
func Normal(seed uint64, stream, i uint32) float64 {
	r := Philox([4]uint32{i / 4, 0, stream, 0}, [2]uint32{uint32(seed), uint32(seed >> 32)})
	a, b := r[0], r[1]
	if i%4 >= 2 {
		a, b = r[2], r[3]
	}
	radius := math.Sqrt(-2 * math.Log(uniform(a)))
	sin, cos := math.Sincos(2 * math.Pi * uniform(b))
	if i%2 == 0 {
		return radius * cos
	}
	return radius * sin
}

func uniform(r uint32) float64 { return (float64(r>>9) + 0.5) / (1 << 23) }
