package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/sdo"
)

// Fastest runs work once to warm up, then a few times for at most budget, and
// returns the seconds of the quickest.
func Fastest(budget time.Duration, work func() error) (float64, error) {
	if err := work(); err != nil {
		return 0, err
	}
	best := time.Duration(0)
	for began, n := time.Now(), 0; n < 1 || n < 10 && time.Since(began) < budget; n++ {
		start := time.Now()
		if err := work(); err != nil {
			return 0, err
		}
		if took := time.Since(start); best == 0 || took < best {
			best = took
		}
	}
	return best.Seconds(), nil
}

// matMulSide is the side of the square matrices that MatMulSeconds multiplies.
const matMulSide = 512

// MatMulFlops is what MatMulSeconds computes.
const MatMulFlops = 2 * matMulSide * matMulSide * matMulSide

// MatMulSeconds times one f32 matrix product, of as many in a row as take a
// while: on a GPU the read-back of a result alone takes longer than the product.
func MatMulSeconds(ctx context.Context, exec graph.Executor) (float64, error) {
	const n = matMulSide
	g, err := graph.Build(func(g *graph.Graph) {
		product := g.MatMul(g.Input("a", n, n), g.Input("b", n, n), nil, graph.MatMulAttrs{})
		g.ReduceSum(product, n, n, 1, n)
	})
	if err != nil {
		return 0, err
	}
	sum := g.Nodes[len(g.Nodes)-1]
	plan, err := graph.Compile(g, []*graph.Node{sum})
	if err != nil {
		return 0, err
	}
	p, err := exec.Compile(plan, nil)
	if err != nil {
		return 0, err
	}
	defer p.Release()
	out, err := exec.NewVector(n)
	if err != nil {
		return 0, err
	}
	defer exec.FreeVector(out)
	products := 1
	work := func() error {
		feeds := []graph.Feed{{Node: g.Lookup("a"), Value: 0.5}, {Node: g.Lookup("b"), Value: 2}}
		for range products {
			if err := p.Run(ctx, nil, 0, feeds, []graph.Fetch{{Node: sum, To: out}}); err != nil {
				return err
			}
		}
		sums, err := exec.Read(ctx, out)
		if err == nil && sums[0] != n*n {
			return fmt.Errorf("%s multiplies matrices wrongly: a column sum is %g, want %d", exec.Device().Name, sums[0], n*n)
		}
		return err
	}
	one, err := Fastest(0, work)
	if err != nil {
		return 0, err
	}
	const while = 0.2 // seconds, against which a read-back and the tick of a browser's clock are little
	products = int(min(max(1, while/max(one, 1e-4)), 500))
	seconds, err := Fastest(time.Second, work)
	return max(seconds, 1e-9) / float64(products), err
}

// EncodeSeconds is how long it takes to hand one network call over to a device,
// on average over calls in a row, without waiting for what they compute.
func (s *Session) EncodeSeconds(ctx context.Context, calls int) (float64, error) {
	out, err := s.Exec.NewVector(s.Shape.Size())
	if err != nil {
		return 0, err
	}
	defer s.Exec.FreeVector(out)
	if _, err := s.Exec.RowDots(ctx, s.start, s.start, 1); err != nil { // which waits for all work
		return 0, err
	}
	start := time.Now()
	for range calls {
		if err := s.denoiser.Predict(ctx, sdo.Input{X: s.start, Timestep: s.table.Steps[0].Timestep, Cond: s.cond}, out); err != nil {
			return 0, err
		}
	}
	return time.Since(start).Seconds() / float64(calls), nil
}
