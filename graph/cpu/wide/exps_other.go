//go:build !amd64

package wide

func exps(y, x []float32, scale, shift float32) (done int, total float64) { return 0, 0 }
