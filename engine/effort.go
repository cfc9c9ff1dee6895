package engine

import (
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// Effort is what a part of a run asks of a device.
type Effort struct {
	NetworkCalls  int   // each branch of a guided call counted
	BackwardCalls int   // calls that are differentiated
	MultiplyAdds  int64 // of the whole batch, in everything that is computed
}

// Times is an effort made n times.
func (e Effort) Times(n int) Effort {
	return Effort{n * e.NetworkCalls, n * e.BackwardCalls, int64(n) * e.MultiplyAdds}
}

// Plus is one effort after another.
func (e Effort) Plus(o Effort) Effort {
	return Effort{e.NetworkCalls + o.NetworkCalls, e.BackwardCalls + o.BackwardCalls, e.MultiplyAdds + o.MultiplyAdds}
}

// Efforts are the parts of a run, at most: what stops early does less, and so
// does an update that draws fewer calls or makes only some again.
type Efforts struct {
	Inversion Effort // once, where a run begins from a picture
	Rollout   Effort // from the start to the loss and its gradient: before the first update, after each, and once more where a saved run goes on
	Update    Effort // of an update besides: the way back, and what a method rolls out only to differentiate it
}

// looks is how often the judge is asked, at most, for each rollout: for what is
// shown of it and, as it may be a run's only one, for the first sample and the
// best at the end.
const looks = 3

// Efforts counts before anything is allocated.
func (p *Plan) Efforts() (e Efforts) {
	rollout, update := p.work()
	e.Rollout, e.Update = p.effort(rollout), p.effort(update)
	if p.inversion != nil {
		calls := p.Inversion()
		if p.conditioned() && p.Recipe.GuidanceScale != 1 { // a scale that varies begins later
			calls *= 2
		}
		e.Inversion = p.effort(sdo.Work{Calls: calls})
	}
	if p.reading != nil {
		asked := int64(looks)
		if p.Recipe.Guards.EarlyStop == recipes.StopJudge {
			asked++
		}
		e.Rollout.MultiplyAdds += asked * forward(p.reading.plan)
	}
	return e
}

// work is what package sdo makes of a run's parts. Without an objective there
// are no updates.
func (p *Plan) work() (rollout, update sdo.Work) {
	o := p.Options()
	if p.metric == nil {
		o.Updates = 0
	}
	return o.Work(p.table, p.guided())
}

// effort is work in multiply-adds. A call that is kept may take more than one
// that is not, by what it stores or by an adapter that is not merged.
func (p *Plan) effort(w sdo.Work) Effort {
	call := forward(p.network.predict.plan)
	kept, back := call, int64(0)
	for _, k := range p.network.keeps {
		kept, back = max(kept, forward(k.plan)), max(back, backward(k.plan))
	}
	e := Effort{NetworkCalls: w.Calls, BackwardCalls: w.Backward}
	e.MultiplyAdds = int64(w.Calls)*call + int64(w.Kept)*(kept-call) + int64(w.Backward)*back
	if p.metric != nil {
		e.MultiplyAdds += int64(w.Losses)*forward(p.metric.plan) + int64(w.Gradients)*backward(p.metric.plan)
	}
	return e
}

// forward and backward count a plan's first segment and its second.
func forward(plan *graph.Plan) int64  { return plan.Segments[0].MultiplyAdds() }
func backward(plan *graph.Plan) int64 { return plan.Segments[1].MultiplyAdds() }
