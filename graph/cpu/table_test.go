package cpu

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/optable"
)

func TestKernelsAreComplete(t *testing.T) {
	e := New[float64](Options{})
	defer e.Close()
	have := e.Ops()
	slices.Sort(have)
	if want := graph.Ops(); !slices.Equal(have, want) {
		t.Errorf("kernels for %v, operations are %v", have, want)
	}
}

// rows runs a test for every row of the op table.
func rows(t *testing.T, test func(t *testing.T, r optable.Row)) {
	for _, r := range optable.Rows() {
		if r.Large && testing.Short() {
			continue
		}
		t.Run(r.Name, func(t *testing.T) { test(t, r) })
	}
}

// TestGradients compares the reverse sweep in float64 with central differences
// of <seed, output>.
func TestGradients(t *testing.T) {
	ctx := context.Background()
	rows(t, func(t *testing.T, r optable.Row) {
		if r.Large {
			return // differences cost two passes an element; its small siblings have them
		}
		e := New[float64](Options{Workers: 2})
		defer e.Close()
		c, err := optable.Open(e, r, 1, true)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		grads, err := c.Gradients(ctx)
		if err != nil {
			t.Fatal(err)
		}
		product := func() (s float64) {
			y, err := c.Forward(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range y {
				s += v * c.Values[optable.Seed][i]
			}
			return s
		}
		for k, name := range c.Wrt {
			x := c.Values[name]
			var got, want []float64
			for _, i := range sample(len(x), r.GradMax) {
				middle := x[i]
				x[i] = middle + r.GradEps
				above := product()
				x[i] = middle - r.GradEps
				below := product()
				x[i] = middle
				got, want = append(got, grads[k][i]), append(want, (above-below)/(2*r.GradEps))
			}
			if e := optable.NMSE(got, want); e > r.GradNMSE {
				t.Errorf("gradient at %s: NMSE %.3g against differences, want at most %.3g; begins %.5v, want %.5v",
					name, e, r.GradNMSE, got[:min(3, len(got))], want[:min(3, len(want))])
			}
		}
	})
}

// sample picks at most count of n indices, the first and the last among them.
func sample(n, count int) []int {
	picked := rand.New(rand.NewPCG(1, 2)).Perm(n)
	if n > count {
		picked = append(picked[:count-2], 0, n-1)
	}
	return picked
}

// TestFloat32 holds float32 to the bounds of any device, forward and backward.
func TestFloat32(t *testing.T) {
	rows(t, func(t *testing.T, r optable.Row) {
		exact, e := New[float64](Options{}), New[float32](Options{Workers: 3})
		defer exact.Close()
		defer e.Close()
		for _, pass := range []struct {
			name string
			run  func(graph.Executor, optable.Row) ([][]float64, error)
		}{{"forward", optable.Forward}, {"gradients", optable.Gradients}} {
			want, err := pass.run(exact, r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := pass.run(e, r)
			if err != nil {
				t.Fatal(err)
			}
			for i := range want {
				if e := optable.NMSE(got[i], want[i]); e > r.NMSE {
					t.Errorf("%s %d: NMSE %.3g, want at most %.3g; begins %.5v, want %.5v",
						pass.name, i, e, r.NMSE, got[i][:min(3, len(got[i]))], want[i][:min(3, len(want[i]))])
				}
			}
		}
	})
}

// TestAdjoint: <J v, u> = <v, J^T u> for linear operations, in float32.
func TestAdjoint(t *testing.T) {
	e := New[float32](Options{})
	defer e.Close()
	rows(t, func(t *testing.T, r optable.Row) {
		if !r.Linear {
			return
		}
		left, right, scale, err := optable.Adjoint(e, r)
		if err != nil {
			t.Fatal(err)
		}
		if diff := left - right; diff > 1e-6*scale || -diff > 1e-6*scale {
			t.Errorf("<J v, u> is %g, <v, J^T u> is %g", left, right)
		}
	})
}
