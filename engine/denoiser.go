package engine

import (
	"context"
	"fmt"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/sdo"
)

// network is a UNet2DModel as two programs that nothing has been allocated for
// yet: one that keeps nothing, and one of two segments whose tape is what a
// kept call pins.
type network struct {
	unet          *model.UNet2D
	rows          int
	predict, keep call
	seed, grad    *graph.Node // of keep
}

// call is one form of the network with its named ends.
type call struct {
	plan                         *graph.Plan
	sample, timestep, class, out *graph.Node
}

// newNetwork plans a network for rows images at once, with weights stored as
// storage says. It allocates nothing on any device.
func newNetwork(unet *model.UNet2D, rows int, storage graph.Storage) (*network, error) {
	n := &network{unet: unet, rows: rows}
	build := func(g *graph.Graph, c *call) {
		c.sample = g.Input("sample", unet.Config.SampleShape(rows)...)
		c.timestep = g.Input("timestep", rows)
		c.class = unet.Config.ClassNode(g, "class", rows)
		c.out = unet.Config.Build(g, c.sample, c.timestep, c.class, storage)
	}
	g, err := graph.Build(func(g *graph.Graph) { build(g, &n.predict) })
	if err == nil {
		n.predict.plan, err = graph.Compile(g, []*graph.Node{n.predict.out})
	}
	if err != nil {
		return nil, err
	}
	g, err = graph.Build(func(g *graph.Graph) {
		build(g, &n.keep)
		n.seed = g.Input("seed", n.keep.out.Shape...)
		n.grad = graph.Grad(g, []*graph.Node{n.keep.out}, []*graph.Node{n.seed}, []*graph.Node{n.keep.sample})[0]
	})
	if err == nil {
		n.keep.plan, err = graph.Compile(g, []*graph.Node{n.keep.out}, []*graph.Node{n.grad})
	}
	return n, err
}

// denoiser is a network on a device: an sdo.Network for a fixed number of
// images at a time.
type denoiser struct {
	*network
	exec              graph.Executor
	weights           *resident
	predictor, keeper graph.Program
	null              graph.Tensor // the class input that says nothing
	spare             []graph.Tape // released tapes, reused by the next kept call
}

// newDenoiser allocates a network. On an error, too, the result must be
// released.
func newDenoiser(exec graph.Executor, n *network) (*denoiser, error) {
	d := &denoiser{network: n, exec: exec, weights: newResident(exec, n.unet.Weights)}
	var err error
	if d.predictor, err = d.weights.compile(n.predict.plan); err != nil {
		return d, err
	}
	if d.keeper, err = d.weights.compile(n.keep.plan); err != nil {
		return d, err
	}
	class := n.predict.class
	if class == nil {
		return d, nil
	}
	// Without attributes nothing is known of the classes: zeros.
	null := make([]float64, class.Shape.Size())
	if n.unet.Embedder != nil {
		if null, err = classVector(n.unet, n.unet.Embedder.Attributes.NullLabels(), n.rows); err != nil {
			return d, err
		}
	}
	if d.null, err = exec.NewVector(len(null)); err != nil {
		return d, err
	}
	return d, exec.Write(context.Background(), d.null, null)
}

// classVector embeds labels once and repeats them for every row.
func classVector(unet *model.UNet2D, labels []int, rows int) ([]float64, error) {
	one, err := unet.Embedder.Embed(labels)
	if err != nil {
		return nil, err
	}
	class := make([]float64, 0, rows*len(one))
	for range rows {
		for _, v := range one {
			class = append(class, float64(v))
		}
	}
	return class, nil
}

func (d *denoiser) feeds(c call, in sdo.Input) []graph.Feed {
	feeds := []graph.Feed{{Node: c.sample, From: in.X}, {Node: c.timestep, Value: in.Timestep}}
	if c.class != nil {
		class := in.Cond
		if class == nil {
			class = d.null
		}
		feeds = append(feeds, graph.Feed{Node: c.class, From: class})
	}
	return feeds
}

// Predict evaluates the network and keeps nothing.
func (d *denoiser) Predict(ctx context.Context, in sdo.Input, out sdo.Vector) error {
	return d.predictor.Run(ctx, nil, 0, d.feeds(d.predict, in), []graph.Fetch{{Node: d.predict.out, To: out}})
}

// Keep evaluates the network and leaves its tape alive until Release.
func (d *denoiser) Keep(ctx context.Context, in sdo.Input, _ sdo.Wrt, out sdo.Vector) (sdo.Kept, error) {
	var tape graph.Tape
	if last := len(d.spare) - 1; last >= 0 {
		tape, d.spare = d.spare[last], d.spare[:last]
	} else {
		var err error
		if tape, err = d.keeper.NewTape(); err != nil {
			return nil, err
		}
	}
	err := d.keeper.Run(ctx, tape, 0, d.feeds(d.keep, in), []graph.Fetch{{Node: d.keep.out, To: out}})
	if err != nil {
		d.spare = append(d.spare, tape)
		return nil, err
	}
	return &keptCall{d, tape}, nil
}

// Release frees both programs, the weights and every spare tape.
func (d *denoiser) Release() {
	for _, tape := range d.spare {
		tape.Release()
	}
	d.spare = nil
	for _, program := range []graph.Program{d.predictor, d.keeper} {
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
	denoiser *denoiser
	tape     graph.Tape
}

func (k *keptCall) Backward(ctx context.Context, seed sdo.Vector, into sdo.Gradients) error {
	if k.tape == nil {
		return fmt.Errorf("engine: backward of a released call")
	}
	d := k.denoiser
	return d.keeper.Run(ctx, k.tape, 1,
		[]graph.Feed{{Node: d.seed, From: seed}}, []graph.Fetch{{Node: d.grad, To: into.X}})
}

func (k *keptCall) Bytes() int64 {
	if k.tape == nil {
		return 0
	}
	return k.tape.Bytes()
}

func (k *keptCall) Release() {
	if k.tape != nil {
		k.denoiser.spare = append(k.denoiser.spare, k.tape)
		k.tape = nil
	}
}
