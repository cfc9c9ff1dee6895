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

var bothMethods = []sdo.Setting{{Method: sdo.MethodSDO, Freeze: sampler.FreezeV}, {Method: sdo.MethodIdentity, Freeze: sampler.FreezeEps}}

func auditSession(t *testing.T, r *recipes.Recipe) *Session {
	t.Helper()
	m, err := LoadModel(r, OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewAuditPlan(r, m, nil, graph.F32, bothMethods)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSession(cpu.New[float64](cpu.Options{}), p)
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
		got := measured[i].Pictures[0]
		if math.Abs(got.Cosine-product/math.Sqrt(square*fullSquare)) > 1e-9 || math.Abs(got.RelativeNorm/math.Sqrt(square/fullSquare)-1) > 1e-9 {
			t.Errorf("%v: %+v, want cosine %v and norm %v", setting, got, product/math.Sqrt(square*fullSquare), math.Sqrt(square/fullSquare))
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
			if got, want := c.Pictures[0], two[i].Pictures[picture]; math.Abs(got.Cosine-want.Cosine) > 1e-9 {
				t.Errorf("picture %d, %v, step %d: %+v, in a batch %+v", picture, c.Setting, c.Step, got, want)
			}
		}
	}
}

func TestAuditPlan(t *testing.T) {
	plan := func(r *recipes.Recipe, settings ...sdo.Setting) (*Plan, error) {
		m, err := LoadModel(r, OpenBuiltin)
		if err != nil {
			t.Fatal(err)
		}
		return NewAuditPlan(r, m, nil, graph.F32, settings)
	}
	large, err := plan(glasses(t, "num_images=64", "sampler.num_inference_steps=100"), bothMethods...)
	if err != nil || large.Recipe.Method.Name != "full-checkpoint" {
		t.Errorf("the reference of a large audit is not recomputed: %v", err)
	}
	for want, settings := range map[string][]sdo.Setting{
		`the method to audit is "full", want sdo or identity`: {{Method: "full", Freeze: "v"}},
		`freeze is "noise", want eps, v, x0 or solver`:        {{Method: "sdo", Freeze: "noise"}},
		`freeze x0 leaves the latents no gradient`:            {{Method: "identity", Freeze: "x0"}},
		`has no objective, so there is no gradient to audit`:  nil,
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
