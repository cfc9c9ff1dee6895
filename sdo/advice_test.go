package sdo

import (
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/sampler"
)

// units are pictures with these cosines and one length.
func units(length float64, cosines ...float64) (all []Agreement) {
	for _, c := range cosines {
		a := Agreement{Cosine: c, RelativeNorm: length}
		if c < 0 {
			a.Negative = 1
		}
		all = append(all, a)
	}
	return all
}

func TestAdvise(t *testing.T) {
	latents := func(method Method, freeze sampler.Freeze, step int, u []Agreement) Comparison {
		return Comparison{Setting: Setting{Latents, method, freeze, ""}, Step: step, Units: u}
	}
	shared := func(freeze sampler.Freeze, active Active, u []Agreement) Comparison {
		return Comparison{Setting: Setting{Condition, MethodSDO, freeze, active}, Step: AllCalls, Units: u}
	}
	type want struct {
		variable Variable
		freeze   sampler.Freeze
		active   Active
		others   []Active
		tied     bool // the first of the others
	}
	for name, test := range map[string]struct {
		comparisons []Comparison
		want        want
	}{
		"the kept call earns its cost; the later state says nothing": {[]Comparison{
			latents(MethodSDO, sampler.FreezeEps, 0, units(12, .5, .6, .7)), latents(MethodSDO, sampler.FreezeV, 0, units(.8, .5, .6, .7)),
			latents(MethodIdentity, sampler.FreezeEps, 0, units(1, .4, .5, .6)), latents(MethodIdentity, sampler.FreezeEps, 1, units(1, 1, 1, 1)),
		}, want{Latents, sampler.FreezeV, ActiveFirst, []Active{ActiveNone}, false}},
		"it does not": {[]Comparison{
			latents(MethodSDO, sampler.FreezeEps, 0, units(12, .5, .6, .7)),
			latents(MethodIdentity, sampler.FreezeV, 0, units(.9, .51, .59, .69)), latents(MethodIdentity, sampler.FreezeEps, 0, units(9, .51, .59, .69)),
		}, want{Latents, sampler.FreezeV, ActiveNone, []Active{ActiveFirst}, true}},
		"a small difference in every picture counts": {[]Comparison{
			latents(MethodSDO, sampler.FreezeV, 0, units(1, .52, .02, .92, .32)), latents(MethodIdentity, sampler.FreezeV, 0, units(1, .50, .00, .90, .30)),
		}, want{Latents, sampler.FreezeV, ActiveFirst, []Active{ActiveNone}, false}},
		"the unbiased rule before equal ones": {[]Comparison{
			shared(sampler.FreezeEps, ActiveImportance, units(2, .8, .9)), shared(sampler.FreezeV, ActiveImportance, units(1.1, .8, .9)),
			shared(sampler.FreezeV, ActiveFirst, units(1, .81, .9)), shared(sampler.FreezeV, ActiveLast, units(1, -.1, .2)),
			shared(sampler.FreezeV, ActiveAll, units(1, 1, 1)), // keeps every call
			{Setting: Setting{Condition, "draft-5", "", ""}, Step: AllCalls, Units: units(1, 1, 1)},
		}, want{Condition, sampler.FreezeV, ActiveImportance, []Active{ActiveFirst, ActiveLast}, true}},
		"a difference in the noise is none": {[]Comparison{
			shared(sampler.FreezeV, ActiveImportance, units(1, .9, .1, .8, .2)), shared(sampler.FreezeV, ActiveLast, units(1, .1, .95, .2, .99)),
		}, want{Condition, sampler.FreezeV, ActiveImportance, []Active{ActiveLast}, true}},
		"the best one where the unbiased rule is worse": {[]Comparison{
			shared(sampler.FreezeV, ActiveImportance, units(1, .4, .42, .41)), shared(sampler.FreezeEps, ActiveFirst, units(3, .8, .82, .81)),
		}, want{Condition, sampler.FreezeEps, ActiveFirst, []Active{ActiveImportance}, false}},
	} {
		a, ok := Advise(test.want.variable, test.comparisons)
		var others []Active
		for _, r := range a.Others {
			others = append(others, r.Active)
		}
		if !ok || a.Freeze != test.want.freeze || a.Active != test.want.active || !slices.Equal(others, test.want.others) || a.Others[0].Tied != test.want.tied {
			t.Errorf("%s: %+v, want %+v", name, a, test.want)
		}
	}
	lone, _ := Advise(Condition, []Comparison{shared(sampler.FreezeV, ActiveImportance, units(1, .75)), shared(sampler.FreezeV, ActiveLast, units(1, .8))})
	if lone.Active != ActiveImportance || lone.Error != 0 {
		t.Errorf("one picture decides: %+v", lone)
	}
	if a, ok := Advise(Parameters, []Comparison{latents(MethodSDO, sampler.FreezeV, 0, units(1, 1))}); ok {
		t.Errorf("advice on parameters from latents: %+v", a)
	}
}

// The sentence says what it rests on, and where that is too little to choose by.
func TestAdviceInWords(t *testing.T) {
	say := func(cosines ...float64) string {
		a, _ := Advise(Parameters, []Comparison{
			{Setting: Setting{Parameters, MethodSDO, sampler.FreezeV, ActiveImportance}, Step: AllCalls, Units: units(1.5, cosines...)},
			{Setting: Setting{Parameters, MethodSDO, sampler.FreezeV, ActiveLast}, Step: AllCalls, Units: units(1, make([]float64, len(cosines))...)},
		})
		return a.String()
	}
	want := "parameters: freeze v, active importance; its mean cosine is 0.600 ± 0.100 over 2 batches, against 0.000 of last, and its length 1.5 times the true gradient's." +
		" This rests on gradients where a run begins, not on runs, and on 2 batches only: too thin to choose by; take more --batches."
	if got := say(.5, .7); got != want {
		t.Errorf("said\n%s\nwant\n%s", got, want)
	}
	if got := say(.9, .9, .9, .9, .9, .9, -.1, .9); strings.Contains(got, "thin") || !strings.Contains(got, "It points the wrong way in 12 % of the draws.") {
		t.Errorf("said %s", got)
	}
}
