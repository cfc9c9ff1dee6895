package sampler

import (
	"fmt"
	"math"
)

// Level is a point of the noise schedule: there a state is
// Signal*clean + Noise*noise (docs/method.md calls the two a and s). On a
// schedule of betas the squares sum to 1, on a rectified flow the two do.
type Level struct {
	Signal, Noise float64
	// SigmaData is the deviation of clean samples for which an EDM network's
	// states have variance 1, (SigmaData*Signal)^2 + Noise^2 = 1. 0 elsewhere.
	SigmaData float64
}

// LevelAt returns the variance-preserving level of alphaBar.
func LevelAt(alphaBar float64) Level {
	return Level{Signal: math.Sqrt(alphaBar), Noise: math.Sqrt(1 - alphaBar)}
}

// AlphaBar returns the share of signal power.
func (l Level) AlphaBar() float64 { return l.Signal * l.Signal }

// Freeze names the quantity that SDO holds fixed in every network call but the
// kept one. The choice changes the surrogate gradient, not the sample
// (docs/method.md, The freeze).
type Freeze string

const (
	FreezeEps    Freeze = "eps"    // the noise: the authors' rule
	FreezeV      Freeze = "v"      // the velocity, see frozen: keeps the gradient near its true scale
	FreezeX0     Freeze = "x0"     // the clean sample: gives zero if the last step is fully clean
	FreezeSolver Freeze = "solver" // what the solver is fed: the network's own output
)

// mix is a linear combination clean*x0 + noise*eps of the two unknowns. States
// and network outputs of every kind are mixes, so any of them follows from any
// two others that are not parallel.
type mix struct{ clean, noise float64 }

func (l Level) state() mix { return mix{l.Signal, l.Noise} }

// output is the mix that a network of this prediction type estimates.
func (l Level) output(p Prediction) mix {
	switch p {
	case PredictV:
		return mix{-l.Noise, l.Signal}
	case PredictSample:
		return mix{1, 0}
	case PredictFlow:
		return mix{-1, 1}
	case PredictEDM:
		// (D - c_skip*x)/c_out
		return mix{l.Noise / l.SigmaData, -l.SigmaData * l.Signal}
	default:
		return mix{0, 1}
	}
}

// frozen is the mix that a freeze holds fixed. The velocity v is the derivative
// of the state along its schedule: by the angle whose sine is Noise where states
// have variance 1, for EDM therefore -F, and by t on a flow, where it is what the
// network predicts.
func (l Level) frozen(f Freeze, p Prediction) (mix, error) {
	switch f {
	case FreezeEps:
		return l.output(PredictEpsilon), nil
	case FreezeV:
		switch p {
		case PredictFlow:
			return l.output(p), nil
		case PredictEDM:
			f := l.output(p)
			return mix{-f.clean, -f.noise}, nil
		}
		return l.output(PredictV), nil
	case FreezeX0:
		return l.output(PredictSample), nil
	case FreezeSolver:
		return l.output(p), nil
	}
	return mix{}, fmt.Errorf("freeze is %q, want eps, v, x0 or solver", f)
}

// in returns the coefficients with m = ofU*u + ofV*v. ok is false where u and
// v are parallel and m cannot be told from them.
func (m mix) in(u, v mix) (ofU, ofV float64, ok bool) {
	det := u.clean*v.noise - u.noise*v.clean
	if det == 0 {
		return 0, 0, false
	}
	return (m.clean*v.noise - m.noise*v.clean) / det, (u.clean*m.noise - u.noise*m.clean) / det, true
}
