package benchmark

import (
	"context"
	"math"
	"time"

	"github.com/sdo-go/sdo/sdo"
)

// run makes a cell on its subject.
func (s *subject) run(ctx context.Context, c Cell, o sdo.Optimizer) (*Record, error) {
	r := &Record{Cell: c, Device: s.device}
	var err error
	if c.Vary == sdo.Parameters {
		err = s.tune(ctx, r, o)
	} else {
		err = s.steer(ctx, r, o)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		if len(r.Points) == 0 {
			return nil, err
		}
		r.Failed = err.Error()
	}
	return r, nil
}

// steer runs a latent cell.
func (s *subject) steer(ctx context.Context, r *Record, optimizer sdo.Optimizer) error {
	o := sdo.DefaultOptions()
	o.Surrogate, o.Updates, o.NormGuard = s.surrogate, r.Updates, s.guard
	o.Vary = []sdo.Variation{{Variable: sdo.Latents, Optimizer: optimizer}}
	check, err := sdo.NewChain(s.problem, sdo.Surrogate{})
	if err != nil {
		return err
	}
	defer check.Free()
	stale := o.Surrogate.Refresh.Calls > 0 || o.Surrogate.Refresh.Tolerance > 0
	rollout := len(s.problem.Table.Steps)
	if s.problem.Cond != nil && s.problem.Guidance != 0 && s.problem.Guidance != 1 {
		rollout *= 2
	}
	var before []float64
	calls := 0 // made before the latest forward
	at := looks(r.Updates, stale)
	began, looking := time.Now(), time.Duration(0)
	look := func(e sdo.Event) error {
		p := Point{Update: e.Update, Backward: e.Counters.BackwardCalls, Seconds: number((time.Since(began) - looking).Seconds())}
		// The rollout that scores an update's latents is the forward of the next
		// one, and no part of what led here.
		switch {
		case stale:
			p.Calls, calls = calls, e.Counters.NetworkCalls
		case s.surrogate.Jump: // scored apart from the forward
			p.Calls = e.Counters.NetworkCalls - (e.Update+1)*rollout
		default:
			p.Calls = e.Counters.NetworkCalls - rollout
		}
		if !at[e.Update] {
			return nil
		}
		losses, sample := e.Losses, e.State
		if e.Stale {
			var err error
			if losses, err = check.Evaluate(ctx, e.Values); err != nil {
				return err
			}
			sample = check.Sample()
		}
		images, err := s.problem.Space.Read(ctx, sample)
		if err != nil {
			return err
		}
		if before == nil {
			before = images
		}
		if err := s.judge(ctx, &p, sample); err != nil {
			return err
		}
		p.Losses, p.Drift = numbers(losses), number(drift(images, before, s.problem.Rows))
		p.Norm = number(mean(e.LatentNorms) / math.Sqrt(float64(s.problem.Cols)))
		if s.surprise != nil {
			surprise := number(mean(s.surprise(images)))
			p.Surprise = &surprise
		}
		if last := len(r.Points) - 1; last >= 0 && r.Points[last].Update == e.Update {
			r.Points[last] = p // looked at again
		} else {
			r.Points = append(r.Points, p)
		}
		return nil
	}
	var failed error
	result, err := sdo.Run(ctx, s.problem, o, func(e sdo.Event) {
		if e.Kind != sdo.EventUpdate || failed != nil {
			return
		}
		from := time.Now()
		failed = look(e)
		looking += time.Since(from)
	})
	if result != nil {
		r.PeakBytes = result.PeakKeptBytes
	}
	if failed != nil {
		return failed
	}
	return err
}

func (s *subject) judge(ctx context.Context, p *Point, sample sdo.Vector) error {
	if s.problem.Judge == nil {
		return nil
	}
	approved, err := s.problem.Judge.Approve(ctx, sample)
	if err != nil {
		return err
	}
	judged := 0.0
	for _, yes := range approved {
		if yes {
			judged += 1 / float64(len(approved))
		}
	}
	share := number(judged)
	p.Judged = &share
	return nil
}

// tune runs a parameter cell. Its looks are at held-out latents.
func (s *subject) tune(ctx context.Context, r *Record, optimizer sdo.Optimizer) error {
	tuner, err := sdo.NewTuner(s.problem, sdo.Tuning{Surrogate: s.surrogate, Optimizer: optimizer,
		Updates: r.Updates, Accumulate: 1, MaxGradNorm: 1, Latents: s.latents})
	if err != nil {
		return err
	}
	defer tuner.Free()
	batches := (s.heldOut + s.problem.Rows - 1) / s.problem.Rows
	before := make([][]float64, batches)
	seconds, spent := 0.0, sdo.Counters{}
	look := func() error {
		p := Point{Update: tuner.Update(), Calls: spent.NetworkCalls, Backward: spent.BackwardCalls, Seconds: number(seconds)}
		var moved, surprise, judged float64
		for k := range batches {
			losses, sample, err := tuner.Evaluate(ctx, sdo.HeldOut+k*s.problem.Rows)
			if err != nil {
				return err
			}
			images, err := s.problem.Space.Read(ctx, sample)
			if err != nil {
				return err
			}
			if before[k] == nil {
				before[k] = images
			}
			p.Judged = nil
			if err := s.judge(ctx, &p, sample); err != nil {
				return err
			}
			if p.Judged != nil {
				judged += float64(*p.Judged) / float64(batches)
			}
			p.Losses = append(p.Losses, numbers(losses)...)
			moved += drift(images, before[k], s.problem.Rows) / float64(batches)
			if s.surprise != nil {
				surprise += mean(s.surprise(images)) / float64(batches)
			}
		}
		p.Drift = number(moved)
		if p.Judged != nil {
			all := number(judged)
			p.Judged = &all
		}
		if s.surprise != nil {
			all := number(surprise)
			p.Surprise = &all
		}
		r.Points = append(r.Points, p)
		return nil
	}
	every := max(1, r.Updates/6) // a look is at many more rows than an update
	if err := look(); err != nil {
		return err
	}
	for !tuner.Done() {
		began, counted := time.Now(), tuner.Counters()
		if _, err := tuner.Step(ctx); err != nil {
			return err
		}
		seconds += time.Since(began).Seconds()
		after := tuner.Counters()
		spent.NetworkCalls += after.NetworkCalls - counted.NetworkCalls
		spent.BackwardCalls += after.BackwardCalls - counted.BackwardCalls
		r.PeakBytes = after.PeakKeptBytes
		if tuner.Update()%every == 0 || tuner.Done() {
			if err := look(); err != nil {
				return err
			}
		}
	}
	return nil
}

// drift is the root mean square change of each row, averaged over rows.
func drift(x, before []float64, rows int) (moved float64) {
	cols := len(x) / rows
	for row := range rows {
		square := 0.0
		for i := row * cols; i < (row+1)*cols; i++ {
			square += (x[i] - before[i]) * (x[i] - before[i])
		}
		moved += math.Sqrt(square/float64(cols)) / float64(rows)
	}
	return moved
}

func mean(x []float64) (sum float64) {
	for _, v := range x {
		sum += v / float64(len(x))
	}
	return sum
}
