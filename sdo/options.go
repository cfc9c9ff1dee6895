package sdo

import (
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
	// NormProject scales each row to norm sqrt(columns) after every update.
	NormProject NormGuard = "project"
	// NormPenalty adds NormWeight times the negative log-density of the norm
	// of standard normal noise, |x|^2/2 - (d-1) log|x|, to the loss that is
	// differentiated (arXiv 2406.04312). Reported losses are without it.
	NormPenalty NormGuard = "penalty"
)

// Options says how a problem is optimised. Start from DefaultOptions: no field
// has a silent default.
type Options struct {
	Method  Method
	Freeze  sampler.Freeze // of methods sdo and identity
	Updates int            // at most this many; 0 only samples

	LR          float64 // of Adam, per update
	Beta1       float64
	Beta2       float64
	Eps         float64
	WeightDecay float64

	NormGuard  NormGuard
	NormWeight float64 // of NormPenalty

	// EarlyStop freezes a row once it is good enough: by the objective's own
	// word where it is a Satisfier, else once its loss is StopBelow or less. Its
	// latent stays while the others go on; the run ends when all are frozen.
	EarlyStop bool
	StopBelow float64
}

// DefaultOptions is the setting of docs/method.md: latent SDO with eps
// frozen, Adam(0.9, 0.9), latents kept at the norm of noise.
func DefaultOptions() Options {
	return Options{
		Method: MethodSDO, Freeze: sampler.FreezeEps, Updates: 60,
		LR: 0.05, Beta1: 0.9, Beta2: 0.9, Eps: 1e-8,
		NormGuard: NormProject, NormWeight: 0.01,
	}
}

// Validate refuses, with one sentence, the first option that makes no sense.
func (o Options) Validate() error {
	refuse := func(format string, args ...any) error { return fmt.Errorf("sdo: "+format, args...) }
	if _, ok := rules[o.Method]; !ok {
		return refuse("method is %q, want sdo, full, full-checkpoint or identity", o.Method)
	}
	switch o.Freeze {
	case sampler.FreezeEps, sampler.FreezeV, sampler.FreezeX0, sampler.FreezeSolver:
	default:
		return refuse("freeze is %q, want eps, v, x0 or solver", o.Freeze)
	}
	switch o.NormGuard {
	case NormNone, NormProject, NormPenalty:
	default:
		return refuse("latent norm guard is %q, want project, penalty or none", o.NormGuard)
	}
	switch {
	case o.Updates < 0:
		return refuse("%d updates, want 0 or more", o.Updates)
	case !(o.LR > 0) || !finite(o.LR):
		return refuse("learning rate is %v, want a number above 0", o.LR)
	case !(o.Beta1 >= 0 && o.Beta1 < 1 && o.Beta2 >= 0 && o.Beta2 < 1):
		return refuse("betas are %v and %v, want numbers from 0 up to but not including 1", o.Beta1, o.Beta2)
	case !(o.Eps > 0) || !finite(o.Eps):
		return refuse("eps is %v, want a number above 0", o.Eps)
	case !(o.WeightDecay >= 0) || !finite(o.WeightDecay):
		return refuse("weight decay is %v, want 0 or more", o.WeightDecay)
	case o.NormGuard == NormPenalty && (!(o.NormWeight > 0) || !finite(o.NormWeight)):
		return refuse("norm penalty weight is %v, want a number above 0", o.NormWeight)
	case o.EarlyStop && !finite(o.StopBelow):
		return refuse("early stop below a loss of %v, want a finite number", o.StopBelow)
	}
	return nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
