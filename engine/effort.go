package engine

import "github.com/sdo-go/sdo/graph"

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
// does an update that makes only some calls again.
type Efforts struct {
	Inversion Effort // once, where a run begins from a picture
	Rollout   Effort // from the start to the loss: before the first update, after each, and once more where a saved run goes on
	Update    Effort // the way back of an update, the rollout after it aside
}

// Efforts counts before anything is allocated.
func (p *Plan) Efforts() (e Efforts) {
	calls, backward := p.Cost()
	perCall := forward(p.network.predict.plan)
	e.Rollout = Effort{NetworkCalls: calls, MultiplyAdds: int64(calls) * perCall}
	if p.inversion != nil {
		inverted := calls / p.Calls() * p.Inversion() // each branch
		e.Inversion = Effort{NetworkCalls: inverted, MultiplyAdds: int64(inverted) * perCall}
	}
	if p.metric != nil {
		e.Rollout.MultiplyAdds += forward(p.metric.plan)
		way := int64(0) // back through a call
		for _, k := range p.network.keeps {
			way = max(way, k.plan.Segments[1].MultiplyAdds())
		}
		e.Update = Effort{BackwardCalls: backward, MultiplyAdds: p.metric.plan.Segments[1].MultiplyAdds() + int64(backward)*way}
	}
	if p.reading != nil {
		e.Rollout.MultiplyAdds += forward(p.reading.plan)
	}
	return e
}

// forward counts a plan's first segment.
func forward(plan *graph.Plan) int64 { return plan.Segments[0].MultiplyAdds() }
