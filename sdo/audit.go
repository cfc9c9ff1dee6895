package sdo

import (
	"context"
	"fmt"
	"math"

	"github.com/sdo-go/sdo/sampler"
)

// Setting names a gradient under audit: a method and what it freezes.
type Setting struct {
	Method Method
	Freeze sampler.Freeze
}

func (s Setting) String() string { return fmt.Sprintf("%s, %s frozen", s.Method, s.Freeze) }

// Comparison holds a setting's gradient at one state of the rollout against
// full back-propagation's, picture by picture.
type Comparison struct {
	Setting
	Step     int // k: the gradient is the one at x_k, with N-k steps to go
	Pictures []Agreement
	LeftOut  int // pictures without a full gradient there, as a satisfied term leaves them
}

// Agreement compares the two gradients of one picture.
type Agreement struct {
	Cosine       float64 // 0 where the setting has no gradient
	RelativeNorm float64 // |gradient| / |full gradient|
	// Kept is |gradient - P g| / |P g|: what the kept call adds to the identity
	// rule with the same freeze. 0 where P is 0.
	Kept float64
}

// Add appends the pictures of another batch.
func (c *Comparison) Add(other Comparison) {
	c.Pictures = append(c.Pictures, other.Pictures...)
	c.LeftOut += other.LeftOut
}

// Summary is a Comparison over its pictures.
type Summary struct {
	CosineMean, CosineMin, RelativeNormMean float64
	NegativeShare                           float64 // pictures whose cosine is below 0
	KeptMean                                float64
}

// Summary reduces the pictures; ok is false where there are none.
func (c Comparison) Summary() (s Summary, ok bool) {
	n := float64(len(c.Pictures))
	s.CosineMin = 1
	for _, a := range c.Pictures {
		s.CosineMean += a.Cosine / n
		s.CosineMin = min(s.CosineMin, a.Cosine)
		s.RelativeNormMean += a.RelativeNorm / n
		s.KeptMean += a.Kept / n
		if a.Cosine < 0 {
			s.NegativeShare += 1 / n
		}
	}
	return s, n > 0
}

// Audit compares settings with full back-propagation at every state of the
// rollout from Problem.Start. A run that starts at x_k and takes the N-k steps
// that are left ends in the same sample, so one rollout serves all of them:
//
//	full     lambda_k, which back-propagation passes on its way to x_0
//	sdo      P_k g + w_k (p_k g + q_k J_k^T g)
//	identity P_k g
//
// where g is the gradient at the sample and P_k the carry of the steps from k
// on. That is N kept calls and 2N backward, whatever the settings are.
//
// reference is full or full-checkpoint. The comparisons come by step, then by
// setting. On an error, cancellation included, they hold what was measured: the
// later states.
func Audit(ctx context.Context, p Problem, reference Method, settings []Setting, observe Observer) ([]Comparison, error) {
	if reference != MethodFull && reference != MethodFullCheckpoint {
		return nil, fmt.Errorf("sdo: the reference of an audit is %q, want full or full-checkpoint", reference)
	}
	if err := Auditable(p.Table); err != nil {
		return nil, err
	}
	surrogate, err := reference.Surrogate(Latents)
	if err != nil {
		return nil, err
	}
	c, err := NewChain(p, surrogate, Latents)
	if err != nil {
		return nil, err
	}
	defer c.Free()
	transports := make([]*sampler.Transport, len(settings))
	for i, s := range settings {
		if transports[i], err = s.Transport(p.Table); err != nil {
			return nil, err
		}
	}
	c.Observe(observe)
	if _, err := c.Forward(ctx, Values{Latents: p.Start}, 0); err != nil {
		return nil, err
	}
	a := &audit{Chain: c, settings: settings, transports: transports, carry: make([]float64, len(settings))}
	if a.seedNumbers, err = p.Space.Read(ctx, c.seed); err != nil {
		return nil, err
	}
	if err := c.allocate(&a.sampleSeed, &a.atStart, &a.pulled); err != nil {
		return nil, err
	}
	defer freeVectors(p.Space, a.sampleSeed, a.atStart, a.pulled)
	if err := p.Space.Combine(a.sampleSeed, []float64{1}, []Vector{c.seed}); err != nil {
		return nil, err
	}
	for i := range a.carry {
		a.carry[i] = 1
	}
	for k := range p.Table.Steps {
		for _, s := range settings {
			a.measured = append(a.measured, Comparison{Setting: s, Step: k})
		}
	}
	c.visit = visitor{call: a.pull, state: a.compareAt}
	err = c.Backward(ctx, Values{Latents: a.atStart})
	return a.measured, err
}

// Auditable refuses samplers that no state can restart: what a solver with a
// memory does next depends on calls before the state.
func Auditable(table *sampler.Table) error {
	if table.Depth() > 0 {
		return fmt.Errorf("sdo: the audit restarts the sampler at every state, which a solver with a memory does not allow; audit one without, such as ddim, euler or flow-euler")
	}
	return nil
}

// Transport is the sampler with the setting's quantity frozen. It refuses what
// cannot be audited.
func (s Setting) Transport(table *sampler.Table) (*sampler.Transport, error) {
	if s.Method != MethodSDO && s.Method != MethodIdentity {
		return nil, fmt.Errorf("sdo: the method to audit is %q, want sdo or identity", s.Method)
	}
	surrogate, err := s.Method.Surrogate(Latents)
	if err != nil {
		return nil, err
	}
	surrogate.Freeze = s.Freeze
	return surrogate.Transport(table, []Variable{Latents})
}

// audit is one batch's way back through the rollout.
type audit struct {
	*Chain
	settings    []Setting
	transports  []*sampler.Transport
	carry       []float64 // P_{k+1} of each setting, P_k once x_k is visited
	sampleSeed  Vector    // g; Chain.seed moves on to lambda_k
	seedNumbers []float64 // g, read back
	atStart     Vector    // lambda_0 times Table.Start
	pulled      Vector    // J_k^T g of the call being passed
	measured    []Comparison
}

// pull sends the seed at the sample through a call.
func (a *audit) pull(ctx context.Context, call *activeCall) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := call.kept.Backward(ctx, a.sampleSeed, Gradients{X: a.pulled}); err != nil {
		return fmt.Errorf("sdo: audit of step %d: %w", call.index, err)
	}
	return nil
}

// compareAt compares at x_k, where back-propagation has just come to. The sums
// are few and run in float64 on the host, where near cancellation of the two
// parts of a gradient costs nothing.
func (a *audit) compareAt(ctx context.Context, k int, gradient Vector) error {
	pulled, err := a.problem.Space.Read(ctx, a.pulled)
	if err != nil {
		return err
	}
	full, err := a.problem.Space.Read(ctx, gradient)
	if err != nil {
		return err
	}
	scale := 1.0
	if k == 0 {
		scale = a.problem.Table.Start // from the first state to the latent, as full has done
	}
	for i, t := range a.transports {
		step := t.Steps[k]
		a.carry[i] *= step.State
		var weight float64 // of the kept call
		if a.settings[i].Method == MethodSDO {
			weight = scale * t.Weights[k]
		}
		at := &a.measured[k*len(a.settings)+i]
		for row := range a.problem.Rows {
			from, to := row*a.problem.Cols, (row+1)*a.problem.Cols
			err := at.compare(full[from:to], a.seedNumbers[from:to], pulled[from:to],
				scale*a.carry[i], weight*step.FromState, weight*step.FromOutput)
			if err != nil {
				return fmt.Errorf("sdo: audit of step %d, row %d: %w", k, row, err)
			}
		}
	}
	return nil
}

// compare adds one picture, whose gradient is (carry + ofSeed) seed + ofPulled
// pulled.
func (c *Comparison) compare(full, seed, pulled []float64, carry, ofSeed, ofPulled float64) error {
	var product, square, fullSquare, keptSquare, seedSquare float64
	for i, f := range full {
		kept := ofSeed*seed[i] + ofPulled*pulled[i]
		g := carry*seed[i] + kept
		product += g * f
		square += g * g
		fullSquare += f * f
		keptSquare += kept * kept
		seedSquare += seed[i] * seed[i]
	}
	if !finite(fullSquare) || !finite(square) {
		return fmt.Errorf("the squared norm of the %s gradient is %v, of the full one %v", c.Method, square, fullSquare)
	}
	if fullSquare == 0 {
		c.LeftOut++
		return nil
	}
	a := Agreement{RelativeNorm: math.Sqrt(square / fullSquare)}
	if square > 0 {
		a.Cosine = max(-1, min(1, product/math.Sqrt(square*fullSquare)))
	}
	if identity := carry * carry * seedSquare; identity > 0 {
		a.Kept = math.Sqrt(keptSquare / identity)
	}
	c.Pictures = append(c.Pictures, a)
	return nil
}
