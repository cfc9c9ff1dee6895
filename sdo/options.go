package sdo

import (
	"context"
	"fmt"
	"math"

	"github.com/sdo-go/sdo/sampler"
)

// NormGuard names what keeps a latent's norm near that of noise. Networks have
// only seen states of that norm, and a latent far from it gives pictures far
// from any they know.
type NormGuard string

const (
	// NormNone leaves the norm alone.
	NormNone NormGuard = "none"
	// NormProject scales each row to norm sqrt(columns) after every update, or to
	// the norm it began with (Options.NormStart).
	NormProject NormGuard = "project"
	// NormPenalty adds NormWeight times the negative log-density of the norm
	// of standard normal noise, |x|^2/2 - (d-1) log|x|, to the loss that is
	// differentiated (arXiv 2406.04312). Reported losses are without it.
	NormPenalty NormGuard = "penalty"
)

// EarlyStop names who may stop a row.
type EarlyStop string

const (
	EarlyStopOff       EarlyStop = "off"
	EarlyStopObjective EarlyStop = "objective" // the objective, or a loss of StopBelow
	EarlyStopJudge     EarlyStop = "judge"     // Problem.Judge, which takes no part in the gradient
)

// Options says how a problem is optimised. Start from DefaultOptions: no field
// has a silent default.
type Options struct {
	Surrogate Surrogate
	Vary      []Variation
	Updates   int // at most this many; 0 only samples

	// MaxGradNorm clips gradients: of each row over its own variables, and of
	// all parameters together. 0 does not.
	MaxGradNorm float64

	NormGuard  NormGuard // of latents and noises
	NormWeight float64   // of NormPenalty
	// NormStart makes NormProject hold each latent at the norm it began with, for
	// a start that is no noise, such as a picture's.
	NormStart bool
	// Whiten, where set, is called after every update with each varied vector
	// that should be white noise (latents and noises) and the rows that moved.
	Whiten func(ctx context.Context, noise Vector, moved []bool) error
	// DriftLimit stops a row whose sample has moved further than this from the
	// one it began with, root mean square; no such sample is kept as best. 0
	// does not.
	DriftLimit float64

	// EarlyStop leaves a row alone once it is good enough: its variables stay
	// while the others go on, and the run ends when all are left alone. Where the
	// parameters vary no row can be left alone, and the run ends when all are
	// good enough at once.
	EarlyStop EarlyStop
	StopBelow float64 // the loss that is good enough for an objective that is no Satisfier

	// Resume goes on from where a run was saved (Event.Save), as that run would
	// have; nil begins anew. The problem and the options must be that run's own,
	// but for Updates, which may be more. The rollout of the latest update is made
	// again, and its event told again; the counters go on from the saved ones.
	// Where the run uses outputs of earlier updates (Surrogate.Refresh) these are
	// gone and every call is made at that rollout, so that its losses, and those
	// after it, may differ from what they would have been.
	Resume *RunState
}

// DefaultOptions is the setting of docs/method.md: latent SDO with eps
// frozen, Adam(0.9, 0.9), latents kept at the norm of noise.
func DefaultOptions() Options {
	return Options{
		Surrogate: Surrogate{Freeze: sampler.FreezeEps, Active: ActiveFirst},
		Vary:      []Variation{{Latents, DefaultOptimizer()}},
		Updates:   60,
		NormGuard: NormProject, NormWeight: 0.01, EarlyStop: EarlyStopOff,
	}
}

// Variables lists what varies.
func (o Options) Variables() []Variable {
	names := make([]Variable, len(o.Vary))
	for i, v := range o.Vary {
		names[i] = v.Variable
	}
	return names
}

// Validate refuses, with one sentence, the first option that makes no sense.
// What depends on the problem is checked by Run.
func (o Options) Validate() error {
	refuse := func(format string, args ...any) error { return fmt.Errorf("sdo: "+format, args...) }
	if len(o.Vary) == 0 {
		return refuse("nothing varies, want at least one of %v", Variables)
	}
	for _, v := range o.Vary {
		if err := v.Optimizer.Validate(); err != nil {
			return refuse("%s: %w", v.Variable, err)
		}
	}
	switch o.NormGuard {
	case NormNone, NormProject, NormPenalty:
	default:
		return refuse("latent norm guard is %q, want project, penalty or none", o.NormGuard)
	}
	switch o.EarlyStop {
	case EarlyStopOff, EarlyStopObjective, EarlyStopJudge:
	default:
		return refuse("early stop is %q, want off, objective or judge", o.EarlyStop)
	}
	switch {
	case o.Updates < 0:
		return refuse("%d updates, want 0 or more", o.Updates)
	case !(o.MaxGradNorm >= 0) || !finite(o.MaxGradNorm):
		return refuse("highest gradient norm is %v, want 0 or more", o.MaxGradNorm)
	case o.NormGuard == NormPenalty && (!(o.NormWeight > 0) || !finite(o.NormWeight)):
		return refuse("norm penalty weight is %v, want a number above 0", o.NormWeight)
	case !(o.DriftLimit >= 0) || !finite(o.DriftLimit):
		return refuse("drift limit is %v, want 0 or more", o.DriftLimit)
	case o.EarlyStop == EarlyStopObjective && !finite(o.StopBelow):
		return refuse("early stop below a loss of %v, want a finite number", o.StopBelow)
	}
	return nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
