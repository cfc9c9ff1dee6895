package engine

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
)

var bothMethods = []sdo.Setting{
	{Variable: sdo.Latents, Method: sdo.MethodSDO, Freeze: sampler.FreezeV},
	{Variable: sdo.Latents, Method: sdo.MethodIdentity, Freeze: sampler.FreezeEps},
}

func auditSession(t *testing.T, r *recipes.Recipe) *Session {
	t.Helper()
	m, err := LoadModel(r, OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewAuditPlan(r, m, nil, PlanOptions{Storage: graph.F32}, bothMethods)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSession(cpu.New[float64](cpu.Options{}), p.Plan)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// On the embedded network, whose kept calls are differentiated twice, the audit
// says what the gradients themselves say.
func TestAuditOfTheEmbeddedModel(t *testing.T) {
	s := auditSession(t, glasses(t, "num_images=1", "sampler.num_inference_steps=3"))
	if s.Recipe.Method.Name != "full" {
		t.Fatalf("the reference is %s, though it is small", s.Recipe.Method.Name)
	}
	measured, err := s.Audit(context.Background(), 0, bothMethods, nil)
	if err != nil {
		t.Fatal(err)
	}
	full, _ := latentGradient(t, s, sdo.MethodFull, "")
	for i, setting := range bothMethods {
		grad, _ := latentGradient(t, s, setting.Method, setting.Freeze)
		var product, square, fullSquare float64
		for j := range full {
			product, square, fullSquare = product+full[j]*grad[j], square+grad[j]*grad[j], fullSquare+full[j]*full[j]
		}
		got := measured[i].Units[0]
		if math.Abs(got.Cosine-product/math.Sqrt(square*fullSquare)) > 1e-9 || math.Abs(got.RelativeNorm/math.Sqrt(square/fullSquare)-1) > 1e-9 {
			t.Errorf("%v: %+v, want cosine %v and norm %v", setting, got, product/math.Sqrt(square*fullSquare), math.Sqrt(square/fullSquare))
		}
	}
}

// So it does of the condition, guided, and of an adapter that is not new.
func TestAuditOfConditionAndParameters(t *testing.T) {
	ctx := context.Background()
	settings := []sdo.Setting{
		{Variable: sdo.Condition, Method: sdo.MethodSDO, Freeze: sampler.FreezeV, Active: sdo.ActiveFirst},
		{Variable: sdo.Condition, Method: "draft-2"},
		{Variable: sdo.Parameters, Method: sdo.MethodSDO, Freeze: sampler.FreezeEps, Active: sdo.ActiveAll},
		{Variable: sdo.Parameters, Method: sdo.MethodSDO, Freeze: sampler.FreezeV, Active: sdo.ActiveLast},
	}
	r := glasses(t, "num_images=1", "sampler.num_inference_steps=3", "condition={mood: sad}", "guidance_scale=2",
		`variables={parameters: {lora: {rank: 2, targets: ["mid_block.**"]}}}`)
	m, err := LoadModel(r, OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewAuditPlan(r, m, nil, PlanOptions{Storage: graph.F32}, settings)
	if err != nil {
		t.Fatal(err)
	}
	exec := cpu.New[float64](cpu.Options{})
	s, err := NewSession(exec, p.Plan)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, param := range s.denoiser.Params() {
		if err := exec.Normal(param.Value, 5, uint32(i)); err != nil {
			t.Fatal(err)
		}
		if err := exec.Combine(param.Value, []float64{0.05}, []sdo.Vector{param.Value}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.denoiser.Changed(ctx); err != nil {
		t.Fatal(err)
	}
	measured, err := s.Audit(ctx, 0, settings, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := func(surrogate sdo.Surrogate, v sdo.Variable) (all []float64) {
		t.Helper()
		// With the latents, calls are kept for what full back-propagation was planned
		// to keep them for.
		grads, _, err := sdo.Gradient(ctx, s.Problem(), surrogate, sdo.Values{Latents: s.start}, 0, sdo.Latents, sdo.Condition, sdo.Parameters)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Problem().FreeValues(grads)
		vectors := grads.Parameters
		if v == sdo.Condition {
			vectors = []sdo.Vector{grads.Condition}
		}
		for _, x := range vectors {
			read, err := exec.Read(ctx, x)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, read...)
		}
		return all
	}
	reference, err := sdo.MethodFull.Surrogate(sdo.Condition)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range measured {
		surrogate, err := c.Surrogate(s.table)
		if err != nil {
			t.Fatal(err)
		}
		full, grad := at(reference, c.Variable), at(surrogate, c.Variable)
		var product, square, fullSquare float64
		for j := range full {
			product, square, fullSquare = product+full[j]*grad[j], square+grad[j]*grad[j], fullSquare+full[j]*full[j]
		}
		cosine, norm := product/math.Sqrt(square*fullSquare), math.Sqrt(square/fullSquare)
		if got := c.Units[0]; math.Abs(got.Cosine-cosine) > 1e-9 || math.Abs(got.RelativeNorm/norm-1) > 1e-9 || cosine == 0 {
			t.Errorf("%v: %+v, want cosine %v and norm %v", c.Setting, got, cosine, norm)
		}
	}
}

// Two batches of one picture are one batch of two.
func TestAuditBatchesContinueTheSeed(t *testing.T) {
	ctx := context.Background()
	two, err := auditSession(t, glasses(t, "num_images=2", "sampler.num_inference_steps=2")).Audit(ctx, 0, bothMethods, nil)
	if err != nil {
		t.Fatal(err)
	}
	one := auditSession(t, glasses(t, "num_images=1", "sampler.num_inference_steps=2"))
	for picture := range 2 {
		measured, err := one.Audit(ctx, picture, bothMethods, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range measured {
			if got, want := c.Units[0], two[i].Units[picture]; math.Abs(got.Cosine-want.Cosine) > 1e-9 {
				t.Errorf("picture %d, %v, step %d: %+v, in a batch %+v", picture, c.Setting, c.Step, got, want)
			}
		}
	}
}

func TestAuditPlan(t *testing.T) {
	plan := func(r *recipes.Recipe, settings ...sdo.Setting) (*AuditPlan, error) {
		m, err := LoadModel(r, OpenBuiltin)
		if err != nil {
			t.Fatal(err)
		}
		return NewAuditPlan(r, m, nil, PlanOptions{Storage: graph.F32}, settings)
	}
	large, err := plan(glasses(t, "num_images=64", "sampler.num_inference_steps=100"), bothMethods...)
	if err != nil || large.Recipe.Method.Name != "full-checkpoint" {
		t.Errorf("the reference of a large audit is not recomputed: %v", err)
	}
	for want, settings := range map[string][]sdo.Setting{
		`the method to audit at the latents is "full", want sdo or identity`: {{Variable: sdo.Latents, Method: "full", Freeze: "v"}},
		`freeze is "noise", want eps, v, x0 or solver`:                       {{Variable: sdo.Latents, Method: "sdo", Freeze: "noise"}},
		`freeze x0 leaves the latents no gradient`:                           {{Variable: sdo.Latents, Method: "identity", Freeze: "x0"}},
		`has no objective, so there is no gradient to audit`:                 nil,
	} {
		r := glasses(t)
		if settings == nil {
			r.Objective, r.Updates = nil, 0
		}
		if _, err := plan(r, settings...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

// The budget of an audit holds for what it takes on the device that is opened after
// it was planned, its own vectors and the kernels' working memory included.
func TestAuditKeepsToItsBudgetOnADevice(t *testing.T) {
	r := glasses(t, "num_images=2", "sampler.num_inference_steps=4")
	m, err := LoadModel(r, OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	exec := cpu.New[float32](cpu.Options{Workers: 2})
	defer exec.Close()
	plan := func(budget int64) *AuditPlan {
		t.Helper()
		o := m.Options()
		o.MemoryBudget = budget
		p, err := NewAuditPlan(r, m, nil, o, bothMethods)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	budget := plan(0).Memory(nil).Total()
	p := plan(budget)
	if p.Recipe.Method.Name != "full" || p.Memory(nil).Total() > budget || p.Memory(exec).Total() <= budget {
		t.Fatalf("by %s %+v without a device and %+v with it do not try a budget of %d bytes", p.Recipe.Method.Name, p.Memory(nil), p.Memory(exec), budget)
	}
	if p, err = p.For(exec); err != nil {
		t.Fatal(err)
	}
	if got := p.Memory(exec).Total(); got > budget || p.Recipe.Method.Name != "full-checkpoint" {
		t.Errorf("by %s it takes %d bytes, the budget is %d", p.Recipe.Method.Name, got, budget)
	}
	s, err := NewSession(exec, p.Plan)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Audit(context.Background(), 0, bothMethods, nil); err != nil {
		t.Error(err)
	}
	if used := exec.Usage().Params + exec.Usage().PeakActivations; used > budget {
		t.Errorf("%d bytes of weights and activations were held, the budget is %d", used, budget)
	}
	if again, err := p.For(exec); again != p || err != nil {
		t.Errorf("a plan that holds is planned again: %v", err)
	}
}
