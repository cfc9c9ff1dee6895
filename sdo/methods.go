package sdo

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sdo-go/sdo/sampler"
)

// Method is a named setting of the surrogate: a published rule, or one of this
// project's. "draft-K" and its like stand for a number in K's place, as in
// draft-5.
type Method string

const (
	MethodSDO            Method = "sdo"
	MethodFull           Method = "full"
	MethodFullCheckpoint Method = "full-checkpoint"
	MethodIdentity       Method = "identity"
	MethodJump           Method = "jump"
	MethodDRaFTK         Method = "draft-K"
	MethodDRaFTLV        Method = "draft-lv"
	MethodDRTuneK        Method = "drtune-K"
	MethodReFL           Method = "refl"
	MethodAlignProp      Method = "alignprop"
	MethodLeapAlign      Method = "leapalign"
	MethodFlowBPSparseK  Method = "flowbp-sparse-K"
	MethodStaleR         Method = "stale-r"
)

// MethodInfo says what a method is and where it comes from.
type MethodInfo struct {
	Method Method
	Source string // paper, or what it is here
	Rule   string // in a line

	// shared reports that the method is defined for condition and parameters
	// only, the variables every call sees.
	shared bool
	// set fills the surrogate in for k, where the name takes a number.
	set func(k int, vary []Variable) Surrogate
}

// refreshEvery is stale-r's: the tail of a stale run that goes astray is cut
// after so many updates (docs/results, and RATIONALE.md).
const refreshEvery = 10

// Methods lists every method in the order of docs/method.md.
var Methods = []MethodInfo{
	{MethodSDO, "Dou et al., arXiv 2505.07477", "one call kept: the first for latents, one by importance for condition and parameters", false,
		func(_ int, vary []Variable) Surrogate {
			if slices.Contains(vary, Condition) || slices.Contains(vary, Parameters) {
				return Surrogate{Freeze: sampler.FreezeV, Active: ActiveImportance}
			}
			return Surrogate{Freeze: sampler.FreezeEps, Active: ActiveFirst}
		}},
	{MethodFull, "back-propagation through the sampler", "every call kept", false,
		func(int, []Variable) Surrogate {
			return Surrogate{Freeze: sampler.FreezeSolver, Active: ActiveAll, Bridge: 1}
		}},
	{MethodFullCheckpoint, "Chen et al., arXiv 1604.06174, a checkpoint a step", "every call made again on the way back", false,
		func(int, []Variable) Surrogate {
			return Surrogate{Freeze: sampler.FreezeSolver, Active: ActiveAll, Bridge: 1, Recompute: true}
		}},
	{MethodIdentity, "the baseline of docs/method.md", "no call kept", false,
		func(int, []Variable) Surrogate {
			return Surrogate{Freeze: sampler.FreezeEps, Active: ActiveNone}
		}},
	{MethodJump, "DPS, Chung et al., arXiv 2209.14687, at the start", "loss at the first call's estimate of the clean sample", false,
		func(int, []Variable) Surrogate {
			return Surrogate{Freeze: sampler.FreezeSolver, Active: ActiveFirst, Jump: true}
		}},
	{MethodDRaFTK, "Clark et al., arXiv 2309.17400", "the last K calls, chained", true,
		func(k int, _ []Variable) Surrogate {
			return Surrogate{Freeze: sampler.FreezeSolver, Active: ActiveLast, Calls: k, Bridge: 1}
		}},
	{MethodDRaFTLV, "Clark et al., arXiv 2309.17400", "the last call, at two re-noised copies of the sample", true,
		func(int, []Variable) Surrogate {
			return Surrogate{Freeze: sampler.FreezeSolver, Active: ActiveLast, Calls: 1, Renoised: 2}
		}},
	{MethodDRTuneK, "Wu et al., arXiv 2405.00760", "K equally spaced calls, their inputs detached", true,
		func(k int, _ []Variable) Surrogate {
			return Surrogate{Freeze: sampler.FreezeSolver, Active: ActiveSpaced, Calls: k}
		}},
	{MethodReFL, "Xu et al., arXiv 2304.05977", "one late call, loss at its estimate of the clean sample", true,
		func(int, []Variable) Surrogate {
			return Surrogate{Freeze: sampler.FreezeSolver, Active: ActiveLate, Calls: 10, Jump: true}
		}},
	{MethodAlignProp, "Prabhudesai et al., arXiv 2310.03739", "a last part of random length, chained and recomputed", true,
		func(int, []Variable) Surrogate {
			return Surrogate{Freeze: sampler.FreezeSolver, Active: ActiveTail, Bridge: 1, Recompute: true}
		}},
	{MethodLeapAlign, "arXiv 2604.15311, its bridge", "two random calls, the path between them at .3", true,
		func(int, []Variable) Surrogate {
			return Surrogate{Freeze: sampler.FreezeSolver, Active: ActiveUniform, Calls: 2, Bridge: 0.3}
		}},
	{MethodFlowBPSparseK, "arXiv 2606.11075, FlowBP-Sparse", "K random calls, unbiased, no path between them", true,
		func(k int, _ []Variable) Surrogate {
			return Surrogate{Freeze: sampler.FreezeSolver, Active: ActiveUniform, Calls: k}
		}},
	{MethodStaleR, "docs/method.md, Stale refresh", "sdo that makes r calls again an update and keeps the other outputs", false,
		func(r int, _ []Variable) Surrogate {
			return Surrogate{Freeze: sampler.FreezeV, Active: ActiveFirst, Refresh: Refresh{Calls: r, Every: refreshEvery, Carry: true}}
		}},
}

// Surrogate is the setting a method's name stands for, with these variables.
// Its fields may then be changed; NewChain validates what comes of it.
func (m Method) Surrogate(vary ...Variable) (Surrogate, error) {
	for _, info := range Methods {
		name, numbered := strings.CutSuffix(string(info.Method), "-K")
		if !numbered {
			name, numbered = strings.CutSuffix(string(info.Method), "-r")
		}
		k := 0
		switch digits, ok := strings.CutPrefix(string(m), name+"-"); {
		case numbered && ok && m != MethodDRaFTLV: // a name of its own that begins like draft-K
			var err error
			if k, err = strconv.Atoi(digits); err != nil || k < 1 || strconv.Itoa(k) != digits {
				return Surrogate{}, fmt.Errorf("sdo: method is %q, want %s with a whole number above 0 in place of its last letter", m, info.Method)
			}
		case numbered || string(m) != name:
			continue
		}
		if info.shared {
			for _, v := range vary {
				if v != Condition && v != Parameters {
					return Surrogate{}, fmt.Errorf("sdo: method %s is defined for condition and parameters, not for %s; use sdo, full or identity", m, v)
				}
			}
		}
		return info.set(k, vary), nil
	}
	names := make([]string, len(Methods))
	for i, info := range Methods {
		names[i] = string(info.Method)
	}
	return Surrogate{}, fmt.Errorf("sdo: method is %q, want one of %s", m, strings.Join(names, ", "))
}
