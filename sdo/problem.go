package sdo

import (
	"fmt"
	"slices"

	"github.com/sdo-go/sdo/sampler"
)

// Problem says what is sampled, how, and what a good sample is. A batch of
// Rows independent latents of Cols numbers each is steered at once.
type Problem struct {
	Space     Space
	Network   Network
	Table     *sampler.Table
	Objective Objective // nil where a Chain is only asked for rollouts
	Judge     Judge     // nil but for EarlyStopJudge
	Rows      int
	Cols      int
	// Start is the noise to begin from, Rows x Cols of unit deviation. It is
	// only read.
	Start Vector
	// NoiseSeed fixes the fresh noise of a stochastic sampler. Step i draws
	// stream 2^31+i of it, the same in every rollout, so that the sample stays a
	// function of the latent alone. Below that the streams are the caller's.
	NoiseSeed uint64
	// Cond is the condition handed to every network call; nil for none.
	Cond Vector
	// Guidance is the classifier-free guidance scale; 0 is none, which is what 1
	// is too. Where it is another, or varies, and Cond is not nil, every step asks
	// the network twice, with and without Cond, and both branches count as network
	// calls.
	Guidance float64
}

// Validate reports the first thing that cannot work, in one sentence.
func (p Problem) Validate() error {
	switch {
	case p.Space == nil:
		return fmt.Errorf("sdo: the problem has no vector space")
	case p.Network == nil:
		return fmt.Errorf("sdo: the problem has no network")
	case p.Table == nil || len(p.Table.Steps) == 0:
		return fmt.Errorf("sdo: the sampler has 0 steps, want at least 1")
	case !(p.Table.Start > 0) || !finite(p.Table.Start):
		return fmt.Errorf("sdo: the sampler starts at %v times the latent, want a number above 0", p.Table.Start)
	case p.Rows < 1 || p.Cols < 1:
		return fmt.Errorf("sdo: a batch of %d rows and %d columns, want at least 1 of each", p.Rows, p.Cols)
	case p.Start != nil && p.Start.Len() != p.size():
		return fmt.Errorf("sdo: the start has %d numbers, %d rows of %d need %d", p.Start.Len(), p.Rows, p.Cols, p.size())
	case !finite(p.Guidance):
		return fmt.Errorf("sdo: the guidance scale is %v, want a finite number", p.Guidance)
	}
	return nil
}

// allows refuses variables that the problem does not have.
func (p Problem) allows(vary []Variable) error {
	for i, v := range vary {
		switch {
		case !slices.Contains(Variables, v):
			return fmt.Errorf("sdo: variable is %q, want one of %v", v, Variables)
		case slices.Contains(vary[:i], v):
			return fmt.Errorf("sdo: variable %s is named twice", v)
		case v == Condition && p.Cond == nil:
			return fmt.Errorf("sdo: the condition varies, but the problem has none to begin from")
		case v == GuidanceScale && p.Cond == nil:
			return fmt.Errorf("sdo: the guidance scale varies, but there is no condition to guide by; add one")
		}
		if trainable, ok := p.Network.(Trainable); v == Parameters && (!ok || len(trainable.Params()) == 0) {
			return fmt.Errorf("sdo: the parameters vary, but the network has none to train; choose some, or a LoRA")
		}
	}
	return nil
}

func (p Problem) size() int { return p.Rows * p.Cols }

// guidance is the scale that Guidance stands for.
func (p Problem) guidance() float64 {
	if p.Guidance == 0 {
		return 1
	}
	return p.Guidance
}
