// Package wide holds what graph/cpu leaves to the vector instructions of a
// processor. It is a package of its own because one that uses C, as graph/cpu
// does with OpenBLAS, may have no assembly.
package wide

// Exps sets y to e^(scale*x + shift) for as many leading numbers as the
// processor does at a time, and returns how many those were and their sum: a
// multiple of 8, or none. Exponents end at 87.336; where they are below -87.336
// the result is 0. The relative error is at most 2e-7. y may be x.
func Exps(y, x []float32, scale, shift float32) (done int, total float64) {
	return exps(y, x, scale, shift)
}
