package engine

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
)

// storedActivations is how many bytes of activations an audit keeps alive for
// its reference. What needs more makes its calls again one at a time, which
// gives the same numbers at a third more cost.
const storedActivations = 1 << 30

// AuditChoice is what an audit compares: every combination that makes sense.
type AuditChoice struct{ Variables, Methods, Actives, Freezes []string }

// DefaultAudit is what an audit compares unless it is told otherwise.
func DefaultAudit() AuditChoice {
	return AuditChoice{
		Methods: []string{"sdo", "identity", "draft-5"},
		Actives: []string{"importance", "uniform", "all", "first", "last"},
		Freezes: []string{"eps", "v"},
	}
}

// Settings are the gradients to compare at a number of steps: of each variable
// those that the chosen methods define, and of the last K calls chained only
// where there are more.
func (c AuditChoice) Settings(variables []string, steps int) (all []sdo.Setting) {
	add := func(s sdo.Setting) {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	for _, variable := range variables {
		latents := variable == string(sdo.Latents)
		for _, method := range c.Methods {
			s := sdo.Setting{Variable: sdo.Variable(variable), Method: sdo.Method(method)}
			if last, chained := strings.CutPrefix(method, "draft-"); chained && last != "lv" {
				if k, err := strconv.Atoi(last); !latents && (err != nil || k < steps) {
					add(s)
				}
				continue
			}
			if s.Method == sdo.MethodIdentity && !latents {
				continue
			}
			actives := c.Actives
			if latents || s.Method != sdo.MethodSDO {
				actives = []string{""}
			}
			for _, active := range actives {
				for _, freeze := range c.Freezes {
					s.Active, s.Freeze = sdo.Active(active), sampler.Freeze(freeze)
					add(s)
				}
			}
		}
	}
	return all
}

// AuditPlan is a Plan for comparing a recipe's gradients with full
// back-propagation. Its method is the reference: full where the memory plan
// stays below a GiB of activations, or else full-checkpoint.
type AuditPlan struct {
	*Plan
	Settings []sdo.Setting
	budget   int64 // for the whole audit; the plan's is 0 where it needs none
}

// NewAuditPlan is NewPlan for an audit of the settings. Their variables are
// audited whether the recipe changes them or not: parameters that it says
// nothing of are DefaultLoRA, a condition begins as the recipe's or with nothing
// said.
func NewAuditPlan(r *recipes.Recipe, m *Model, files fs.FS, o PlanOptions, settings []sdo.Setting) (*AuditPlan, error) {
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
	budget := o.MemoryBudget
	plan := func(o PlanOptions) (*AuditPlan, error) {
		p, err := newPlan(r, m, files, o)
		if err != nil {
			return nil, err
		}
		a := &AuditPlan{p, settings, budget}
		return a, a.fit(files, a.Memory)
	}
	generous := o
	generous.MemoryBudget = 0
	p, err := plan(generous)
	if err != nil {
		return nil, err
	}
	for _, s := range settings {
		if _, err := s.Surrogate(p.table); err != nil {
			return nil, err
		}
	}
	whole := p.Memory(o.Exec)
	if whole.Activations > storedActivations || budget > 0 && whole.Total() > budget {
		r.Method.Name = string(sdo.MethodFullCheckpoint)
		if p, err = plan(o); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// For is Plan's for an audit.
func (p *AuditPlan) For(exec graph.Executor) (*AuditPlan, error) {
	if p.Exec == exec || p.budget == 0 || p.Memory(exec).Total() <= p.budget {
		return p, nil
	}
	o := p.PlanOptions
	o.Exec, o.MemoryBudget = exec, p.budget
	return NewAuditPlan(p.Recipe, p.Model, p.files, o, p.Settings)
}

// DefaultLoRA is what stands for the parameters of a model where a recipe names
// none: a small adapter of the model's DefaultTargets.
func DefaultLoRA() *recipes.LoRA { return &recipes.LoRA{Rank: 4, Alpha: 4} }

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
		shared += p.network.predict.condition.Shape.Size()
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
