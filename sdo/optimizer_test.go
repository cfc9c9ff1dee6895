package sdo

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
)

// byHand is what the papers' updates make of a number, gradients given update by
// update.
func byHand(o Optimizer, x float64, gradients ...float64) float64 {
	m, v := 0.0, 0.0
	for t, g := range gradients {
		step := float64(t + 1)
		m = o.Beta1*m + (1-o.Beta1)*g
		v = o.Beta2*v + (1-o.Beta2)*g*g
		x -= o.LR * o.WeightDecay * x
		if o.Rule == SGD {
			x -= o.LR * g
			continue
		}
		x -= o.LR * (m / (1 - math.Pow(o.Beta1, step))) / (math.Sqrt(v/(1-math.Pow(o.Beta2, step))) + o.Eps)
	}
	return x
}

// Every variable moves by its own rule; a row that is left alone does not, to
// the bit, and what the rows share moves whatever they do.
func TestOptimizersByHand(t *testing.T) {
	vary := []Variation{
		{Latents, Optimizer{Rule: SGD, LR: 0.1}},
		{Noises, Optimizer{Rule: SGD, LR: 0.2, WeightDecay: 0.3}},
		{Condition, Optimizer{Rule: Adam, LR: 0.05, Beta1: 0.9, Beta2: 0.8, Eps: 1e-3}},
		{GuidanceScale, Optimizer{Rule: AdamW, LR: 0.5, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: 0.1}},
		{Parameters, Optimizer{Rule: AdamW, LR: 0.01, Beta1: 0.5, Beta2: 0.9, Eps: 1e-6, WeightDecay: 0.2}},
	}
	const rows = 2
	space := &slices64{}
	ascending := func(from float64, n int) Vector {
		x := make([]float64, n)
		for i := range x {
			x[i] = from + float64(i)
		}
		return space.of(x)
	}
	values := Values{
		Latents: ascending(1, 4), Noises: []Vector{nil, ascending(2, 4)}, Condition: ascending(-3, 2),
		GuidanceScale: ascending(4, 2), Parameters: []Vector{ascending(5, 3), ascending(-6, 1)},
	}
	grads := Values{
		Latents: ascending(0, 4), Noises: []Vector{nil, ascending(0, 4)}, Condition: ascending(0, 2),
		GuidanceScale: ascending(0, 2), Parameters: []Vector{ascending(0, 3), ascending(0, 1)},
	}
	before := map[Variable][]float64{}
	for _, v := range vary {
		before[v.Variable] = slices.Clone(flat(values, v.Variable))
	}
	live := space.live
	d, err := newDescent(space, rows, 0, vary, values, grads)
	if err != nil {
		t.Fatal(err)
	}
	history := map[string][]float64{}
	for update := 1; update <= 3; update++ {
		for _, v := range vary {
			of, _ := grads.of(v.Variable)
			for k, g := range of {
				for i := range numbers(g) {
					x := math.Sin(float64(10*update+3*k+i)) * float64(update)
					numbers(g)[i] = x
					key := fmt.Sprint(v.Variable, k, i)
					history[key] = append(history[key], x)
				}
			}
		}
		if err := d.step(context.Background(), update, []bool{false, true}); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range vary {
		of, shared := values.of(v.Variable)
		if shared != (v.Variable == Parameters) {
			t.Errorf("%s is shared by the rows: %v", v.Variable, shared)
		}
		from := 0
		for k, x := range of {
			for i, got := range numbers(x) {
				want := byHand(v.Optimizer, before[v.Variable][from], history[fmt.Sprint(v.Variable, k, i)]...)
				if !shared && i < x.Len()/rows {
					want = before[v.Variable][from]
					if got != want {
						t.Errorf("%s: number %d of the row left alone went from %v to %v", v.Variable, i, want, got)
					}
				}
				if math.Abs(got-want) > 1e-14*math.Abs(want) {
					t.Errorf("%s: number %d of vector %d is %v, want %v", v.Variable, i, k, got, want)
				}
				from++
			}
		}
	}
	d.free()
	if space.live != live {
		t.Errorf("%d vectors leaked", space.live-live)
	}
}

// Clipping holds the norm of each row over its own variables, and that of all
// parameters together; what is below the limit stays as it is.
func TestClipping(t *testing.T) {
	space := &slices64{}
	grads := Values{
		Latents:    space.of([]float64{3, 0, 0.1, 0}), // two rows of two
		Condition:  space.of([]float64{4, 0.2}),
		Parameters: []Vector{space.of([]float64{6}), space.of([]float64{0, 8})},
	}
	sgd := Optimizer{Rule: SGD, LR: 1}
	d, err := newDescent(space, 2, 2, []Variation{{Latents, sgd}, {Condition, sgd}, {Parameters, sgd}}, grads, grads)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.clip(context.Background()); err != nil {
		t.Fatal(err)
	}
	wantNear(t, "latents", numbers(grads.Latents), []float64{3 * 2. / 5, 0, 0.1, 0}, 1e-12)
	wantNear(t, "condition", numbers(grads.Condition), []float64{4 * 2. / 5, 0.2}, 1e-12)
	wantNear(t, "parameters", flat(grads, Parameters), []float64{1.2, 0, 1.6}, 1e-12)
	if numbers(grads.Latents)[2] != 0.1 || numbers(grads.Condition)[1] != 0.2 {
		t.Error("a row below the limit was scaled")
	}
	numbers(grads.Latents)[0], d.maxNorm = 30, 0
	if err := d.clip(context.Background()); err != nil || numbers(grads.Latents)[0] != 30 {
		t.Errorf("no limit still clips: %v, %v", numbers(grads.Latents), err)
	}
}
