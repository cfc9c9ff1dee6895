package sdo

import (
	"fmt"
	"slices"

	"github.com/sdo-go/sdo/sampler"
)

// Surrogate is the function a method differentiates in place of the sampler. Its
// value is the rollout's; its gradient is sparse (docs/method.md, The surrogate):
//
//	x_N = P*latent + sum_i w_i*f_i + sum_i n_i*z_i
//
// with f_i held but for the calls of an active set S, whose graphs are kept:
//
//	f_i -> f_i + (f_i(x_i, c, theta) - f_i)/pi_i,  i in S
//
// pi_i is the probability that the draw makes i active where Active is random
// and unbiased, else 1. The input x_i of an active call carries Bridge times its
// own derivative; at the first call it is the latent itself and carries all of
// it, with pi_0 = 1.
type Surrogate struct {
	Freeze sampler.Freeze // which form f of the network's output is held
	Active Active         // S
	Calls  int            // how many calls, of the Active that take a number
	Bridge float64        // alpha, 0 to 1: how much of the path between active calls is live

	// Recompute stores the states of active calls instead of their graphs and
	// makes the calls again on the way back, one at a time.
	Recompute bool
	// Jump takes the loss at the clean sample that the one active call
	// estimates, and ends the rollout there.
	Jump bool
	// Renoised takes the loss at this many copies of the sample, noised to the
	// level of the last call and denoised by it; 0 for none (arXiv 2309.17400,
	// DRaFT-LV).
	Renoised int
	Refresh  Refresh

	Seed uint64 // of the draws of Active and of Renoised's noise
}

// Active names the calls that keep their graphs.
type Active string

const (
	ActiveNone       Active = "none"
	ActiveFirst      Active = "first"
	ActiveLast       Active = "last"       // the last Calls
	ActiveAll        Active = "all"        //
	ActiveUniform    Active = "uniform"    // Calls different ones, each equally likely; unbiased
	ActiveImportance Active = "importance" // one, with probability proportional to |w_i q_i|; unbiased
	ActiveCycle      Active = "cycle"      // call u mod N at update u; unbiased over N updates
	ActiveSpaced     Active = "spaced"     // Calls equally spaced ones from a random first
	ActiveTail       Active = "tail"       // the last k, k uniform in 1..N
	ActiveLate       Active = "late"       // one of the last Calls, or of all where there are fewer
)

// Actives lists every choice.
var Actives = []Active{ActiveNone, ActiveFirst, ActiveLast, ActiveAll, ActiveUniform,
	ActiveImportance, ActiveCycle, ActiveSpaced, ActiveTail, ActiveLate}

// counted reports whether the choice takes Surrogate.Calls.
func (a Active) counted() bool {
	return a == ActiveLast || a == ActiveUniform || a == ActiveSpaced || a == ActiveLate
}

// unbiased reports whether active calls are weighted by 1/pi.
func (a Active) unbiased() bool {
	return a == ActiveUniform || a == ActiveImportance || a == ActiveCycle
}

// Refresh lets an update use outputs of earlier updates (docs/method.md, Stale
// refresh). The zero value does not: every call is made at every update.
type Refresh struct {
	// Calls is how many calls are made again at every update, besides the kept
	// first one; 0 and no Tolerance for all of them.
	Calls int
	// Every makes all calls again each so many updates, and only then is a loss
	// that of the true sample; 0 never does between the first update and the last.
	Every int
	// Tolerance also makes a call again once its input has moved further than
	// this since it was last made, root mean square over the numbers of a row,
	// in the row that moved most; 0 does not.
	Tolerance float64
	// Carry moves what is held of the calls that are not made again by as much as
	// the one before them that is has changed.
	Carry bool
	// Batched makes the calls of an update at states that do not wait for each
	// other, as one wide call where the network is a Batcher.
	Batched bool
}

// stale reports whether outputs of earlier updates are used.
func (r Refresh) stale() bool { return r.Calls > 0 || r.Tolerance > 0 }

// chained reports whether a gradient passes through more than one call.
func (s Surrogate) chained() bool { return s.Bridge > 0 }

// faithful reports whether the loss that is differentiated is the sample's own.
func (s Surrogate) faithful() bool { return !s.Jump }

// Validate refuses, with one sentence, a surrogate that makes no sense for a
// sampler and the variables that vary.
func (s Surrogate) Validate(table *sampler.Table, vary []Variable) error {
	refuse := func(format string, args ...any) error { return fmt.Errorf("sdo: "+format, args...) }
	n := len(table.Steps)
	has := func(v ...Variable) bool {
		return slices.ContainsFunc(v, func(v Variable) bool { return slices.Contains(vary, v) })
	}
	through := has(Condition, Parameters) // gradients that need a kept call
	switch s.Freeze {
	case sampler.FreezeEps, sampler.FreezeV, sampler.FreezeX0, sampler.FreezeSolver:
	default:
		return refuse("freeze is %q, want eps, v, x0 or solver", s.Freeze)
	}
	switch {
	case !slices.Contains(Actives, s.Active):
		return refuse("active is %q, want one of %v", s.Active, Actives)
	case s.Active.counted() && s.Calls < 1:
		return refuse("active %s of %d calls, want 1 or more", s.Active, s.Calls)
	case s.Active.counted() && s.Active != ActiveLate && s.Calls > n:
		return refuse("active %s wants %d calls, the sampler makes %d; lower the number or take more steps", s.Active, s.Calls, n)
	case !(s.Bridge >= 0 && s.Bridge <= 1):
		return refuse("bridge is %v, want a number from 0 to 1", s.Bridge)
	case s.Renoised < 0 || s.Renoised > 64:
		return refuse("%d re-noised copies, want 0 to 64", s.Renoised)
	case s.Refresh.Calls < 0 || s.Refresh.Every < 0 || !(s.Refresh.Tolerance >= 0) || !finite(s.Refresh.Tolerance):
		return refuse("refresh of %d calls every %d updates with tolerance %v, want numbers of 0 or more", s.Refresh.Calls, s.Refresh.Every, s.Refresh.Tolerance)
	case s.Refresh.stale() && s.Refresh.Calls > n-1:
		return refuse("refresh makes %d calls again besides the first, the sampler has %d; lower the number or refresh all", s.Refresh.Calls, n-1)
	case has(Noises) && !table.Stochastic():
		return refuse("the noises vary, but the sampler adds none; use ddpm, lcm or ddim with eta above 0")
	case s.Active == ActiveNone && through:
		return refuse("active none keeps no call, so condition and parameters have no gradient; use importance, uniform or first")
	case s.Active == ActiveNone && (s.Jump || s.Bridge > 0):
		return refuse("active none keeps no call for a jump or a bridge to pass; set active to first")
	case s.Active.unbiased() && s.Bridge > 0 && has(Latents, Noises):
		return refuse("active %s with a bridge multiplies a call's part in the latent's gradient by about the number of steps, which points the wrong way in most draws; set active to first, last, tail or all", s.Active)
	case s.Renoised == 0 && s.Bridge == 0 && !s.Jump && !through && s.Active != ActiveNone && s.Active != ActiveFirst:
		return refuse("active %s with bridge 0 keeps calls that %v do not reach; set active to first, or bridge above 0", s.Active, vary)
	case s.Jump && (s.Bridge > 0 || s.Renoised > 0):
		return refuse("a jump takes the loss at one call's estimate and passes no bridge and no re-noised copies; leave those out")
	case s.Jump && has(Noises):
		return refuse("a jump holds the way to its call, so the noises have no gradient; leave them out or use another method")
	case s.Jump && has(Latents) && s.Active != ActiveFirst:
		return refuse("a jump from call %s is not reached by the latents; set active to first", s.Active)
	case s.Jump && (s.Active == ActiveAll || s.Active == ActiveTail || s.Active.counted() && s.Active != ActiveLate && s.Calls > 1):
		return refuse("a jump takes one active call, active %s keeps several; use first or late", s.Active)
	case s.Jump && s.Active.unbiased():
		return refuse("a jump is a loss of its own at each call, which no probability of active %s weighs; use first or late", s.Active)
	case s.Renoised > 0 && (has(Latents, Noises, GuidanceScale) || s.Active != ActiveLast || s.Calls != 1):
		return refuse("re-noised copies hold the sample fixed, so only condition and parameters have a gradient, of active last; vary those")
	case s.Refresh.stale() && (s.Bridge > 0 || s.Jump || s.Renoised > 0 || s.Active != ActiveFirst && s.Active != ActiveNone):
		return refuse("refresh holds outputs of earlier updates, through which no gradient passes; use it with active first or none, bridge 0, and the loss at the sample")
	case s.Refresh.stale() && has(Condition, GuidanceScale, Parameters):
		return refuse("refresh holds outputs of earlier updates, which a change of condition, guidance scale or parameters makes wrong at once; vary latents or noises only")
	case s.Recompute && s.Refresh.stale():
		return refuse("recompute makes kept calls again, refresh leaves calls out; use one of them")
	}
	return nil
}

// Demand is what a chain holds on the device.
type Demand struct {
	Wrt     Wrt // what every kept call is kept for
	Calls   int // kept calls alive at once, guidance aside
	Vectors int // of the batch's size
	Batch   int // calls answered as one, 0 where none are
}

// Demand counts before anything is allocated.
func (s Surrogate) Demand(table *sampler.Table, vary []Variable) Demand {
	n := len(table.Steps)
	has := func(v Variable) bool { return slices.Contains(vary, v) }
	d := Demand{Vectors: 4}
	if table.Stochastic() || s.Renoised > 0 {
		d.Vectors++
	}
	if depth := table.Depth(); depth > 0 {
		d.Vectors += depth + 1 // a call leaves its memory before the earlier ones go
	}
	if has(Condition) {
		d.Wrt |= WrtCond
	}
	if has(Parameters) {
		d.Wrt |= WrtParams
	}
	if (has(Latents) || s.chained()) && s.Active != ActiveNone {
		d.Wrt |= WrtX
	}
	if d.Wrt != 0 {
		d.Calls = s.held(n, vary)
	}
	switch {
	case s.Renoised > 0:
		d.Vectors++
	case s.Recompute:
		d.Vectors += d.Calls
		d.Calls = min(d.Calls, 1)
	}
	if has(GuidanceScale) {
		d.Vectors++
		if s.chained() {
			d.Vectors += s.most(n)
		}
	}
	if s.Refresh.stale() {
		d.Vectors += 2 * n
		if s.Refresh.Carry {
			d.Vectors++
		}
		if s.Refresh.Batched {
			d.Vectors += 2 * (n - 1)
			d.Batch = s.Refresh.Calls
			if s.Refresh.Tolerance > 0 {
				d.Batch = n - 1
			}
		}
	}
	return d
}

// Work is what a part of a run asks of the network and of the objective. Each
// branch of a guided call counts.
type Work struct {
	Calls     int // forward calls, kept ones included
	Kept      int // of them, those that leave a graph alive
	Backward  int // calls that are differentiated
	Losses    int // looks of the objective at the batch
	Gradients int // of them, those that are differentiated
}

// Work says, before anything is allocated, what a run makes at most: rollout
// before its first update, both for each update, and rollout once more where it
// goes on from a saved state. It is just that, unless rows stop early, but for
// two things. The rollout after the last update is only scored: it keeps nothing
// and has no gradient. And what is not known beforehand is the most there can be:
// the draws of Active, and the calls that Refresh makes again. guided says that
// calls have two branches.
func (o Options) Work(table *sampler.Table, guided bool) (rollout, update Work) {
	s, n, branches := o.Surrogate, len(table.Steps), 1
	if guided {
		branches = 2
	}
	rollout = Work{Calls: branches * n, Losses: 1}
	if o.Updates == 0 {
		return rollout, update
	}
	calls, kept, backward := s.passed(table, o.Variables(), branches)
	update.Backward = backward
	forward := rollout // that is differentiated
	switch {
	case s.Renoised > 0: // its copies are kept, and have the gradients
		update.Calls, update.Kept = branches*calls, kept
		update.Losses, update.Gradients = calls, calls
		return rollout, update
	case s.Recompute:
		update.Calls, update.Kept = branches*calls, kept
	default:
		forward.Kept = kept
	}
	forward.Gradients = 1
	switch {
	case !s.faithful(): // another rollout scores
		if s.Active == ActiveFirst {
			forward.Calls = branches
		}
		return rollout, update.plus(forward)
	case s.Refresh.stale() && o.EarlyStop == EarlyStopObjective: // what is stale and looks good enough is looked at again
		again := forward
		if s.Refresh.Tolerance == 0 {
			again.Calls = branches * (1 + s.Refresh.Calls)
		}
		update = update.plus(again)
	}
	return forward, update
}

// plus is one after another.
func (w Work) plus(o Work) Work {
	return Work{w.Calls + o.Calls, w.Kept + o.Kept, w.Backward + o.Backward, w.Losses + o.Losses, w.Gradients + o.Gradients}
}

// passed is how many calls an update's gradient passes, at most, and how many are
// kept and differentiated for it where each may have two branches.
func (s Surrogate) passed(table *sampler.Table, vary []Variable, branches int) (calls, kept, backward int) {
	n, wrt := len(table.Steps), s.Demand(table, vary).Wrt
	if wrt == 0 {
		return 0, 0, 0
	}
	has := func(v Variable) bool { return slices.Contains(vary, v) }
	calls = s.held(n, vary)
	inputs := 0 // calls whose input has a gradient
	switch {
	case s.Renoised > 0:
		calls = s.Renoised
	case s.chained():
		inputs = calls
		if !has(Latents) && !(has(Noises) && s.noisyBefore(table)) {
			inputs-- // nothing varies before the earliest
		}
	case has(Latents):
		inputs = 1
	}
	kept = calls
	if wrt != WrtCond { // which only one branch sees
		kept *= branches
	}
	switch {
	case has(Parameters):
		backward = branches * calls
	case has(Condition):
		backward = calls + (branches-1)*inputs
	default:
		backward = branches * inputs
	}
	return calls, kept, backward
}

// noisyBefore reports whether fresh noise may come in before the earliest active
// call. A tail that begins later than at the first call has fewer calls instead.
func (s Surrogate) noisyBefore(table *sampler.Table) bool {
	before := table.Steps
	switch s.Active {
	case ActiveFirst, ActiveAll, ActiveTail:
		before = nil
	case ActiveLast:
		before = before[:len(before)-s.Calls]
	}
	return slices.ContainsFunc(before, func(step sampler.Step) bool { return step.Noise != 0 })
}

// held is the largest number of calls a gradient passes: the active set and,
// where that may leave it out, the first call for the latents.
func (s Surrogate) held(n int, vary []Variable) int {
	most := s.most(n)
	if slices.Contains(vary, Latents) && !s.chained() && !s.Jump && s.Active != ActiveFirst && s.Active != ActiveNone {
		return min(n, most+1)
	}
	return most
}

// most is the largest size of the active set.
func (s Surrogate) most(n int) int {
	switch s.Active {
	case ActiveNone:
		return 0
	case ActiveAll, ActiveTail:
		return n
	case ActiveLast, ActiveUniform, ActiveSpaced:
		return s.Calls
	}
	return 1
}
