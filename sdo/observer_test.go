package sdo

import (
	"context"
	"slices"
	"testing"

	"github.com/sdo-go/sdo/sampler"
)

// keeping is a network that notes the steps whose calls it was told to keep.
type keeping struct {
	asked
	kept []int
}

func (k *keeping) Keep(ctx context.Context, in Input, wrt Wrt, out Vector) (Kept, error) {
	kept, err := k.asked.Keep(ctx, in, wrt, out)
	k.kept = append(k.kept, k.steps[len(k.steps)-1])
	return kept, err
}

// Step events say which calls left their graph alive: those that the network
// was told to keep in the forward, whichever they are, and none in a rollout
// that is not differentiated.
func TestKeptSteps(t *testing.T) {
	const n = 6
	all := []int{0, 1, 2, 3, 4, 5}
	both := []Variable{Latents, Condition}
	first := Surrogate{Freeze: sampler.FreezeV, Active: ActiveFirst}
	active := func(a Active, calls int) Surrogate {
		return Surrogate{Freeze: sampler.FreezeV, Active: a, Calls: calls}
	}
	bridged := active(ActiveTail, 0)
	bridged.Bridge = 1
	last := active(ActiveLast, 1)
	last.Bridge = 1
	batched := first
	batched.Refresh = Refresh{Calls: 2, Every: 4, Batched: true}
	again := active(ActiveLast, 3)
	again.Recompute = true
	for what, c := range map[string]struct {
		surrogate Surrogate
		vary      []Variable
		guidance  float64
		want      []int // nil: as the network was told
		drawn     bool  // differs from update to update
		short     int   // steps that are taken, where not all are
	}{
		"sdo":                    {named(t, MethodSDO, Latents), []Variable{Latents}, 1, []int{0}, false, 0},
		"sdo, last":              {last, []Variable{Latents}, 1, []int{5}, false, 0},
		"sdo, guided":            {named(t, MethodSDO, Latents), []Variable{Latents}, 2.5, []int{0}, false, 0},
		"sdo, condition":         {named(t, MethodSDO, Condition), []Variable{Condition}, 1, nil, true, 0},
		"sdo, guided condition":  {named(t, MethodSDO, Condition), []Variable{Condition}, 2.5, nil, true, 0},
		"sdo, latents besides":   {named(t, MethodSDO, both...), both, 1, nil, true, 0},
		"uniform":                {active(ActiveUniform, 2), shared, 1, nil, true, 0},
		"cycle":                  {active(ActiveCycle, 0), shared, 1, nil, true, 0},
		"tail":                   {bridged, both, 2.5, nil, true, 0},
		"guidance scale alone":   {named(t, MethodIdentity, GuidanceScale), []Variable{GuidanceScale}, 2.5, []int{}, false, 0},
		"identity":               {named(t, MethodIdentity, Latents), []Variable{Latents}, 1, []int{}, false, 0},
		"full":                   {named(t, MethodFull, Latents), []Variable{Latents}, 2.5, all, false, 0},
		"full-checkpoint":        {named(t, MethodFullCheckpoint, Latents), []Variable{Latents}, 1, []int{}, false, 0},
		"three made again":       {again, shared, 1, []int{}, false, 0},
		"jump":                   {named(t, MethodJump, Latents), []Variable{Latents}, 2.5, []int{0}, false, 1},
		"refl":                   {named(t, MethodReFL, Parameters), []Variable{Parameters}, 1, nil, true, -1},
		"draft-3":                {named(t, "draft-3", shared...), shared, 2.5, []int{3, 4, 5}, false, 0},
		"draft-lv":               {named(t, MethodDRaFTLV, shared...), shared, 1, []int{}, false, 0},
		"stale":                  {named(t, "stale-2", Latents), []Variable{Latents}, 1, []int{0}, false, 0},
		"stale, batched, guided": {batched, []Variable{Latents}, 2.5, []int{0}, false, 0},
	} {
		t.Run(what, func(t *testing.T) {
			p := guided(t, sampler.PredictV, n)
			p.Guidance = c.guidance
			log := &keeping{asked: asked{&batching{analytic: analyticOf(p)}, p.Table, nil}}
			trained := &training{log, analyticOf(p)}
			p.Network = trained
			chain, err := NewChain(p, c.surrogate, c.vary...)
			if err != nil {
				t.Fatal(err)
			}
			defer chain.Free()
			var steps, kept []int
			chain.Observe(func(e Event) {
				if e.Kind != EventStep {
					if e.Kept {
						t.Errorf("a %s event is kept", e.Kind)
					}
					return
				}
				steps = append(steps, e.Step-1)
				if e.Kept {
					kept = append(kept, e.Step-1)
				}
			})
			values, err := p.StartValues(t.Context(), c.vary...)
			if err != nil {
				t.Fatal(err)
			}
			if values.Latents == nil {
				values.Latents = p.Start
			}
			seen := map[int]bool{}
			for update := range 9 {
				if update > 0 {
					numbers(values.Latents)[0] += 0.01 // or nothing is stale
				}
				steps, kept, log.kept = nil, nil, nil
				if _, err := chain.Forward(t.Context(), values, update); err != nil {
					t.Fatal(err)
				}
				want := c.want
				if want == nil {
					want = slices.Compact(slices.Sorted(slices.Values(log.kept))) // both branches count as one
				}
				wantSteps := all
				switch {
				case c.short > 0:
					wantSteps = all[:c.short]
				case c.short < 0: // up to the kept one
					wantSteps = all[:want[0]+1]
				}
				if !slices.Equal(kept, want) || !slices.Equal(steps, wantSteps) {
					t.Errorf("update %d: kept %v of steps %v, want %v of %v", update, kept, steps, want, wantSteps)
				}
				for _, i := range kept {
					seen[i] = true
				}
				if update%3 != 0 { // and one that nothing follows
					steps, kept = nil, nil
					if _, err := chain.Evaluate(t.Context(), values); err != nil {
						t.Fatal(err)
					}
					if len(kept) > 0 || !slices.Equal(steps, all) {
						t.Errorf("after update %d: kept %v of steps %v in a rollout that keeps nothing", update, kept, steps)
					}
				}
			}
			if c.drawn && len(seen) < 3 {
				t.Errorf("the draw tests nothing: %v", seen)
			}
		})
	}
}

// training is a keeping network with parameters.
type training struct {
	*keeping
	of *analytic
}

func (n *training) Params() []Param                   { return n.of.Params() }
func (n *training) Changed(ctx context.Context) error { return n.of.Changed(ctx) }
