package engine

import (
	"fmt"
	"io/fs"
	"slices"

	"github.com/sdo-go/sdo/graph"
)

// fit plans the networks so that what memory counts on the plan's device stays
// within the budget: kept calls forget what they must and compute it again on
// their way back, those of the denoiser first, then the objective's. It is an
// error where even the least is too much.
func (p *Plan) fit(files fs.FS, memory func(graph.Executor) Memory) error {
	budget := p.MemoryBudget
	if err := p.networks(files, 0, 0); err != nil || budget == 0 {
		return err
	}
	if memory(p.Exec).Total() <= budget {
		return nil
	}
	const least = 1 // byte, which no plan fits into, so it is as small as it can be
	for _, scoring := range []int64{0, least} {
		if scoring == least {
			if p.metric == nil {
				break
			}
			if err := p.networks(files, least, least); err != nil {
				return err
			}
		}
		// What lies over the budget has to come off what the kept calls take. It is
		// more than they are told of at first, for the arena serves other plans, too,
		// and a device's kernels.
		for range 4 {
			room := p.network.keptBytes() - (memory(p.Exec).Total() - budget)
			if room <= 0 {
				break
			}
			if err := p.networks(files, room, scoring); err != nil {
				return err
			}
			if memory(p.Exec).Total() <= budget {
				return nil
			}
		}
	}
	if err := p.networks(files, least, least); err != nil {
		return err
	}
	return p.within(memory(p.Exec), p.Exec)
}

// OverBudget is the error of a run that cannot be kept to its budget.
type OverBudget struct {
	Recipe string
	Least  Memory // that it can do with
	Bare   bool   // what a device's kernels need besides is not counted in it
	Budget int64
}

func (e *OverBudget) Error() string {
	m := e.Least
	why := fmt.Sprintf("%s of weights, %s of activations and %s of states", Bytes(m.Params), Bytes(m.Activations), Bytes(m.States))
	if m.Prepared == m.Total() {
		why = "to encode prompts and pictures before it begins"
	}
	besides := ""
	if e.Bare {
		besides = " and what a device's kernels work with"
	}
	return fmt.Sprintf("recipe %q: needs at least %s (%s)%s, and the memory budget is %s; make fewer pictures at once, smaller ones, or raise the budget",
		e.Recipe, Bytes(m.Total()), why, besides, Bytes(e.Budget))
}

// within is an error where a run takes more than the budget on a device, nil for
// none.
func (p *Plan) within(m Memory, exec graph.Executor) error {
	if p.MemoryBudget == 0 || m.Total() <= p.MemoryBudget {
		return nil
	}
	return &OverBudget{p.Recipe.Name, m, exec == nil, p.MemoryBudget}
}

// For is the plan for a device, now that one is open: the budget holds for what
// the run takes there. It is the plan itself where that changes nothing.
func (p *Plan) For(exec graph.Executor) (*Plan, error) {
	if p.suits(exec, p.Memory) {
		return p, nil
	}
	o := p.PlanOptions
	o.Exec = exec
	return NewPlan(p.Recipe, p.Model, p.files, o)
}

// For is Plan's for a tuning.
func (p *TuningPlan) For(exec graph.Executor) (*TuningPlan, error) {
	if p.suits(exec, p.Memory) {
		return p, nil
	}
	o := p.PlanOptions
	o.Exec = exec
	return NewTuningPlan(p.recipe, p.Model, p.files, o)
}

// suits reports whether a plan holds on a device as it is.
func (p *Plan) suits(exec graph.Executor, memory func(graph.Executor) Memory) bool {
	return p.Exec == exec || p.MemoryBudget == 0 || memory(exec).Total() <= p.MemoryBudget
}

// Bytes tells a number of bytes to a person; nothing for none.
func Bytes(n int64) string {
	if n <= 0 {
		return ""
	}
	return graph.Bytes(n)
}

// Recomputation is what kept calls compute again to stay within a budget.
type Recomputation struct {
	Blocks []string // of the denoiser, or of the objective after "objective:"
	Share  float64  // of an update's multiply-adds without it that it adds
}

// Recomputation tells what the plan's updates compute twice.
func (p *Plan) Recomputation() (r Recomputation) {
	again := int64(0)
	count := func(plan *graph.Plan, prefix string, calls int64) {
		for _, name := range plan.Recomputed {
			if !slices.Contains(r.Blocks, prefix+name) {
				r.Blocks = append(r.Blocks, prefix+name)
			}
		}
		again += calls * plan.RecomputedMultiplyAdds
	}
	for _, k := range p.network.keeps {
		count(k.plan, "", int64(p.network.needs.kept[k.wrt]))
	}
	if p.metric != nil {
		count(p.metric.plan, "objective:", 1)
	}
	if again > 0 {
		efforts := p.Efforts()
		r.Share = float64(again) / float64(efforts.Rollout.MultiplyAdds+efforts.Update.MultiplyAdds-again)
	}
	return r
}
