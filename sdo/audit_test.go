package sdo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/sdo-go/sdo/sampler"
)

// auditSettings are both methods with every freeze that leaves a gradient on the
// table: x0 does not where the last step leaves no noise.
func auditSettings(table *sampler.Table) (all []Setting) {
	for _, freeze := range allFreezes {
		for _, s := range []Setting{{Latents, MethodSDO, freeze, ""}, {Latents, MethodIdentity, freeze, ""}} {
			if _, err := s.Surrogate(table); err == nil {
				all = append(all, s)
			}
		}
	}
	return all
}

// runAudit runs Audit and checks that nothing was leaked.
func runAudit(t *testing.T, ctx context.Context, p Problem, reference Method, settings []Setting, observe Observer) ([]Comparison, error) {
	t.Helper()
	space := p.Space.(*slices64)
	before := space.live
	measured, err := Audit(ctx, p, reference, settings, observe)
	if space.live != before || analyticOf(p).kept != 0 {
		t.Fatalf("%d vectors and %d kept calls leaked", space.live-before, analyticOf(p).kept)
	}
	return measured, err
}

func audited(t *testing.T, p Problem, reference Method, settings ...Setting) []Comparison {
	t.Helper()
	measured, err := runAudit(t, context.Background(), p, reference, settings, nil)
	if err != nil {
		t.Fatal(err)
	}
	return measured
}

func wantAgreement(t *testing.T, what string, got, want Agreement, tolerance float64) {
	t.Helper()
	near := func(a, b float64) bool { return math.Abs(a-b) <= tolerance*max(1, math.Abs(b)) }
	if !near(got.Cosine, want.Cosine) || !near(got.RelativeNorm, want.RelativeNorm) || !near(got.Kept, want.Kept) {
		t.Errorf("%s: %+v, want %+v", what, got, want)
	}
}

// One pass must say what restarting at every state says, each gradient by its
// own method on the sampler's tail.
func TestAuditEqualsRestarting(t *testing.T) {
	check := func(t *testing.T, p Problem) {
		s := tell(t, p)
		measured := audited(t, p, MethodFull, auditSettings(p.Table)...)
		again := audited(t, p, MethodFullCheckpoint, auditSettings(p.Table)...)
		for i, c := range measured {
			tail := p
			if c.Step > 0 && p.Table.Stochastic() {
				continue // a tail would draw its noise from other streams
			}
			var err error
			if tail.Table, err = p.Table.From(c.Step); err != nil {
				t.Fatal(err)
			}
			tail.Start = &boxed{append(vector(nil), s.states[c.Step]...)}
			full := gradient(t, tail, MethodFull, "")
			own := gradient(t, tail, c.Method, c.Freeze)
			identity := gradient(t, tail, MethodIdentity, c.Freeze)
			for row := range p.Rows {
				part := func(x []float64) []float64 { return x[row*p.Cols : (row+1)*p.Cols] }
				f, g, id := part(full), part(own), part(identity)
				square := 0.0
				for j := range g {
					square += (g[j] - id[j]) * (g[j] - id[j])
				}
				want := Agreement{
					Cosine:       dot(f, g) / math.Sqrt(dot(f, f)*dot(g, g)),
					RelativeNorm: math.Sqrt(dot(g, g) / dot(f, f)),
					Kept:         math.Sqrt(square / dot(id, id)),
				}
				what := fmt.Sprintf("%v, step %d, row %d", c.Setting, c.Step, row)
				wantAgreement(t, what, c.Units[row], want, 1e-9)
				wantAgreement(t, what+" checkpointed", again[i].Units[row], c.Units[row], 0)
			}
		}
	}
	eachProblem(t, []int{2, 7}, check)
	t.Run("guided", func(t *testing.T) { check(t, guided(t, sampler.PredictV, 4)) })
}

// With one step to go SDO is full back-propagation, whatever is frozen.
func TestAuditOfOneStepIsExact(t *testing.T) {
	eachProblem(t, []int{1, 6}, func(t *testing.T, p Problem) {
		for _, c := range audited(t, p, MethodFull, auditSettings(p.Table)...) {
			s, ok := c.Summary()
			if !ok || len(c.Units) != p.Rows || c.LeftOut != 0 {
				t.Fatalf("%v: %d pictures and %d left out of %d", c.Setting, len(c.Units), c.LeftOut, p.Rows)
			}
			if c.Method != MethodSDO || c.Step != len(p.Table.Steps)-1 {
				continue
			}
			if math.Abs(s.CosineMean-1) > 1e-12 || math.Abs(s.CosineMin-1) > 1e-12 || math.Abs(s.RelativeNormMean-1) > 1e-12 || s.NegativeShare != 0 {
				t.Errorf("%v: %+v, want cosine and norm 1", c.Setting, s)
			}
		}
	})
}

// For o = m(t) x all gradients are multiples of the one at the sample:
//
//	full prod (A_i + B_i m_i), identity P_k, sdo P_k + w_k (p_k + q_k m_k)
//
// Where the full factor is negative, the shortcuts point the wrong way.
func TestAuditClosedForm(t *testing.T) {
	unit := [][]float64{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}}
	for _, flipped := range []bool{false, true} {
		table := table(t, sampler.PredictEpsilon, 5)
		last := table.Steps[4]
		net := linear{unit, func(timestep float64) float64 {
			if flipped && timestep == last.Timestep {
				return -2 * last.State / last.Output // A + B m = -A
			}
			return 0.3 + timestep/4000
		}}
		p := problem(table, net)
		for _, c := range audited(t, p, MethodFull, auditSettings(p.Table)...) {
			tr := transport(t, p, c.Freeze)
			full, carry := 1.0, 1.0
			for i := c.Step; i < 5; i++ {
				full *= table.Steps[i].State + table.Steps[i].Output*net.scale(table.Steps[i].Timestep)
				carry *= tr.Steps[i].State
			}
			kept := 0.0
			if c.Method == MethodSDO {
				first := tr.Steps[c.Step]
				kept = tr.Weights[c.Step] * (first.FromState + first.FromOutput*net.scale(table.Steps[c.Step].Timestep))
			}
			want := Agreement{Cosine: math.Copysign(1, full*(carry+kept)), RelativeNorm: math.Abs((carry + kept) / full), Kept: math.Abs(kept / carry)}
			for _, got := range c.Units {
				wantAgreement(t, fmt.Sprintf("%v, step %d, flipped %v", c.Setting, c.Step, flipped), got, want, 1e-12)
			}
			if s, _ := c.Summary(); c.Method == MethodIdentity && (s.NegativeShare == 1) != flipped {
				t.Errorf("%v, step %d: negative share %v, flipped %v", c.Setting, c.Step, s.NegativeShare, flipped)
			}
		}
	}
}

// In SDO's gradient at x_k, P_{k+1} (A_k + B_k J_k^T) g, the freeze is only in
// the scale: with a one-step solver it does not turn a latent's gradient.
func TestAuditDirectionIsTheSameForEveryFreeze(t *testing.T) {
	eachProblem(t, []int{2, 8}, func(t *testing.T, p Problem) {
		if p.Table.Depth() > 0 {
			return // a memory holds f too
		}
		settings := auditSettings(p.Table)
		measured := audited(t, p, MethodFull, settings...)
		for i, c := range measured {
			first := measured[i/len(settings)*len(settings)+i%2] // of the same method and step
			for row, got := range c.Units {
				if math.Abs(got.Cosine-first.Units[row].Cosine) > 1e-9 {
					t.Errorf("%v, step %d, row %d: cosine %v, with %s frozen %v", c.Setting, c.Step, row, got.Cosine, first.Freeze, first.Units[row].Cosine)
				}
			}
		}
	})
}

// satisfiedRow has no gradient in row 1.
type satisfiedRow struct{ *nearTarget }

func (o satisfiedRow) Evaluate(ctx context.Context, x, grad Vector) ([]float64, error) {
	losses, err := o.nearTarget.Evaluate(ctx, x, grad)
	if grad != nil {
		clear(numbers(grad)[testCols : 2*testCols])
	}
	return losses, err
}

func TestAuditLeavesSatisfiedPicturesOut(t *testing.T) {
	p := problem(table(t, sampler.PredictV, 3), newPerceptron(testCols, 6))
	before := audited(t, p, MethodFull, Setting{Latents, MethodSDO, sampler.FreezeV, ""})
	p.Objective = satisfiedRow{p.Objective.(*nearTarget)}
	for k, c := range audited(t, p, MethodFull, Setting{Latents, MethodSDO, sampler.FreezeV, ""}) {
		if len(c.Units) != 2 || c.LeftOut != 1 || c.Units[1] != before[k].Units[2] {
			t.Errorf("step %d: %+v, want rows 0 and 2 of %+v", k, c, before[k])
		}
		c.Add(before[k])
		if len(c.Units) != 5 || c.LeftOut != 1 {
			t.Errorf("step %d with another batch: %d pictures, %d left out", k, len(c.Units), c.LeftOut)
		}
	}
}

func TestAuditCost(t *testing.T) {
	const n = 6
	for reference, calls := range map[Method]int{MethodFull: n, MethodFullCheckpoint: 2 * n} {
		p := problem(table(t, sampler.PredictV, n), newPerceptron(testCols, 6))
		var last Counters
		if _, err := runAudit(t, context.Background(), p, reference, auditSettings(p.Table), func(e Event) { last = e.Counters }); err != nil {
			t.Fatal(err)
		}
		if last.NetworkCalls != calls || last.BackwardCalls != 2*n {
			t.Errorf("%s: %+v, want %d calls and %d backward", reference, last, calls, 2*n)
		}
	}
}

func TestCancelledAuditKeepsWhatIsMeasured(t *testing.T) {
	p := problem(table(t, sampler.PredictV, 5), newPerceptron(testCols, 6))
	ctx, cancel := context.WithCancel(context.Background())
	measured, err := runAudit(t, ctx, p, MethodFull, []Setting{{Latents, MethodSDO, sampler.FreezeV, ""}}, func(e Event) {
		if e.Kind == EventBackward && e.Step == 2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || len(measured) != 5 {
		t.Fatalf("%d comparisons, error %v", len(measured), err)
	}
	for k, c := range measured {
		if _, ok := c.Summary(); ok != (k == 4) {
			t.Errorf("step %d is measured: %v", k, ok)
		}
	}
}

func TestAuditRefuses(t *testing.T) {
	good := problem(table(t, sampler.PredictV, 3), newPerceptron(testCols, 6))
	type attempt struct {
		reference Method
		setting   Setting
		change    func(*Problem)
	}
	none := func(*Problem) {}
	for want, try := range map[string]attempt{
		`sdo: the method to audit at the latents is "full", want sdo or identity`: {MethodFull, Setting{Latents, MethodFull, sampler.FreezeV, ""}, none},
		`sdo: the reference of an audit is "sdo", want full or full-checkpoint`:   {MethodSDO, Setting{Latents, MethodSDO, sampler.FreezeV, ""}, none},
		`sdo: freeze is "noise", want eps, v, x0 or solver`:                       {MethodFull, Setting{Latents, MethodSDO, "noise", ""}, none},
		"sdo: the problem has no objective":                                       {MethodFull, Setting{Latents, MethodSDO, sampler.FreezeV, ""}, func(p *Problem) { p.Objective = nil }},
		"sdo: the sampler has 0 steps, want at least 1":                           {MethodFull, Setting{Latents, MethodSDO, sampler.FreezeV, ""}, func(p *Problem) { p.Table = &sampler.Table{} }},
		"sdo: audit of step 2, row 0: sdo at the latents, v frozen: the squared norm of the gradient is NaN, of the full one NaN": {MethodFull, Setting{Latents, MethodSDO, sampler.FreezeV, ""},
			func(p *Problem) { p.Objective = &nearTarget{target: []float64{math.NaN(), 0, 0, 0}} }},
	} {
		p := good
		try.change(&p)
		_, err := runAudit(t, context.Background(), p, try.reference, []Setting{try.setting}, nil)
		wantError(t, err, want)
	}
}
