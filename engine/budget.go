package engine

import (
	"fmt"
	"io/fs"
	"slices"

	"github.com/sdo-go/sdo/graph"
)

// fit plans the networks so that what memory counts stays within the budget:
// kept calls forget what they must and compute it again on their way back, those
// of the denoiser first, then the objective's. It is an error where even the
// least is too much.
func (p *Plan) fit(files fs.FS, memory func(graph.Executor) Memory) error {
	budget := p.MemoryBudget
	if err := p.networks(files, 0, 0); err != nil || budget == 0 {
		return err
	}
	m := memory(nil)
	if m.Total() <= budget {
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
		room := budget - m.Params - m.States
		if p.metric != nil {
			room -= p.metric.plan.TapeBytes
		}
		if room <= 0 {
			continue
		}
		if err := p.networks(files, room, scoring); err != nil {
			return err
		}
		if memory(nil).Total() <= budget {
			return nil
		}
	}
	if err := p.networks(files, least, least); err != nil {
		return err
	}
	if m = memory(nil); m.Total() <= budget {
		return nil
	}
	why := fmt.Sprintf("%s of weights, %s of activations and %s of states", mib(m.Params), mib(m.Activations), mib(m.States))
	if m.Prepared == m.Total() {
		why = "to encode prompts and pictures before it begins"
	}
	return fmt.Errorf("recipe %q: needs at least %s (%s), and the memory budget is %s; make fewer pictures at once, smaller ones, or raise the budget",
		p.Recipe.Name, mib(m.Total()), why, mib(budget))
}

// mib tells bytes as a person would.
func mib(bytes int64) string {
	if bytes >= 10<<30 {
		return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", (bytes+1<<20-1)>>20)
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
