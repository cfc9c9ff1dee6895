package engine

import (
	"context"
	"math"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/sdo"
)

// What a run is said to take before it begins is what it then asks for, whatever
// the method, and a run that goes on from a saved state makes one rollout more.
func TestEffortsAreWhatRunsTake(t *testing.T) {
	const updates = 2
	for name, overrides := range map[string][]string{
		"sdo":      nil,
		"full":     {"method={name: full}"},
		"identity": {"method={name: identity}"},
		"guided":   {"condition={mood: happy}", "guidance_scale=2"},
		"picture":  {"sampler.num_inference_steps=5", "start={seed: 7, index: 3, strength: 0.6}"},
		"heun":     {"sampler.name=heun"},
	} {
		t.Run(name, func(t *testing.T) {
			s := session(t, cpu.New[float32](cpu.Options{}), glasses(t, append([]string{"updates=2", "guards.early_stop=false", "guards.drift_limit=0"}, overrides...)...), graph.F32)
			var saved *sdo.RunState
			result, err := s.Steer(context.Background(), func(e sdo.Event) {
				if e.Kind == sdo.EventUpdate && e.Update == 1 {
					saved, _ = e.Save(context.Background())
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			e := s.Efforts()
			want := e.Inversion.Plus(e.Rollout).Plus(e.Update.Plus(e.Rollout).Times(updates))
			check := func(what string, got sdo.Counters, want Effort) {
				t.Helper()
				if got.NetworkCalls != want.NetworkCalls || got.BackwardCalls != want.BackwardCalls {
					t.Errorf("%s: %d network calls and %d differentiated, said were %d and %d", what, got.NetworkCalls, got.BackwardCalls, want.NetworkCalls, want.BackwardCalls)
				}
			}
			check("whole", result.Counters, want)
			if result, err = s.SteerFrom(context.Background(), saved, nil); err != nil {
				t.Fatal(err)
			}
			check("in two parts", result.Counters, want.Plus(e.Rollout))
		})
	}
}

// The small model takes about 38 million multiply-adds for a picture, forward.
func TestMultiplyAddsGrowWithPictures(t *testing.T) {
	of := func(pictures string) Efforts {
		r := glasses(t, "num_images="+pictures)
		m, err := LoadModel(r, OpenBuiltin)
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPlan(r, m, nil, m.Storage())
		if err != nil {
			t.Fatal(err)
		}
		return p.Efforts()
	}
	one, three := of("1"), of("3")
	for part, pair := range map[string][2]Effort{"rollout": {one.Rollout, three.Rollout}, "update": {one.Update, three.Update}} {
		if ratio := float64(pair[1].MultiplyAdds) / float64(pair[0].MultiplyAdds); math.Abs(ratio-3) > 0.05 {
			t.Errorf("%s: three pictures take %.2f times one's multiply-adds", part, ratio)
		}
	}
	perCall := one.Rollout.MultiplyAdds / int64(one.Rollout.NetworkCalls)
	if perCall < 35e6 || perCall > 55e6 {
		t.Errorf("a call of one picture, its share of the loss with it, takes %d multiply-adds", perCall)
	}
}
