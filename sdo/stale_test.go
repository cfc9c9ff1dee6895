package sdo

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/sdo-go/sdo/sampler"
)

// asked is a network that notes the steps it is asked at.
type asked struct {
	Batcher
	table *sampler.Table
	steps []int
}

func (a *asked) note(in Input) {
	a.steps = append(a.steps, slices.IndexFunc(a.table.Steps, func(s sampler.Step) bool { return s.Timestep == in.Timestep }))
}

func (a *asked) Predict(ctx context.Context, in Input, out Vector) error {
	a.note(in)
	return a.Batcher.Predict(ctx, in, out)
}

func (a *asked) Keep(ctx context.Context, in Input, wrt Wrt, out Vector) (Kept, error) {
	a.note(in)
	return a.Batcher.Keep(ctx, in, wrt, out)
}

func (a *asked) PredictBatch(ctx context.Context, ins []Input, outs []Vector) error {
	for _, in := range ins {
		a.note(in)
	}
	return a.Batcher.PredictBatch(ctx, ins, outs)
}

// staleSolvers are of one call a timestep, so that calls can be told apart: one
// state after the other, with a memory, with fresh noise.
var staleSolvers = []string{"ddim", "dpmpp-2m", "ddpm", "two memories and noise"}

// wander is where the latents of an update are: far from the one before, then
// near it, and so on.
func wander(p Problem, update int, speed float64) point {
	return point{Latents: slices.Clone(numbers(p.Start))}.moved(Latents, direction(p.size(), uint64(update/2)), speed*float64(update))
}

// The stale rollout, written out: an update makes call 0 and some others again
// and takes the rest of the frozen quantities from before. Its loss is that of
// the state they lead to, its gradient P g + w_0 (p_0 g + q_0 J_0^T g) there.
func TestStaleRollout(t *testing.T) {
	const n = 6
	for _, solver := range staleSolvers {
		for _, refresh := range []Refresh{
			{Calls: 2, Every: 4}, {Calls: 2, Every: 4, Batched: true}, {Calls: 1}, {Tolerance: 0.03}, {Tolerance: 0.03, Batched: true}, {Calls: 1, Tolerance: 0.03},
			{Calls: 2, Every: 4, Carry: true}, {Calls: 2, Carry: true, Batched: true},
		} {
			for _, active := range []Active{ActiveFirst, ActiveNone} {
				p := problem(tables(t, sampler.PredictV, n)[solver], newPerceptron(testCols, 6))
				log := &asked{&batching{analytic: analyticOf(p)}, p.Table, nil}
				p.Network = log
				s := Surrogate{Freeze: sampler.FreezeV, Active: active, Refresh: refresh}
				what := fmt.Sprintf("%s, active %s, %+v", solver, active, refresh)
				c, err := NewChain(p, s, Latents)
				if err != nil {
					t.Fatal(err)
				}
				grad, _ := p.Space.NewVector(p.size())
				noises := begin(t, withAnalytic(p))[Noises]
				var old *definition
				var inputs [][]float64 // at which the quantities were asked for
				for update := range 9 {
					at := wander(p, update, 0.02)
					at[Noises] = noises
					log.steps = nil
					losses, err := c.Forward(context.Background(), Values{Latents: &boxed{at[Latents]}}, update)
					if err != nil {
						t.Fatal(err)
					}
					if err := c.Backward(context.Background(), Values{Latents: grad}); err != nil {
						t.Fatal(err)
					}
					made := slices.Sorted(slices.Values(log.steps))
					fresh := update == 0 || refresh.Every > 0 && update%refresh.Every == 0
					if c.Fresh() != fresh {
						t.Errorf("%s, update %d: fresh is %v", what, update, c.Fresh())
					}
					d := define(t, withAnalytic(p), s, []int{0}, at)
					if fresh {
						if !slices.Equal(made, []int{0, 1, 2, 3, 4, 5}) {
							t.Fatalf("%s, update %d made calls %v", what, update, made)
						}
						inputs = d.states
					} else {
						// How far the inputs have moved since, by the old quantities.
						first := d.frozen[0]
						var expected [][]float64
						old.walk(at, func(i int, x []float64) []float64 {
							expected = append(expected, x)
							if i == 0 {
								return first
							}
							return old.frozen[i]
						})
						again := []int{0}
						for i := 1; i < n; i++ {
							moved := 0.0
							for row := range testRows {
								square := 0.0
								for j := row * testCols; j < (row+1)*testCols; j++ {
									square += (expected[i][j] - inputs[i][j]) * (expected[i][j] - inputs[i][j])
								}
								moved = max(moved, math.Sqrt(square/testCols))
							}
							if refresh.Tolerance > 0 && moved > refresh.Tolerance {
								again = append(again, i)
							}
						}
						distinct := slices.Compact(slices.Clone(made))
						if len(made) != len(distinct) || made[0] != 0 || len(made) != min(n, len(again)+refresh.Calls) ||
							slices.ContainsFunc(again, func(i int) bool { return !slices.Contains(made, i) }) {
							t.Fatalf("%s, update %d made calls %v, beyond tolerance %v", what, update, made, again)
						}
						// The quantities anew: of call 0, and of the others made again.
						// Where changes are carried, those that are not made again
						// change as the latest one did that was.
						quantities := slices.Clone(old.frozen)
						quantities[0] = first
						changed := 0
						states := make([][]float64, n)
						d.walk(at, func(i int, x []float64) []float64 {
							states[i] = x
							if i > 0 && slices.Contains(made, i) {
								if refresh.Batched {
									x = expected[i]
								}
								states[i] = x
								quantities[i] = d.quantity(i, x, x, at)
								changed = i
							} else if i > 0 && refresh.Carry {
								quantities[i] = slices.Clone(quantities[i])
								for j := range quantities[i] {
									quantities[i][j] += quantities[changed][j] - old.frozen[changed][j]
								}
							}
							return quantities[i]
						})
						inputs = slices.Clone(inputs)
						for _, i := range made {
							inputs[i] = states[i]
						}
						d.frozen, d.states[0] = quantities, states[0]
					}
					sample := d.walk(at, func(i int, _ []float64) []float64 { return d.frozen[i] })
					wantNear(t, fmt.Sprintf("%s, update %d: sample", what, update), numbers(c.Sample()), sample, 1e-12)
					if value := totalLoss(p, sample); math.Abs(sum(losses)-value) > 1e-12*value {
						t.Errorf("%s, update %d: loss %v, want %v", what, update, sum(losses), value)
					}
					wantSlope(t, what, p, at, Latents, numbers(grad), 1e-8, func(to point) float64 { return totalLoss(p, d.sample(Latents, to)) })
					old = d
				}
				c.Free()
				p.Space.FreeVector(grad)
				if live := p.Space.(*slices64).live; live != 1 || analyticOf(withAnalytic(p)).kept != 0 {
					t.Errorf("%s: %d vectors left", what, live-1)
				}
			}
		}
	}
}

// withAnalytic is the problem without its log of calls.
func withAnalytic(p Problem) Problem {
	if log, ok := p.Network.(*asked); ok {
		p.Network = log.Batcher.(*batching).analytic
	}
	return p
}

// All other calls made again, one after the other, leave nothing stale: that is
// sdo, whatever came before.
func TestRefreshOfAllIsSDO(t *testing.T) {
	const n = 6
	for name, table := range tables(t, sampler.PredictEpsilon, n) {
		p := steered(table)
		calls := len(table.Steps)
		s := named(t, Method(fmt.Sprintf("stale-%d", calls-1)), Latents)
		c, err := NewChain(p, s, Latents)
		if err != nil {
			t.Fatal(err)
		}
		plain := s
		plain.Refresh = Refresh{}
		grad := &boxed{make(vector, p.size())}
		for update := range 4 {
			at := begin(t, p)
			at[Latents] = wander(p, update, 0.3)[Latents]
			losses, err := c.Forward(context.Background(), Values{Latents: &boxed{at[Latents]}}, update)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Backward(context.Background(), Values{Latents: grad}); err != nil {
				t.Fatal(err)
			}
			want, wanted, _ := gradients(t, p, plain, update, at, Latents)
			wantNear(t, name+": losses", losses, wanted, 1e-11)
			wantNear(t, name+": gradient", grad.vector, want[Latents], 1e-10)
		}
		c.Free()
	}
}

// Made at once, calls see each other's old outputs: Picard's iteration, which
// comes to the rollout after as many updates as there are calls (arXiv
// 2305.16317), and not before.
func TestBatchedRefreshIsPicardIteration(t *testing.T) {
	const n = 6
	for _, guidance := range []float64{1, 2.5} {
		p := steered(tables(t, sampler.PredictV, n)["ddim"])
		p.Guidance = guidance
		net := &batching{analytic: analyticOf(p)}
		p.Network = net
		c, err := NewChain(p, Surrogate{Freeze: sampler.FreezeV, Active: ActiveFirst, Refresh: Refresh{Calls: n - 1, Batched: true}}, Latents)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Free()
		for update := range n + 1 {
			at := p.Start
			if update > 0 { // a jump, then it stays
				at = &boxed{wander(p, 1, 2)[Latents]}
			}
			if _, err := c.Forward(context.Background(), Values{Latents: at}, update); err != nil {
				t.Fatal(err)
			}
			c.Release()
			moved := p
			moved.Start = at
			far := 0.0
			for j, x := range tell(t, moved).sample {
				far = max(far, math.Abs(x-numbers(c.Sample())[j]))
			}
			if exact := update == 0 || update >= n-1; exact != (far < 1e-12) {
				t.Errorf("guidance %v, update %d is %.2g off", guidance, update, far)
			}
		}
		if want := map[float64]int{1: 1, 2.5: 2}[guidance] * n; len(net.wide) != want || slices.Max(net.wide) != n-1 || slices.Min(net.wide) != n-1 {
			t.Errorf("guidance %v: calls at once %v, want %d times %d", guidance, net.wide, want, n-1)
		}
	}
}

// Of the calls, those are likelier to be made again that leave the larger error:
// with odds |w_i| times the movement of the input.
func TestRefreshChoosesByError(t *testing.T) {
	const n, draws = 5, 20000
	p := problem(table(t, sampler.PredictV, n), newPerceptron(testCols, 6))
	c, err := NewChain(p, Surrogate{Freeze: sampler.FreezeV, Active: ActiveFirst, Refresh: Refresh{Calls: 1}}, Latents)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Free()
	moved := []float64{9, 0.1, 0, 0.3, 0.2}
	want, total := make([]float64, n), 0.0
	for i := 1; i < n; i++ {
		want[i] = math.Abs(c.transport.Weights[i]) * moved[i]
		total += want[i]
	}
	share := make([]float64, n)
	for update := range draws {
		c.update = update
		for i, again := range c.stale.choose(moved) {
			if again {
				share[i] += 1. / draws
			}
		}
	}
	for i := range share {
		p := want[i] / total
		if math.Abs(share[i]-p) > 4*math.Sqrt(p*(1-p)/draws) {
			t.Errorf("call %d is made again in %.4f of the updates, want %.4f", i, share[i], p)
		}
	}
	// Where nothing has moved any choice will do, but one is made.
	if again := c.stale.choose(make([]float64, n)); again[0] || len(slices.DeleteFunc(again, func(b bool) bool { return !b })) != 1 {
		t.Errorf("without movement the choice is %v", again)
	}
}

// stale-r makes everything anew every ten updates.
func TestStaleMethodStartsOverEveryTenUpdates(t *testing.T) {
	p := steer(t)
	c, err := NewChain(p, named(t, "stale-2", Latents), Latents)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Free()
	net := analyticOf(p)
	for update := range 22 {
		before := net.calls
		if _, err := c.Forward(context.Background(), Values{Latents: p.Start}, update); err != nil {
			t.Fatal(err)
		}
		want := 3
		if update%10 == 0 || update == 15 {
			want = 10
		}
		if got := net.calls - before; got != want || c.Fresh() != (want == 10) {
			t.Errorf("update %d made %d calls, fresh %v; want %d", update, got, c.Fresh(), want)
		}
		if update == 14 {
			c.Refresh() // once, on demand
		}
	}
}
