package sdo

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/sdo-go/sdo/sampler"
)

// shifted is o = 0.3 x + c + p, c the condition and p its weights.
type shifted struct{ offset []float64 }

func (s shifted) output(x []float64, _ float64, cond, out []float64) {
	for i := range out {
		out[i] = 0.3*x[i] + cond[i] + s.offset[i]
	}
}

func (s shifted) pullBack(_ []float64, _ float64, _, seed, dst []float64) {
	for i := range dst {
		dst[i] = 0.3 * seed[i]
	}
}

func (s shifted) weights() [][]float64 { return [][]float64{s.offset} }

func (s shifted) pullBackRest(_ []float64, _ float64, _, seed, atCond []float64, atWeights [][]float64) {
	copy(atCond, seed)
	for _, at := range atWeights {
		for i := range at {
			at[i] += seed[i]
		}
	}
}

// sharing is a problem whose network has parameters and, for a condition of this
// width, an input.
func sharing(table *sampler.Table, network rowNetwork, width int) Problem {
	p := problem(table, network)
	p.Cond = &boxed{make(vector, testRows*width)}
	_ = p.Space.Normal(p.Cond, 8, 0)
	return p
}

// sharedSettings are all that can be audited at condition and parameters, with
// the freezes of a table and the last two calls chained.
func sharedSettings(table *sampler.Table) (all []Setting) {
	for _, v := range []Variable{Condition, Parameters} {
		for _, freeze := range freezesOf(table) {
			for _, active := range []Active{ActiveImportance, ActiveUniform, ActiveAll, ActiveFirst, ActiveLast} {
				all = append(all, Setting{v, MethodSDO, freeze, active})
			}
		}
		all = append(all, Setting{v, "draft-1", "", ""})
		if len(table.Steps) > 1 {
			all = append(all, Setting{v, "draft-2", "", ""}, Setting{v, Method(fmt.Sprintf("draft-%d", len(table.Steps))), "", ""})
		}
	}
	return all
}

// eachSharing runs a test on every solver with a network of offsets.
func eachSharing(t *testing.T, steps []int, test func(t *testing.T, p Problem)) {
	for _, prediction := range []sampler.Prediction{sampler.PredictV, sampler.PredictFlow} {
		for _, n := range steps {
			for solver, table := range tables(t, prediction, n) {
				t.Run(fmt.Sprintf("%s/%s/%d", solver, prediction, n), func(t *testing.T) {
					test(t, sharing(table, newPerceptron(testCols, 6), 6))
				})
			}
		}
	}
}

// sharedGradient is Gradient at a variable, a slice to a unit.
func sharedGradient(t *testing.T, p Problem, s Surrogate, v Variable, update int) [][]float64 {
	t.Helper()
	g, _, err := Gradient(context.Background(), p, s, Values{Latents: p.Start}, update, v)
	if err != nil {
		t.Fatal(err)
	}
	defer p.FreeValues(g)
	if v == Condition {
		all := slices.Clone(numbers(g.Condition))
		return slices.Collect(slices.Chunk(all, len(all)/p.Rows))
	}
	var all []float64
	for _, x := range g.Parameters {
		all = append(all, numbers(x)...)
	}
	return [][]float64{all}
}

func agreement(gradient, full []float64) Agreement {
	a := Agreement{
		Cosine:       dot(gradient, full) / math.Sqrt(dot(gradient, gradient)*dot(full, full)),
		RelativeNorm: math.Sqrt(dot(gradient, gradient) / dot(full, full)),
	}
	if a.Cosine < 0 {
		a.Negative = 1
	}
	return a
}

// What the audit says of condition and parameters is what the gradients say: of
// each draw that a rule can make, of the rules that draw nothing, with and
// without guidance. A draw of call k is one of ActiveCycle, whose weight is N.
func TestAuditEqualsGradients(t *testing.T) {
	check := func(t *testing.T, p Problem) {
		n := len(p.Table.Steps)
		settings := sharedSettings(p.Table)
		measured := audited(t, p, MethodFull, settings...)
		again := audited(t, p, MethodFullCheckpoint, settings...)
		seen := map[Setting]int{}
		for i, c := range measured {
			seen[c.Setting]++
			s, err := c.Surrogate(p.Table)
			if err != nil {
				t.Fatal(err)
			}
			full := sharedGradient(t, p, setting(MethodFull, ""), c.Variable, 0)
			if len(c.Units) != len(full) || c.LeftOut != 0 {
				t.Fatalf("%v: %d units and %d left out, want %d", c.Setting, len(c.Units), c.LeftOut, len(full))
			}
			for unit := range full {
				var want Agreement
				switch draws := s.Active.draws(); {
				case c.Step != AllCalls && !draws:
					t.Fatalf("%v has a comparison of step %d", c.Setting, c.Step)
				case c.Step != AllCalls:
					want = drawOf(t, p, s, c, unit, c.Step, full)
				case draws:
					for k, probability := range probabilities(t, p, s) {
						at := drawOf(t, p, s, c, unit, k, full)
						want.Cosine += probability * at.Cosine
						want.RelativeNorm += probability * at.RelativeNorm
						want.Negative += probability * at.Negative
					}
				default:
					want = agreement(sharedGradient(t, p, s, c.Variable, 0)[unit], full[unit])
				}
				what := fmt.Sprintf("%v, step %d, unit %d", c.Setting, c.Step, unit)
				wantAgreement(t, what, c.Units[unit], want, 1e-9)
				if math.Abs(c.Units[unit].Negative-want.Negative) > 1e-9 {
					t.Errorf("%s: negative %v, want %v", what, c.Units[unit].Negative, want.Negative)
				}
				wantAgreement(t, what+" checkpointed", again[i].Units[unit], c.Units[unit], 1e-12)
			}
		}
		for _, s := range settings {
			want := 1
			if s.Active == ActiveImportance || s.Active == ActiveUniform {
				want = n + 1
			}
			if seen[s] != want {
				t.Errorf("%v: %d comparisons, want %d", s, seen[s], want)
			}
		}
	}
	eachSharing(t, []int{3}, check)
	t.Run("guided", func(t *testing.T) {
		p := sharing(table(t, sampler.PredictV, 3), newPerceptron(testCols, 6), 6)
		p.Guidance = 2.5
		check(t, p)
	})
}

// probabilities of the draws of a rule, from the transport's own scalars.
func probabilities(t *testing.T, p Problem, s Surrogate) []float64 {
	tr, n := transport(t, p, s.Freeze), len(p.Table.Steps)
	all, total := make([]float64, n), 0.0
	for k := range all {
		all[k] = 1
		if s.Active == ActiveImportance {
			all[k] = math.Abs(tr.Weights[k] * tr.Steps[k].FromOutput)
		}
		total += all[k]
	}
	for k := range all {
		all[k] /= total
	}
	return all
}

// drawOf is the agreement of the draw of call k.
func drawOf(t *testing.T, p Problem, s Surrogate, c Comparison, unit, k int, full [][]float64) Agreement {
	probability := probabilities(t, p, s)[k]
	s.Active = ActiveCycle
	gradient := sharedGradient(t, p, s, c.Variable, k)[unit]
	for i := range gradient {
		gradient[i] /= float64(len(p.Table.Steps)) * probability
	}
	return agreement(gradient, full[unit])
}

// With one call everything that keeps it is full back-propagation, at every
// variable.
func TestAuditOfOneCallIsExact(t *testing.T) {
	eachSharing(t, []int{1}, func(t *testing.T, p Problem) {
		settings := append(sharedSettings(p.Table), auditSettings(p.Table)...)
		compared := map[Variable]bool{}
		for _, c := range audited(t, p, MethodFull, settings...) {
			if c.Method == MethodIdentity {
				continue
			}
			compared[c.Variable] = true
			for _, a := range c.Units {
				if math.Abs(a.Cosine-1) > 1e-12 || math.Abs(a.RelativeNorm-1) > 1e-12 || a.Negative != 0 {
					t.Errorf("%v, step %d: %+v, want cosine and norm 1", c.Setting, c.Step, a)
				}
			}
		}
		if len(compared) != 3 {
			t.Errorf("compared at %v, want all three variables", compared)
		}
	})
}

// For o = m x + c + p every part is a multiple of the seed,
//
//	full sum_k B_k prod_{j>k} (A_j + B_j m), the draw of call k w_k q_k/pi_k
//
// so every cosine is 1 and only lengths differ.
func TestAuditOfSharedClosedForm(t *testing.T) {
	const n = 5
	p := sharing(table(t, sampler.PredictV, n), shifted{make([]float64, testCols)}, testCols)
	full := 0.0
	for _, step := range p.Table.Steps {
		full = full*(step.State+0.3*step.Output) + step.Output
	}
	for _, c := range audited(t, p, MethodFull, sharedSettings(p.Table)...) {
		s, err := c.Surrogate(p.Table)
		if err != nil {
			t.Fatal(err)
		}
		length := 0.0
		if s.chained() {
			for _, step := range p.Table.Steps[n-s.Calls:] {
				length = length*(step.State+0.3*step.Output) + step.Output
			}
		} else {
			tr := transport(t, p, s.Freeze)
			for k, probability := range probabilities(t, p, s) {
				part := tr.Weights[k] * tr.Steps[k].FromOutput
				switch {
				case s.Active.draws() && c.Step == k:
					length = part / probability
				case s.Active.draws() && c.Step == AllCalls:
					length -= math.Abs(part) // the expectation of what has the sign of full, which is negative
				case s.Active == ActiveAll, s.Active == ActiveFirst && k == 0, s.Active == ActiveLast && k == n-1:
					length += part
				}
			}
		}
		want := Agreement{Cosine: math.Copysign(1, full*length), RelativeNorm: math.Abs(length / full)}
		for _, got := range c.Units {
			wantAgreement(t, fmt.Sprintf("%v, step %d", c.Setting, c.Step), got, want, 1e-10)
		}
	}
}

// All variables are compared on one rollout, as each is alone, at no more calls.
func TestAuditOfAllVariablesIsThatOfEach(t *testing.T) {
	const n = 4
	p := sharing(table(t, sampler.PredictV, n), newPerceptron(testCols, 6), 6)
	settings := append(auditSettings(p.Table), sharedSettings(p.Table)...)
	var last Counters
	together, err := Audit(context.Background(), p, MethodFull, settings, func(e Event) { last = e.Counters })
	if err != nil {
		t.Fatal(err)
	}
	if last.NetworkCalls != n || last.BackwardCalls != 2*n {
		t.Errorf("%+v, want %d calls and %d backward", last, n, 2*n)
	}
	var each []Comparison
	for _, v := range Variables {
		var own []Setting
		for _, s := range settings {
			if s.Variable == v {
				own = append(own, s)
			}
		}
		if len(own) > 0 {
			each = append(each, audited(t, p, MethodFull, own...)...)
		}
	}
	if len(each) != len(together) {
		t.Fatalf("%d comparisons together, %d alone", len(together), len(each))
	}
	for i, c := range together {
		if c.Setting != each[i].Setting || c.Step != each[i].Step || !slices.Equal(c.Units, each[i].Units) {
			t.Errorf("%v, step %d: %+v together, %v, step %d: %+v alone", c.Setting, c.Step, c.Units, each[i].Setting, each[i].Step, each[i].Units)
		}
	}
}

// A row that is satisfied is left out at the condition; the parameters have a
// gradient from the others.
func TestAuditLeavesSatisfiedRowsOut(t *testing.T) {
	p := sharing(table(t, sampler.PredictV, 3), newPerceptron(testCols, 6), 6)
	p.Objective = satisfiedRow{p.Objective.(*nearTarget)}
	for _, c := range audited(t, p, MethodFull, sharedSettings(p.Table)...) {
		units, out := testRows-1, 1
		if c.Variable == Parameters {
			units, out = 1, 0
		}
		if len(c.Units) != units || c.LeftOut != out {
			t.Errorf("%v, step %d: %d units, %d left out, want %d and %d", c.Setting, c.Step, len(c.Units), c.LeftOut, units, out)
		}
	}
}

// The vectors an audit makes are those it says.
func TestAuditDemand(t *testing.T) {
	p := sharing(table(t, sampler.PredictV, 4), newPerceptron(testCols, 6), 6)
	settings := append(auditSettings(p.Table), sharedSettings(p.Table)...)
	space := p.Space.(*slices64)
	chain := func() int {
		surrogate, err := MethodFull.Surrogate(Latents, Condition, Parameters)
		if err != nil {
			t.Fatal(err)
		}
		made := space.made
		c, err := NewChain(p, surrogate, Latents, Condition, Parameters)
		if err != nil {
			t.Fatal(err)
		}
		c.Free()
		return space.made - made
	}()
	made := space.made
	audited(t, p, MethodFull, settings...)
	demand := DemandOfAudit(p.Table, settings)
	const tensors = 3 // the condition and two parameters
	if got, want := space.made-made-chain, demand.Vectors+tensors*demand.Gradients; got != want {
		t.Errorf("%d vectors made beside the chain's, want %d: %+v", got, want, demand)
	}
}

func TestAuditRefusesShared(t *testing.T) {
	p := sharing(table(t, sampler.PredictV, 3), newPerceptron(testCols, 6), 6)
	bare := p
	bare.Cond = nil
	for want, try := range map[string]struct {
		problem Problem
		setting Setting
	}{
		`sdo: the variable to audit is "noises", want latents, condition or parameters`:                                                    {p, Setting{Noises, MethodSDO, sampler.FreezeV, ""}},
		"sdo: active last to audit at the latents, want none given: sdo keeps the first call, identity none":                               {p, Setting{Latents, MethodSDO, sampler.FreezeV, ActiveLast}},
		"sdo: active cycle cannot be audited at the condition; audit sdo, active importance, uniform, all, first or last, or draft-K":      {p, Setting{Condition, MethodSDO, sampler.FreezeV, ActiveCycle}},
		"sdo: method leapalign cannot be audited at the parameters; audit sdo, active importance, uniform, all, first or last, or draft-K": {p, Setting{Parameters, MethodLeapAlign, "", ""}},
		"sdo: active all to audit of draft-2, which has its own; want none given":                                                          {p, Setting{Parameters, "draft-2", "", ActiveAll}},
		"sdo: active last wants 4 calls, the sampler makes 3; lower the number or take more steps":                                         {p, Setting{Parameters, "draft-4", "", ""}},
		"sdo: the condition varies, but the problem has none to begin from":                                                                {bare, Setting{Condition, MethodSDO, sampler.FreezeV, ""}},
		"sdo: method identity cannot be audited at the condition; audit sdo, active importance, uniform, all, first or last, or draft-K":   {p, Setting{Condition, MethodIdentity, sampler.FreezeV, ""}},
	} {
		_, err := Audit(context.Background(), try.problem, MethodFull, []Setting{try.setting}, nil)
		wantError(t, err, want)
	}
}
