package sdo

import (
	"context"
	"fmt"
	"slices"
)

// Variable names something a run may change. Parameters are shared by all rows;
// every other variable has a value of its own for each row.
type Variable string

const (
	Latents       Variable = "latents"        // the start of the sampler
	Noises        Variable = "noises"         // what a stochastic sampler adds on its way
	Condition     Variable = "condition"      // what the network is told besides state and time
	GuidanceScale Variable = "guidance_scale" // of classifier-free guidance
	Parameters    Variable = "parameters"     // of the network, a Trainable
)

// Variables lists every variable.
var Variables = []Variable{Latents, Noises, Condition, GuidanceScale, Parameters}

// Values holds one vector for each variable: where a chain is evaluated, or the
// gradient there. What is nil stays at the problem's own value or, in gradients
// and optimisers' state, does not vary.
type Values struct {
	Latents       Vector   // Rows x Cols
	Noises        []Vector // step i's at index i, each Rows x Cols; nil where a step adds none
	Condition     Vector   // Rows x the condition's width
	GuidanceScale Vector   // Rows
	Parameters    []Vector // in the order of Trainable.Params
}

// perRow is the values without what the rows share.
func (v Values) perRow() Values {
	v.Parameters = nil
	return v
}

// NewValues makes vectors for some variables of the problem, their contents
// undefined. The caller frees them with FreeValues.
func (p Problem) NewValues(vary ...Variable) (Values, error) {
	var v Values
	var err error
	vector := func(n int) (x Vector) {
		if err == nil {
			x, err = p.Space.NewVector(n)
		}
		return x
	}
	for _, name := range vary {
		switch name {
		case Latents:
			v.Latents = vector(p.size())
		case Noises:
			v.Noises = make([]Vector, len(p.Table.Steps))
			for i, step := range p.Table.Steps {
				if step.Noise != 0 {
					v.Noises[i] = vector(p.size())
				}
			}
		case Condition:
			v.Condition = vector(p.Cond.Len())
		case GuidanceScale:
			v.GuidanceScale = vector(p.Rows)
		case Parameters:
			for _, param := range p.Network.(Trainable).Params() {
				v.Parameters = append(v.Parameters, vector(param.Value.Len()))
			}
		}
	}
	if err != nil {
		p.FreeValues(v)
		return Values{}, fmt.Errorf("sdo: allocating %v: %w", vary, err)
	}
	return v, nil
}

// FreeValues returns the vectors to the space.
func (p Problem) FreeValues(v Values) {
	freeVectors(p.Space, v.Latents, v.Condition, v.GuidanceScale)
	freeVectors(p.Space, v.Noises...)
	freeVectors(p.Space, v.Parameters...)
}

// StartValues makes new vectors with where a run begins: the start latents, the
// noise that Problem.NoiseSeed stands for, the problem's condition and guidance
// scale. Parameters are not copied: they are those the network runs with.
func (p Problem) StartValues(ctx context.Context, vary ...Variable) (Values, error) {
	own := slices.DeleteFunc(slices.Clone(vary), func(v Variable) bool { return v == Parameters })
	v, err := p.NewValues(own...)
	if err != nil {
		return v, err
	}
	fill := func() error {
		if v.Latents != nil {
			if err := p.copy(v.Latents, p.Start); err != nil {
				return err
			}
		}
		for i, noise := range v.Noises {
			if noise != nil {
				if err := p.Space.Normal(noise, p.NoiseSeed, noiseStream+uint32(i)); err != nil {
					return err
				}
			}
		}
		if v.Condition != nil {
			if err := p.copy(v.Condition, p.Cond); err != nil {
				return err
			}
		}
		if v.GuidanceScale != nil {
			return p.Space.Write(ctx, v.GuidanceScale, slices.Repeat([]float64{p.guidance()}, p.Rows))
		}
		return nil
	}
	if err := fill(); err != nil {
		p.FreeValues(v)
		return Values{}, fmt.Errorf("sdo: where the run begins: %w", err)
	}
	if slices.Contains(vary, Parameters) {
		for _, param := range p.Network.(Trainable).Params() {
			v.Parameters = append(v.Parameters, param.Value)
		}
	}
	return v, nil
}

func (p Problem) copy(dst, src Vector) error {
	return p.Space.Combine(dst, []float64{1}, []Vector{src})
}

// freeVectors returns to the space the vectors that were made.
func freeVectors(space Space, vectors ...Vector) {
	for _, v := range vectors {
		if v != nil {
			space.FreeVector(v)
		}
	}
}
