package sdo

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// stale holds what the network gave at earlier updates: the frozen quantity of
// every call and the state it was asked at. An update makes the kept first call
// and a few others again and rebuilds the sample linearly from the rest
// (docs/method.md, Stale refresh).
type stale struct {
	*Chain
	frozen []Vector // f_i
	asked  []Vector // x_i when f_i was made
	filled bool

	change Vector // of the call last made again, new less held; nil where it is not carried

	batcher Batcher // nil where calls are made one after the other
	ins     []Vector
	outs    []Vector
}

func newStale(c *Chain) (*stale, error) {
	n := len(c.problem.Table.Steps)
	s := &stale{Chain: c, frozen: make([]Vector, n), asked: make([]Vector, n)}
	lists := [][]Vector{s.frozen, s.asked}
	if c.surrogate.Refresh.Batched {
		if _, ok := c.problem.Network.(Batcher); !ok {
			return nil, fmt.Errorf("sdo: refresh is batched, but the network answers one call at a time; turn batched off")
		}
		s.batcher = c.network.(Batcher)
		s.ins, s.outs = make([]Vector, n-1), make([]Vector, n-1)
		lists = append(lists, s.ins, s.outs)
	}
	if c.surrogate.Refresh.Carry {
		if err := c.allocate(&s.change); err != nil {
			s.free()
			return nil, err
		}
	}
	for _, list := range lists {
		for i := range list {
			if err := c.allocate(&list[i]); err != nil {
				s.free()
				return nil, err
			}
		}
	}
	return s, nil
}

func (s *stale) free() {
	for _, list := range [][]Vector{s.frozen, s.asked, s.ins, s.outs} {
		freeVectors(s.problem.Space, list...)
	}
	freeVectors(s.problem.Space, s.change)
}

// rollout makes the sample of an update, anew where it is time to.
func (s *stale) rollout(ctx context.Context, at Values) error {
	every := s.surrogate.Refresh.Every
	s.fresh = !s.filled || every > 0 && s.update%every == 0
	if s.fresh {
		s.filled = false
		if err := s.Chain.rollout(ctx, at, s.renew); err != nil {
			return err
		}
		s.filled = true
		return nil
	}
	x, err := s.begin(ctx, at)
	if err == nil {
		err = s.again(ctx, 0, s.input(0, x))
	}
	if err != nil {
		return fmt.Errorf("sdo: step 1 of %d: %w", len(s.frozen), err)
	}
	moved, err := s.movement(ctx, at)
	if err != nil {
		return err
	}
	again := s.choose(moved)
	if s.batcher == nil {
		return s.rebuild(ctx, at, func(i int, x Vector) error {
			if !again[i] {
				return s.carry(i)
			}
			return s.again(ctx, i, s.input(i, x))
		}, s.stepped)
	}
	if err := s.renewTogether(ctx, at, again); err != nil {
		return err
	}
	return s.rebuild(ctx, at, nil, s.stepped)
}

// again is renew of a call among others that are not, which take over its change.
func (s *stale) again(ctx context.Context, i int, in Input) error {
	return s.changing(i, func() error { return s.renew(ctx, i, in) })
}

// changing notes how much do changes what is held of call i.
func (s *stale) changing(i int, do func() error) error {
	if s.change == nil {
		return do()
	}
	if err := s.problem.copy(s.change, s.frozen[i]); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return s.combine(s.change, 1, s.frozen[i], -1, s.change)
}

// carry moves what is held of a call that is not made again along with the one
// before it that was: neighbours see almost the same state and change alike.
func (s *stale) carry(i int) error {
	if s.change == nil {
		return nil
	}
	return s.combine(s.frozen[i], 1, s.frozen[i], 1, s.change)
}

// renew makes a call and notes what it gave.
func (s *stale) renew(ctx context.Context, i int, in Input) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.keep(ctx, i, in); err != nil {
		return err
	}
	return s.note(i, in.X)
}

func (s *stale) note(i int, x Vector) error {
	step := s.transport.Steps[i]
	if err := s.combine(s.frozen[i], step.FromState, x, step.FromOutput, s.output); err != nil {
		return err
	}
	return s.problem.copy(s.asked[i], x)
}

// rebuild walks the solver with the frozen quantities at hand. visit, where
// set, is shown every state but the first before its quantity is used, and
// stepped, where set, is told of every step.
func (s *stale) rebuild(ctx context.Context, at Values, visit func(i int, x Vector) error, stepped func(i int)) error {
	x, err := s.begin(ctx, at)
	if err != nil {
		return err
	}
	for i, step := range s.transport.Steps {
		if visit != nil && i > 0 {
			if err := visit(i, x); err != nil {
				return fmt.Errorf("sdo: step %d of %d: %w", i+1, len(s.frozen), err)
			}
		}
		if s.remembers(i) {
			if err := s.combine(s.memory(i), step.MemoryState, x, step.MemoryFrozen, s.frozen[i]); err != nil {
				return err
			}
		}
		if err := s.finishStep(i, []float64{step.State, step.Frozen}, []Vector{x, s.frozen[i]}); err != nil {
			return err
		}
		x = s.state
		if stepped != nil {
			stepped(i)
		}
	}
	return nil
}

// movement is how far the input of every call has moved since it was made, root
// mean square over a row, in the row that moved most.
func (s *stale) movement(ctx context.Context, at Values) ([]float64, error) {
	moved := make([]float64, len(s.frozen))
	err := s.rebuild(ctx, at, func(i int, x Vector) error {
		if err := s.combine(s.product, 1, x, -1, s.asked[i]); err != nil {
			return err
		}
		squares, err := s.problem.Space.RowDots(ctx, s.product, s.product, s.problem.Rows)
		if err != nil {
			return err
		}
		moved[i] = math.Sqrt(slices.Max(squares) / float64(s.problem.Cols))
		return nil
	}, nil)
	return moved, err
}

// choose says which calls are made again: Refresh.Calls of them, drawn without
// replacement with odds |w_i| times the movement of their input, which is the
// error they leave in the sample to first order; and all that moved further than
// the tolerance.
func (s *stale) choose(moved []float64) []bool {
	refresh, n := s.surrogate.Refresh, len(moved)
	random := rand.New(rand.NewPCG(s.surrogate.Seed, 0x57A1E<<32|uint64(s.update)))
	again := make([]bool, n)
	odds := make([]float64, n)
	for i := 1; i < n; i++ {
		odds[i] = math.Abs(s.transport.Weights[i])*moved[i] + 1e-300
		again[i] = refresh.Tolerance > 0 && moved[i] > refresh.Tolerance
	}
	for range refresh.Calls {
		total := 0.0
		for i, o := range odds {
			if !again[i] {
				total += o
			}
		}
		at, pick := random.Float64()*total, -1
		for i := 1; i < n; i++ {
			if again[i] {
				continue
			}
			pick = i
			if at -= odds[i]; at < 0 {
				break
			}
		}
		if pick < 0 {
			break
		}
		again[pick] = true
	}
	return again
}

// renewTogether makes the calls of an update at once, each at the state that the
// others' old outputs give.
func (s *stale) renewTogether(ctx context.Context, at Values, again []bool) error {
	var calls []int
	err := s.rebuild(ctx, at, func(i int, x Vector) error {
		if !again[i] {
			return nil
		}
		calls = append(calls, i)
		return s.problem.copy(s.ins[len(calls)-1], x)
	}, nil)
	if err != nil || len(calls) == 0 {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	ins := make([]Input, len(calls))
	for k, i := range calls {
		ins[k] = s.input(i, s.ins[k])
	}
	if err := s.batcher.PredictBatch(ctx, ins, s.outs[:len(calls)]); err != nil {
		return fmt.Errorf("sdo: %d calls at once: %w", len(calls), err)
	}
	for k, i := 0, 1; i < len(again); i++ {
		if !again[i] {
			if err := s.carry(i); err != nil {
				return err
			}
			continue
		}
		step := s.transport.Steps[i]
		err := s.changing(i, func() error {
			return s.combine(s.frozen[i], step.FromState, s.ins[k], step.FromOutput, s.outs[k])
		})
		if err == nil {
			err = s.problem.copy(s.asked[i], s.ins[k])
		}
		if err != nil {
			return err
		}
		k++
	}
	return nil
}

// Refresh makes the next forward call the network at every step.
func (c *Chain) Refresh() {
	if c.stale != nil {
		c.stale.filled = false
	}
}
