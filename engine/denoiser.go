package engine

import (
	"context"
	"fmt"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/sdo"
)

// denoiser is a network on a device for a fixed number of images at a time: an
// sdo.Network that can be trained and asked several calls at once.
type denoiser struct {
	*network
	exec      graph.Executor
	weights   *resident
	predictor graph.Program
	keepers   map[sdo.Wrt]*keeper
	batch     graph.Program // several calls at once; nil for none
	null      graph.Tensor  // the condition that says nothing; nil where there is none
	adapted   []adaptedLayer
}

var (
	_ sdo.Trainable = (*denoiser)(nil)
	_ sdo.Batcher   = (*denoiser)(nil)
)

// keeper is the program of calls that are kept for the same.
type keeper struct {
	*keep
	program graph.Program
	spare   []graph.Tape // released tapes, reused by the next kept call
}

// adaptedLayer is a layer whose merged weight follows its A and B.
type adaptedLayer struct {
	module       string
	out          int
	a, b, merged graph.Tensor
}

// newDenoiser allocates a network whose unconditional calls are told null, zeros
// where that is nil. On an error, too, the result must be released.
func newDenoiser(exec graph.Executor, n *network, null []float64) (*denoiser, error) {
	weights, merged := []model.Source{n.model.Weights}, map[string]string{}
	var lora *model.LoRA
	if t := n.needs.training; t != nil && t.LoRA != nil {
		lora = t.LoRA
		for _, p := range n.params {
			if module, ok := model.AdaptedModule(p.Name); ok {
				merged[module+model.MergedWeight] = module + ".weight"
			}
		}
		weights = append(weights, lora.Weights, renamed{n.model.Weights, merged})
	}
	d := &denoiser{network: n, exec: exec, weights: newResident(exec, weights...), keepers: map[sdo.Wrt]*keeper{}}
	var err error
	if d.predictor, err = d.weights.compile(n.predict.plan); err != nil {
		return d, err
	}
	for _, k := range n.keeps {
		program, err := d.weights.compile(k.plan)
		if err != nil {
			return d, err
		}
		d.keepers[k.wrt] = &keeper{keep: k, program: program}
	}
	if n.wide != nil {
		if d.batch, err = d.weights.compile(n.wide.plan); err != nil {
			return d, err
		}
	}
	if err := d.allocateNull(null); err != nil || lora == nil {
		return d, err
	}
	for _, p := range n.params {
		module, ok := model.AdaptedModule(p.Name)
		if !ok {
			continue
		}
		a, b := model.LoRANames(module)
		info, _ := n.model.Weights.Info(module + ".weight")
		d.adapted = append(d.adapted, adaptedLayer{
			module: module, out: info.Shape[0],
			a: d.weights.tensors[a], b: d.weights.tensors[b], merged: d.weights.tensors[module+model.MergedWeight],
		})
	}
	return d, d.Changed(context.Background())
}

// allocateNull makes the condition of an unconditional call.
func (d *denoiser) allocateNull(null []float64) (err error) {
	condition := d.predict.condition
	if condition == nil {
		return nil
	}
	size := condition.Shape.Size()
	if null == nil {
		null = make([]float64, size)
	}
	if len(null) != size {
		return fmt.Errorf("engine: the condition of an unconditional call has %d numbers, want %d", len(null), size)
	}
	if d.null, err = d.exec.NewVector(size); err != nil {
		return err
	}
	return d.exec.Write(context.Background(), d.null, null)
}

// base is an adapted layer's own weight as the device stores it.
func (d *denoiser) base(l adaptedLayer) ([]float32, error) {
	w, err := d.model.Weights.Read(l.module + ".weight")
	if err != nil {
		return nil, err
	}
	if d.model.single[l.module+".weight"] {
		return w.Data, nil
	}
	return model.AsStored(w.Data, d.options.Storage), nil
}

func (d *denoiser) feeds(c call, in sdo.Input) []graph.Feed {
	feeds := []graph.Feed{{Node: c.sample, From: in.X}, {Node: c.timestep, Value: in.Timestep}}
	if c.condition != nil {
		condition := in.Cond
		if condition == nil {
			condition = d.null
		}
		feeds = append(feeds, graph.Feed{Node: c.condition, From: condition})
	}
	return feeds
}

// Predict evaluates the network and keeps nothing.
func (d *denoiser) Predict(ctx context.Context, in sdo.Input, out sdo.Vector) error {
	return d.predictor.Run(ctx, nil, 0, d.feeds(d.predict, in), []graph.Fetch{{Node: d.predict.out, To: out}})
}

// PredictBatch answers as many calls at once as were planned for; those that are
// left over, one by one.
func (d *denoiser) PredictBatch(ctx context.Context, ins []sdo.Input, outs []sdo.Vector) error {
	if len(ins) != len(outs) {
		return fmt.Errorf("engine: %d calls with %d outputs", len(ins), len(outs))
	}
	for d.wide != nil && len(ins) >= len(d.wide.calls) {
		var feeds []graph.Feed
		var fetches []graph.Fetch
		for i, c := range d.wide.calls {
			feeds = append(feeds, d.feeds(c, ins[i])...)
			fetches = append(fetches, graph.Fetch{Node: c.out, To: outs[i]})
		}
		if err := d.batch.Run(ctx, nil, 0, feeds, fetches); err != nil {
			return err
		}
		ins, outs = ins[len(d.wide.calls):], outs[len(d.wide.calls):]
	}
	for i, in := range ins {
		if err := d.Predict(ctx, in, outs[i]); err != nil {
			return err
		}
	}
	return nil
}

// Keep evaluates the network and leaves its tape alive until Release. The plan
// must have been made for calls kept for wrt.
func (d *denoiser) Keep(ctx context.Context, in sdo.Input, wrt sdo.Wrt, out sdo.Vector) (sdo.Kept, error) {
	k := d.keepers[wrt]
	if k == nil {
		return nil, fmt.Errorf("engine: no call was planned to be kept for %#x", uint8(wrt))
	}
	var tape graph.Tape
	if last := len(k.spare) - 1; last >= 0 {
		tape, k.spare = k.spare[last], k.spare[:last]
	} else {
		var err error
		if tape, err = k.program.NewTape(); err != nil {
			return nil, err
		}
	}
	err := k.program.Run(ctx, tape, 0, d.feeds(k.call, in), []graph.Fetch{{Node: k.out, To: out}})
	if err != nil {
		k.spare = append(k.spare, tape)
		return nil, err
	}
	return &keptCall{k, tape}, nil
}

// Params are the trained parameters on the device. Optimisers write them there.
func (d *denoiser) Params() []sdo.Param {
	params := make([]sdo.Param, len(d.params))
	for i, p := range d.params {
		params[i] = sdo.Param{Name: p.Name, Value: d.weights.tensors[p.Name]}
	}
	return params
}

// Changed merges an adapter's new numbers into the weights of calls that ask for
// no gradient of it. Parameters of the network itself are shared by all its
// programs and need nothing.
func (d *denoiser) Changed(ctx context.Context) error {
	for _, l := range d.adapted {
		a, err := d.exec.Read(ctx, l.a)
		if err != nil {
			return err
		}
		b, err := d.exec.Read(ctx, l.b)
		if err != nil {
			return err
		}
		base, err := d.base(l)
		if err != nil {
			return err
		}
		if err := d.exec.Write(ctx, l.merged, d.needs.training.LoRA.MergeInto(l.module, base, a, b, l.out)); err != nil {
			return err
		}
	}
	return nil
}

// trained reads the trained parameters as they stand.
func (d *denoiser) trained(ctx context.Context) (model.Weights, error) {
	weights := model.Weights{}
	for _, p := range d.params {
		values, err := d.exec.Read(ctx, d.weights.tensors[p.Name])
		if err != nil {
			return nil, fmt.Errorf("reading parameter %q: %w", p.Name, err)
		}
		data := make([]float32, len(values))
		for i, v := range values {
			data[i] = float32(v)
		}
		weights[p.Name] = model.Tensor{Shape: p.Shape, Data: data}
	}
	return weights, nil
}

// Release frees all programs, the weights and every spare tape.
func (d *denoiser) Release() {
	programs := []graph.Program{d.predictor, d.batch}
	for _, k := range d.keepers {
		for _, tape := range k.spare {
			tape.Release()
		}
		k.spare = nil
		programs = append(programs, k.program)
	}
	for _, program := range programs {
		if program != nil {
			program.Release()
		}
	}
	d.weights.free()
	if d.null != nil {
		d.exec.FreeVector(d.null)
	}
}

type keptCall struct {
	*keeper
	tape graph.Tape
}

func (k *keptCall) Backward(ctx context.Context, seed sdo.Vector, into sdo.Gradients) error {
	if k.tape == nil {
		return fmt.Errorf("engine: backward of a released call")
	}
	if into.X != nil && k.x == nil || into.Cond != nil && k.cond == nil || into.Params != nil && len(into.Params) != len(k.params) {
		return fmt.Errorf("engine: a gradient that the call was not kept for")
	}
	var fetches []graph.Fetch
	want := func(n *graph.Node, to sdo.Vector) {
		if to != nil {
			fetches = append(fetches, graph.Fetch{Node: n, To: to})
		}
	}
	want(k.x, into.X)
	want(k.cond, into.Cond)
	for i, to := range into.Params {
		want(k.keep.params[i], to)
	}
	return k.program.Run(ctx, k.tape, 1, []graph.Feed{{Node: k.seed, From: seed}}, fetches)
}

func (k *keptCall) Bytes() int64 {
	if k.tape == nil {
		return 0
	}
	return k.tape.Bytes()
}

func (k *keptCall) Release() {
	if k.tape != nil {
		k.spare = append(k.spare, k.tape)
		k.tape = nil
	}
}
