// Package train fits the project's own networks: the denoisers and the
// attribute classifiers that are embedded in the binary. It runs on any graph
// executor and keeps no random state: every batch is a function of the seed and
// the step, so a run that is stopped and resumed ends in the same bytes as one
// that was not (on the CPU executor).
//
// It is not a general training library: one optimiser (AdamW), one shape of
// loop, the tasks in this folder.
package train

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// Task is a loss over a batch and the data to compute it on.
type Task interface {
	// Params are the parameters in a fixed order.
	Params() ([]model.Param, error)
	// Loss appends the network and returns one loss per example, [batch].
	// Parameters are declared with g.Param under the names of Params.
	Loss(g *graph.Graph, batch int) *graph.Node
	// Fill writes the inputs of batch number step, by input name. The same
	// arguments give the same numbers, always.
	Fill(seed uint64, step, batch int, inputs map[string][]float64)
}

// Options of a run. They are stored in its checkpoints; a resumed run must use
// the same ones.
type Options struct {
	Steps       int     `json:"steps"`
	Batch       int     `json:"batch_size"`
	LR          float64 `json:"learning_rate"` // highest, after warm-up
	Warmup      int     `json:"lr_warmup_steps"`
	WeightDecay float64 `json:"adam_weight_decay"`
	Beta1       float64 `json:"adam_beta1"`
	Beta2       float64 `json:"adam_beta2"`
	MaxGradNorm float64 `json:"max_grad_norm"` // 0 does not clip
	EMADecay    float64 `json:"ema_decay"`     // 0 keeps no average
	Seed        uint64  `json:"seed"`
}

// DefaultOptions suit the small networks of this project.
func DefaultOptions() Options {
	return Options{
		Steps: 8000, Batch: 32, LR: 3e-3, Warmup: 200, WeightDecay: 1e-4,
		Beta1: 0.9, Beta2: 0.99, MaxGradNorm: 1, EMADecay: 0.999, Seed: 1,
	}
}

// Validate reports the first impossible option.
func (o Options) Validate() error {
	switch {
	case o.Steps < 1:
		return fmt.Errorf("train: steps must be at least 1, got %d", o.Steps)
	case o.Batch < 1 || o.Batch > 4096:
		return fmt.Errorf("train: batch size must lie in 1..4096, got %d", o.Batch)
	case !(o.LR > 0) || math.IsInf(o.LR, 0):
		return fmt.Errorf("train: learning rate must be positive, got %g", o.LR)
	case o.Warmup < 0:
		return fmt.Errorf("train: warm-up must be 0 steps or more, got %d", o.Warmup)
	case !(o.WeightDecay >= 0) || !(o.MaxGradNorm >= 0):
		return fmt.Errorf("train: weight decay and the highest gradient norm must be 0 or more, got %g and %g", o.WeightDecay, o.MaxGradNorm)
	case !(o.Beta1 >= 0 && o.Beta1 < 1 && o.Beta2 >= 0 && o.Beta2 < 1):
		return fmt.Errorf("train: betas must lie in [0, 1), got %g and %g", o.Beta1, o.Beta2)
	case !(o.EMADecay >= 0 && o.EMADecay < 1):
		return fmt.Errorf("train: ema decay must lie in [0, 1), got %g", o.EMADecay)
	}
	return nil
}

// learningRate warms up linearly and then follows half a cosine down to zero.
func (o Options) learningRate(step int) float64 {
	if step < o.Warmup {
		return o.LR * float64(step+1) / float64(o.Warmup)
	}
	progress := float64(step-o.Warmup) / float64(max(1, o.Steps-o.Warmup))
	return o.LR * 0.5 * (1 + math.Cos(math.Pi*progress))
}

// Progress of a run, after each step.
type Progress struct {
	Step, Steps     int
	Loss            float64 // of this batch
	SmoothLoss      float64 // exponential average over about 100 steps
	ImagesPerSecond float64 // since this process started
	Left            time.Duration
}

// Trainer runs a task.
type Trainer struct {
	options Options
	task    Task
	exec    graph.Executor
	program graph.Program

	step   int
	smooth float64
	params []trained
	feeds  []graph.Feed
	fetch  []graph.Fetch
	inputs map[string][]float64
	losses graph.Tensor
	held   []graph.Tensor // all of the above, to be freed
}

// trained is one parameter with everything the optimiser holds for it.
type trained struct {
	model.Param
	value, grad, moment, square, average graph.Tensor
}

// NewTrainer compiles the task's training step on an executor.
func NewTrainer(exec graph.Executor, task Task, options Options) (*Trainer, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	params, err := task.Params()
	if err != nil {
		return nil, err
	}
	var loss *graph.Node
	var grads []*graph.Node
	g, err := graph.Build(func(g *graph.Graph) {
		loss = task.Loss(g, options.Batch)
		seed := make([]float32, options.Batch)
		for i := range seed {
			seed[i] = 1 / float32(options.Batch)
		}
		wrt := make([]*graph.Node, len(params))
		for i, p := range params {
			if wrt[i] = g.Lookup(p.Name); wrt[i] == nil {
				panic(&graph.BuildError{Message: fmt.Sprintf("train: the loss does not use parameter %q", p.Name)})
			}
		}
		grads = graph.Grad(g, []*graph.Node{loss}, []*graph.Node{g.Const("loss_seed", seed, options.Batch)}, wrt)
	})
	if err != nil {
		return nil, err
	}
	plan, err := graph.Compile(g, append([]*graph.Node{loss}, grads...))
	if err != nil {
		return nil, err
	}

	t := &Trainer{options: options, task: task, exec: exec, inputs: map[string][]float64{}}
	if err := t.allocate(g, plan, params, loss, grads); err != nil {
		t.Release()
		return nil, err
	}
	return t, nil
}

// allocate puts the parameters at their starting values, the optimiser's state
// and the plan on the device.
func (t *Trainer) allocate(g *graph.Graph, plan *graph.Plan, params []model.Param, loss *graph.Node, grads []*graph.Node) (err error) {
	vector := func(n int) graph.Tensor {
		var v graph.Tensor
		if err == nil {
			if v, err = t.exec.NewVector(n); err == nil {
				t.held = append(t.held, v)
			}
		}
		return v
	}
	initial := model.Init(params, t.options.Seed)
	tensors := map[*graph.Node]graph.Tensor{}
	for i, p := range params {
		if grads[i] == nil {
			return fmt.Errorf("train: the loss does not depend on parameter %q", p.Name)
		}
		size := p.Shape.Size()
		w := trained{Param: p, grad: vector(size), moment: vector(size), square: vector(size)}
		if t.options.EMADecay > 0 {
			w.average = vector(size)
		}
		if err == nil {
			w.value, err = t.exec.NewParam(initial[p.Name].Data, graph.F32)
		}
		if err != nil {
			return err
		}
		t.held = append(t.held, w.value)
		if w.average != nil {
			if err := t.exec.Combine(w.average, []float64{1}, []graph.Tensor{w.value}); err != nil {
				return err
			}
		}
		tensors[g.Lookup(p.Name)] = w.value
		t.params = append(t.params, w)
		t.fetch = append(t.fetch, graph.Fetch{Node: grads[i], To: w.grad})
	}
	for _, n := range plan.Params {
		if n.Op == graph.OpParam && tensors[n] == nil {
			return fmt.Errorf("train: the network reads parameter %q, which the task does not train", n.Name)
		}
	}
	for _, n := range plan.Segments[0].Inputs {
		t.inputs[n.Name] = make([]float64, n.Shape.Size())
		t.feeds = append(t.feeds, graph.Feed{Node: n, From: vector(n.Shape.Size())})
	}
	t.losses = vector(t.options.Batch)
	t.fetch = append(t.fetch, graph.Fetch{Node: loss, To: t.losses})
	if err == nil {
		t.program, err = t.exec.Compile(plan, tensors)
	}
	return err
}

// Release frees everything the trainer holds on the device.
func (t *Trainer) Release() {
	if t.program != nil {
		t.program.Release()
	}
	for _, v := range t.held {
		t.exec.FreeVector(v)
	}
	t.program, t.held = nil, nil
}

// Step is the number of steps done.
func (t *Trainer) Step() int { return t.step }

// Run trains until the options' last step, calling observe after each one. It
// stops at the first error of observe and when ctx is cancelled, always at a
// step boundary, so the state can be saved.
func (t *Trainer) Run(ctx context.Context, observe func(Progress) error) error {
	start, first := time.Now(), t.step
	for t.step < t.options.Steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		loss, err := t.train(ctx)
		if err != nil {
			return err
		}
		if t.step == 0 {
			t.smooth = loss
		}
		t.smooth += 0.01 * (loss - t.smooth)
		t.step++
		elapsed := time.Since(start)
		perStep := elapsed / time.Duration(t.step-first)
		err = observe(Progress{
			Step: t.step, Steps: t.options.Steps, Loss: loss, SmoothLoss: t.smooth,
			ImagesPerSecond: float64(t.options.Batch*(t.step-first)) / elapsed.Seconds(),
			Left:            perStep * time.Duration(t.options.Steps-t.step),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// train makes one step and returns the batch's mean loss. A context that ends
// meanwhile does not interrupt it: half a step could not be resumed.
func (t *Trainer) train(ctx context.Context) (float64, error) {
	ctx = context.WithoutCancel(ctx)
	o := t.options
	t.task.Fill(o.Seed, t.step, o.Batch, t.inputs)
	for _, f := range t.feeds {
		if err := t.exec.Write(ctx, f.From, t.inputs[f.Node.Name]); err != nil {
			return 0, err
		}
	}
	if err := t.program.Run(ctx, nil, 0, t.feeds, t.fetch); err != nil {
		return 0, err
	}
	losses, err := t.exec.Read(ctx, t.losses)
	if err != nil {
		return 0, err
	}
	mean := 0.0
	for _, l := range losses {
		mean += l / float64(o.Batch)
	}
	if math.IsNaN(mean) || math.IsInf(mean, 0) {
		return 0, fmt.Errorf("train: the loss is %g at step %d; lower the learning rate (now %g)", mean, t.step, o.LR)
	}

	scale := 1.0
	if o.MaxGradNorm > 0 {
		square := 0.0
		for _, p := range t.params {
			dots, err := t.exec.RowDots(ctx, p.grad, p.grad, 1)
			if err != nil {
				return 0, err
			}
			square += dots[0]
		}
		scale = min(1, o.MaxGradNorm/(math.Sqrt(square)+1e-12))
	}
	lr := []float64{o.learningRate(t.step)}
	// A fresh average follows quickly: the decay grows as the run does.
	decay := min(o.EMADecay, float64(t.step+1)/float64(t.step+10))
	for _, p := range t.params {
		if scale < 1 {
			if err := t.exec.ScaleRows(p.grad, []float64{scale}); err != nil {
				return 0, err
			}
		}
		weightDecay := o.WeightDecay
		if len(p.Shape) < 2 {
			weightDecay = 0 // biases and norms are not decayed
		}
		err := t.exec.Adam(p.value, p.moment, p.square, p.grad, lr, o.Beta1, o.Beta2, 1e-8, weightDecay, t.step+1)
		if err != nil {
			return 0, err
		}
		if p.average != nil {
			err := t.exec.Combine(p.average, []float64{decay, 1 - decay}, []graph.Tensor{p.average, p.value})
			if err != nil {
				return 0, err
			}
		}
	}
	return mean, nil
}

// Weights reads the parameters to publish: the running average where one is
// kept, else the last values.
func (t *Trainer) Weights(ctx context.Context) (model.Weights, error) {
	weights := model.Weights{}
	for _, p := range t.params {
		from := p.value
		if p.average != nil {
			from = p.average
		}
		if err := t.read(ctx, weights, p.Name, p.Shape, from); err != nil {
			return nil, err
		}
	}
	return weights, nil
}

func (t *Trainer) read(ctx context.Context, into model.Weights, name string, shape graph.Shape, v graph.Tensor) error {
	wide, err := t.exec.Read(ctx, v)
	if err != nil {
		return err
	}
	data := make([]float32, len(wide))
	for i, x := range wide {
		data[i] = float32(x)
	}
	into[name] = model.Tensor{Shape: slices.Clone(shape), Data: data}
	return nil
}
