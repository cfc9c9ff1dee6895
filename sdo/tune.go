package sdo

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
)

// Tuning says how a Tuner trains a network's parameters.
type Tuning struct {
	Surrogate  Surrogate
	Optimizer  Optimizer
	Updates    int
	Accumulate int // batches of Problem.Rows pictures to an update

	// MaxGradNorm clips the gradient of the mean loss, all parameters together;
	// 0 does not.
	MaxGradNorm float64
	// EMADecay is of the running average of the parameters that is published in
	// their place; 0 keeps none. Early on the decay is smaller, (1+u)/(10+u)
	// after u updates, so that an average begins to follow at once.
	EMADecay float64

	// Keep is the weight of the mean squared change of a picture from what the
	// untuned network makes of the same latent, which is added to the loss that is
	// differentiated. It costs a rollout a batch, and the network must be an
	// Untuner. Reported losses are without it. 0 leaves it out.
	Keep float64

	// Latents writes where the pictures first, first+1, ... of the run begin
	// into dst, a picture to a row. The same picture must begin at the same
	// latent always, and no two at the same.
	Latents func(ctx context.Context, dst Vector, first int) error
}

// HeldOut is the first picture that no update trains on.
const HeldOut = 1 << 30

// Validate refuses, with one sentence, the first setting that makes no sense.
func (o Tuning) Validate(rows int) error {
	switch err := o.Optimizer.Validate(); {
	case err != nil:
		return fmt.Errorf("sdo: %s: %w", Parameters, err)
	case o.Updates < 0:
		return fmt.Errorf("sdo: %d updates, want 0 or more", o.Updates)
	case o.Accumulate < 1:
		return fmt.Errorf("sdo: %d batches to an update, want 1 or more", o.Accumulate)
	case float64(o.Updates)*float64(o.Accumulate)*float64(rows) > HeldOut:
		return fmt.Errorf("sdo: %d updates of %d pictures need more than the 2^30 there are; make fewer", o.Updates, o.Accumulate*rows)
	case !(o.MaxGradNorm >= 0) || !finite(o.MaxGradNorm):
		return fmt.Errorf("sdo: highest gradient norm is %v, want 0 or more", o.MaxGradNorm)
	case !(o.EMADecay >= 0 && o.EMADecay < 1):
		return fmt.Errorf("sdo: decay of the average is %v, want a number from 0 up to but not including 1", o.EMADecay)
	case !(o.Keep >= 0) || !finite(o.Keep):
		return fmt.Errorf("sdo: weight of keeping pictures is %v, want 0 or more", o.Keep)
	case o.Keep > 0 && (o.Surrogate.Jump || o.Surrogate.Renoised > 0):
		return fmt.Errorf("sdo: keeping pictures compares samples, and the method's loss is not at the sample; leave one of them out")
	case o.Latents == nil:
		return fmt.Errorf("sdo: nothing says where the pictures of a tuning begin")
	}
	return nil
}

// Copies is how many vectors a Tuner holds for every parameter beside its value:
// gradients, moments and the average.
func (o Tuning) Copies(steps int) int {
	copies := 1
	if o.Accumulate > 1 {
		copies++
	}
	if o.Optimizer.Rule != SGD {
		copies += 2
	}
	if o.EMADecay > 0 {
		copies++
	}
	if max(o.Surrogate.Renoised, o.Surrogate.most(steps)) > 1 { // Chain.partial
		copies++
	}
	return copies
}

// Vectors is how many vectors of the batch's size a Tuner holds beside its
// chain's: the latents and, where pictures are kept, what they were.
func (o Tuning) Vectors() int {
	if o.Keep > 0 {
		return 2
	}
	return 1
}

// Untuner is a Trainable that can go back to what it was before any of its
// parameters changed.
type Untuner interface {
	Trainable
	// Untuned calls do while Predict is that of the network as it was.
	Untuned(ctx context.Context, do func() error) error
}

// Tuner trains the parameters of a Trainable so that whatever it samples scores
// better. Update u is of the pictures u*n .. u*n+n-1, n = Accumulate*Rows, which
// are made fresh for it and never again. What is differentiated is the mean loss
// over them, so the size of a step does not depend on how many there are, nor on
// how they are split into batches; update also decides the surrogate's draws,
// which its batches share.
//
// An update is made as a whole or, where an error or the end of the context comes
// between, not at all.
type Tuner struct {
	Problem
	tuning  Tuning
	chain   *Chain
	observe Observer
	update  int // updates made

	latents Vector
	change  Vector // of the samples, where pictures are kept
	values  Values // the network's own
	grads   Values
	more    Values // gradients of a batch but the first
	average Values
	descent *descent
}

// NewTuner allocates. Of the problem Start is not used, and NoiseSeed stands for
// all the noise of a stochastic sampler, which is fresh in every batch.
func NewTuner(p Problem, o Tuning) (*Tuner, error) {
	if err := o.Validate(p.Rows); err != nil {
		return nil, err
	}
	if p.Objective == nil {
		return nil, fmt.Errorf("sdo: the problem has no objective")
	}
	if _, ok := p.Network.(Untuner); !ok && o.Keep > 0 {
		return nil, fmt.Errorf("sdo: pictures are to be kept, but the network cannot go back to what it was")
	}
	chain, err := NewChain(p, o.Surrogate, Parameters)
	if err != nil {
		return nil, err
	}
	t := &Tuner{Problem: p, tuning: o, chain: chain}
	chain.Observe(t.tell)
	if err := t.prepare(); err != nil {
		t.Free()
		return nil, err
	}
	return t, nil
}

func (t *Tuner) prepare() (err error) {
	for _, p := range t.Network.(Trainable).Params() {
		t.values.Parameters = append(t.values.Parameters, p.Value)
	}
	if err = t.chain.allocate(&t.latents); err != nil {
		return err
	}
	if t.tuning.Keep > 0 {
		if err = t.chain.allocate(&t.change); err != nil {
			return err
		}
	}
	if t.grads, err = t.NewValues(Parameters); err != nil {
		return err
	}
	if t.tuning.Accumulate > 1 {
		if t.more, err = t.NewValues(Parameters); err != nil {
			return err
		}
	}
	// Clipping is done here, with the mean.
	vary := []Variation{{Parameters, t.tuning.Optimizer}}
	if t.descent, err = newDescent(t.Space, t.Rows, 0, vary, t.values, t.grads); err != nil || t.tuning.EMADecay == 0 {
		return err
	}
	if t.average, err = t.NewValues(Parameters); err != nil {
		return err
	}
	return t.copyAll(t.average, t.values)
}

// Free returns every vector to the space. The network keeps the parameters it
// has come to.
func (t *Tuner) Free() {
	t.chain.Free()
	freeVectors(t.Space, t.latents, t.change)
	for _, v := range []Values{t.grads, t.more, t.average} {
		t.FreeValues(v)
	}
	if t.descent != nil {
		t.descent.free()
	}
}

// Observe sends the events of updates, and of the network's calls, to an
// observer.
func (t *Tuner) Observe(observe Observer) { t.observe = observe }

func (t *Tuner) tell(e Event) {
	if t.observe != nil {
		e.Update, e.Updates = t.update, t.tuning.Updates
		t.observe(e)
	}
}

// Update is the number of updates made.
func (t *Tuner) Update() int { return t.update }

// Done reports whether all updates are made.
func (t *Tuner) Done() bool { return t.update >= t.tuning.Updates }

// Counters returns the cost so far.
func (t *Tuner) Counters() Counters { return t.chain.Counters() }

// Step makes one update and returns its event: the losses of its pictures before
// it, in order, and the norm of the mean's gradient before it is clipped.
func (t *Tuner) Step(ctx context.Context) (Event, error) {
	pictures := t.tuning.Accumulate * t.Rows
	var losses []float64
	for batch := range t.tuning.Accumulate {
		into := t.grads
		if batch > 0 {
			into = t.more
		}
		part, err := t.differentiate(ctx, t.update*pictures+batch*t.Rows, into)
		if err != nil {
			return Event{}, err
		}
		losses = append(losses, part...)
		if batch == 0 {
			continue
		}
		for k, grad := range t.grads.Parameters {
			if err := t.Space.Combine(grad, []float64{1, 1}, []Vector{grad, t.more.Parameters[k]}); err != nil {
				return Event{}, err
			}
		}
	}
	norm, err := t.norm(ctx)
	if err != nil {
		return Event{}, err
	}
	norm /= float64(pictures)
	scale := 1 / float64(pictures)
	if t.tuning.MaxGradNorm > 0 {
		scale *= min(1, t.tuning.MaxGradNorm/(norm+1e-12))
	}
	if err := t.move(context.WithoutCancel(ctx), scale); err != nil {
		return Event{}, err
	}
	e := Event{Kind: EventUpdate, Update: t.update, Updates: t.tuning.Updates, Losses: losses, GradNorm: norm, Counters: t.chain.Counters()}
	t.tell(e)
	return e, nil
}

// differentiate samples Rows pictures and writes the gradient of the sum of their
// losses.
func (t *Tuner) differentiate(ctx context.Context, first int, into Values) ([]float64, error) {
	at, err := t.begin(ctx, first)
	if err != nil {
		return nil, err
	}
	if t.change != nil {
		err := t.Network.(Untuner).Untuned(ctx, func() error {
			before, err := t.chain.Rollout(ctx, at)
			if err != nil {
				return err
			}
			return t.copy(t.change, before)
		})
		if err != nil {
			return nil, fmt.Errorf("sdo: the untuned network: %w", err)
		}
	}
	losses, err := t.chain.Forward(ctx, at, t.update)
	if err != nil {
		return nil, err
	}
	if err := t.finiteLosses(ctx, losses, at, first); err != nil {
		return nil, err
	}
	if t.change != nil {
		if err := t.chain.combine(t.change, 1, t.chain.Sample(), -1, t.change); err != nil {
			return nil, err
		}
		seed := t.chain.seed
		if err := t.chain.combine(seed, 1, seed, 2*t.tuning.Keep/float64(t.Cols), t.change); err != nil {
			return nil, err
		}
	}
	return losses, t.chain.Backward(ctx, into)
}

// begin draws the latents and the noise of the pictures first, first+1, ...
func (t *Tuner) begin(ctx context.Context, first int) (Values, error) {
	if err := t.tuning.Latents(ctx, t.latents, first); err != nil {
		return Values{}, fmt.Errorf("sdo: latents of pictures %d to %d: %w", first, first+t.Rows-1, err)
	}
	t.chain.problem.NoiseSeed = rand.NewPCG(t.NoiseSeed, uint64(first)).Uint64()
	return Values{Latents: t.latents}, nil
}

func (t *Tuner) finiteLosses(ctx context.Context, losses []float64, at Values, first int) error {
	for row, loss := range losses {
		if !finite(loss) {
			return notFinite("sdo: the loss of picture %d is %v after %d updates: %s; %s", first+row, loss, t.update, t.chain.firstBad(ctx, at), notFiniteAdvice)
		}
	}
	return nil
}

// norm is that of the summed gradients, which it holds to be finite.
func (t *Tuner) norm(ctx context.Context) (float64, error) {
	total := 0.0
	for k, grad := range t.grads.Parameters {
		square, err := t.Space.RowDots(ctx, grad, grad, 1)
		if err != nil {
			return 0, fmt.Errorf("sdo: norm of a gradient: %w", err)
		}
		if !finite(square[0]) {
			name := t.Network.(Trainable).Params()[k].Name
			return 0, notFinite("sdo: a gradient is not finite after %d updates: the first such tensor is that of parameter %s; %s", t.update, name, notFiniteAdvice)
		}
		total += square[0]
	}
	return math.Sqrt(total), nil
}

// move makes a step along the gradients times scale.
func (t *Tuner) move(ctx context.Context, scale float64) error {
	for _, grad := range t.grads.Parameters {
		if err := t.Space.ScaleRows(grad, []float64{scale}); err != nil {
			return err
		}
	}
	if err := t.descent.step(ctx, t.update+1, nil); err != nil {
		return err
	}
	decay := min(t.tuning.EMADecay, float64(t.update+1)/float64(t.update+10))
	for k, average := range t.average.Parameters {
		if err := t.Space.Combine(average, []float64{decay, 1 - decay}, []Vector{average, t.values.Parameters[k]}); err != nil {
			return err
		}
	}
	t.update++
	return t.changed(ctx)
}

func (t *Tuner) changed(ctx context.Context) error {
	if err := t.Network.(Trainable).Changed(ctx); err != nil {
		return fmt.Errorf("sdo: the network's new parameters: %w", err)
	}
	return nil
}

// Evaluate samples the pictures first .. first+Rows-1 with the parameters as they
// stand and returns their losses and the samples, which the next call overwrites.
// Pictures from HeldOut on are those that no update sees.
func (t *Tuner) Evaluate(ctx context.Context, first int) ([]float64, Vector, error) {
	at, err := t.begin(ctx, first)
	if err != nil {
		return nil, nil, err
	}
	losses, err := t.chain.Evaluate(ctx, at)
	if err != nil {
		return nil, nil, err
	}
	return losses, t.chain.Sample(), t.finiteLosses(ctx, losses, at, first)
}

// Published calls do while the network has the parameters that are published: the
// average where one is kept. do may read them and evaluate, not make updates.
func (t *Tuner) Published(ctx context.Context, do func() error) error {
	if t.average.Parameters == nil {
		return do()
	}
	quiet := context.WithoutCancel(ctx)
	put := func(values Values) error {
		if err := t.copyAll(t.values, values); err != nil {
			return err
		}
		return t.changed(quiet)
	}
	// The gradients are free between updates.
	if err := t.copyAll(t.grads, t.values); err != nil {
		return err
	}
	if err := put(t.average); err != nil {
		return err
	}
	err := do()
	if back := put(t.grads); err == nil {
		err = back
	}
	return err
}

func (t *Tuner) copyAll(dst, src Values) error {
	for k, v := range src.Parameters {
		if err := t.copy(dst.Parameters[k], v); err != nil {
			return err
		}
	}
	return nil
}

// TunerState is everything that the next update depends on beside the problem
// and the Tuning.
type TunerState struct {
	Update int
	// Tensors by "value/", "exp_avg/", "exp_avg_sq/" or "ema/" and the
	// parameter's name.
	Tensors map[string][]float64
}

// tensors are the vectors of a state.
func (t *Tuner) tensors() map[string]Vector {
	all := map[string]Vector{}
	for k, p := range t.Network.(Trainable).Params() {
		all["value/"+p.Name] = p.Value
		if m := t.descent.moves[k]; m.first != nil {
			all["exp_avg/"+p.Name], all["exp_avg_sq/"+p.Name] = m.first, m.second
		}
		if t.average.Parameters != nil {
			all["ema/"+p.Name] = t.average.Parameters[k]
		}
	}
	return all
}

// State reads the state back.
func (t *Tuner) State(ctx context.Context) (TunerState, error) {
	s := TunerState{t.update, map[string][]float64{}}
	for name, v := range t.tensors() {
		values, err := t.Space.Read(ctx, v)
		if err != nil {
			return s, fmt.Errorf("sdo: reading %s: %w", name, err)
		}
		s.Tensors[name] = values
	}
	return s, nil
}

// Restore continues from a state of the same problem and Tuning, as if the
// updates before it had been made here. A state of another one is refused.
func (t *Tuner) Restore(ctx context.Context, s TunerState) error {
	if s.Update < 0 {
		return fmt.Errorf("sdo: a state after %d updates, want 0 or more", s.Update)
	}
	tensors := t.tensors()
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		if got, want := len(s.Tensors[name]), tensors[name].Len(); got != want {
			return fmt.Errorf("sdo: the state has %d numbers of %s, want %d; it belongs to another tuning", got, name, want)
		}
	}
	for name := range s.Tensors {
		if tensors[name] == nil {
			return fmt.Errorf("sdo: the state holds %s, which this tuning has not; it belongs to another", name)
		}
	}
	for name, v := range tensors {
		if err := t.Space.Write(ctx, v, s.Tensors[name]); err != nil {
			return fmt.Errorf("sdo: writing %s: %w", name, err)
		}
	}
	t.update = s.Update
	return t.changed(ctx)
}
