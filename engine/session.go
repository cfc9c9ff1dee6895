package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
)

// Plan is a recipe made concrete for a model, before anything is allocated: it
// knows what the run will cost.
type Plan struct {
	PlanOptions
	Recipe *recipes.Recipe
	Model  *Model
	Shape  graph.Shape // of the batch as it is sampled, [N C H W]
	// Training is what varies of the denoiser's parameters: the model's, or what
	// the recipe's variable parameters says; nil for nothing.
	Training *Training

	files     fs.FS          // where pictures are looked up
	table     *sampler.Table // of the run, from where it begins
	inversion *inversion     // nil for a run from noise
	surrogate sdo.Surrogate
	network   *network
	decoding  *decoding // of latents into pictures; nil for a model of pixels
	metric    *metric   // nil for a recipe that only samples
	verdict   verdict   // what the judge will be asked
	reading   *reading  // of the judge; nil where there is nothing to ask or no judge

	prepare []*preparation // before all of these are on a device, and before the metric's own
	prompts *prompts       // made by one of them; nil for a model that takes no text
}

// NewPlan checks a recipe against a model and plans its programs. files is
// where pictures are looked up; it may be nil.
func NewPlan(r *recipes.Recipe, m *Model, files fs.FS, o PlanOptions) (*Plan, error) {
	p, err := newPlan(r, m, files, o)
	if err != nil {
		return nil, err
	}
	return p, p.fit(files, p.Memory)
}

// newPlan is NewPlan without the networks.
func newPlan(r *recipes.Recipe, m *Model, files fs.FS, o PlanOptions) (*Plan, error) {
	p := &Plan{Recipe: r, Model: m, PlanOptions: o, files: files, Shape: m.Denoiser.SampleShape(r.NumImages)}
	var err error
	if p.decoding, err = newDecoding(m, p.Shape, o); err != nil {
		return nil, err
	}
	if p.table, err = sampler.Solver(r.Sampler.Name).Table(m.Scheduler, r.Sampler.NumInferenceSteps, r.Sampler.Eta); err != nil {
		return nil, err
	}
	if r.Start != nil {
		if err = p.beginFromPicture(files); err != nil {
			return nil, err
		}
	}
	if len(r.Objective) > 0 {
		if p.surrogate, err = surrogateOf(r, p.table); err != nil {
			return nil, fmt.Errorf("recipe %q: %w", r.Name, err)
		}
	}
	if p.Training, err = trainingOf(r, m); err != nil {
		return nil, fmt.Errorf("recipe %q: %w", r.Name, err)
	}
	if err = p.planPrompts(); err != nil {
		return nil, err
	}
	p.verdict = newVerdict(r, m.Judge)
	if r.Guards.EarlyStop == recipes.StopJudge && len(p.verdict.wanted) == 0 {
		return nil, fmt.Errorf("recipe %q: guards.early_stop: judge, but %s; name one with judge, or let the objective stop with true", r.Name, judgeless(m))
	}
	if len(p.verdict.wanted) > 0 {
		if p.reading, err = newReading(m.Judge, p.Pictures(), o); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// networks plans the denoiser and the objective under the plan's options, of
// which keeping is what kept calls may take together and scoring what the
// objective may.
func (p *Plan) networks(files fs.FS, keeping, scoring int64) (err error) {
	o := p.PlanOptions
	o.tape = keeping
	if p.network, err = newNetwork(p.Model, p.Recipe.NumImages, o, p.needs()); err != nil {
		return fmt.Errorf("model %s: %w", p.Model.Name, err)
	}
	if len(p.Recipe.Objective) > 0 {
		o.tape = scoring
		p.metric, err = newMetric(p.Recipe, p.Model, p.Shape, files, o)
	}
	return err
}

// Memory is what a run takes on the device, in bytes.
type Memory struct {
	Params      int64 `json:"param_bytes"`               // weights of the denoiser and of what looks at its samples
	Activations int64 `json:"activation_bytes"`          // scratch arena and all tapes alive at once
	States      int64 `json:"state_bytes"`               // latents, optimiser moments, stored trajectory
	Prepared    int64 `json:"preparing_bytes,omitempty"` // before all these, freed again: encoders of prompts and of pictures
}

// Total is the peak: the sum of the parts or, before them, what is prepared.
func (m Memory) Total() int64 { return max(m.Params+m.Activations+m.States, m.Prepared) }

// Calls is how often a rollout asks the network, guidance aside: the sampler's
// steps, but for solvers that ask more than once a step.
func (p *Plan) Calls() int { return len(p.table.Steps) }

// Cost is what an update asks of the network by the recipe's method, at most and
// each branch of a guided call counted: forward calls, those of the rollout that
// scores it included, and calls that are differentiated.
func (p *Plan) Cost() (calls, backward int) {
	rollout, update := p.work()
	return rollout.Calls + update.Calls, update.Backward
}

// Buffers are the sizes of the buffers that activations take on a device: those
// of the scratch arena and of a tape for every kind of kept call.
func (p *Plan) Buffers(exec graph.Executor) []int64 {
	sizes := []int64{0}
	for _, plan := range p.plans() {
		if len(plan.Scratch) > 1 { // what kernels need besides gets buffers of its own
			sizes = append(sizes, plan.Scratch...)
		} else {
			sizes[0] = max(sizes[0], exec.ScratchBytes(plan))
		}
		sizes = append(sizes, plan.Tape...)
	}
	return sizes
}

// plans lists every plan that runs on a device, but the judge's.
func (p *Plan) plans() []*graph.Plan {
	plans := append(p.network.plans(), p.aids()...)
	for _, prep := range p.preparations() {
		plans = append(plans, prep.plan)
	}
	return plans
}

// aids lists the plans of what looks at samples, the judge aside.
func (p *Plan) aids() (plans []*graph.Plan) {
	if p.metric != nil {
		plans = append(plans, p.metric.plan)
	}
	if p.decoding != nil {
		plans = append(plans, p.decoding.plan)
	}
	return plans
}

// Memory counts what the recipe's method will hold at its peak on a device,
// before anything is allocated there. It is exact for parameters and
// activations: the executor's ledger comes out the same. A nil executor counts
// the plan's own bytes, without what a device's kernels need besides.
func (p *Plan) Memory(exec graph.Executor) Memory {
	arena := func(plans ...*graph.Plan) (most int64) {
		if exec != nil {
			return exec.ScratchBytes(plans...)
		}
		for _, plan := range plans {
			most = max(most, plan.ScratchBytes)
		}
		return most
	}
	params := func(plans ...*graph.Plan) int64 {
		if exec == nil {
			return paramBytes(plans)
		}
		return exec.ParamBytes(plans...)
	}
	m := Memory{
		Params:      params(p.network.plans()...) + params(p.aids()...),
		Activations: p.network.tapeBytes(),
		States:      p.states() * 4,
	}
	sharing := p.plans()
	if p.metric != nil {
		m.Activations += p.metric.plan.TapeBytes
	}
	var prepared []*graph.Plan // whose arena stays
	for _, prep := range p.preparations() {
		prepared = append(prepared, prep.plan)
		m.Prepared = max(m.Prepared, params(prep.plan)+arena(prepared...)+4*prep.numbers())
	}
	if p.reading != nil {
		m.Params += params(p.reading.plan)
		sharing = append(sharing, p.reading.plan)
	}
	m.Activations += arena(sharing...)
	return m
}

// states is how many numbers a run holds beside weights and activations: the
// start and the condition; the chain's vectors; of each variable its value,
// gradient, best and the optimiser's moments; the best sample, one to work with
// and, for a drift limit, the first sample (see sdo.Run).
func (p *Plan) states() int64 {
	batch, condition := int64(p.Shape.Size()), int64(0)
	if c := p.network.predict.condition; c != nil {
		condition = int64(c.Shape.Size())
	}
	numbers := int64(1+p.demand().Vectors)*batch + condition // that which says nothing
	numbers += p.looking()
	if p.conditioned() {
		numbers += condition
	}
	if p.guided() {
		numbers += int64(2+p.demand().Batch) * batch // the branches' difference, and one scaled
	}
	if p.Recipe.Updates == 0 || len(p.Recipe.Objective) == 0 {
		return numbers
	}
	numbers += 2 * batch
	if p.Recipe.Guards.DriftLimit > 0 {
		numbers += batch
	}
	for _, v := range p.Options().Vary {
		size := int64(0)
		switch v.Variable {
		case sdo.Latents:
			size = batch
		case sdo.Noises:
			for _, step := range p.table.Steps {
				if step.Noise != 0 {
					size += batch
				}
			}
		case sdo.Condition:
			size = condition
			numbers += condition // the gradient of one call, where several add up
		case sdo.GuidanceScale:
			size = int64(p.Shape[0])
		case sdo.Parameters:
			for _, param := range p.network.params {
				size += int64(param.Shape.Size())
			}
		}
		copies := int64(3)
		if v.Optimizer.Rule != sdo.SGD {
			copies += 2
		}
		numbers += copies * size
	}
	return numbers
}

// looking is how many numbers are held to look at samples with: a decoder's ends,
// what the judge is shown, what an objective is given.
func (p *Plan) looking() (numbers int64) {
	if p.reading != nil {
		numbers += int64(p.Pictures().Size())
	}
	if p.decoding != nil {
		numbers += int64(p.decoding.latent.Shape.Size() + p.decoding.picture.Shape.Size())
	}
	if p.metric != nil {
		for _, g := range p.metric.given {
			numbers += int64(g.node.Shape.Size())
		}
	}
	return numbers
}

// paramBytes counts each parameter once, and the constants of each plan.
func paramBytes(plans []*graph.Plan) (total int64) {
	counted := map[string]bool{}
	for _, plan := range plans {
		for _, n := range plan.Params {
			if n.Op == graph.OpConst || !counted[n.Name] {
				counted[n.Name] = true
				total += plan.Slot(n).Bytes
			}
		}
	}
	return total
}

// demand is what the recipe's method holds on the device.
func (p *Plan) demand() sdo.Demand {
	if p.Recipe.Updates == 0 || len(p.Recipe.Objective) == 0 {
		return sdo.Surrogate{}.Demand(p.table, nil)
	}
	return p.surrogate.Demand(p.table, variables(p.Recipe))
}

// needs is what the recipe's method asks of the network.
func (p *Plan) needs() needs {
	demand := p.demand()
	n := needs{kept: map[sdo.Wrt]int{}, batch: demand.Batch, training: p.Training}
	n.keep(demand.Wrt, demand.Calls, p.guided())
	return n
}

// guided reports whether calls have two branches.
func (p *Plan) guided() bool {
	varies := slices.Contains(variables(p.Recipe), sdo.GuidanceScale)
	return p.conditioned() && (p.guidance() != 1 || varies)
}

// guidance is the scale by which two branches of a call are mixed: 1 for one
// branch, which a network that is shown the scale leaves it at.
func (p *Plan) guidance() float64 {
	if p.Model.shownGuidance() {
		return 1
	}
	return p.Recipe.GuidanceScale
}

// conditioned reports whether the network is told a condition; one that takes
// text always is, for nothing said is a text, too.
func (p *Plan) conditioned() bool {
	return p.Model.Pipeline != nil || len(p.Recipe.Condition) > 0 || slices.Contains(variables(p.Recipe), sdo.Condition)
}

// condition is what the network is told of every picture: what the recipe says
// or, where the condition varies and the recipe says nothing, nothing yet.
func (p *Plan) condition() ([]float64, error) {
	if p.prompts != nil {
		return slices.Repeat(p.prompts.told, p.Shape[0]), nil
	}
	e := p.Model.embedder()
	if e == nil {
		return make([]float64, p.network.predict.condition.Shape.Size()), nil
	}
	labels, err := e.Attributes.Labels(p.Recipe.Condition)
	if err != nil {
		return nil, err
	}
	return classVector(e, labels, p.Shape[0])
}

// null is what the network is told of a picture that nothing is said of. Without
// attributes nothing is known of the classes: nil, which is zeros.
func (p *Plan) null() ([]float64, error) {
	if p.prompts != nil {
		if p.prompts.denied == nil { // no call is unconditional
			return nil, nil
		}
		return slices.Repeat(p.prompts.denied, p.Shape[0]), nil
	}
	e := p.Model.embedder()
	if e == nil || p.network.predict.condition == nil {
		return nil, nil
	}
	return classVector(e, e.Attributes.NullLabels(), p.Shape[0])
}

// classVector embeds labels once and repeats them for every row.
func classVector(e *model.AttributeEmbedder, labels []int, rows int) ([]float64, error) {
	one, err := e.Embed(labels)
	if err != nil {
		return nil, err
	}
	return slices.Repeat(float64s(one), rows), nil
}

// Session is a plan on a device, ready to run.
type Session struct {
	*Plan
	Exec graph.Executor

	denoiser  *denoiser
	aids      *resident  // weights of what is beside the denoiser, but the judge's
	objective *objective // nil for a recipe that only samples
	viewer    *viewer    // nil for a model of pixels
	judge     *judge     // nil where there is nothing to ask or no judge
	vectors   vectors
	start     graph.Tensor // the latent; that of a picture once inverted
	cond      graph.Tensor
	inverted  bool
	spent     int // network calls of the inversion
}

// verdict is what the judge is asked: which attributes should have which
// labels. Wishes that contradict each other are all kept, and never come true.
type verdict struct {
	label  string
	wanted []wish
}

type wish struct{ attribute, label int }

// NewSession allocates a plan on a device and draws the starting noise: number
// j of image i is graph.Normal(seed, i, j), so an image does not depend on how
// many others are made with it, nor on the device. A plan that takes more there
// than its budget is refused; Plan.For makes one that does not.
func NewSession(exec graph.Executor, p *Plan) (*Session, error) {
	if err := p.within(p.Memory(exec), exec); err != nil {
		return nil, err
	}
	return newSession(exec, p)
}

func newSession(exec graph.Executor, p *Plan) (*Session, error) {
	s := &Session{Plan: p, Exec: exec, vectors: vectors{exec: exec}}
	if err := s.allocate(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Session) allocate() (err error) {
	exec, p := s.Exec, s.Plan
	ctx := context.Background()
	if err = p.prepared(ctx, exec); err != nil {
		return err
	}
	null, err := p.null()
	if err != nil {
		return err
	}
	if s.denoiser, err = newDenoiser(exec, p.network, null); err != nil {
		return err
	}
	s.aids = newResident(exec, p.Model.aids()...)
	if p.metric != nil {
		if s.objective, err = newObjective(exec, p.metric, s.aids); err != nil {
			return err
		}
	}
	if p.decoding != nil {
		if s.viewer, err = newViewer(exec, p.decoding, s.aids); err != nil {
			return err
		}
	}
	if p.reading != nil {
		if s.judge, err = newJudge(exec, p.reading); err != nil {
			return err
		}
	}
	if s.start, err = s.vectors.new(p.Shape.Size()); err != nil {
		return err
	}
	if err = exec.Write(ctx, s.start, Noise(p.Recipe.Seed, p.Shape)); err != nil {
		return err
	}
	if p.conditioned() {
		var condition []float64
		if condition, err = p.condition(); err != nil {
			return err
		}
		if s.cond, err = s.vectors.new(len(condition)); err != nil {
			return err
		}
		if err = exec.Write(ctx, s.cond, condition); err != nil {
			return err
		}
	}
	return nil
}

// Noise draws the standard normal start of a batch of shape [N ...].
func Noise(seed uint64, shape graph.Shape) []float64 { return noiseFrom(seed, 0, shape) }

// noiseFrom is Noise for the pictures first, first+1, ...
func noiseFrom(seed uint64, first int, shape graph.Shape) []float64 {
	noise := make([]float64, shape.Size())
	row := len(noise) / shape[0]
	for i := range noise {
		noise[i] = graph.Normal(seed, uint32(first+i/row), uint32(i%row))
	}
	return noise
}

// Problem is the recipe as package sdo sees it. Its objective is nil for a
// recipe that only samples.
func (s *Session) Problem() sdo.Problem {
	p := sdo.Problem{
		Space: s.Exec, Network: s.denoiser, Table: s.table,
		Rows: s.Shape[0], Cols: s.Shape.Size() / s.Shape[0],
		Start: s.start, NoiseSeed: s.Recipe.Seed, Guidance: s.guidance(),
	}
	if s.objective != nil { // a nil *objective is not a nil interface
		p.Objective = s.objective
	}
	if s.cond != nil {
		p.Cond = s.cond
	}
	if s.judge != nil {
		p.Judge = s
	}
	return p
}

// Steer runs the recipe. See sdo.Run for what a cancelled context does. Of a
// model of latents the result's Samples and Before are the pictures they decode
// to; its events' State is for Look.
func (s *Session) Steer(ctx context.Context, observe sdo.Observer) (*sdo.Result, error) {
	return s.SteerFrom(ctx, nil, observe)
}

// SteerFrom is Steer from where a run of the same recipe and model was saved by
// its observer (sdo.Event.Save), here or in another session; see
// sdo.Options.Resume. A run that begins from a picture finds its latent in the
// state, so that the inversion is not made again. A nil state begins anew.
//
// Where what was found cannot be looked at, the result comes with the error and
// without pictures.
func (s *Session) SteerFrom(ctx context.Context, state *sdo.RunState, observe sdo.Observer) (*sdo.Result, error) {
	if s.objective == nil {
		return nil, fmt.Errorf("recipe %q: has no objective to steer by; add a term, or use sample", s.Recipe.Name)
	}
	if slices.Contains(variables(s.Recipe), sdo.Parameters) {
		return nil, fmt.Errorf("recipe %q: trains the network's parameters, which no single batch of pictures is steered by; use tune", s.Recipe.Name)
	}
	options := s.Options()
	if s.Recipe.Guards.Whiteness == "project" {
		options.Whiten = newWhiteness(s.Exec, s.Shape).project
	}
	options.Resume = state
	var err error
	spent := 0 // calls of the inversion; a state's counters have them
	if state != nil {
		err = s.beginAgain(ctx, state)
	} else {
		err = s.invert(ctx, observe)
		spent = s.spent
	}
	if err != nil {
		return nil, err
	}
	told := observe
	if observe != nil && spent > 0 {
		told = func(e sdo.Event) {
			e.Counters.NetworkCalls += spent
			if save := e.Save; save != nil {
				e.Save = func(ctx context.Context) (*sdo.RunState, error) {
					state, err := save(ctx)
					if state != nil {
						state.Result.NetworkCalls += spent
					}
					return state, err
				}
			}
			observe(e)
		}
	}
	result, err := sdo.Run(ctx, s.Problem(), options, told)
	if result == nil {
		return nil, err
	}
	result.NetworkCalls += spent
	if s.viewer != nil {
		quiet := context.WithoutCancel(ctx) // the best so far is worth the looks
		for _, samples := range []*[]float64{&result.Before, &result.Samples} {
			pictures, failed := s.viewer.decode(quiet, *samples)
			if failed != nil {
				result.Before, result.Samples = nil, nil
				return result, errors.Join(err, failed)
			}
			*samples = pictures
		}
	}
	return result, err
}

// Sample makes the recipe's pictures without steering, [N C H W] in [-1, 1].
// observe is told of every sampler step.
func (s *Session) Sample(ctx context.Context, observe sdo.Observer) ([]float64, error) {
	if err := s.invert(ctx, observe); err != nil {
		return nil, err
	}
	chain, err := sdo.NewChain(s.Problem(), sdo.Surrogate{})
	if err != nil {
		return nil, err
	}
	defer chain.Free()
	chain.Observe(observe)
	sample, err := chain.Rollout(ctx, sdo.Values{Latents: s.start})
	if err != nil {
		return nil, err
	}
	return s.Look(ctx, sample)
}

// JudgeLabel says what the judge is asked, for example "glasses: dark"; empty
// where there is no judge or nothing to ask.
func (s *Session) JudgeLabel() string { return s.verdict.label }

// Verdicts asks the judge whether each image has every wanted attribute.
func (s *Session) Verdicts(ctx context.Context, images []float64) ([]bool, error) {
	if s.judge == nil {
		return nil, nil
	}
	labels, err := s.judge.Read(ctx, images)
	if err != nil {
		return nil, err
	}
	return s.verdict.of(labels), nil
}

// Approve is Verdicts of images that are on the device: the session is the
// sdo.Judge of its own runs.
func (s *Session) Approve(ctx context.Context, images sdo.Vector) ([]bool, error) {
	labels, err := s.labels(ctx, images)
	if err != nil {
		return nil, err
	}
	return s.verdict.of(labels), nil
}

// labels asks the judge about samples that are on the device.
func (s *Session) labels(ctx context.Context, samples graph.Tensor) ([][]int, error) {
	if s.viewer == nil {
		return s.judge.read(ctx, samples)
	}
	pictures, err := s.Look(ctx, samples)
	if err != nil {
		return nil, err
	}
	return s.judge.Read(ctx, pictures)
}

// of says which images have everything that is wanted.
func (v verdict) of(labels [][]int) []bool {
	verdicts := make([]bool, len(labels))
	for row, read := range labels {
		verdicts[row] = true
		for _, w := range v.wanted {
			verdicts[row] = verdicts[row] && read[w.attribute] == w.label
		}
	}
	return verdicts
}

// judgeless says why a judge has nothing to say.
func judgeless(m *Model) string {
	if m.Judge == nil {
		return fmt.Sprintf("no classifier judges images of model %s's size", m.Name)
	}
	return "the judge was not trained on any attribute that the objective asks for"
}

func newVerdict(r *recipes.Recipe, judge *model.Classifier) verdict {
	var v verdict
	if judge == nil {
		return v
	}
	var said []string
	for _, t := range r.Objective {
		if t.Term != "attribute" || t.Weight <= 0 {
			continue
		}
		attribute, label, err := judge.Config.Attributes.Value(t.Attribute, t.Value)
		if err != nil {
			continue // the judge was not trained on it
		}
		if w := (wish{attribute, label}); !slices.Contains(v.wanted, w) {
			v.wanted, said = append(v.wanted, w), append(said, t.Attribute+": "+t.Value)
		}
	}
	v.label = strings.Join(said, ", ")
	return v
}

// Trained reads the parameters that Plan.Training names as they stand, under its
// names: an adapter's A and B, or the network's own.
func (s *Session) Trained(ctx context.Context) (model.Weights, error) { return s.denoiser.trained(ctx) }

// Close frees everything on the device.
func (s *Session) Close() {
	if s.denoiser != nil {
		s.denoiser.Release()
	}
	if s.objective != nil {
		s.objective.Release()
	}
	if s.viewer != nil {
		s.viewer.Release()
	}
	if s.judge != nil {
		s.judge.Release()
	}
	if s.aids != nil {
		s.aids.free()
	}
	s.vectors.free()
}
