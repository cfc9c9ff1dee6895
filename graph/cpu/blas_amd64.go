package cpu

// library names what computes matrix products: gonum, which has assembly for
// this processor, unless built with the tag openblas.
var library = "gonum"
