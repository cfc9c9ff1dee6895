package sdo

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/sdo-go/sdo/sampler"
)

// activeCall is a call of the current rollout that a gradient will pass.
type activeCall struct {
	index int
	// weight is 1/pi, for everything that every call sees: condition, parameters
	// and bridged inputs. It is 0 where the call is there for the latents alone.
	weight     float64
	kept       Kept   // nil where it will be made again
	state      Vector // its input, where it will be made again
	difference Vector // conditional less unconditional output, where the guidance scale is chained
}

// scale is what the seed of the call's backward is multiplied by: its weight, or
// 1 where only the latents ask.
func (a *activeCall) scale() float64 {
	if a.weight == 0 {
		return 1
	}
	return a.weight
}

// draw decides which calls are active at an update, rising. The same update
// draws the same, so a run can be resumed.
func (c *Chain) draw(update int) []activeCall {
	s, n := c.surrogate, len(c.problem.Table.Steps)
	random := rand.New(rand.NewPCG(s.Seed, 0x5D0<<32|uint64(update)))
	var calls []activeCall
	add := func(i int, weight float64) { calls = append(calls, activeCall{index: i, weight: weight}) }
	switch s.Active {
	case ActiveFirst:
		add(0, 1)
	case ActiveLast:
		for i := n - s.Calls; i < n; i++ {
			add(i, 1)
		}
	case ActiveAll:
		for i := range n {
			add(i, 1)
		}
	case ActiveUniform:
		for _, i := range random.Perm(n)[:s.Calls] {
			add(i, float64(n)/float64(s.Calls))
		}
	case ActiveImportance:
		p := importance(c.transport)
		at := random.Float64()
		i := 0
		for ; i < n-1 && at >= p[i]; i++ {
			at -= p[i]
		}
		for p[i] == 0 { // rounding ran past the last possible one
			i--
		}
		add(i, 1/p[i])
	case ActiveCycle:
		add(update%n, float64(n))
	case ActiveSpaced:
		// Strides of n/K from a first one anywhere in the first stride.
		first := random.Float64() * float64(n) / float64(s.Calls)
		for k := range s.Calls {
			add(min(n-1, int(first+float64(k)*float64(n)/float64(s.Calls))), 1)
		}
	case ActiveTail:
		for i := n - 1 - random.IntN(n); i < n; i++ {
			add(i, 1)
		}
	case ActiveLate:
		add(n-1-random.IntN(min(s.Calls, n)), 1)
	}
	slices.SortFunc(calls, func(a, b activeCall) int { return a.index - b.index })
	// The latents are reached by the first call alone, drawn or not.
	if c.varies(Latents) && !s.chained() && !s.Jump && len(calls) > 0 && calls[0].index != 0 {
		calls = slices.Insert(calls, 0, activeCall{})
	}
	return calls
}

// importance is the probability of each call under ActiveImportance. The part
// of call i in the surrogate's gradient is w_i q_i (do_i/dv)^T g, so it is
// proportional to |w_i q_i|: |w_i| where the network predicts what is frozen.
func importance(t *sampler.Transport) []float64 {
	p, total := make([]float64, len(t.Steps)), 0.0
	for i, step := range t.Steps {
		p[i] = math.Abs(t.Weights[i] * step.FromOutput)
		total += p[i]
	}
	for i := range p {
		p[i] /= total
	}
	return p
}

// activeAt is call i of the last forward, nil where it is not active.
func (c *Chain) activeAt(i int) *activeCall {
	for k := range c.active {
		if c.active[k].index == i {
			return &c.active[k]
		}
	}
	return nil
}
