package sdo

import (
	"context"
	"fmt"
	"slices"

	"github.com/sdo-go/sdo/sampler"
)

// Chain is a sampler run as one differentiable function from the variables to
// one loss per row. It owns every vector the run needs and reuses them; how many
// there are is Surrogate.Demand. A chain is not safe for concurrent use.
type Chain struct {
	problem   Problem
	surrogate Surrogate
	vary      []Variable
	wrt       Wrt     // what kept calls are kept for
	network   Network // problem.Network, counted, guided where asked for
	guided    *Guided
	transport *sampler.Transport // of the freeze; nil where nothing is differentiated
	estimate  *sampler.Transport // of the clean sample, for Jump and Renoised
	counters  Counters
	observe   Observer
	visit     visitor // of chained gradients; empty but for an audit

	at     Values       // of the last rollout
	update int          // of the last forward
	active []activeCall // of the last forward, rising
	fresh  bool         // the last forward's loss was that of the sample
	jumps  bool         // the current rollout ends at its active call

	state   Vector   // the sampler's current state, after a rollout the sample
	output  Vector   // the network's last output; on the way back the gradient there
	seed    Vector   // gradient of the summed losses at the sample
	product Vector   // a Jacobian's transpose times a gradient
	noise   Vector   // a stochastic sampler's noise of one step; nil for others
	towards Vector   // sum_i w_i q_i (conditional - unconditional output); nil where the scale does not vary
	stored  []Vector // inputs of active calls, where they are made again
	apart   []Vector // differences of active calls, where the guidance scale is chained
	partial Values   // one call's gradients, where several add up
	added   bool     // something was written to the gradients that add up

	// memories is a ring of what the latest calls left for a multistep sampler,
	// call i in slot i modulo its length; on the way back, of their gradients.
	memories []Vector
	stale    *stale // nil where every call is made at every update
}

// noiseStream is the first stream of Problem.NoiseSeed that a chain draws from.
const noiseStream = 1 << 31

// NewChain checks the problem and allocates. No variables make a chain that
// only samples, whatever the surrogate. Problem.Start may be nil.
func NewChain(p Problem, s Surrogate, vary ...Variable) (*Chain, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	c := &Chain{problem: p, surrogate: s, vary: vary}
	if err := c.prepare(); err != nil {
		c.Free()
		return nil, err
	}
	return c, nil
}

func (c *Chain) prepare() (err error) {
	p, s := c.problem, c.surrogate
	if len(c.vary) > 0 {
		if err := p.allows(c.vary); err != nil {
			return err
		}
		if c.transport, err = s.Transport(p.Table, c.vary); err != nil {
			return err
		}
	}
	if len(c.vary) > 0 && (s.Jump || s.Renoised > 0) {
		if c.estimate, err = p.Table.Freeze(sampler.FreezeX0); err != nil {
			return fmt.Errorf("sdo: the clean sample at each call: %w", err)
		}
	}
	c.network = counted(p.Network, &c.counters)
	if p.Cond != nil && (p.guidance() != 1 || c.varies(GuidanceScale)) {
		c.guided = &Guided{Space: p.Space, Network: c.network}
		c.network = c.guided
	}
	demand := s.Demand(p.Table, c.vary)
	c.wrt = demand.Wrt
	mine := []*Vector{&c.state, &c.output, &c.seed, &c.product}
	if p.Table.Stochastic() || s.Renoised > 0 {
		mine = append(mine, &c.noise)
	}
	if depth := p.Table.Depth(); depth > 0 {
		c.memories = make([]Vector, depth+1)
	}
	if c.varies(GuidanceScale) {
		mine = append(mine, &c.towards)
		if s.chained() {
			c.apart = make([]Vector, s.most(len(p.Table.Steps)))
		}
	}
	switch {
	case s.Renoised > 0:
		c.stored = make([]Vector, 1)
	case s.Recompute && c.wrt != 0:
		c.stored = make([]Vector, s.held(len(p.Table.Steps), c.vary))
	}
	for _, list := range [][]Vector{c.memories, c.apart, c.stored} {
		for i := range list {
			mine = append(mine, &list[i])
		}
	}
	if err := c.allocate(mine...); err != nil {
		return err
	}
	if s.Refresh.stale() && len(c.vary) > 0 {
		if c.stale, err = newStale(c); err != nil {
			return err
		}
	}
	var several []Variable
	for _, v := range []Variable{Condition, Parameters} {
		if c.varies(v) && max(s.Renoised, s.most(len(p.Table.Steps))) > 1 {
			several = append(several, v)
		}
	}
	c.partial, err = p.NewValues(several...)
	return err
}

// Transport is the sampler with the surrogate's quantity frozen, once the
// surrogate is found to make sense. It refuses a freeze that leaves a variable
// without gradient.
func (s Surrogate) Transport(table *sampler.Table, vary []Variable) (*sampler.Transport, error) {
	if err := s.Validate(table, vary); err != nil {
		return nil, err
	}
	transport, err := table.Freeze(s.Freeze)
	if err != nil {
		return nil, fmt.Errorf("sdo: %w", err)
	}
	alone := !slices.Contains(vary, Condition) && !slices.Contains(vary, Parameters) && !slices.Contains(vary, GuidanceScale)
	reached := s.Active != ActiveNone && (s.chained() || s.Jump || transport.Weights[0] != 0)
	if slices.Contains(vary, Latents) && transport.Carry == 0 && !reached && alone {
		return nil, fmt.Errorf("sdo: freeze %s leaves the latents no gradient, because the sampler's last step leaves no noise; freeze eps or v", s.Freeze)
	}
	return transport, nil
}

func (c *Chain) varies(v Variable) bool { return slices.Contains(c.vary, v) }

// allocate makes vectors of the batch's size.
func (c *Chain) allocate(vectors ...*Vector) (err error) {
	for _, v := range vectors {
		if *v, err = c.problem.Space.NewVector(c.problem.size()); err != nil {
			return fmt.Errorf("sdo: a vector of %d numbers: %w", c.problem.size(), err)
		}
	}
	return nil
}

// Free returns every vector to the space.
func (c *Chain) Free() {
	c.Release()
	if c.guided != nil {
		c.guided.Free()
	}
	if c.stale != nil {
		c.stale.free()
	}
	space := c.problem.Space
	freeVectors(space, c.state, c.output, c.seed, c.product, c.noise, c.towards)
	for _, list := range [][]Vector{c.memories, c.apart, c.stored} {
		freeVectors(space, list...)
	}
	c.problem.FreeValues(c.partial)
}

// Observe sends the chain's step and backward events to an observer.
func (c *Chain) Observe(observe Observer) { c.observe = observe }

// Counters returns the cost so far.
func (c *Chain) Counters() Counters { return c.counters }

// Sample returns the vector with the last rollout's result. The chain owns it
// and the next rollout overwrites it.
func (c *Chain) Sample() Vector { return c.state }

// Fresh reports whether the losses of the last forward were those of the sample
// at its values, which a jump and a stale rollout do not give.
func (c *Chain) Fresh() bool { return c.fresh }

// Rollout samples and returns Sample. It keeps nothing and needs no objective.
// What is nil in the values is the problem's own; the latents may not be.
func (c *Chain) Rollout(ctx context.Context, at Values) (Vector, error) {
	c.Release()
	err := c.rollout(ctx, at, c.predict)
	return c.state, err
}

// Evaluate samples and returns one loss per row. Nothing is kept.
func (c *Chain) Evaluate(ctx context.Context, at Values) ([]float64, error) {
	if _, err := c.Rollout(ctx, at); err != nil {
		return nil, err
	}
	return c.score(ctx, c.state, nil)
}

// Forward is Evaluate with what Backward needs left alive, of the surrogate: see
// Fresh. update decides random choices. Backward or Release must follow before
// the next rollout.
func (c *Chain) Forward(ctx context.Context, at Values, update int) ([]float64, error) {
	c.Release()
	if len(c.vary) == 0 {
		return nil, fmt.Errorf("sdo: a forward of a chain without variables")
	}
	c.update, c.fresh, c.active = update, c.surrogate.faithful(), c.draw(update)
	for k := range c.active {
		if len(c.stored) > k && c.surrogate.Renoised == 0 {
			c.active[k].state = c.stored[k]
		}
		if len(c.apart) > k {
			c.active[k].difference = c.apart[k]
		}
	}
	var err error
	if c.towards != nil {
		err = c.problem.Space.Combine(c.towards, nil, nil)
	}
	switch {
	case err != nil:
	case c.stale != nil:
		err = c.stale.rollout(ctx, at)
	default:
		c.jumps = c.surrogate.Jump
		err = c.rollout(ctx, at, c.keep)
		c.jumps = false
	}
	var losses []float64
	if err == nil {
		seed := c.seed
		if c.surrogate.Renoised > 0 {
			seed = nil // its gradients begin at the copies
		}
		losses, err = c.score(ctx, c.state, seed)
	}
	if err != nil {
		c.Release()
		return nil, err
	}
	return losses, nil
}

// Backward writes the gradient of the summed losses of the last Forward at every
// variable, overwriting, and releases what was kept.
func (c *Chain) Backward(ctx context.Context, into Values) error {
	defer c.Release()
	c.added = false
	var err error
	switch {
	case c.surrogate.Renoised > 0:
		err = c.backwardRenoised(ctx, into)
	case c.surrogate.Jump:
		err = c.backwardJump(ctx, into)
	case c.surrogate.chained():
		err = c.backwardChained(ctx, into)
	default:
		err = c.backwardFrozen(ctx, into)
	}
	return err
}

// Release drops what the last Forward kept alive.
func (c *Chain) Release() {
	for k := range c.active {
		c.active[k].release()
	}
}

func (a *activeCall) release() {
	if a.kept != nil {
		a.kept.Release()
		a.kept = nil
	}
}

// rollout runs the sampler to its end, or to the call a jump leaves from. Only
// the latest state lives on; a call that wants an earlier one copies it.
func (c *Chain) rollout(ctx context.Context, at Values, call func(context.Context, int, Input) error) error {
	x, err := c.begin(ctx, at)
	if err != nil {
		return err
	}
	steps := c.problem.Table.Steps
	for i := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := call(ctx, i, c.input(i, x)); err != nil {
			return fmt.Errorf("sdo: step %d of %d: %w", i+1, len(steps), err)
		}
		if c.jumpsFrom(i) {
			clean := c.estimate.Steps[i]
			if err := c.combine(c.state, clean.FromState, x, clean.FromOutput, c.output); err != nil {
				return err
			}
			c.stepped(i)
			return nil
		}
		if err := c.advance(i, x); err != nil {
			return err
		}
		x = c.state
		c.stepped(i)
	}
	return nil
}

// begin takes the values in and returns the first state, which may be the
// latents themselves.
func (c *Chain) begin(ctx context.Context, at Values) (Vector, error) {
	c.at = at
	scales := []float64{c.problem.guidance()}
	if at.GuidanceScale != nil {
		var err error
		if scales, err = c.problem.Space.Read(ctx, at.GuidanceScale); err != nil {
			return nil, fmt.Errorf("sdo: reading the guidance scales: %w", err)
		}
	}
	switch {
	case c.guided != nil:
		c.guided.Scales = scales
	case at.GuidanceScale != nil:
		return nil, fmt.Errorf("sdo: guidance scales are given, but the chain asks the network once a step; let guidance_scale vary or set the problem's guidance")
	}
	start := c.problem.Table.Start
	if start == 1 {
		return at.Latents, nil
	}
	return c.state, c.problem.Space.Combine(c.state, []float64{start}, []Vector{at.Latents})
}

// jumpsFrom reports whether this rollout ends at call i.
func (c *Chain) jumpsFrom(i int) bool {
	return c.jumps && c.active[0].index == i
}

// advance makes the state of step i+1 from that of step i, which is x, and the
// network's output there.
func (c *Chain) advance(i int, x Vector) error {
	step := c.problem.Table.Steps[i]
	coeffs, terms := []float64{step.State, step.Output}, []Vector{x, c.output}
	if c.remembers(i) {
		if err := c.combine(c.memory(i), step.Memory.State, x, step.Memory.Output, c.output); err != nil {
			return err
		}
	}
	return c.finishStep(i, coeffs, terms)
}

// finishStep adds what the memories and fresh noise contribute to a step and
// makes the next state.
func (c *Chain) finishStep(i int, coeffs []float64, terms []Vector) error {
	step := c.problem.Table.Steps[i]
	for k, weight := range step.Earlier {
		coeffs, terms = append(coeffs, weight), append(terms, c.memory(i-1-k))
	}
	if step.Noise != 0 {
		noise := c.noise
		if c.at.Noises != nil {
			noise = c.at.Noises[i]
		} else if err := c.problem.Space.Normal(noise, c.problem.NoiseSeed, noiseStream+uint32(i)); err != nil {
			return fmt.Errorf("sdo: noise of step %d: %w", i+1, err)
		}
		coeffs, terms = append(coeffs, step.Noise), append(terms, noise)
	}
	return c.problem.Space.Combine(c.state, coeffs, terms)
}

// remembers reports whether call i leaves something that may be read.
func (c *Chain) remembers(i int) bool {
	return len(c.memories) > 0 && c.problem.Table.Steps[i].Memory != (sampler.Memory{})
}

func (c *Chain) memory(i int) Vector { return c.memories[i%len(c.memories)] }

func (c *Chain) input(i int, x Vector) Input {
	cond := c.problem.Cond
	if c.at.Condition != nil {
		cond = c.at.Condition
	}
	return Input{X: x, Timestep: c.problem.Table.Steps[i].Timestep, Cond: cond}
}

// predict is the call of a rollout that keeps nothing.
func (c *Chain) predict(ctx context.Context, _ int, in Input) error {
	return c.network.Predict(ctx, in, c.output)
}

// keep is the call of a rollout that will be differentiated.
func (c *Chain) keep(ctx context.Context, i int, in Input) (err error) {
	call := c.activeAt(i)
	switch {
	case call == nil || c.wrt == 0 || c.surrogate.Renoised > 0:
		err = c.predict(ctx, i, in)
	case call.state != nil:
		if err = c.problem.copy(call.state, in.X); err == nil {
			err = c.predict(ctx, i, in)
		}
	default:
		call.kept, err = c.network.Keep(ctx, in, c.wrt, c.output)
	}
	if err != nil || c.towards == nil {
		return err
	}
	if call != nil && call.difference != nil {
		return c.problem.copy(call.difference, c.guided.Difference())
	}
	if c.surrogate.chained() {
		return nil
	}
	weight := c.transport.Weights[i] * c.transport.Steps[i].FromOutput
	if c.surrogate.Jump {
		weight = 0
		if call != nil {
			weight = c.estimate.Steps[i].FromOutput
		}
	}
	return c.combine(c.towards, 1, c.towards, weight, c.guided.Difference())
}

func (c *Chain) score(ctx context.Context, sample, seed Vector) ([]float64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.problem.Objective == nil {
		return nil, fmt.Errorf("sdo: the problem has no objective")
	}
	losses, err := c.problem.Objective.Evaluate(ctx, sample, seed)
	if err != nil {
		return nil, fmt.Errorf("sdo: objective: %w", err)
	}
	if len(losses) != c.problem.Rows {
		return nil, fmt.Errorf("sdo: the objective gave %d losses for %d rows", len(losses), c.problem.Rows)
	}
	return losses, nil
}

// combine sets dst = a*x + b*y.
func (c *Chain) combine(dst Vector, a float64, x Vector, b float64, y Vector) error {
	return c.problem.Space.Combine(dst, []float64{a, b}, []Vector{x, y})
}

// stepped tells that step i was taken.
func (c *Chain) stepped(i int) {
	call := c.activeAt(i)
	c.notify(Event{
		Kind: EventStep, Step: i + 1, Steps: len(c.problem.Table.Steps), State: c.state,
		Kept: call != nil && call.kept != nil,
	})
}

func (c *Chain) notify(e Event) {
	if c.observe != nil {
		e.Counters = c.counters
		c.observe(e)
	}
}
