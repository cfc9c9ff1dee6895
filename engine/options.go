package engine

import (
	"strconv"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
)

// PlanOptions say how a plan holds its weights and how much it may take.
type PlanOptions struct {
	Storage      graph.Storage // of the denoiser's weights
	MemoryBudget int64         // bytes a run may take in all; 0 for any

	// Limits of the device, which a large plan's memory is laid out within; 0 for
	// none.
	MaxBuffer, MaxBinding int64

	// Exec is the device that will run the plan: what its kernels need besides
	// counts towards the budget. Nil where none is known yet; see Plan.For.
	Exec graph.Executor

	tape int64 // bytes that the kept calls of one network may take; 0 for any
}

// compile is how plans with so many calls kept at once are made.
func (o PlanOptions) compile(tapes int) graph.CompileOptions {
	return graph.CompileOptions{TapeBudget: o.tape, Tapes: tapes, MaxBuffer: o.MaxBuffer, MaxBinding: o.MaxBinding}
}

// variables are what a recipe changes, in package sdo's order.
func variables(r *recipes.Recipe) (vary []sdo.Variable) {
	for _, v := range sdo.Variables {
		if _, ok := r.Variables[string(v)]; ok {
			vary = append(vary, v)
		}
	}
	return vary
}

// surrogateOf is what a recipe's method differentiates: the setting its name
// stands for, with the words the recipe gives besides.
func surrogateOf(r *recipes.Recipe, table *sampler.Table) (sdo.Surrogate, error) {
	m, vary := r.Method, variables(r)
	s, err := sdo.Method(m.Name).Surrogate(vary...)
	if err != nil {
		return s, err
	}
	switch {
	case s.Active == sdo.ActiveAll: // which holds nothing
	case m.Freeze != "":
		s.Freeze = sampler.Freeze(m.Freeze)
	case table.Prediction == sampler.PredictFlow && s.Freeze == sampler.FreezeEps:
		s.Freeze = sampler.FreezeV // a flow begins without signal, where eps is not defined
	}
	open := m.Name == string(sdo.MethodSDO) || s.Refresh != (sdo.Refresh{})
	if calls, err := strconv.Atoi(m.Active); open && err == nil {
		s.Active, s.Calls = sdo.ActiveUniform, calls
	} else if open && m.Active != "" {
		s.Active, s.Calls = sdo.Active(m.Active), 1
	}
	if m.Bridge != nil {
		s.Bridge = *m.Bridge
	}
	if f := m.Refresh; f != nil {
		s.Refresh = sdo.Refresh{Calls: f.Calls, Every: f.Every, Tolerance: f.Tolerance, Carry: f.Carry, Batched: f.Batched}
	}
	s.Seed = r.Seed
	_, err = s.Transport(table, vary)
	return s, err
}

// Surrogate is what the recipe's method differentiates, and with respect to
// what.
func (p *Plan) Surrogate() (sdo.Surrogate, []sdo.Variable) {
	return p.surrogate, variables(p.Recipe)
}

// Options are the recipe's optimisation settings.
func (p *Plan) Options() sdo.Options {
	r, o := p.Recipe, sdo.DefaultOptions()
	o.Surrogate, o.Updates = p.surrogate, r.Updates
	o.Vary = nil
	for _, v := range variables(r) {
		o.Vary = append(o.Vary, sdo.Variation{Variable: v, Optimizer: optimizer(r, v)})
	}
	o.MaxGradNorm = r.Optimizer.MaxGradNorm
	o.NormGuard = sdo.NormGuard(r.Guards.LatentNorm)
	o.NormStart = r.Start != nil
	o.DriftLimit = r.Guards.DriftLimit
	switch r.Guards.EarlyStop {
	case recipes.StopObjective:
		o.EarlyStop = sdo.EarlyStopObjective
	case recipes.StopJudge:
		o.EarlyStop = sdo.EarlyStopJudge
	}
	return o
}

func optimizer(r *recipes.Recipe, v sdo.Variable) sdo.Optimizer {
	from, o := r.OptimizerOf(string(v)), sdo.DefaultOptimizer()
	o.Rule, o.LR, o.WeightDecay = sdo.OptimizerRule(from.Name), from.LR, from.WeightDecay
	o.Beta1, o.Beta2 = from.Betas[0], from.Betas[1]
	return o
}

// trainingOf is what a recipe trains of a model: what the model brings along, or
// else what the recipe names, an adapter drawn with the recipe's seed.
func trainingOf(r *recipes.Recipe, m *Model) (*Training, error) {
	v, varies := r.Variables[string(sdo.Parameters)]
	switch {
	case !varies || m.Training != nil:
		return m.Training, nil
	case v.LoRA == nil:
		return &Training{Select: v.Select}, nil
	}
	config := model.LoRAConfig{Rank: v.LoRA.Rank, Alpha: v.LoRA.Alpha, Targets: v.LoRA.Targets}
	if config.Targets == nil {
		config.Targets = m.DefaultTargets()
	}
	lora, err := model.NewLoRA(config, m.Denoiser, r.Seed)
	return &Training{LoRA: lora}, err
}

// DefaultTargets are the layers that an adapter is for where nothing else is
// said: all of a small model of pixels; of a pipeline the projections of its
// attention, as trainers for diffusers choose, since merged weights are single
// precision and those of all layers would take three times as much again.
func (m *Model) DefaultTargets() []string {
	if m.Pipeline == nil {
		return []string{"**"}
	}
	return []string{"to_q", "to_k", "to_v", "to_out.0"}
}
