//go:build !amd64

package cpu

// library names what computes matrix products: gonum has no assembly for this
// processor, so the product of tiled.go does, unless built with the tag
// openblas.
var library = "tiled Go"
