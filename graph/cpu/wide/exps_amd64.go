package wide

import "golang.org/x/sys/cpu"

var haveAVX2 = cpu.X86.HasAVX2 && cpu.X86.HasFMA

// expsAVX2 is Exps of a multiple of 8 numbers, not none.
//
//go:noescape
func expsAVX2(y, x *float32, n int, scale, shift float32) (total float32)

func exps(y, x []float32, scale, shift float32) (done int, total float64) {
	done = len(x) &^ 7
	if done == 0 || !haveAVX2 {
		return 0, 0
	}
	return done, float64(expsAVX2(&y[:done][0], &x[0], done, scale, shift))
}
