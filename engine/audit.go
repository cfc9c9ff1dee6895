package engine

import (
	"context"
	"fmt"
	"io/fs"
	"slices"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// storedActivations is how many bytes of activations an audit keeps alive for
// its reference. What needs more makes its calls again one at a time, which
// gives the same numbers at a third more cost.
const storedActivations = 1 << 30

// AuditPlan is a Plan for comparing a recipe's gradients with full
// back-propagation. Its method is the reference: full where the memory plan
// stays below a GiB of activations, or else full-checkpoint.
type AuditPlan struct {
	*Plan
	Settings []sdo.Setting
}

// NewAuditPlan is NewPlan for an audit of the settings. Their variables are
// audited whether the recipe changes them or not: parameters that it says
// nothing of are DefaultLoRA, a condition begins as the recipe's or with nothing
// said.
func NewAuditPlan(r *recipes.Recipe, m *Model, files fs.FS, storage graph.Storage, settings []sdo.Setting) (*AuditPlan, error) {
	if len(r.Objective) == 0 {
		return nil, fmt.Errorf("recipe %q: has no objective, so there is no gradient to audit; add a term", r.Name)
	}
	if r.Start != nil {
		return nil, fmt.Errorf("recipe %q: begins from a picture, and an audit compares gradients at fresh latents; leave start out", r.Name)
	}
	r = r.Clone()
	said := r.Variables
	r.Method, r.Updates, r.Variables = recipes.Method{Name: string(sdo.MethodFull)}, 1, map[string]recipes.Variable{}
	for _, s := range settings {
		name := string(s.Variable)
		r.Variables[name] = said[name]
		if v := said[name]; s.Variable == sdo.Parameters && v.LoRA == nil && v.Select == nil {
			r.Variables[name] = recipes.Variable{LoRA: DefaultLoRA()}
		}
	}
	p, err := NewPlan(r, m, files, storage)
	if err != nil {
		return nil, err
	}
	for _, s := range settings {
		if _, err := s.Surrogate(p.table); err != nil {
			return nil, err
		}
	}
	if p.Memory(nil).Activations > storedActivations {
		r.Method.Name = string(sdo.MethodFullCheckpoint)
		if p, err = NewPlan(r, m, files, storage); err != nil {
			return nil, err
		}
	}
	return &AuditPlan{p, settings}, nil
}

// DefaultLoRA is what stands for the parameters of a model where a recipe names
// none: a small adapter of every linear layer and convolution.
func DefaultLoRA() *recipes.LoRA {
	return &recipes.LoRA{Rank: 4, Alpha: 4, Targets: []string{"**"}}
}

// Memory is Plan's with what an audit holds besides.
func (p *AuditPlan) Memory(exec graph.Executor) Memory {
	m, audited := p.Plan.Memory(exec), sdo.DemandOfAudit(p.table, p.Settings)
	chain := 0 // sets of gradients the reference adds up with
	if len(p.table.Steps) > 1 {
		chain++
	}
	shared := 0 // numbers of a set of gradients
	varies := func(v sdo.Variable) bool { return slices.Contains(variables(p.Recipe), v) }
	if varies(sdo.Condition) {
		shared += p.network.predict.class.Shape.Size()
	}
	if varies(sdo.Parameters) {
		for _, param := range p.network.params {
			shared += param.Shape.Size()
		}
	}
	vectors := 1 + p.demand().Vectors + audited.Vectors // the session's start besides
	if p.guided() {                                     // see sdo.Guided
		vectors, chain = vectors+2, chain+1
	}
	m.States = 4 * int64(vectors*p.Shape.Size()+(chain+audited.Gradients)*shared)
	return m
}

// Audit measures one batch: the pictures first, first+1, … that the recipe's
// seed stands for. See sdo.Audit for what it returns, on an error too.
func (s *Session) Audit(ctx context.Context, first int, settings []sdo.Setting, observe sdo.Observer) ([]sdo.Comparison, error) {
	if err := s.Exec.Write(ctx, s.start, noiseFrom(s.Recipe.Seed, first, s.Shape)); err != nil {
		return nil, err
	}
	return sdo.Audit(ctx, s.Problem(), sdo.Method(s.Recipe.Method.Name), settings, observe)
}
