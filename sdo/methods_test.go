package sdo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/sdo-go/sdo/sampler"
)

// This file holds every named method against its definition, written out as a
// sampler with some of its network calls held: what a paper's code detaches.

// outputs tell a sampler what the network says at step i, in state x.
type outputs func(i int, x []float64) []float64

// walk is the sampler with these outputs, from step `from` of a story on.
func (s story) walk(p Problem, at point, from int, o outputs) []float64 {
	x, noises := s.states[from], at[Noises]
	memories := make([][]float64, len(p.Table.Steps))
	for i, step := range p.Table.Steps {
		output := s.outputs[i]
		if i >= from {
			output = o(i, x)
		}
		before, next := s.states[i], make([]float64, len(x))
		if i >= from {
			before = x
		}
		memories[i] = make([]float64, len(x))
		for j := range x {
			memories[i][j] = step.Memory.State*before[j] + step.Memory.Output*output[j]
			next[j] = step.State*before[j] + step.Output*output[j]
			if step.Noise != 0 {
				next[j] += step.Noise * noises[j]
			}
			for k, weight := range step.Earlier {
				next[j] += weight * memories[i-1-k][j]
			}
		}
		if step.Noise != 0 {
			noises = noises[len(x):]
		}
		if i >= from {
			x = next
		}
	}
	return x
}

// held is the outputs of a story, those of some calls moved by weight times the
// change of the network's answer at the story's states.
func (s story) held(p Problem, at point, weight float64, live ...int) outputs {
	return func(i int, _ []float64) []float64 {
		o := slices.Clone(s.outputs[i])
		if slices.Contains(live, i) {
			for j, now := range answer(p, i, s.states[i], at) {
				o[j] += weight * (now - o[j])
			}
		}
		return o
	}
}

// clean is the clean sample that a state and an output stand for, by the words
// of each prediction type.
func clean(p Problem, i int, x, output []float64) []float64 {
	l, result := p.Table.Steps[i].At, make([]float64, len(x))
	sigma, data := l.Noise/l.Signal, l.SigmaData
	for j := range x {
		switch p.Table.Prediction {
		case sampler.PredictEpsilon:
			result[j] = (x[j] - l.Noise*output[j]) / l.Signal
		case sampler.PredictV:
			result[j] = l.Signal*x[j] - l.Noise*output[j]
		case sampler.PredictSample:
			result[j] = output[j]
		case sampler.PredictFlow:
			result[j] = x[j] - l.Noise*output[j]
		case sampler.PredictEDM: // arXiv 2206.00364, table 1, of a state divided by norm
			norm := math.Hypot(sigma, data)
			result[j] = data*data/(norm*norm)*(x[j]*norm) + sigma*data/norm*output[j]
		}
	}
	return result
}

// wantGradients holds a method's gradients against the slopes of a loss.
func wantGradients(t *testing.T, p Problem, s Surrogate, update int, vary []Variable, loss func(active []int, to point) float64) {
	t.Helper()
	at := begin(t, p)
	got, _, active := gradients(t, p, s, update, at, vary...)
	for _, v := range vary {
		wantSlope(t, fmt.Sprintf("%v, update %d", s, update), p, at, v, got[v], 1e-8, func(to point) float64 { return loss(active, to) })
	}
	answer(p, 0, make([]float64, p.size()), at) // leaves the weights as they were
}

func named(t testing.TB, m Method, vary ...Variable) Surrogate {
	t.Helper()
	s, err := m.Surrogate(vary...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shared are the variables that every call sees.
var shared = []Variable{Condition, Parameters}

// eachShared runs a test for a method of condition and parameters: every solver,
// several draws.
func eachShared(t *testing.T, m Method, loss func(p Problem, s story, active []int, to point) []float64) {
	t.Run(string(m), func(t *testing.T) {
		eachSteered(t, 5, func(t *testing.T, p Problem) {
			told := tell(t, p)
			for update := range 3 {
				wantGradients(t, p, named(t, m, shared...), update, shared, func(active []int, to point) float64 {
					return totalLoss(p, loss(p, told, active, to))
				})
			}
		})
	})
}

func TestMethodsOfConditionAndParameters(t *testing.T) {
	// DRaFT-K: the gradient is cut before the last K calls.
	eachShared(t, "draft-3", func(p Problem, s story, active []int, to point) []float64 {
		return s.walk(p, to, len(s.states)-3, func(i int, x []float64) []float64 { return answer(p, i, x, to) })
	})
	// AlignProp: the same with a random K.
	eachShared(t, MethodAlignProp, func(p Problem, s story, active []int, to point) []float64 {
		return s.walk(p, to, active[0], func(i int, x []float64) []float64 { return answer(p, i, x, to) })
	})
	// DRTune: the network's inputs are detached, K calls have gradients, the
	// solver's arithmetic is live.
	eachShared(t, "drtune-2", func(p Problem, s story, active []int, to point) []float64 {
		return s.walk(p, to, 0, s.held(p, to, 1, active...))
	})
	// FlowBP-Sparse: the same at random, each call weighted by N/K.
	eachShared(t, "flowbp-sparse-2", func(p Problem, s story, active []int, to point) []float64 {
		return s.walk(p, to, 0, s.held(p, to, float64(len(s.states))/2, active...))
	})
	// LeapAlign: of two random calls, each weighted by N/2, the later one sees
	// .3 of what the earlier one does to its state.
	eachShared(t, MethodLeapAlign, func(p Problem, s story, active []int, to point) []float64 {
		weight := float64(len(s.states)) / 2
		return s.walk(p, to, 0, func(i int, x []float64) []float64 {
			o := slices.Clone(s.outputs[i])
			if !slices.Contains(active, i) {
				return o
			}
			state := slices.Clone(s.states[i])
			for j := range state {
				state[j] += 0.3 * (x[j] - state[j])
			}
			for j, now := range answer(p, i, state, to) {
				o[j] += weight * (now - o[j])
			}
			return o
		})
	})
	// ReFL: the clean sample as one call estimates it, with the way there held.
	eachShared(t, MethodReFL, func(p Problem, s story, active []int, to point) []float64 {
		i := active[0]
		return clean(p, i, s.states[i], answer(p, i, s.states[i], to))
	})
}

// ReFL's call is one of the last ten.
func TestReFLIsLate(t *testing.T) {
	p := steered(table(t, sampler.PredictV, 25))
	for update := range 100 {
		if i := drawn(t, p, named(t, MethodReFL, Parameters), update)[0]; i < 15 {
			t.Fatalf("update %d has call %d of 25", update, i)
		}
	}
}

// SDO of parameters is one call of probability p by |w_i q_i|, weighted by 1/p,
// with v frozen.
func TestSDOOfConditionAndParameters(t *testing.T) {
	eachSteered(t, 5, func(t *testing.T, p Problem) {
		told, tr := tell(t, p), transport(t, p, sampler.FreezeV)
		total := 0.0
		for i, step := range tr.Steps {
			total += math.Abs(tr.Weights[i] * step.FromOutput)
		}
		for update := range 3 {
			wantGradients(t, p, named(t, MethodSDO, shared...), update, shared, func(active []int, to point) float64 {
				i := active[0]
				share := tr.Weights[i] * tr.Steps[i].FromOutput
				x := slices.Clone(told.sample)
				for j, now := range answer(p, i, told.states[i], to) {
					x[j] += share / (math.Abs(share) / total) * (now - told.outputs[i][j])
				}
				return totalLoss(p, x)
			})
		}
	})
}

// A jump takes the loss at the clean sample that the first call estimates.
func TestJump(t *testing.T) {
	eachSteered(t, 3, func(t *testing.T, p Problem) {
		vary := []Variable{Latents, Condition, GuidanceScale, Parameters}
		estimate := func(_ []int, to point) float64 {
			x := slices.Clone(to[Latents])
			for j := range x {
				x[j] *= p.Table.Start
			}
			return totalLoss(p, clean(p, 0, x, answer(p, 0, x, to)))
		}
		s := named(t, MethodJump, vary...)
		wantGradients(t, p, s, 0, vary, estimate)
		at := begin(t, p)
		if _, losses, _ := gradients(t, p, s, 0, at, vary...); math.Abs(sum(losses)-estimate(nil, at)) > 1e-12*sum(losses) {
			t.Errorf("the loss is %v, at the estimate %v", sum(losses), estimate(nil, at))
		}
	})
}

// DRaFT-LV: the sample is noised to the level of the last call and denoised by
// it, the loss the mean over two such copies, whose noise every update draws
// anew.
func TestDRaFTLV(t *testing.T) {
	eachSteered(t, 4, func(t *testing.T, p Problem) {
		told, last := tell(t, p), len(p.Table.Steps)-1
		for update := range 2 {
			s := named(t, MethodDRaFTLV, shared...)
			s.Seed = 5
			wantGradients(t, p, s, update, shared, func(_ []int, to point) float64 {
				total := 0.0
				for copy := range 2 {
					z := &boxed{make(vector, p.size())}
					_ = p.Space.Normal(z, 5, renoiseStream+uint32(2*update+copy))
					level, noisy := p.Table.Steps[last].At, slices.Clone(told.sample)
					for j := range noisy {
						noisy[j] = level.Signal*noisy[j] + level.Noise*z.vector[j]
					}
					total += totalLoss(p, clean(p, last, noisy, answer(p, last, noisy, to))) / 2
				}
				return total
			})
		}
	})
}

// Recomputing changes what is held, not a bit of a gradient.
func TestRecomputedEqualsStored(t *testing.T) {
	for _, name := range []string{"ddpm", "dpmpp-2m"} {
		p := steered(tables(t, sampler.PredictV, 5)[name])
		at, all := begin(t, p), available(p)
		stored, _, _ := gradients(t, p, named(t, MethodFull, all...), 0, at, all...)
		again, _, _ := gradients(t, p, named(t, MethodFullCheckpoint, all...), 0, at, all...)
		for _, v := range all {
			wantNear(t, fmt.Sprintf("full-checkpoint, %s", v), again[v], stored[v], 0)
		}
		for update := range 4 {
			s := named(t, MethodAlignProp, shared...)
			again, _, active := gradients(t, p, s, update, at, shared...)
			s.Recompute = false
			stored, _, same := gradients(t, p, s, update, at, shared...)
			for _, v := range shared {
				wantNear(t, fmt.Sprintf("alignprop, %s", v), again[v], stored[v], 0)
			}
			if !slices.Equal(active, same) {
				t.Errorf("calls %v, then %v", active, same)
			}
		}
		for _, s := range []Surrogate{{Freeze: sampler.FreezeEps, Active: ActiveFirst}, {Freeze: sampler.FreezeSolver, Active: ActiveFirst, Jump: true}} {
			stored, _, _ := gradients(t, p, s, 0, at, Latents, Condition, GuidanceScale)
			s.Recompute = true
			again, _, _ := gradients(t, p, s, 0, at, Latents, Condition, GuidanceScale)
			for v := range stored {
				wantNear(t, fmt.Sprintf("%v recomputed, %s", s, v), again[v], stored[v], 0)
			}
		}
	}
}

// Assertion 9: what an update of each method costs, in the units that no machine
// changes, plain and guided, for 5 calls and for 100.
func TestCostOfMethods(t *testing.T) {
	type cost struct{ forward, kept, backward, peak int } // a network call each; peak in calls' activations
	for _, n := range []int{5, 100} {
		for _, test := range []struct {
			Method
			vary []Variable
			// want is of an update whose draw has these calls.
			want func(active []int) cost
		}{
			{MethodSDO, []Variable{Latents}, func([]int) cost { return cost{n, 1, 1, 1} }},
			{MethodSDO, shared, func([]int) cost { return cost{n, 1, 1, 1} }},
			{MethodSDO, []Variable{Condition}, func([]int) cost { return cost{n, 1, 1, 1} }},
			{MethodSDO, []Variable{GuidanceScale}, func([]int) cost { return cost{n, 0, 0, 0} }},
			{MethodFull, []Variable{Latents, Parameters}, func([]int) cost { return cost{n, n, n, n} }},
			{MethodFullCheckpoint, []Variable{Latents}, func([]int) cost { return cost{2 * n, n, n, 1} }},
			{MethodIdentity, []Variable{Latents}, func([]int) cost { return cost{n, 0, 0, 0} }},
			{MethodJump, []Variable{Latents}, func([]int) cost { return cost{1, 1, 1, 1} }},
			{"draft-3", shared, func([]int) cost { return cost{n, 3, 3, 3} }},
			{MethodDRaFTLV, shared, func([]int) cost { return cost{n + 2, 2, 2, 1} }},
			{"drtune-3", shared, func([]int) cost { return cost{n, 3, 3, 3} }},
			{MethodReFL, shared, func(active []int) cost { return cost{active[0] + 1, 1, 1, 1} }},
			{MethodAlignProp, shared, func(active []int) cost { return cost{n + len(active), len(active), len(active), 1} }},
			{MethodLeapAlign, shared, func([]int) cost { return cost{n, 2, 2, 2} }},
			{"flowbp-sparse-3", shared, func([]int) cost { return cost{n, 3, 3, 3} }},
			{"stale-2", []Variable{Latents}, func([]int) cost { return cost{n, 1, 1, 1} }}, // of its first update; see TestStaleRollout
		} {
			for _, guidance := range []float64{1, 2.5} {
				p := steered(table(t, sampler.PredictV, n))
				p.Guidance = guidance
				at, s := valuesAt(p, begin(t, p)), named(t, test.Method, test.vary...)
				if guidance == 1 {
					at.GuidanceScale = nil
				}
				c, err := NewChain(p, s, test.vary...)
				if err != nil {
					t.Fatal(err)
				}
				into, err := p.NewValues(test.vary...)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Forward(context.Background(), at, 3); err != nil {
					t.Fatal(err)
				}
				var active []int
				for _, call := range c.active {
					active = append(active, call.index)
				}
				if err := c.Backward(context.Background(), into); err != nil {
					t.Fatal(err)
				}
				got, branches := c.Counters(), 1
				if c.guided != nil {
					branches = 2
				}
				want := test.want(active)
				want = cost{branches * want.forward, branches * want.kept, branches * want.backward, branches * want.peak}
				if slices.Equal(test.vary, []Variable{Condition}) { // which the other branch does not see
					want.kept, want.backward, want.peak = 1, 1, 1
				}
				one := int64(8 * p.size())
				if have := (cost{got.NetworkCalls, got.KeptCalls, got.BackwardCalls, int(got.PeakKeptBytes / one)}); have != want {
					t.Errorf("%s of %v, %d calls, guidance %v: %+v, want %+v", test.Method, test.vary, n, guidance, have, want)
				}
				if got.KeptBytes != 0 {
					t.Errorf("%s: %d bytes still pinned", test.Method, got.KeptBytes)
				}
				c.Free()
			}
		}
	}
}

// A tolerance may ask for every call but the first at once; a number asks for
// that many.
func TestDemandOfBatchedRefresh(t *testing.T) {
	table := tables(t, sampler.PredictV, 9)["ddim"]
	for refresh, want := range map[Refresh]int{
		{Calls: 2, Batched: true}:                 2,
		{Calls: 2, Tolerance: 0.1, Batched: true}: 8,
		{Calls: 2, Tolerance: 0.1}:                0,
	} {
		s := Surrogate{Freeze: sampler.FreezeV, Active: ActiveFirst, Refresh: refresh}
		if got := s.Demand(table, []Variable{Latents}).Batch; got != want {
			t.Errorf("%+v: %d calls at once announced, want %d", refresh, got, want)
		}
	}
}

// Assertion 9, what is held: as many vectors as Surrogate.Demand says before, no
// more later, and none for every step but where a method stores or keeps states.
func TestDemand(t *testing.T) {
	settings := append(activeSets(sampler.FreezeV, 0, 0.3),
		Surrogate{Freeze: sampler.FreezeSolver, Active: ActiveFirst, Jump: true},
		Surrogate{Freeze: sampler.FreezeSolver, Active: ActiveLast, Calls: 1, Renoised: 2},
		Surrogate{Freeze: sampler.FreezeSolver, Active: ActiveLast, Calls: 1, Renoised: 2, Recompute: true},
		Surrogate{Freeze: sampler.FreezeV, Active: ActiveFirst, Refresh: Refresh{Calls: 2, Every: 4}},
		Surrogate{Freeze: sampler.FreezeV, Active: ActiveNone, Refresh: Refresh{Calls: 2, Batched: true}},
		Surrogate{Freeze: sampler.FreezeV, Active: ActiveFirst, Refresh: Refresh{Calls: 2, Tolerance: 0.1, Batched: true}},
	)
	for _, recomputed := range settings {
		if recomputed.Recompute = !recomputed.Refresh.stale(); recomputed.Recompute {
			settings = append(settings, recomputed)
		}
	}
	for _, solver := range []string{"ddim", "ddpm", "heun", "two memories and noise"} {
		for _, s := range settings {
			var vectors []int
			for _, steps := range []int{5, 50} {
				p := steered(tables(t, sampler.PredictV, steps)[solver])
				p.Network = &batching{analytic: analyticOf(p)}
				at := valuesAt(p, begin(t, p))
				var vary []Variable
				for _, v := range available(p) {
					if s.Validate(p.Table, append(vary, v)) == nil {
						vary = append(vary, v)
					}
				}
				if len(vary) == 0 {
					vary = shared // which some settings only make sense for
				}
				if c, err := NewChain(p, s, vary...); err != nil {
					t.Fatal(err)
				} else if c.guided == nil {
					at.GuidanceScale = nil
				}
				space := p.Space.(*slices64)
				space.lengths = nil
				c, err := NewChain(p, s, vary...)
				if err != nil {
					t.Fatal(err)
				}
				batch := 0
				for _, length := range space.lengths {
					if length == p.size() {
						batch++
					}
				}
				demand := s.Demand(p.Table, vary)
				if batch != demand.Vectors {
					t.Errorf("%s, %v of %v: %d vectors, announced %d", solver, s, vary, batch, demand.Vectors)
				}
				vectors = append(vectors, batch)
				into, err := p.NewValues(vary...)
				if err != nil {
					t.Fatal(err)
				}
				for update := range 3 {
					made := space.made
					if _, err := c.Forward(context.Background(), at, update); err != nil {
						t.Fatal(err)
					}
					kept, alive := analyticOf(p).kept, 0
					for _, call := range c.active {
						if call.kept != nil {
							alive++
						}
					}
					if alive > demand.Calls || kept > 2*alive {
						t.Errorf("%s, %v of %v: %d calls kept, announced %d", solver, s, vary, alive, demand.Calls)
					}
					if err := c.Backward(context.Background(), into); err != nil {
						t.Fatal(err)
					}
					if update > 1 && space.made != made { // guidance makes its own at the first
						t.Errorf("%s, %v of %v: %d new vectors at update %d", solver, s, vary, space.made-made, update)
					}
				}
				wide := p.Network.(*batching).wide
				if len(wide) > 0 && slices.Max(wide) > demand.Batch {
					t.Errorf("%v: %d calls at once, announced %d", s, slices.Max(wide), demand.Batch)
				}
				c.Free()
			}
			grows := s.Recompute && s.Renoised == 0 && (s.Active == ActiveAll || s.Active == ActiveTail) || s.Refresh.stale() ||
				s.Bridge > 0 && (s.Active == ActiveAll || s.Active == ActiveTail) // a difference of the branches for every call
			if (vectors[0] != vectors[1]) != grows {
				t.Errorf("%s, %v: %d vectors for 5 steps, %d for 50", solver, s, vectors[0], vectors[1])
			}
		}
	}
}

// Assertion 10 is one of these: the factor N at a latent is not to be had.
func TestSurrogateRefuses(t *testing.T) {
	ode, sde := table(t, sampler.PredictV, 4), tables(t, sampler.PredictV, 4)["ddpm"]
	v := sampler.FreezeV
	for _, test := range []struct {
		Surrogate
		table *sampler.Table
		vary  []Variable
		want  string
	}{
		{Surrogate{Freeze: "noise", Active: ActiveFirst}, ode, []Variable{Latents}, `freeze is "noise", want eps, v, x0 or solver`},
		{Surrogate{Freeze: v, Active: "second"}, ode, []Variable{Latents}, `active is "second", want one of [none first last all uniform importance cycle spaced tail late]`},
		{Surrogate{Freeze: v, Active: ActiveUniform}, ode, shared, "active uniform of 0 calls, want 1 or more"},
		{Surrogate{Freeze: v, Active: ActiveLate}, ode, shared, "active late of 0 calls, want 1 or more"},
		{Surrogate{Freeze: v, Active: ActiveLast, Calls: 5, Bridge: 1}, ode, shared, "active last wants 5 calls, the sampler makes 4; lower the number or take more steps"},
		{Surrogate{Freeze: v, Active: ActiveUniform, Calls: 5}, ode, shared, "active uniform wants 5 calls, the sampler makes 4; lower the number or take more steps"},
		{Surrogate{Freeze: v, Active: ActiveSpaced, Calls: 5}, ode, shared, "active spaced wants 5 calls, the sampler makes 4; lower the number or take more steps"},
		{Surrogate{Freeze: v, Active: ActiveAll, Bridge: 1.5}, ode, []Variable{Latents}, "bridge is 1.5, want a number from 0 to 1"},
		{Surrogate{Freeze: v, Active: ActiveAll, Bridge: math.NaN()}, ode, []Variable{Latents}, "bridge is NaN, want a number from 0 to 1"},
		{Surrogate{Freeze: v, Active: ActiveLast, Calls: 1, Renoised: 65}, ode, shared, "65 re-noised copies, want 0 to 64"},
		{Surrogate{Freeze: v, Active: ActiveFirst, Refresh: Refresh{Calls: -1}}, ode, []Variable{Latents}, "refresh of -1 calls every 0 updates with tolerance 0, want numbers of 0 or more"},
		{Surrogate{Freeze: v, Active: ActiveFirst, Refresh: Refresh{Calls: 1, Every: -2}}, ode, []Variable{Latents}, "refresh of 1 calls every -2 updates with tolerance 0, want numbers of 0 or more"},
		{Surrogate{Freeze: v, Active: ActiveFirst, Refresh: Refresh{Tolerance: math.Inf(1)}}, ode, []Variable{Latents}, "refresh of 0 calls every 0 updates with tolerance +Inf, want numbers of 0 or more"},
		{Surrogate{Freeze: v, Active: ActiveFirst, Refresh: Refresh{Calls: 4}}, ode, []Variable{Latents}, "refresh makes 4 calls again besides the first, the sampler has 3; lower the number or refresh all"},
		{Surrogate{Freeze: v, Active: ActiveFirst}, ode, []Variable{Noises}, "the noises vary, but the sampler adds none; use ddpm, lcm or ddim with eta above 0"},
		{Surrogate{Freeze: v, Active: ActiveNone}, ode, []Variable{Parameters}, "active none keeps no call, so condition and parameters have no gradient; use importance, uniform or first"},
		{Surrogate{Freeze: v, Active: ActiveNone}, ode, []Variable{Latents, Condition}, "active none keeps no call, so condition and parameters have no gradient; use importance, uniform or first"},
		{Surrogate{Freeze: v, Active: ActiveNone, Bridge: 0.3}, ode, []Variable{Latents}, "active none keeps no call for a jump or a bridge to pass; set active to first"},
		{Surrogate{Freeze: v, Active: ActiveNone, Jump: true}, ode, []Variable{Latents}, "active none keeps no call for a jump or a bridge to pass; set active to first"},
		// Assertion 10.
		{Surrogate{Freeze: v, Active: ActiveUniform, Calls: 1, Bridge: 1}, ode, []Variable{Latents}, "active uniform with a bridge multiplies a call's part in the latent's gradient by about the number of steps, which points the wrong way in most draws; set active to first, last, tail or all"},
		{Surrogate{Freeze: v, Active: ActiveImportance, Bridge: 1}, ode, []Variable{Latents, Parameters}, "active importance with a bridge multiplies a call's part in the latent's gradient by about the number of steps, which points the wrong way in most draws; set active to first, last, tail or all"},
		{Surrogate{Freeze: v, Active: ActiveCycle, Bridge: .5}, sde, []Variable{Noises}, "active cycle with a bridge multiplies a call's part in the latent's gradient by about the number of steps, which points the wrong way in most draws; set active to first, last, tail or all"},
		{Surrogate{Freeze: v, Active: ActiveUniform, Calls: 1}, ode, []Variable{Latents}, "active uniform with bridge 0 keeps calls that [latents] do not reach; set active to first, or bridge above 0"},
		{Surrogate{Freeze: v, Active: ActiveAll}, ode, []Variable{Latents, GuidanceScale}, "active all with bridge 0 keeps calls that [latents guidance_scale] do not reach; set active to first, or bridge above 0"},
		{Surrogate{Freeze: v, Active: ActiveFirst, Jump: true, Bridge: 1}, ode, []Variable{Latents}, "a jump takes the loss at one call's estimate and passes no bridge and no re-noised copies; leave those out"},
		{Surrogate{Freeze: v, Active: ActiveLast, Calls: 1, Jump: true, Renoised: 2}, ode, shared, "a jump takes the loss at one call's estimate and passes no bridge and no re-noised copies; leave those out"},
		{Surrogate{Freeze: v, Active: ActiveFirst, Jump: true}, sde, []Variable{Latents, Noises}, "a jump holds the way to its call, so the noises have no gradient; leave them out or use another method"},
		{Surrogate{Freeze: v, Active: ActiveLate, Calls: 2, Jump: true}, ode, []Variable{Latents, Parameters}, "a jump from call late is not reached by the latents; set active to first"},
		{Surrogate{Freeze: v, Active: ActiveAll, Jump: true}, ode, shared, "a jump takes one active call, active all keeps several; use first or late"},
		{Surrogate{Freeze: v, Active: ActiveTail, Jump: true}, ode, shared, "a jump takes one active call, active tail keeps several; use first or late"},
		{Surrogate{Freeze: v, Active: ActiveLast, Calls: 2, Jump: true}, ode, shared, "a jump takes one active call, active last keeps several; use first or late"},
		{Surrogate{Freeze: v, Active: ActiveImportance, Jump: true}, ode, shared, "a jump is a loss of its own at each call, which no probability of active importance weighs; use first or late"},
		{Surrogate{Freeze: v, Active: ActiveLast, Calls: 1, Renoised: 2}, ode, []Variable{Latents, Parameters}, "re-noised copies hold the sample fixed, so only condition and parameters have a gradient, of active last; vary those"},
		{Surrogate{Freeze: v, Active: ActiveFirst, Renoised: 2}, ode, shared, "re-noised copies hold the sample fixed, so only condition and parameters have a gradient, of active last; vary those"},
		{Surrogate{Freeze: v, Active: ActiveAll, Bridge: 1, Refresh: Refresh{Calls: 1}}, ode, []Variable{Latents}, "refresh holds outputs of earlier updates, through which no gradient passes; use it with active first or none, bridge 0, and the loss at the sample"},
		{Surrogate{Freeze: v, Active: ActiveFirst, Jump: true, Refresh: Refresh{Calls: 1}}, ode, []Variable{Latents}, "refresh holds outputs of earlier updates, through which no gradient passes; use it with active first or none, bridge 0, and the loss at the sample"},
		{Surrogate{Freeze: v, Active: ActiveFirst, Refresh: Refresh{Calls: 1}}, ode, []Variable{Latents, GuidanceScale}, "refresh holds outputs of earlier updates, which a change of condition, guidance scale or parameters makes wrong at once; vary latents or noises only"},
		{Surrogate{Freeze: v, Active: ActiveFirst, Refresh: Refresh{Tolerance: .1}}, ode, []Variable{Parameters}, "refresh holds outputs of earlier updates, which a change of condition, guidance scale or parameters makes wrong at once; vary latents or noises only"},
		{Surrogate{Freeze: v, Active: ActiveFirst, Recompute: true, Refresh: Refresh{Calls: 1}}, ode, []Variable{Latents}, "recompute makes kept calls again, refresh leaves calls out; use one of them"},
	} {
		wantError(t, test.Validate(test.table, test.vary), "sdo: "+test.want)
		if _, err := NewChain(steered(test.table), test.Surrogate, test.vary...); err == nil {
			t.Errorf("NewChain takes %v", test.Surrogate)
		}
	}
}

func TestVariablesRefuse(t *testing.T) {
	all := steered(table(t, sampler.PredictV, 4))
	bare := problem(table(t, sampler.PredictEpsilon, 4), newMixture(table(t, sampler.PredictEpsilon, 4), testCols, 2))
	first := Surrogate{Freeze: sampler.FreezeV, Active: ActiveFirst}
	batched := first
	batched.Refresh = Refresh{Calls: 1, Batched: true}
	for _, test := range []struct {
		Problem
		Surrogate
		vary []Variable
		want string
	}{
		{all, first, []Variable{"time"}, `sdo: variable is "time", want one of [latents noises condition guidance_scale parameters]`},
		{all, first, []Variable{Latents, Latents}, "sdo: variable latents is named twice"},
		{bare, first, []Variable{Condition}, "sdo: the condition varies, but the problem has none to begin from"},
		{bare, first, []Variable{GuidanceScale}, "sdo: the guidance scale varies, but there is no condition to guide by; add one"},
		{bare, first, []Variable{Parameters}, "sdo: the parameters vary, but the network has none to train; choose some, or a LoRA"},
		{all, batched, []Variable{Latents}, "sdo: refresh is batched, but the network answers one call at a time; turn batched off"},
	} {
		before := test.Space.(*slices64).live
		_, err := NewChain(test.Problem, test.Surrogate, test.vary...)
		wantError(t, err, test.want)
		if live := test.Space.(*slices64).live; live != before {
			t.Errorf("%q leaves %d vectors", test.want, live-before)
		}
	}
	// A scale for each row would go unheard where the network is asked once.
	all.Guidance = 1
	c, err := NewChain(all, first, Latents)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Free()
	_, err = c.Rollout(context.Background(), Values{Latents: all.Start, GuidanceScale: &boxed{vector{1, 2, 3}}})
	wantError(t, err, "sdo: guidance scales are given, but the chain asks the network once a step; let guidance_scale vary or set the problem's guidance")
}

func TestMethodNames(t *testing.T) {
	list := "sdo, full, full-checkpoint, identity, jump, draft-K, draft-lv, drtune-K, refl, alignprop, leapalign, flowbp-sparse-K, stale-r"
	for name, want := range map[Method]string{
		"drafts":          `sdo: method is "drafts", want one of ` + list,
		"draft":           `sdo: method is "draft", want one of ` + list,
		"":                `sdo: method is "", want one of ` + list,
		"draft-0":         `sdo: method is "draft-0", want draft-K with a whole number above 0 in place of its last letter`,
		"draft-05":        `sdo: method is "draft-05", want draft-K with a whole number above 0 in place of its last letter`,
		"draft--1":        `sdo: method is "draft--1", want draft-K with a whole number above 0 in place of its last letter`,
		"draft-K":         `sdo: method is "draft-K", want draft-K with a whole number above 0 in place of its last letter`,
		"stale-1.5":       `sdo: method is "stale-1.5", want stale-r with a whole number above 0 in place of its last letter`,
		"flowbp-sparse-x": `sdo: method is "flowbp-sparse-x", want flowbp-sparse-K with a whole number above 0 in place of its last letter`,
	} {
		_, err := name.Surrogate(Parameters)
		wantError(t, err, want)
	}
	for _, name := range []Method{"draft-5", "draft-lv", "drtune-2", "refl", "alignprop", "leapalign", "flowbp-sparse-4"} {
		_, err := name.Surrogate(Parameters, Latents)
		wantError(t, err, fmt.Sprintf("sdo: method %s is defined for condition and parameters, not for latents; use sdo, full or identity", name))
	}
	table := table(t, sampler.PredictV, 12)
	for _, info := range Methods {
		name := Method(map[Method]string{MethodDRaFTK: "draft-12", MethodDRTuneK: "drtune-3", MethodFlowBPSparseK: "flowbp-sparse-12", MethodStaleR: "stale-11"}[info.Method])
		if name == "" {
			name = info.Method
		}
		vary := []Variable{Latents}
		if info.shared {
			vary = shared
		}
		if err := named(t, name, vary...).Validate(table, vary); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if info.Source == "" || info.Rule == "" {
			t.Errorf("%s says not what it is", info.Method)
		}
	}
}

// A call that fails, in any place of any method, leaves nothing behind.
func TestFailingCallsLeakNothing(t *testing.T) {
	lost := errors.New("device lost")
	for _, m := range []Method{MethodSDO, MethodFull, MethodFullCheckpoint, MethodIdentity, MethodJump, "draft-2", MethodDRaFTLV, "drtune-2", MethodReFL, MethodAlignProp, MethodLeapAlign, "flowbp-sparse-2", "stale-2"} {
		vary := []Variable{Latents}
		if _, err := m.Surrogate(vary...); err != nil {
			vary = shared
		}
		for at := 1; ; at++ {
			p := steered(tables(t, sampler.PredictV, 4)["heun"])
			net := analyticOf(p)
			net.before = func(call int) error {
				if call == at {
					return lost
				}
				return nil
			}
			g, _, err := Gradient(context.Background(), p, named(t, m, vary...), Values{Latents: p.Start}, 1, vary...)
			if err == nil {
				p.FreeValues(g)
			} else if !errors.Is(err, lost) {
				t.Errorf("%s, failing call %d: %v", m, at, err)
			}
			if live := p.Space.(*slices64).live; live != 1 || net.kept != 0 {
				t.Errorf("%s, failing call %d: %d vectors and %d kept calls left", m, at, live-1, net.kept)
			}
			if err == nil {
				break
			}
		}
	}
}
