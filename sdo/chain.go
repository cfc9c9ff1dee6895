package sdo

import (
	"context"
	"fmt"

	"github.com/sdo-go/sdo/sampler"
)

// Method names a rule for the gradient at the start latent. All rules share
// the rollout and hence the losses.
type Method string

const (
	MethodSDO            Method = "sdo"             // first call kept, all others frozen: N + 1 calls
	MethodFull           Method = "full"            // every call kept: N calls' activations at once
	MethodFullCheckpoint Method = "full-checkpoint" // every state stored, one call kept at a time: 2N calls
	MethodIdentity       Method = "identity"        // no network backward at all
)

// rule is a method at work on one chain.
type rule interface {
	// forward makes network call i of a rollout that will be differentiated.
	forward(ctx context.Context, i int, in Input, out Vector) error
	// backward turns chain.seed, the gradient at the sample, into the gradient
	// at the latent. It may overwrite the seed.
	backward(ctx context.Context, grad Vector) error
	// release drops what forward kept and backward did not use.
	release()
	// free returns the rule's vectors to the space.
	free()
}

// rules lists every method. A new one is a file with its rule and a line here.
var rules = map[Method]func(*Chain) (rule, error){
	MethodSDO:            newShortcut,
	MethodFull:           newFull,
	MethodFullCheckpoint: newCheckpointed,
	MethodIdentity:       newIdentity,
}

// Chain is a sampler run as one differentiable function from the start latent
// to one loss per row. It owns every vector the run needs and reuses them: but
// for the two full methods their number does not depend on the steps. A chain
// is not safe for concurrent use.
type Chain struct {
	problem   Problem
	network   Network // problem.Network, counted, guided where asked for
	guided    *Guided
	transport *sampler.Transport // of the freeze; nil for the full methods
	rule      rule
	counters  Counters
	observe   Observer

	state   Vector // the sampler's current state, after a forward the sample
	output  Vector // the network's last output; on the way back the gradient there
	seed    Vector // gradient of the summed losses at the sample
	product Vector // a Jacobian's transpose times a gradient
	fresh   Vector // a stochastic sampler's noise of one step; nil for others

	// memories is a ring of what the latest calls left for a multistep sampler,
	// call i in slot i modulo its length; on the way back, of their gradients.
	memories []Vector
}

// noiseStream is the first stream of Problem.NoiseSeed that a chain draws from.
const noiseStream = 1 << 31

// Vectors is how many vectors of the batch's size a chain holds for a sampler,
// whatever the number of steps. The method full-checkpoint adds one a call.
func Vectors(table *sampler.Table) int {
	n := 4
	if table.Stochastic() {
		n++
	}
	if depth := table.Depth(); depth > 0 {
		n += depth + 1 // a call leaves its memory before the earlier ones go
	}
	return n
}

// NewChain checks the problem and allocates. freeze matters to sdo and, as a
// scale, to identity; the full methods hold nothing fixed and ignore it.
// Problem.Start may be nil.
func NewChain(p Problem, method Method, freeze sampler.Freeze) (*Chain, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	newRule, ok := rules[method]
	if !ok {
		return nil, fmt.Errorf("sdo: method is %q, want sdo, full, full-checkpoint or identity", method)
	}
	c := &Chain{problem: p}
	c.network = countedNetwork{Network: p.Network, counters: &c.counters}
	if p.Cond != nil && p.Guidance != 0 && p.Guidance != 1 {
		c.guided = &Guided{Space: p.Space, Network: c.network, Scale: p.Guidance}
		c.network = c.guided
	}
	var err error
	if c.transport, err = method.Transport(p.Table, freeze); err != nil {
		return nil, err
	}
	mine := []*Vector{&c.state, &c.output, &c.seed, &c.product}
	if p.Table.Stochastic() {
		mine = append(mine, &c.fresh)
	}
	c.memories = make([]Vector, Vectors(p.Table)-len(mine))
	for i := range c.memories {
		mine = append(mine, &c.memories[i])
	}
	err = c.allocate(mine...)
	if err == nil {
		c.rule, err = newRule(c)
	}
	if err != nil {
		c.Free()
		return nil, err
	}
	return c, nil
}

// Transport is the sampler with the quantity frozen that the method holds
// fixed; nil for the full methods, which hold nothing. It refuses a freeze that
// leaves no gradient.
func (m Method) Transport(table *sampler.Table, freeze sampler.Freeze) (*sampler.Transport, error) {
	if m != MethodSDO && m != MethodIdentity {
		return nil, nil
	}
	transport, err := table.Freeze(freeze)
	if err != nil {
		return nil, fmt.Errorf("sdo: %w", err)
	}
	if transport.Carry == 0 && (m == MethodIdentity || transport.Weights[0] == 0) {
		return nil, fmt.Errorf("sdo: method %s with freeze %s has no gradient, because the sampler's last step leaves no noise; freeze eps or v", m, freeze)
	}
	return transport, nil
}

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
	if c.rule != nil {
		c.rule.release()
		c.rule.free()
	}
	if c.guided != nil {
		c.guided.Free()
	}
	freeVectors(c.problem.Space, c.state, c.output, c.seed, c.product, c.fresh)
	freeVectors(c.problem.Space, c.memories...)
}

// Observe sends the chain's step and backward events to an observer.
func (c *Chain) Observe(observe Observer) { c.observe = observe }

// Counters returns the cost so far.
func (c *Chain) Counters() Counters { return c.counters }

// Sample returns the vector with the last rollout's result. The chain owns it
// and the next rollout overwrites it.
func (c *Chain) Sample() Vector { return c.state }

// Rollout samples from the latent and returns Sample. It keeps nothing and
// needs no objective.
func (c *Chain) Rollout(ctx context.Context, latent Vector) (Vector, error) {
	err := c.rollout(ctx, latent, c.predict)
	return c.state, err
}

// Evaluate samples from the latent and returns one loss per row. Nothing is
// kept.
func (c *Chain) Evaluate(ctx context.Context, latent Vector) ([]float64, error) {
	if err := c.rollout(ctx, latent, c.predict); err != nil {
		return nil, err
	}
	return c.score(ctx, nil)
}

// Forward is Evaluate with what Backward needs left alive. Backward or Release
// must follow before the next rollout.
func (c *Chain) Forward(ctx context.Context, latent Vector) ([]float64, error) {
	c.Release()
	err := c.rollout(ctx, latent, c.rule.forward)
	var losses []float64
	if err == nil {
		losses, err = c.score(ctx, c.seed)
	}
	if err != nil {
		c.Release()
		return nil, err
	}
	return losses, nil
}

// Backward writes the gradient of the summed losses at the latent of the last
// Forward into grad and releases what was kept.
func (c *Chain) Backward(ctx context.Context, grad Vector) error {
	defer c.Release()
	return c.rule.backward(ctx, grad)
}

// Release drops what the last Forward kept alive.
func (c *Chain) Release() { c.rule.release() }

// rollout runs the sampler. Only the latest state lives on; a call that wants
// an earlier one copies it.
func (c *Chain) rollout(ctx context.Context, latent Vector, call func(context.Context, int, Input, Vector) error) error {
	x, steps := latent, c.problem.Table.Steps
	if start := c.problem.Table.Start; start != 1 {
		if err := c.problem.Space.Combine(c.state, []float64{start}, []Vector{latent}); err != nil {
			return err
		}
		x = c.state
	}
	for i := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := call(ctx, i, c.input(i, x), c.output); err != nil {
			return fmt.Errorf("sdo: step %d of %d: %w", i+1, len(steps), err)
		}
		if err := c.advance(i, x); err != nil {
			return err
		}
		x = c.state
		c.notify(Event{Kind: EventStep, Step: i + 1, Steps: len(steps), State: c.state})
	}
	return nil
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
	for k, weight := range step.Earlier {
		coeffs, terms = append(coeffs, weight), append(terms, c.memory(i-1-k))
	}
	if step.Noise != 0 {
		if err := c.problem.Space.Normal(c.fresh, c.problem.NoiseSeed, noiseStream+uint32(i)); err != nil {
			return fmt.Errorf("sdo: noise of step %d: %w", i+1, err)
		}
		coeffs, terms = append(coeffs, step.Noise), append(terms, c.fresh)
	}
	return c.problem.Space.Combine(c.state, coeffs, terms)
}

// remembers reports whether call i leaves something that may be read.
func (c *Chain) remembers(i int) bool {
	return len(c.memories) > 0 && c.problem.Table.Steps[i].Memory != (sampler.Memory{})
}

func (c *Chain) memory(i int) Vector { return c.memories[i%len(c.memories)] }

func (c *Chain) input(i int, x Vector) Input {
	return Input{X: x, Timestep: c.problem.Table.Steps[i].Timestep, Cond: c.problem.Cond}
}

// predict is the call of a rollout that keeps nothing.
func (c *Chain) predict(ctx context.Context, _ int, in Input, out Vector) error {
	return c.network.Predict(ctx, in, out)
}

func (c *Chain) score(ctx context.Context, seed Vector) ([]float64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.problem.Objective == nil {
		return nil, fmt.Errorf("sdo: the problem has no objective")
	}
	losses, err := c.problem.Objective.Evaluate(ctx, c.state, seed)
	if err != nil {
		return nil, fmt.Errorf("sdo: objective: %w", err)
	}
	if len(losses) != c.problem.Rows {
		return nil, fmt.Errorf("sdo: the objective gave %d losses for %d rows", len(losses), c.problem.Rows)
	}
	return losses, nil
}

// pullBack sets product = J^T seed for one kept call, where done of calls were
// differentiated before.
func (c *Chain) pullBack(ctx context.Context, kept Kept, seed Vector, done, calls int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := kept.Backward(ctx, seed, Gradients{X: c.product}); err != nil {
		return fmt.Errorf("sdo: backward %d of %d: %w", done+1, calls, err)
	}
	c.notify(Event{Kind: EventBackward, Step: done + 1, Steps: calls})
	return nil
}

// combine sets dst = a*x + b*y.
func (c *Chain) combine(dst Vector, a float64, x Vector, b float64, y Vector) error {
	return c.problem.Space.Combine(dst, []float64{a, b}, []Vector{x, y})
}

func (c *Chain) notify(e Event) {
	if c.observe != nil {
		e.Counters = c.counters
		c.observe(e)
	}
}

// Gradient returns the losses at a latent and the gradient of their sum there,
// by the method and freeze named. The caller frees the vector.
func Gradient(ctx context.Context, p Problem, latent Vector, method Method, freeze sampler.Freeze) (Vector, []float64, error) {
	c, err := NewChain(p, method, freeze)
	if err != nil {
		return nil, nil, err
	}
	defer c.Free()
	losses, err := c.Forward(ctx, latent)
	if err != nil {
		return nil, nil, err
	}
	var grad Vector
	if err := c.allocate(&grad); err != nil {
		return nil, nil, err
	}
	if err := c.Backward(ctx, grad); err != nil {
		p.Space.FreeVector(grad)
		return nil, nil, err
	}
	return grad, losses, nil
}

// freeVectors returns to the space the vectors that were made.
func freeVectors(space Space, vectors ...Vector) {
	for _, v := range vectors {
		if v != nil {
			space.FreeVector(v)
		}
	}
}
