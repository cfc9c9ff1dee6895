package engine

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/sdo"
)

// Training says which of a network's parameters vary: those of a low-rank
// adapter or, where LoRA is nil, its own that the patterns of Select name (see
// model.Matches). Biases and norms that an adapter leaves alone stay.
type Training struct {
	LoRA   *model.LoRA // with the numbers training begins from
	Select []string
}

// params lists what varies.
func (t *Training) params(config model.Denoiser) ([]model.Param, error) {
	switch {
	case t == nil:
		return nil, nil
	case t.LoRA == nil:
		return config.Select(t.Select)
	}
	params, err := t.LoRA.Params(config)
	if err != nil {
		return nil, err
	}
	if err := t.LoRA.Weights.Check(params); err != nil {
		return nil, fmt.Errorf("lora: %w", err)
	}
	return params, nil
}

// needs is what a run asks of a network beside single calls that keep nothing.
type needs struct {
	kept     map[sdo.Wrt]int // kept calls alive at once, by what they are kept for
	batch    int             // calls that are answered as one; below 2 for none
	training *Training       // nil for none
}

// keep adds calls kept for wrt. Classifier-free guidance keeps two branches, of
// which the unconditional one has no condition to differentiate.
func (n *needs) keep(wrt sdo.Wrt, calls int, guided bool) {
	if calls > 0 {
		n.kept[wrt] += calls
	}
	if free := wrt &^ sdo.WrtCond; calls > 0 && guided && free != 0 {
		n.kept[free] += calls
	}
}

// tapes is how many calls are kept at once.
func (n *needs) tapes() (calls int) {
	for _, kept := range n.kept {
		calls += kept
	}
	return calls
}

// network is a denoiser as programs that nothing has been allocated for yet: one
// that keeps nothing, for each thing calls are kept for one of two segments
// whose tape is what a kept call pins, and one that answers several calls.
//
// An adapter is a branch beside each of its layers only where its gradient is
// asked for. Everywhere else its layers have merged weights, which denoiser
// keeps up to date: rollouts cost what they cost without it.
type network struct {
	model   *Model
	rows    int
	options PlanOptions
	needs   needs
	params  []model.Param // trained, as sdo.Trainable orders them

	predict call
	keeps   []*keep // by what for
	wide    *wide   // nil for none
}

// call is one form of the network with its named ends.
type call struct {
	plan                             *graph.Plan
	sample, timestep, condition, out *graph.Node // condition nil for a network that takes no condition
}

// keep is a call with its gradients, in a second segment.
type keep struct {
	call
	wrt     sdo.Wrt
	seed    *graph.Node
	x, cond *graph.Node   // gradients, nil where they are not asked for
	params  []*graph.Node // in the order of network.params
}

// wide answers several calls, which differ in all inputs, as one of as many
// times the rows. The calls' own ends are sample, timestep, condition and out.
type wide struct {
	plan  *graph.Plan
	calls []call
}

// newNetwork plans a model's denoiser for rows samples at once, with weights
// stored as the options say but for those that vary or are merged, which are
// single precision. It allocates nothing on any device.
func newNetwork(m *Model, rows int, o PlanOptions, needs needs) (*network, error) {
	n := &network{model: m, rows: rows, options: o, needs: needs}
	var err error
	if n.params, err = needs.training.params(m.Denoiser); err != nil {
		return nil, err
	}
	if err = n.planPredict(); err != nil {
		return nil, err
	}
	wrts := slices.Collect(maps.Keys(needs.kept))
	if training := func(w sdo.Wrt) bool { return w&sdo.WrtParams != 0 }; len(n.params) > 0 && !slices.ContainsFunc(wrts, training) {
		wrts = append(wrts, sdo.WrtParams) // where the parameters live, even if no call is kept
	}
	slices.Sort(wrts)
	for _, wrt := range wrts {
		k, err := n.planKeep(wrt)
		if err != nil {
			return nil, err
		}
		n.keeps = append(n.keeps, k)
	}
	if needs.batch > 1 {
		err = n.planWide(needs.batch)
	}
	return n, err
}

// plans lists every plan of the network.
func (n *network) plans() []*graph.Plan {
	plans := []*graph.Plan{n.predict.plan}
	for _, k := range n.keeps {
		plans = append(plans, k.plan)
	}
	if n.wide != nil {
		plans = append(plans, n.wide.plan)
	}
	return plans
}

// inputs declares the inputs of a call under names that end in suffix.
func (n *network) inputs(g *graph.Graph, suffix string) call {
	return call{
		sample:    g.Input("sample"+suffix, n.model.Denoiser.SampleShape(n.rows)...),
		timestep:  g.Input("timestep"+suffix, n.rows),
		condition: n.model.Denoiser.ConditionNode(g, "condition"+suffix, n.rows),
	}
}

// build appends the network, its adapter as branches or merged.
func (n *network) build(g *graph.Graph, sample, timestep, cond *graph.Node, branches bool) *graph.Node {
	o := model.BuildOptions{Storage: n.options.Storage, F32: maps.Clone(n.model.single), GuidanceEmbedding: n.model.guidance}
	if t := n.needs.training; t != nil && t.LoRA != nil {
		o.LoRA, o.Merged = &t.LoRA.LoRAConfig, !branches
	} else {
		if o.F32 == nil {
			o.F32 = map[string]bool{}
		}
		for _, p := range n.params {
			o.F32[p.Name] = true
		}
	}
	return n.model.Denoiser.BuildWith(g, sample, timestep, cond, o)
}

func (n *network) planPredict() error {
	c := &n.predict
	g, err := graph.Build(func(g *graph.Graph) {
		*c = n.inputs(g, "")
		c.out = n.build(g, c.sample, c.timestep, c.condition, false)
	})
	if err == nil {
		c.plan, err = graph.CompileWith(g, n.options.compile(0), []*graph.Node{c.out})
	}
	return err
}

func (n *network) planKeep(wrt sdo.Wrt) (*keep, error) {
	const all = sdo.WrtX | sdo.WrtCond | sdo.WrtParams
	k := &keep{wrt: wrt}
	switch {
	case wrt == 0 || wrt&^all != 0:
		return nil, fmt.Errorf("a call cannot be kept for %#x, want some of state, condition and parameters", uint8(wrt))
	case wrt&sdo.WrtCond != 0 && !n.model.Denoiser.ConditionVaries():
		return nil, fmt.Errorf(`the condition has no gradient, because the network takes no class vector; use a model with class_embed_type "identity"`)
	case wrt&sdo.WrtParams != 0 && len(n.params) == 0:
		return nil, fmt.Errorf("the parameters have no gradient, because none of them varies; choose some, or a LoRA")
	}
	var grads []*graph.Node
	g, err := graph.Build(func(g *graph.Graph) {
		k.call = n.inputs(g, "")
		k.out = n.build(g, k.sample, k.timestep, k.condition, wrt&sdo.WrtParams != 0)
		k.seed = g.Input("seed", k.out.Shape...)
		var at []*graph.Node
		if wrt&sdo.WrtX != 0 {
			at = append(at, k.sample)
		}
		if wrt&sdo.WrtCond != 0 {
			at = append(at, k.condition)
		}
		if wrt&sdo.WrtParams != 0 {
			for _, p := range n.params {
				at = append(at, g.Lookup(p.Name))
			}
		}
		grads = graph.Grad(g, []*graph.Node{k.out}, []*graph.Node{k.seed}, at)
	})
	if err == nil {
		k.plan, err = graph.CompileWith(g, n.options.compile(n.needs.tapes()), []*graph.Node{k.out}, grads)
	}
	if err != nil {
		return nil, err
	}
	if wrt&sdo.WrtX != 0 {
		k.x, grads = grads[0], grads[1:]
	}
	if wrt&sdo.WrtCond != 0 {
		k.cond, grads = grads[0], grads[1:]
	}
	k.params = grads
	return k, nil
}

func (n *network) planWide(calls int) error {
	w := &wide{calls: make([]call, calls)}
	g, err := graph.Build(func(g *graph.Graph) {
		var sample, timestep, cond *graph.Node
		join := func(all, one *graph.Node) *graph.Node {
			if all == nil || one == nil {
				return one
			}
			return g.Concat(all, one, 0)
		}
		for i := range w.calls {
			c := n.inputs(g, fmt.Sprintf("_%d", i))
			sample, timestep, cond = join(sample, c.sample), join(timestep, c.timestep), join(cond, c.condition)
			w.calls[i] = c
		}
		out := n.build(g, sample, timestep, cond, false)
		for i := range w.calls {
			w.calls[i].out = g.Slice(out, 0, i*n.rows, (i+1)*n.rows)
		}
	})
	if err != nil {
		return err
	}
	outs := make([]*graph.Node, calls)
	for i, c := range w.calls {
		outs[i] = c.out
	}
	w.plan, err = graph.CompileWith(g, n.options.compile(0), outs)
	n.wide = w
	return err
}

// keptBytes is what kept calls take at once, tapes and the arena beside them.
func (n *network) keptBytes() int64 {
	arena := int64(0)
	for _, k := range n.keeps {
		arena = max(arena, k.plan.ScratchBytes)
	}
	return n.tapeBytes() + arena
}

// tapeBytes is what all kept calls pin at once.
func (n *network) tapeBytes() (total int64) {
	for _, k := range n.keeps {
		total += int64(n.needs.kept[k.wrt]) * k.plan.TapeBytes
	}
	return total
}
