package engine

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sdo"
)

// TuningPlan is a Plan of batches of tune.batch_size pictures for training the
// network's parameters.
type TuningPlan struct {
	*Plan
	recipe  *recipes.Recipe // the whole; the plan's is of one batch
	options sdo.Tuning      // but for where pictures begin
}

// NewTuningPlan is NewPlan for a recipe that changes parameters and nothing else.
func NewTuningPlan(r *recipes.Recipe, m *Model, files fs.FS, o PlanOptions) (*TuningPlan, error) {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("recipe %q: %s", r.Name, fmt.Sprintf(format, args...))
	}
	for _, v := range variables(r) {
		if v != sdo.Parameters {
			return nil, refuse("variables: %s would change with the parameters, and a tuning trains those alone, on fresh latents; leave it out", v)
		}
	}
	switch {
	case len(r.Objective) == 0:
		return nil, refuse("has no objective to train towards; add a term")
	case r.Start != nil:
		return nil, refuse("start: a tuning begins every picture from fresh noise; leave it out")
	}
	batch := r.Clone()
	batch.NumImages = r.Tune.BatchSize
	p, err := newPlan(batch, m, files, o)
	if err != nil {
		return nil, err
	}
	if p.reading == nil && m.Judge != nil { // its reading of every attribute is reported
		if p.reading, err = newReading(m.Judge, p.Pictures(), o); err != nil {
			return nil, err
		}
	}
	if r.Guards.EarlyStop == recipes.StopJudge && len(p.verdict.wanted) == 0 {
		return nil, refuse("guards.early_stop: there is no judge of model %s to ask; name one with judge, or set it to false", m.Name)
	}
	t := &TuningPlan{Plan: p, recipe: r, options: sdo.Tuning{
		Surrogate: p.surrogate, Optimizer: optimizer(r, sdo.Parameters), Updates: r.Updates,
		Accumulate: r.Tune.Accumulate, MaxGradNorm: r.Optimizer.MaxGradNorm, EMADecay: r.Tune.EMADecay, Keep: r.Tune.Keep,
	}}
	return t, p.fit(files, t.Memory)
}

// Trained is how many numbers are trained.
func (p *TuningPlan) Trained() (n int) {
	for _, param := range p.network.params {
		n += param.Shape.Size()
	}
	return n
}

// UpdateSteps are the sampler steps of an update, at most.
func (p *TuningPlan) UpdateSteps() int {
	steps := p.options.Accumulate * p.Calls()
	if p.options.Keep > 0 {
		steps *= 2 // of the untuned network, too
	}
	return steps
}

// LookSteps are the sampler steps of a look at the held-out latents.
func (p *TuningPlan) LookSteps() int {
	rows := p.Shape[0]
	return (p.recipe.Tune.EvalImages + rows - 1) / rows * p.Calls()
}

// Looked reports whether a look follows an update.
func (p *TuningPlan) Looked(update int) bool {
	return update%p.recipe.Tune.EvalEvery == 0 || update == p.recipe.Updates
}

// Memory is Plan's for a tuning: exact in every part, on a device that stores
// vectors in single precision.
func (p *TuningPlan) Memory(exec graph.Executor) Memory {
	m, rows := p.Plan.Memory(exec), p.Shape[0]
	batches := 1 + p.options.Vectors() + p.demand().Vectors // the session's start besides
	copies := p.options.Copies(len(p.table.Steps))
	numbers := rows*(1+len(p.metric.parts)) + int(p.looking()) // losses first
	if p.reading != nil {
		numbers += p.reading.logits.Shape.Size()
	}
	if condition := p.network.predict.condition; condition != nil {
		numbers += condition.Shape.Size()
		if p.conditioned() {
			numbers += condition.Shape.Size()
		}
	}
	if p.guided() { // see sdo.Guided
		batches += 2
		copies++
	}
	numbers += batches*p.Shape.Size() + copies*p.Trained()
	m.States = 4 * int64(numbers)
	return m
}

// Tuning is a TuningPlan on a device.
type Tuning struct {
	*Session
	plan    *TuningPlan
	tuner   *sdo.Tuner
	before  *Evaluation
	kept    model.Weights // published at the last look within guards.drift_limit; nil where there is none
	keptAt  int
	stopped Stopped
}

// Stopped says why a tuning ended before its last update.
type Stopped string

const (
	StoppedNot       Stopped = ""
	StoppedDrift     Stopped = "drift"     // beyond guards.drift_limit
	StoppedJudge     Stopped = "judge"     // approved nearly every held-out picture
	StoppedObjective Stopped = "objective" // was satisfied by nearly every held-out picture
)

// enough is the share of held-out pictures that must be good for an early stop:
// a network that is right nearly always is spoilt on the way to always.
const enough = 0.95

// NewTuning allocates a plan and looks at what the network makes of the held-out
// latents before any update. The observer, which may be nil, is told of that look's
// network calls and of all that Observe tells.
func NewTuning(ctx context.Context, exec graph.Executor, p *TuningPlan, observe sdo.Observer) (*Tuning, error) {
	if err := p.within(p.Memory(exec), exec); err != nil {
		return nil, err
	}
	session, err := newSession(exec, p.Plan)
	if err != nil {
		return nil, err
	}
	t := &Tuning{Session: session, plan: p}
	options := p.options
	options.Latents = func(ctx context.Context, dst sdo.Vector, first int) error {
		return exec.Write(ctx, dst, noiseFrom(p.Recipe.Seed, first, p.Shape))
	}
	if t.tuner, err = sdo.NewTuner(session.Problem(), options); err == nil {
		t.tuner.Observe(observe)
		t.before, err = t.look(ctx)
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// Close frees everything on the device.
func (t *Tuning) Close() {
	if t.tuner != nil {
		t.tuner.Free()
	}
	t.Session.Close()
}

// Before is the look at the network as it was.
func (t *Tuning) Before() *Evaluation { return t.before }

// Update is the number of updates made.
func (t *Tuning) Update() int { return t.tuner.Update() }

// Stopped says why no more updates are made although some are left.
func (t *Tuning) Stopped() Stopped { return t.stopped }

// Done reports whether no more updates are made.
func (t *Tuning) Done() bool { return t.stopped != StoppedNot || t.tuner.Done() }

// Counters returns the cost so far.
func (t *Tuning) Counters() sdo.Counters { return t.tuner.Counters() }

// Observe sends the events of updates and network calls to an observer.
func (t *Tuning) Observe(observe sdo.Observer) { t.tuner.Observe(observe) }

// Step makes one update. Where a look at the held-out latents is due after it,
// the look comes with it and may stop the tuning; else it is nil.
func (t *Tuning) Step(ctx context.Context) (sdo.Event, *Evaluation, error) {
	e, err := t.tuner.Step(ctx)
	if err != nil || !t.plan.Looked(e.Update) {
		return e, nil, err
	}
	// The update is made, so its look is too: a resumed run would not come back
	// to it.
	look, err := t.evaluate(context.WithoutCancel(ctx))
	return e, look, err
}

// Untuned puts what the parameters were when the model was loaded where Predict
// reads them, and back.
func (d *denoiser) Untuned(ctx context.Context, do func() error) (err error) {
	quiet := context.WithoutCancel(ctx) // a network half way back would be lost
	back := d.Changed
	if d.needs.training.LoRA != nil {
		for _, l := range d.adapted {
			base, err := d.base(l)
			if err != nil {
				return err
			}
			if err := d.exec.Write(quiet, l.merged, float64s(base)); err != nil {
				return err
			}
		}
	} else {
		now, err := d.trained(quiet)
		if err != nil {
			return err
		}
		if err := d.put(quiet, d.model.Weights); err != nil {
			return err
		}
		back = func(ctx context.Context) error { return d.put(ctx, now) }
	}
	err = do()
	if failed := back(quiet); err == nil {
		err = failed
	}
	return err
}

// put writes the trained parameters.
func (d *denoiser) put(ctx context.Context, weights model.Source) error {
	for _, p := range d.params {
		w, err := weights.Read(p.Name)
		if err != nil {
			return err
		}
		if err := d.exec.Write(ctx, d.weights.tensors[p.Name], float64s(w.Data)); err != nil {
			return err
		}
	}
	return d.Changed(ctx)
}

// Evaluation is a look at what the published parameters make of the held-out
// latents, the same in every look.
type Evaluation struct {
	Update     int
	Loss       float64      // mean
	Drift      float64      // mean over pictures of the root mean square change since before any update, in units of -1..1
	Approved   []bool       // by the judge, per picture; nil where there is nothing to ask
	Satisfied  float64      // share that satisfies the objective's stop_below
	Attributes []Attributes // as the judge reads them
	Images     []float64    // [tune.eval_images C H W]
}

// Success is the share that the judge approves; NaN where there is nothing to
// ask.
func (e *Evaluation) Success() float64 {
	yes := 0
	for _, approved := range e.Approved {
		if approved {
			yes++
		}
	}
	return float64(yes) / float64(len(e.Approved))
}

// Attributes is how often the judge reads each value of an attribute.
type Attributes struct {
	Name   string
	Values []string
	Shares []float64
	// Shift is the total variation distance from the shares before any update:
	// the smallest share of pictures that must have changed.
	Shift float64
}

// evaluate looks and settles whether the guards stop the tuning.
func (t *Tuning) evaluate(ctx context.Context) (look *Evaluation, err error) {
	err = t.tuner.Published(ctx, func() error {
		if look, err = t.look(ctx); err != nil {
			return err
		}
		limit := t.Recipe.Guards.DriftLimit
		switch {
		case limit > 0 && look.Drift > limit:
			t.stopped = StoppedDrift
			return nil
		case t.Recipe.Guards.EarlyStop == recipes.StopJudge && look.Success() >= enough:
			t.stopped = StoppedJudge
		case t.Recipe.Guards.EarlyStop == recipes.StopObjective && look.Satisfied >= enough:
			t.stopped = StoppedObjective
		}
		if limit > 0 {
			t.keptAt = t.Update()
			t.kept, err = t.Trained(ctx)
		}
		return err
	})
	return look, err
}

// look evaluates the parameters as they stand.
func (t *Tuning) look(ctx context.Context) (*Evaluation, error) {
	rows, images := t.Shape[0], t.Recipe.Tune.EvalImages
	look, satisfied := &Evaluation{Update: t.tuner.Update()}, 0
	var labels [][]int
	for first := 0; first < images; first += rows {
		losses, sample, err := t.tuner.Evaluate(ctx, sdo.HeldOut+first)
		if err != nil {
			return nil, err
		}
		count := min(rows, images-first) // the last batch may be more than is asked for
		batch, err := t.Look(ctx, sample)
		if err != nil {
			return nil, err
		}
		look.Images = append(look.Images, batch[:count*len(batch)/rows]...)
		for row, done := range t.objective.Satisfied()[:count] {
			look.Loss += losses[row] / float64(images)
			if done {
				satisfied++
			}
		}
		if t.judge == nil {
			continue
		}
		read, err := t.labels(ctx, sample)
		if err != nil {
			return nil, err
		}
		labels = append(labels, read[:count]...)
	}
	look.Satisfied = float64(satisfied) / float64(images)
	if len(t.verdict.wanted) > 0 {
		look.Approved = t.verdict.of(labels)
	}
	if t.judge != nil {
		look.Attributes = distribution(t.judge.classifier.Config.Attributes, labels)
	}
	if t.before == nil {
		return look, nil
	}
	look.Drift = MeanDrift(t.before.Images, look.Images, images)
	for i, a := range look.Attributes {
		for k, share := range a.Shares {
			look.Attributes[i].Shift += math.Abs(share-t.before.Attributes[i].Shares[k]) / 2
		}
	}
	return look, nil
}

// distribution counts labels, a row to a picture.
func distribution(attributes model.Attributes, labels [][]int) []Attributes {
	all := make([]Attributes, len(attributes))
	for i, a := range attributes {
		all[i] = Attributes{Name: a.Name, Values: a.Values, Shares: make([]float64, len(a.Values))}
		for _, read := range labels {
			all[i].Shares[read[i]] += 1 / float64(len(labels))
		}
	}
	return all
}

// MeanDrift is the mean over rows of the root mean square difference.
func MeanDrift(before, after []float64, rows int) (drift float64) {
	cols := len(before) / rows
	for row := range rows {
		square := 0.0
		for i := row * cols; i < (row+1)*cols; i++ {
			square += (after[i] - before[i]) * (after[i] - before[i])
		}
		drift += math.Sqrt(square/float64(cols)) / float64(rows)
	}
	return drift
}

// Tuned is what a tuning has come to.
type Tuned struct {
	Update  int           // of the parameters
	Weights model.Weights // by their names; of an adapter A and B
	Look    *Evaluation   // at exactly these numbers
}

// Finish rounds the parameters to what a file of element type dtype holds, looks
// at them once more and returns them. Where the drift guard stopped the tuning
// they are those of the last look within its limit, of update 0 if there is
// none. No updates may follow.
func (t *Tuning) Finish(ctx context.Context, dtype model.DType) (*Tuned, error) {
	tuned := &Tuned{Update: t.Update()}
	var err error
	switch {
	case t.stopped != StoppedDrift:
		err = t.tuner.Published(ctx, func() error {
			tuned.Weights, err = t.Trained(ctx)
			return err
		})
	case t.kept != nil:
		tuned.Update, tuned.Weights = t.keptAt, t.kept
	default:
		tuned.Update, tuned.Weights = 0, model.Weights{}
		for _, p := range t.network.params {
			if lora := t.Training.LoRA; lora != nil {
				tuned.Weights[p.Name] = lora.Weights[p.Name]
			} else if tuned.Weights[p.Name], err = t.Model.Weights.Read(p.Name); err != nil {
				return nil, err
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if dtype == model.F16 {
		for name, tensor := range tuned.Weights {
			tensor.Data = model.AsStored(tensor.Data, graph.F16)
			tuned.Weights[name] = tensor
		}
	}
	if err := t.denoiser.put(ctx, tuned.Weights); err != nil {
		return nil, err
	}
	tuned.Look, err = t.look(ctx)
	if tuned.Look != nil {
		tuned.Look.Update = tuned.Update
	}
	return tuned, err
}

// LoRA is the adapter that a tuning has come to; nil where it trained parameters
// of the network.
func (t *Tuning) LoRA(tuned *Tuned) *model.LoRA {
	if t.Training.LoRA == nil {
		return nil
	}
	return &model.LoRA{LoRAConfig: t.Training.LoRA.LoRAConfig, Weights: tuned.Weights}
}

// UNet is the tuned network of a model of pixels, without any adapter beside it.
func (t *Tuning) UNet(tuned *Tuned) (*model.UNet2D, error) {
	unet := *t.Model.UNet
	if lora := t.LoRA(tuned); lora != nil {
		var err error
		unet.Weights, err = lora.Merge(unet.Weights)
		return &unet, err
	}
	unet.Weights = model.Weights{}
	for name, tensor := range t.Model.UNet.Weights {
		if trained, ok := tuned.Weights[name]; ok {
			tensor = trained
		}
		unet.Weights[name] = tensor
	}
	return &unet, nil
}

// Save writes the network whose own parameters were trained as a folder of its
// class: a model of pixels whole, of a pipeline the unet.
func (t *Tuning) Save(tuned *Tuned, dir string, dtype model.DType) error {
	if t.Model.Pipeline == nil {
		unet, err := t.UNet(tuned)
		if err != nil {
			return err
		}
		return unet.Save(dir, dtype)
	}
	weights, err := model.Collect(t.Model.Weights)
	if err != nil {
		return err
	}
	maps.Copy(weights, tuned.Weights)
	return t.Model.Pipeline.UNet.Save(dir, weights, dtype)
}

// Keys of a checkpoint's metadata, and the prefix of what the drift guard keeps.
const (
	checkpointUpdate  = "update"
	checkpointKept    = "kept_update"
	checkpointStopped = "stopped"
	keptPrefix        = "kept/"
)

// Checkpoint reads everything that the next update depends on, as the tensors of
// a file and its metadata.
func (t *Tuning) Checkpoint(ctx context.Context) (model.Weights, map[string]string, error) {
	state, err := t.tuner.State(ctx)
	if err != nil {
		return nil, nil, err
	}
	tensors := model.Weights{}
	for name, values := range state.Tensors {
		data := make([]float32, len(values))
		for i, v := range values {
			data[i] = float32(v)
		}
		tensors[name] = model.Tensor{Shape: []int{len(data)}, Data: data}
	}
	for name, tensor := range t.kept {
		tensors[keptPrefix+name] = tensor
	}
	return tensors, map[string]string{
		checkpointUpdate: strconv.Itoa(state.Update), checkpointKept: strconv.Itoa(t.keptAt), checkpointStopped: string(t.stopped),
	}, nil
}

// CheckpointUpdate is how many updates a checkpoint has made, by its metadata.
func CheckpointUpdate(metadata map[string]string) (int, error) {
	return metadataNumber(metadata, checkpointUpdate)
}

func metadataNumber(metadata map[string]string, key string) (int, error) {
	n, err := strconv.Atoi(metadata[key])
	if err != nil || n < 0 {
		return 0, fmt.Errorf("metadata %q is %q, want a number of updates; the file is no checkpoint of a tuning", key, metadata[key])
	}
	return n, nil
}

// Restore continues from a Checkpoint of the same recipe and model, as if what
// came before it had happened here.
func (t *Tuning) Restore(ctx context.Context, tensors model.Weights, metadata map[string]string) error {
	update, err := CheckpointUpdate(metadata)
	if err != nil {
		return err
	}
	if t.keptAt, err = metadataNumber(metadata, checkpointKept); err != nil {
		return err
	}
	t.stopped = Stopped(metadata[checkpointStopped])
	if !slices.Contains([]Stopped{StoppedNot, StoppedDrift, StoppedJudge, StoppedObjective}, t.stopped) {
		return fmt.Errorf("metadata %q is %q, which no tuning writes", checkpointStopped, t.stopped)
	}
	state := sdo.TunerState{Update: update, Tensors: map[string][]float64{}}
	kept := model.Weights{}
	for name, tensor := range tensors {
		if len(name) > len(keptPrefix) && name[:len(keptPrefix)] == keptPrefix {
			kept[name[len(keptPrefix):]] = tensor
		} else {
			state.Tensors[name] = float64s(tensor.Data)
		}
	}
	if len(kept) > 0 {
		if err := kept.Check(t.network.params); err != nil {
			return err
		}
		t.kept = kept
	}
	return t.tuner.Restore(ctx, state)
}

func float64s(data []float32) []float64 {
	values := make([]float64, len(data))
	for i, v := range data {
		values[i] = float64(v)
	}
	return values
}
