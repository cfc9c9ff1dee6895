package sdo

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/sdo-go/sdo/sampler"
)

// Setting names a gradient under audit: at which variable, by which method, what
// that freezes and which calls it keeps.
//
//	latents               sdo, active first, and identity
//	condition, parameters sdo, active importance, uniform, all, first or last;
//	                      and draft-K
type Setting struct {
	Variable Variable
	Method   Method
	Freeze   sampler.Freeze // what a chained gradient freezes changes nothing
	Active   Active         // of sdo; empty for the method's own
}

func (s Setting) String() string {
	name := string(s.Method)
	if s.Active != "" {
		name += " " + string(s.Active)
	}
	return fmt.Sprintf("%s at the %s, %s frozen", name, s.Variable, s.Freeze)
}

// Surrogate is what the setting differentiates. It refuses what cannot be
// audited.
func (s Setting) Surrogate(table *sampler.Table) (Surrogate, error) {
	none := Surrogate{}
	switch s.Variable {
	case Latents:
		if s.Method != MethodSDO && s.Method != MethodIdentity {
			return none, fmt.Errorf("sdo: the method to audit at the latents is %q, want sdo or identity", s.Method)
		}
		if s.Active != "" {
			return none, fmt.Errorf("sdo: active %s to audit at the latents, want none given: sdo keeps the first call, identity none", s.Active)
		}
	case Condition, Parameters:
	default:
		return none, fmt.Errorf("sdo: the variable to audit is %q, want %s, %s or %s", s.Variable, Latents, Condition, Parameters)
	}
	surrogate, err := s.Method.Surrogate(s.Variable)
	if err != nil {
		return none, err
	}
	if s.Active != "" {
		if s.Method != MethodSDO {
			return none, fmt.Errorf("sdo: active %s to audit of %s, which has its own; want none given", s.Active, s.Method)
		}
		surrogate.Active, surrogate.Calls = s.Active, 1
	}
	if !surrogate.chained() {
		surrogate.Freeze = s.Freeze
	}
	chained := surrogate.chained() && surrogate.Active == ActiveLast
	plain := !surrogate.chained() && !surrogate.Jump && surrogate.Renoised == 0 && !surrogate.Refresh.stale() &&
		(surrogate.Active.draws() || slices.Contains([]Active{ActiveAll, ActiveFirst, ActiveLast}, surrogate.Active))
	if s.Variable != Latents && !chained && !plain {
		return none, fmt.Errorf("sdo: %s cannot be audited at the %s; audit sdo, active importance, uniform, all, first or last, or draft-K", s.label(), s.Variable)
	}
	if _, err := surrogate.Transport(table, []Variable{s.Variable}); err != nil {
		return none, err
	}
	return surrogate, nil
}

func (s Setting) label() string {
	if s.Active != "" {
		return "active " + string(s.Active)
	}
	return "method " + string(s.Method)
}

// draws reports whether the choice is of one call by chance, all of which an
// audit can go through.
func (a Active) draws() bool { return a == ActiveUniform || a == ActiveImportance }

// AllCalls is the step of a Comparison that is not of one call.
const AllCalls = -1

// Comparison holds a setting's gradient against full back-propagation's. Units
// are pictures, of parameters batches: a batch has one gradient.
type Comparison struct {
	Setting
	// Step is k. At the latents the gradient is the one at x_k, with N-k steps
	// to go. At condition and parameters it is that of the draw of call k, its
	// weight 1/pi_k included, or, at AllCalls, the setting's own; of a setting
	// that draws, the expectation of the agreement.
	Step    int
	Units   []Agreement
	LeftOut int // units without a full gradient there, as a satisfied term leaves them
}

// Agreement compares the two gradients of one unit.
type Agreement struct {
	Cosine       float64 // 0 where the setting has no gradient
	RelativeNorm float64 // |gradient| / |full gradient|
	Negative     float64 // probability of a negative cosine: 0 or 1 but for draws
	// Kept is |gradient - P g| / |P g| at the latents: what the kept call adds to
	// the identity rule with the same freeze. 0 where P is 0.
	Kept float64
}

// Add appends the units of another batch.
func (c *Comparison) Add(other Comparison) {
	c.Units = append(c.Units, other.Units...)
	c.LeftOut += other.LeftOut
}

// Summary is a Comparison over its units.
type Summary struct {
	CosineMean, CosineMin, RelativeNormMean float64
	NegativeShare                           float64 // of a negative cosine
	KeptMean                                float64
}

// Summary reduces the units; ok is false where there are none.
func (c Comparison) Summary() (s Summary, ok bool) {
	n := float64(len(c.Units))
	s.CosineMin = 1
	for _, a := range c.Units {
		s.CosineMean += a.Cosine / n
		s.CosineMin = min(s.CosineMin, a.Cosine)
		s.RelativeNormMean += a.RelativeNorm / n
		s.KeptMean += a.Kept / n
		s.NegativeShare += a.Negative / n
	}
	return s, n > 0
}

// Audit compares settings with full back-propagation, all on one rollout from
// Problem.Start, at the values the problem has. With g the gradient at the
// sample, lambda_k what back-propagation has at x_k, phi_k what it has at the
// frozen quantity of call k, and o_k, J_k the call's output and Jacobian:
//
//	latents    full     lambda_k, passed on the way to x_0
//	           sdo      P g + w_0 (p_k g + q_k J_k^T g) of the steps from k on
//	           identity P g
//	condition  full     sum_k (do_k/dc)^T q_k phi_k
//	           sdo      w_k q_k/pi_k (do_k/dc)^T g of the draw of call k
//	parameters          as the condition
//
// A run that starts at x_k and takes the N-k steps that are left ends in the same
// sample, so one rollout serves every k. Where a solver looks back on calls
// before k no run can start there, and the latents have no comparison but at the
// start. That is N kept calls and 2N backward, whatever the settings are;
// DemandOfAudit counts the vectors.
//
// reference is full or full-checkpoint. The comparisons come by variable, then by
// step, AllCalls last, then by setting. On an error, cancellation included, they
// hold what was measured: the later states of the latents.
func Audit(ctx context.Context, p Problem, reference Method, settings []Setting, observe Observer) ([]Comparison, error) {
	if reference != MethodFull && reference != MethodFullCheckpoint {
		return nil, fmt.Errorf("sdo: the reference of an audit is %q, want full or full-checkpoint", reference)
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	a, err := newAudit(p, settings)
	if err != nil {
		return nil, err
	}
	surrogate, err := reference.Surrogate(a.vary...)
	if err != nil {
		return nil, err
	}
	if a.Chain, err = NewChain(p, surrogate, a.vary...); err != nil {
		return nil, err
	}
	defer a.free()
	if err := a.allocate(); err != nil {
		return nil, err
	}
	a.Chain.Observe(observe)
	if _, err := a.Forward(ctx, Values{Latents: p.Start}, 0); err != nil {
		return nil, err
	}
	if err := a.run(ctx); err != nil {
		return a.measured(), err
	}
	return a.measured(), nil
}

// AuditDemand is what an audit holds on the device beside the chain of its
// reference.
type AuditDemand struct {
	Vectors   int // of the batch's size
	Gradients int // at everything of condition and parameters that is audited
}

// DemandOfAudit counts before anything is allocated.
func DemandOfAudit(table *sampler.Table, settings []Setting) AuditDemand {
	d := AuditDemand{Vectors: 1}
	if slices.ContainsFunc(settings, func(s Setting) bool { return s.Variable == Latents }) {
		d.Vectors += 2
	}
	if slices.ContainsFunc(settings, func(s Setting) bool { return s.Variable != Latents }) {
		d.Gradients = 1 + len(table.Steps) + len(tailsOf(table, settings))
	}
	return d
}

// tailsOf lists, rising, the numbers of last calls whose chained gradient is
// compared.
func tailsOf(table *sampler.Table, settings []Setting) (tails []int) {
	for _, s := range settings {
		if surrogate, err := s.Surrogate(table); err == nil && surrogate.chained() {
			tails = append(tails, surrogate.Calls)
		}
	}
	slices.Sort(tails)
	return slices.Compact(tails)
}

// audit is one batch's way back through the rollout.
type audit struct {
	*Chain
	vary    []Variable
	latents []*latentRule
	shared  []*sharedRule
	tails   []int // see tailsOf

	sampleSeed  Vector    // g; Chain.seed moves on to lambda_k
	seedNumbers []float64 // g, read back
	pulled      Vector    // J_k^T g of the call being passed
	full        Values    // the full gradients
	parts       []Values  // (do_k/dc)^T g of each call, and of the parameters
	chained     []Values  // full gradients of the last calls alone, by tails
}

func newAudit(p Problem, settings []Setting) (*audit, error) {
	a := &audit{tails: tailsOf(p.Table, settings)}
	for _, v := range Variables {
		for _, s := range settings {
			if s.Variable == v && !slices.Contains(a.vary, v) {
				a.vary = append(a.vary, v)
			}
		}
	}
	for _, s := range settings {
		surrogate, err := s.Surrogate(p.Table)
		if err != nil {
			return nil, err
		}
		if s.Variable == Latents {
			rule, err := newLatentRule(p.Table, s, surrogate)
			if err != nil {
				return nil, err
			}
			a.latents = append(a.latents, rule)
			continue
		}
		rule, err := newSharedRule(p.Table, s, surrogate)
		if err != nil {
			return nil, err
		}
		a.shared = append(a.shared, rule)
	}
	return a, nil
}

// allocate makes the audit's own vectors.
func (a *audit) allocate() (err error) {
	if err := a.Chain.allocate(&a.sampleSeed); err != nil {
		return err
	}
	if a.varies(Latents) {
		if err := a.Chain.allocate(&a.pulled); err != nil {
			return err
		}
	}
	if a.full, err = a.problem.NewValues(a.vary...); err != nil {
		return err
	}
	shared := slices.DeleteFunc(slices.Clone(a.vary), func(v Variable) bool { return v == Latents })
	if len(shared) == 0 {
		return nil
	}
	a.parts, a.chained = make([]Values, len(a.problem.Table.Steps)), make([]Values, len(a.tails))
	for _, list := range [][]Values{a.parts, a.chained} {
		for i := range list {
			if list[i], err = a.problem.NewValues(shared...); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *audit) free() {
	freeVectors(a.problem.Space, a.sampleSeed, a.pulled)
	a.problem.FreeValues(a.full)
	for _, list := range [][]Values{a.parts, a.chained} {
		for _, v := range list {
			a.problem.FreeValues(v)
		}
	}
	a.Chain.Free()
}

// run goes back through the rollout once and compares.
func (a *audit) run(ctx context.Context) (err error) {
	if a.seedNumbers, err = a.problem.Space.Read(ctx, a.seed); err != nil {
		return err
	}
	if err := a.problem.copy(a.sampleSeed, a.seed); err != nil {
		return err
	}
	a.visit = visitor{call: a.pull, state: a.passState}
	if err := a.Backward(ctx, a.full); err != nil || len(a.shared) == 0 {
		return err
	}
	return a.compareShared(ctx)
}

// measured lists the comparisons in order.
func (a *audit) measured() (all []Comparison) {
	for k := range a.problem.Table.Steps {
		for _, rule := range a.latents {
			if rule.states[k] != nil {
				all = append(all, rule.states[k].Comparison)
			}
		}
	}
	for _, v := range a.vary {
		for k := range a.problem.Table.Steps {
			for _, rule := range a.shared {
				if rule.Variable == v && rule.draws != nil {
					all = append(all, rule.draws[k])
				}
			}
		}
		for _, rule := range a.shared {
			if rule.Variable == v {
				all = append(all, rule.own)
			}
		}
	}
	return all
}

// pull sends the seed at the sample through a call.
func (a *audit) pull(ctx context.Context, call *activeCall) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var into Gradients
	if slices.ContainsFunc(a.latents, func(r *latentRule) bool { return r.states[call.index] != nil }) {
		into.X = a.pulled
	}
	if len(a.parts) > 0 {
		into.Cond, into.Params = a.parts[call.index].Condition, a.parts[call.index].Parameters
	}
	if into.X == nil && into.Cond == nil && into.Params == nil {
		return nil
	}
	if err := call.kept.Backward(ctx, a.sampleSeed, into); err != nil {
		return fmt.Errorf("sdo: audit of step %d: %w", call.index, err)
	}
	return nil
}

// passState is told that back-propagation has come to x_k, whose gradient is
// there: so is what calls k and later give to condition and parameters.
func (a *audit) passState(ctx context.Context, k int, gradient Vector) error {
	if i := slices.Index(a.tails, len(a.parts)-k); i >= 0 && len(a.parts) > 0 {
		if err := a.copyShared(a.chained[i], a.full); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(a.latents, func(r *latentRule) bool { return r.states[k] != nil }) {
		return nil
	}
	return a.compareLatents(ctx, k, gradient)
}

// copyShared copies what the values hold of condition and parameters.
func (a *audit) copyShared(dst, src Values) error {
	if dst.Condition != nil {
		if err := a.problem.copy(dst.Condition, src.Condition); err != nil {
			return err
		}
	}
	for i, p := range dst.Parameters {
		if err := a.problem.copy(p, src.Parameters[i]); err != nil {
			return err
		}
	}
	return nil
}

// latentRule is a setting's gradient at every state a run can start from.
type latentRule struct {
	Setting
	states []*latentState // by k, nil where none can
}

// latentState makes the gradient at x_k of g and J_k^T g, and compares it.
type latentState struct {
	Comparison
	carry            float64 // of g
	ofSeed, ofPulled float64 // what the kept call adds, of g and of J_k^T g
}

func newLatentRule(table *sampler.Table, s Setting, surrogate Surrogate) (*latentRule, error) {
	rule := &latentRule{Setting: s, states: make([]*latentState, len(table.Steps))}
	for k := range table.Steps {
		tail := table
		if k > 0 {
			var err error
			if tail, err = table.From(k); err != nil {
				continue // a run cannot start there
			}
		}
		t, err := tail.Freeze(surrogate.Freeze)
		if err != nil {
			return nil, fmt.Errorf("sdo: %w", err)
		}
		at := &latentState{Comparison: Comparison{Setting: s, Step: k}, carry: t.Carry}
		if surrogate.Active == ActiveFirst {
			weight := tail.Start * t.Weights[0]
			at.ofSeed, at.ofPulled = weight*t.Steps[0].FromState, weight*t.Steps[0].FromOutput
		}
		rule.states[k] = at
	}
	return rule, nil
}

// compareLatents compares at x_k. The sums are few and run in float64 on the
// host, where near cancellation of the two parts of a gradient costs nothing.
func (a *audit) compareLatents(ctx context.Context, k int, gradient Vector) error {
	pulled, err := a.problem.Space.Read(ctx, a.pulled)
	if err != nil {
		return err
	}
	full, err := a.problem.Space.Read(ctx, gradient)
	if err != nil {
		return err
	}
	for _, rule := range a.latents {
		for row := range a.problem.Rows {
			from, to := row*a.problem.Cols, (row+1)*a.problem.Cols
			if err := rule.states[k].compare(full[from:to], a.seedNumbers[from:to], pulled[from:to]); err != nil {
				return fmt.Errorf("sdo: audit of step %d, row %d: %w", k, row, err)
			}
		}
	}
	return nil
}

// compare adds one picture.
func (s *latentState) compare(full, seed, pulled []float64) error {
	var product, square, fullSquare, keptSquare, seedSquare float64
	for i, f := range full {
		kept := s.ofSeed*seed[i] + s.ofPulled*pulled[i]
		g := s.carry*seed[i] + kept
		product += g * f
		square += g * g
		fullSquare += f * f
		keptSquare += kept * kept
		seedSquare += seed[i] * seed[i]
	}
	agreement, ok, err := agree(product, square, fullSquare)
	switch {
	case err != nil:
		return fmt.Errorf("%v: %w", s.Setting, err)
	case !ok:
		s.LeftOut++
		return nil
	}
	if identity := s.carry * s.carry * seedSquare; identity > 0 {
		agreement.Kept = math.Sqrt(keptSquare / identity)
	}
	s.Units = append(s.Units, agreement)
	return nil
}

// agree compares gradients by their product and squared norms; ok is false where
// there is no full gradient.
func agree(product, square, fullSquare float64) (a Agreement, ok bool, err error) {
	if !finite(fullSquare) || !finite(square) || !finite(product) {
		return a, false, fmt.Errorf("the squared norm of the gradient is %v, of the full one %v", square, fullSquare)
	}
	if fullSquare == 0 {
		return a, false, nil
	}
	a.RelativeNorm = math.Sqrt(square / fullSquare)
	if square > 0 {
		a.Cosine = max(-1, min(1, product/math.Sqrt(square)/math.Sqrt(fullSquare)))
	}
	if a.Cosine < 0 {
		a.Negative = 1
	}
	return a, true, nil
}

// sharedRule is a setting's gradient at a variable that every call sees: made of
// the calls' parts sum_k weights[k] (do_k/dv)^T g, of one such part by chance, or
// chained over the last calls.
type sharedRule struct {
	Setting
	weights     []float64 // w_k q_k, divided by pi_k where the rule draws; 0 for calls that are not kept
	probability []float64 // of the draw of each call; nil where the rule does not draw
	tail        int       // how many last calls are chained; 0 for none

	draws []Comparison // by call, where the rule draws
	own   Comparison   // at AllCalls
}

func newSharedRule(table *sampler.Table, s Setting, surrogate Surrogate) (*sharedRule, error) {
	n := len(table.Steps)
	rule := &sharedRule{Setting: s, own: Comparison{Setting: s, Step: AllCalls}}
	if surrogate.chained() {
		rule.tail = surrogate.Calls
		return rule, nil
	}
	t, err := table.Freeze(surrogate.Freeze)
	if err != nil {
		return nil, fmt.Errorf("sdo: %w", err)
	}
	rule.weights = make([]float64, n)
	for k, step := range t.Steps {
		rule.weights[k] = t.Weights[k] * step.FromOutput
	}
	switch surrogate.Active {
	case ActiveFirst:
		clear(rule.weights[1:])
	case ActiveLast:
		clear(rule.weights[:n-1])
	case ActiveUniform:
		rule.probability = slices.Repeat([]float64{1 / float64(n)}, n)
	case ActiveImportance:
		rule.probability = importance(t)
	}
	for k, p := range rule.probability {
		rule.draws = append(rule.draws, Comparison{Setting: s, Step: k})
		if p > 0 {
			rule.weights[k] /= p
		}
	}
	return rule, nil
}

// products are what a cosine is made of, for each unit.
type products struct{ withFull, square []float64 }

func (p products) add(unit int, x, full []float64) {
	for i, f := range full {
		p.withFull[unit] += x[i] * f
		p.square[unit] += x[i] * x[i]
	}
}

// compareShared compares at condition and parameters, once all calls' parts are
// there.
func (a *audit) compareShared(ctx context.Context) error {
	vectors := func(values Values, v Variable) []Vector {
		if v == Condition {
			return []Vector{values.Condition}
		}
		return values.Parameters
	}
	for _, v := range a.vary {
		if v == Latents {
			continue
		}
		units := a.problem.Rows
		if v == Parameters {
			units = 1
		}
		var rules []*sharedRule
		for _, rule := range a.shared {
			if rule.Variable == v {
				rules = append(rules, rule)
			}
		}
		sums := newSums(units, len(a.parts), rules)
		for tensor, full := range vectors(a.full, v) {
			parts, chained := make([]Vector, len(a.parts)), map[int]Vector{}
			for k, values := range a.parts {
				parts[k] = vectors(values, v)[tensor]
			}
			for i, tail := range a.tails {
				chained[tail] = vectors(a.chained[i], v)[tensor]
				if tail == len(a.parts) {
					chained[tail] = full
				}
			}
			if err := sums.add(ctx, a.problem.Space, full, parts, chained); err != nil {
				return err
			}
		}
		if err := sums.compare(); err != nil {
			return fmt.Errorf("sdo: audit of %w", err)
		}
	}
	return nil
}

// sums gathers the products of one variable, tensor by tensor, so that the host
// holds a few tensors at a time. They run in float64: squares of small gradients
// are no numbers of single precision.
type sums struct {
	units      int
	rules      []*sharedRule
	fullSquare []float64
	parts      []products // of each call's part
	owns       []products // of the gradient of each rule that does not draw
}

func newSums(units, calls int, rules []*sharedRule) *sums {
	s := &sums{units: units, rules: rules, fullSquare: make([]float64, units), parts: make([]products, calls), owns: make([]products, len(rules))}
	for _, list := range [][]products{s.parts, s.owns} {
		for i := range list {
			list[i] = products{make([]float64, units), make([]float64, units)}
		}
	}
	return s
}

func (s *sums) add(ctx context.Context, space Space, full Vector, parts []Vector, chained map[int]Vector) error {
	reference, err := space.Read(ctx, full)
	if err != nil {
		return err
	}
	width := len(reference) / s.units
	row := func(x []float64, unit int) []float64 { return x[unit*width : (unit+1)*width] }
	each := func(p products, x []float64) {
		for unit := range s.units {
			p.add(unit, row(x, unit), row(reference, unit))
		}
	}
	each(products{s.fullSquare, make([]float64, s.units)}, reference)
	gradients := make([][]float64, len(s.rules))
	for i, rule := range s.rules {
		switch {
		case rule.tail > 0:
			if gradients[i], err = space.Read(ctx, chained[rule.tail]); err != nil {
				return err
			}
		case rule.draws == nil:
			gradients[i] = make([]float64, len(reference))
		}
	}
	for k, part := range parts {
		x, err := space.Read(ctx, part)
		if err != nil {
			return err
		}
		each(s.parts[k], x)
		for i, rule := range s.rules {
			if rule.tail > 0 || rule.draws != nil || rule.weights[k] == 0 {
				continue
			}
			for j := range x {
				gradients[i][j] += rule.weights[k] * x[j]
			}
		}
	}
	for i, gradient := range gradients {
		if gradient != nil {
			each(s.owns[i], gradient)
		}
	}
	return nil
}

// compare turns the sums into agreements.
func (s *sums) compare() error {
	for unit, fullSquare := range s.fullSquare {
		for i, rule := range s.rules {
			var own Agreement
			ok := true
			if rule.draws == nil {
				var err error
				if own, ok, err = agree(s.owns[i].withFull[unit], s.owns[i].square[unit], fullSquare); err != nil {
					return fmt.Errorf("%v: %w", rule.Setting, err)
				}
			}
			for k := range rule.draws {
				weight, p := rule.weights[k], rule.probability[k]
				draw, gradient, err := agree(weight*s.parts[k].withFull[unit], weight*weight*s.parts[k].square[unit], fullSquare)
				if err != nil {
					return fmt.Errorf("%v, call %d: %w", rule.Setting, k, err)
				}
				if ok = gradient; !ok {
					rule.draws[k].LeftOut++
					continue
				}
				rule.draws[k].Units = append(rule.draws[k].Units, draw)
				own.Cosine += p * draw.Cosine
				own.RelativeNorm += p * draw.RelativeNorm
				own.Negative += p * draw.Negative
			}
			if !ok {
				rule.own.LeftOut++
				continue
			}
			rule.own.Units = append(rule.own.Units, own)
		}
	}
	return nil
}
