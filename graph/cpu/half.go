package cpu

import (
	"encoding/binary"
	"math"
	"sync"
	"unsafe"
)

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

// beyondHalf reports a number that rounds to none of float16.
func beyondHalf(x float32) bool { return math.Abs(float64(x)) >= 65520 && !math.IsInf(float64(x), 0) }

// packHalf is the bits of the nearest float16.
func packHalf(x float32) uint16 {
	bits := math.Float32bits(x)
	sign, magnitude := uint16(bits>>16&0x8000), math.Float32frombits(bits&^(1<<31))
	switch {
	case magnitude != magnitude:
		return sign | 0x7e00
	case magnitude >= 65520:
		return sign | 0x7c00
	case magnitude < 1.0/(1<<14):
		return sign | uint16(math.RoundToEven(float64(magnitude)*(1<<24)))
	}
	return sign | uint16(math.Float32bits(roundHalf(magnitude))>>13-(127-15)<<10)
}

// unpackHalves is the inverse, exactly, for a run of numbers.
func unpackHalves[T Float](to []T, from []uint16) {
	to, meaning := to[:len(from)], meanings()
	for i, h := range from {
		to[i] = T(meaning[h])
	}
}

// meanings are the numbers of all halves. Looking one up takes half the time of
// computing it, for the weights of a network have few exponents: what is looked
// at of the table stays in a cache.
var meanings = sync.OnceValue(func() *[1 << 16]float32 {
	var table [1 << 16]float32
	for h := range table {
		table[h] = unpackHalf(uint16(h))
	}
	return &table
})

// unpackHalf moves exponent and fraction to where float32 has them and mends the
// exponent's bias by a product, which also makes denormals right.
func unpackHalf(h uint16) float32 {
	bits := uint32(h&0x7fff) << 13
	if h&0x7c00 == 0x7c00 { // infinite, or not a number
		bits |= 0x7f800000
	} else {
		bits = math.Float32bits(math.Float32frombits(bits) * (1 << 56) * (1 << 56))
	}
	return math.Float32frombits(bits | uint32(h&0x8000)<<16)
}

// halfBits sees little-endian halves as numbers of sixteen bits, without a copy
// where the processor has the same order.
func halfBits(halves []byte) []uint16 {
	if len(halves) == 0 {
		return nil
	}
	at := unsafe.Pointer(unsafe.SliceData(halves))
	if uintptr(at)%2 == 0 && binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return unsafe.Slice((*uint16)(at), len(halves)/2)
	}
	bits := make([]uint16, len(halves)/2)
	for i := range bits {
		bits[i] = binary.LittleEndian.Uint16(halves[2*i:])
	}
	return bits
}
