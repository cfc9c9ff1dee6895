package engine

import (
	"context"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/model/builtin"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
)

// glasses is the embedded main recipe, small enough for a test.
func glasses(t *testing.T, overrides ...string) *recipes.Recipe {
	t.Helper()
	set := []recipes.Override{{Path: "num_images", Value: "2", From: "test"}, {Path: "sampler.num_inference_steps", Value: "4", From: "test"}}
	for _, o := range overrides {
		path, value, _ := strings.Cut(o, "=")
		set = append(set, recipes.Override{Path: path, Value: value, From: "test"})
	}
	r, err := recipes.Find("dark-glasses", nil, set...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func session(t *testing.T, exec graph.Executor, r *recipes.Recipe, storage graph.Storage) *Session {
	t.Helper()
	m, err := LoadModel(r, OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPlan(r, m, nil, PlanOptions{Storage: storage})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSession(exec, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// setting is a method for latents, with another freeze where it holds anything.
func setting(t *testing.T, method sdo.Method, freeze sampler.Freeze) sdo.Surrogate {
	t.Helper()
	s, err := method.Surrogate(sdo.Latents)
	if err != nil {
		t.Fatal(err)
	}
	if s.Active != sdo.ActiveAll {
		s.Freeze = freeze
	}
	return s
}

// latentGradient is the gradient of the summed losses at the start latent.
func latentGradient(t *testing.T, s *Session, method sdo.Method, freeze sampler.Freeze) (grad, losses []float64) {
	t.Helper()
	ctx := context.Background()
	chain, err := sdo.NewChain(s.Problem(), setting(t, method, freeze), sdo.Latents)
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Free()
	v, err := s.Exec.NewVector(s.Shape.Size())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Exec.FreeVector(v)
	if losses, err = chain.Forward(ctx, sdo.Values{Latents: s.start}, 0); err != nil {
		t.Fatal(err)
	}
	if err := chain.Backward(ctx, sdo.Values{Latents: v}); err != nil {
		t.Fatal(err)
	}
	if grad, err = s.Exec.Read(ctx, v); err != nil {
		t.Fatal(err)
	}
	return grad, losses
}

// relative is |a-b| / |b|.
func relative(a, b []float64) float64 {
	diff, norm := 0.0, 0.0
	for i := range b {
		diff += (a[i] - b[i]) * (a[i] - b[i])
		norm += b[i] * b[i]
	}
	return math.Sqrt(diff / norm)
}

func TestOneStepEqualsFullBackPropagation(t *testing.T) {
	s := session(t, cpu.New[float64](cpu.Options{}), glasses(t, "sampler.num_inference_steps=1"), graph.F32)
	full, _ := latentGradient(t, s, sdo.MethodFull, sampler.FreezeEps)
	for _, freeze := range []sampler.Freeze{sampler.FreezeEps, sampler.FreezeV} {
		grad, _ := latentGradient(t, s, sdo.MethodSDO, freeze)
		if e := relative(grad, full); e > 1e-9 {
			t.Errorf("freeze %s: the SDO gradient differs from full back-propagation's by %.2g", freeze, e)
		}
	}
}

func TestFullAndCheckpointedAgree(t *testing.T) {
	s := session(t, cpu.New[float64](cpu.Options{}), glasses(t), graph.F32)
	full, fullLosses := latentGradient(t, s, sdo.MethodFull, sampler.FreezeV)
	checkpointed, losses := latentGradient(t, s, sdo.MethodFullCheckpoint, sampler.FreezeV)
	if e := relative(checkpointed, full); e > 1e-12 {
		t.Errorf("checkpointed gradient differs by %.2g", e)
	}
	if e := relative(losses, fullLosses); e > 1e-12 {
		t.Errorf("checkpointed losses differ by %.2g", e)
	}
}

// Full back-propagation through the embedded network, the sampler, the guide
// and the loss is the derivative of the whole: central differences along a
// random direction.
func TestFullIsTheDerivativeOfTheRun(t *testing.T) {
	eachSampler(t, func(t *testing.T, overrides []string) {
		testFullIsTheDerivative(t, append(overrides, "sampler.num_inference_steps=3"))
	})
}

// eachSampler runs a test with every sampler a recipe can name, as overrides.
func eachSampler(t *testing.T, test func(*testing.T, []string)) {
	variants := [][]string{{"sampler.name=ddim", "sampler.eta=0.5"}, {"sampler.name=euler", "sampler.use_karras_sigmas=true"}}
	for _, name := range samplersOfV() {
		variants = append(variants, []string{"sampler.name=" + name})
	}
	for _, overrides := range variants {
		t.Run(strings.Join(overrides, " "), func(t *testing.T) { test(t, overrides) })
	}
}

// samplersOfV are the samplers that can ask the embedded network.
func samplersOfV() []string {
	return slices.DeleteFunc(slices.Clone(recipes.Samplers), func(name string) bool {
		return !sampler.Solver(name).Takes(sampler.PredictV)
	})
}

func TestSamplerMustFitTheNetwork(t *testing.T) {
	r := glasses(t, "sampler.name=flow-euler")
	m, err := LoadModel(r, OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewPlan(r, m, nil, PlanOptions{Storage: graph.F32})
	const want = "sampler: flow-euler asks networks that predict flow_prediction, this one predicts v_prediction; use "
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v, want %s...", err, want)
	}
}

// What a recipe may name is what there is.
func TestRecipesKnowTheSolvers(t *testing.T) {
	var names []string
	for _, solver := range sampler.Solvers {
		names = append(names, string(solver))
	}
	if !slices.Equal(names, slices.Sorted(slices.Values(recipes.Samplers))) {
		t.Errorf("recipes name %v, there are %v", recipes.Samplers, names)
	}
	for _, solver := range sampler.Solvers {
		if listed := slices.Contains(recipes.OnKarras, string(solver)); listed != solver.TakesKarras() {
			t.Errorf("%s takes Karras' levels: %v, recipes say %v", solver, solver.TakesKarras(), listed)
		}
	}
}

func testFullIsTheDerivative(t *testing.T, overrides []string) {
	ctx := context.Background()
	s := session(t, cpu.New[float64](cpu.Options{}), glasses(t, overrides...), graph.F32)
	grad, _ := latentGradient(t, s, sdo.MethodFull, sampler.FreezeV)
	direction := Noise(99, s.Shape)
	want := 0.0
	for i, d := range direction {
		want += d * grad[i]
	}
	chain, err := sdo.NewChain(s.Problem(), sdo.Surrogate{})
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Free()
	start := Noise(s.Recipe.Seed, s.Shape)
	at := func(h float64) float64 {
		moved := make([]float64, len(start))
		for i := range start {
			moved[i] = start[i] + h*direction[i]
		}
		if err := s.Exec.Write(ctx, s.start, moved); err != nil {
			t.Fatal(err)
		}
		losses, err := chain.Evaluate(ctx, sdo.Values{Latents: s.start})
		if err != nil {
			t.Fatal(err)
		}
		return losses[0] + losses[1]
	}
	const h = 1e-5
	got := (at(h) - at(-h)) / (2 * h)
	if math.Abs(got-want) > 1e-5*math.Abs(want) {
		t.Errorf("slope along a direction is %.8g by differences, %.8g by back-propagation", got, want)
	}
}

// The plan knows solvers that ask twice a step, and counts what they remember.
func TestMemoryPlanCountsCalls(t *testing.T) {
	states := map[string]int64{}
	for _, name := range samplersOfV() {
		exec := cpu.New[float32](cpu.Options{})
		s := session(t, exec, glasses(t, "method.name=full", "updates=1", "sampler.num_inference_steps=3", "sampler.name="+name), graph.F32)
		result, err := s.Steer(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if planned, measured := s.Memory(exec).Activations, exec.Usage().PeakActivations; planned != measured {
			t.Errorf("%s: %d activation bytes planned, %d measured", name, planned, measured)
		}
		if result.KeptCalls != s.Calls() {
			t.Errorf("%s: %d calls kept, planned %d", name, result.KeptCalls, s.Calls())
		}
		states[name] = s.Memory(exec).States - (int64(s.Shape.Size())*14+2*96)*4
	}
	batch := int64(2 * 3 * 16 * 16 * 4)
	for name, vectors := range map[string]int64{"ddim": 0, "ddpm": 1, "euler": 0, "heun": 2, "dpmpp-2m": 2, "lcm": 1} {
		if states[name] != vectors*batch {
			t.Errorf("%s: %d bytes of states beside the fourteen vectors and a class, want %d vectors of %d", name, states[name], vectors, batch)
		}
	}
}

func TestMemoryPlanIsExactAndFlat(t *testing.T) {
	flat := map[string]int64{}
	for _, method := range []string{"sdo", "identity", "full", "full-checkpoint"} {
		for _, steps := range []string{"2", "5"} {
			exec := cpu.New[float32](cpu.Options{})
			s := session(t, exec, glasses(t, "method.name="+method, "updates=1", "sampler.num_inference_steps="+steps), graph.F32)
			if _, err := s.Steer(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
			planned, measured := s.Memory(exec).Activations, exec.Usage().PeakActivations
			if planned != measured {
				t.Errorf("%s, %s steps: %d activation bytes planned, %d measured", method, steps, planned, measured)
			}
			if planned, measured := s.Memory(exec).Params, exec.Usage().Params; planned != measured {
				t.Errorf("%s: %d parameter bytes planned, %d measured", method, planned, measured)
			}
			if before, seen := flat[method]; method != "full" && seen && before != measured {
				t.Errorf("%s: activations grow from %d to %d bytes with the steps", method, before, measured)
			}
			if before, seen := flat[method]; method == "full" && seen && measured <= before {
				t.Errorf("full: activations do not grow with the steps, which cannot be")
			}
			flat[method] = measured
		}
	}
}

func TestCountersOfOneUpdate(t *testing.T) {
	s := session(t, cpu.New[float32](cpu.Options{}), glasses(t, "updates=3", "guards.early_stop=false"), graph.F32)
	result, err := s.Steer(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// Three updates and the last look: four rollouts of four steps.
	if result.NetworkCalls != 16 || result.BackwardCalls != 3 || result.KeptCalls != 3 {
		t.Errorf("%d network calls, %d kept, %d backward; want 16, 3, 3", result.NetworkCalls, result.KeptCalls, result.BackwardCalls)
	}
}

// A flow begins without signal, where eps is not defined, so a recipe that
// leaves the freeze open gets v there.
func TestFreezeLeftOpenFitsAFlow(t *testing.T) {
	r := glasses(t, "sampler.name=flow-euler")
	r.Method.Freeze = ""
	for _, method := range []string{"sdo", "identity", "full"} {
		r.Method.Name = method
		table, err := sampler.Solver("flow-euler").Table(flowConfig(t), 4, 0)
		if err != nil {
			t.Fatal(err)
		}
		s, err := surrogateOf(r, table)
		if err != nil || method != "full" && s.Freeze != sampler.FreezeV {
			t.Errorf("%s: freeze %s, %v", method, s.Freeze, err)
		}
	}
}

func flowConfig(t *testing.T) sampler.Config {
	t.Helper()
	c, err := sampler.ParseConfig([]byte(`{"_class_name": "FlowMatchEulerDiscreteScheduler"}`))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Every variable of a recipe moves and its loss falls, by calls kept for it; the
// memory is what was planned.
func TestEveryVariable(t *testing.T) {
	const conditional, guided = "condition={mood: happy}", "guidance_scale=2"
	for _, set := range [][]string{
		{"variables=[condition]", conditional},
		{"variables=[condition]", conditional, guided},
		{"variables=[latents, condition, guidance_scale]", conditional},
		{"variables=[condition]", conditional, guided, "method.name=draft-2"},
		{"variables={parameters: {lora: {rank: 2, targets: [to_q, conv1]}}}"},
		{"variables={parameters: {lora: {rank: 2, targets: [\"**\"]}}}", conditional, guided, "method.name=full"},
		{"variables={parameters: {select: [\"mid_block.**\"]}}", "method.name=draft-1"},
		{"variables={parameters: {select: [conv_out.weight]}, condition: {}}", conditional, guided},
		{"method.name=stale-2", "method.refresh={every: 3, batched: false}", conditional, guided},
		{"method.name=stale-2", "method.refresh={every: 3, batched: true}", conditional, guided},
	} {
		exec := cpu.New[float32](cpu.Options{})
		defer exec.Close()
		r := glasses(t, append(set, "updates=4", "guards={latent_norm: none, early_stop: false}")...)
		s := session(t, exec, r, graph.F32)
		start, err := s.Trained(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		result, err := sdo.Run(context.Background(), s.Problem(), s.Options(), nil)
		if err != nil {
			t.Errorf("%v: %v", set, err)
			continue
		}
		before, best := 0.0, 0.0
		for row := range result.BestLoss {
			before, best = before+result.Losses[0][row], best+result.BestLoss[row]
		}
		if !(best < before) {
			t.Errorf("%v: the loss went from %g to %g", set, before, best)
		}
		planned, usage := s.Memory(exec), exec.Usage()
		if planned.Params != usage.Params || planned.Activations != usage.PeakActivations {
			t.Errorf("%v: planned %d bytes of parameters and %d of activations, measured %d and %d", set,
				planned.Params, planned.Activations, usage.Params, usage.PeakActivations)
		}
		end, err := s.Trained(context.Background())
		if err != nil || s.Training != nil && reflect.DeepEqual(start, end) {
			t.Errorf("%v: the parameters did not move (%v)", set, err)
		}
	}
}

// oneByOne answers several calls by as many.
type oneByOne struct{ sdo.Network }

func (n oneByOne) PredictBatch(ctx context.Context, ins []sdo.Input, outs []sdo.Vector) error {
	for i, in := range ins {
		if err := n.Predict(ctx, in, outs[i]); err != nil {
			return err
		}
	}
	return nil
}

// The calls of a stale run give the same losses as one wide call and one by one.
func TestWideCallsOfAStaleRun(t *testing.T) {
	exec := cpu.New[float64](cpu.Options{})
	defer exec.Close()
	var losses [2][]float64
	for i := range losses {
		s := session(t, exec, glasses(t, "method.name=stale-2", "method.refresh={every: 3, batched: true}", "updates=4",
			"guards.early_stop=false", "condition={mood: happy}", "guidance_scale=2"), graph.F32)
		problem := s.Problem()
		if i == 1 {
			problem.Network = oneByOne{problem.Network}
		}
		result, err := sdo.Run(context.Background(), problem, s.Options(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range result.Losses {
			losses[i] = append(losses[i], l...)
		}
	}
	if e := relative(losses[0], losses[1]); !(e < 1e-9) {
		t.Errorf("losses differ by %.2g", e)
	}
}

// Every embedded recipe runs, and its loss falls.
func TestEmbeddedRecipesDescend(t *testing.T) {
	for _, name := range recipes.List() {
		t.Run(name, func(t *testing.T) {
			set := []recipes.Override{
				{Path: "num_images", Value: "2", From: "test"}, {Path: "updates", Value: "6", From: "test"},
				{Path: "sampler.num_inference_steps", Value: "4", From: "test"}, {Path: "guards.early_stop", Value: "false", From: "test"},
			}
			r, err := recipes.Find(name, nil, set...)
			if err != nil {
				t.Fatal(err)
			}
			s := session(t, cpu.New[float32](cpu.Options{}), r, graph.F32)
			result, err := s.Steer(context.Background(), nil)
			if err != nil {
				t.Fatal(err)
			}
			first, best := 0.0, 0.0
			for row := range result.BestLoss {
				first += result.Losses[0][row]
				best += result.BestLoss[row]
			}
			if !(best < first) {
				t.Errorf("the loss went from %g to %g", first, best)
			}
		})
	}
}

// A session gives back everything it took.
func TestCloseLeavesNothingBehind(t *testing.T) {
	exec := cpu.New[float32](cpu.Options{})
	before := exec.Usage()
	m, err := LoadModel(glasses(t), OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPlan(glasses(t, "updates=1"), m, nil, m.Options())
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSession(exec, p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Steer(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	s.Close()
	after := exec.Usage()
	after.PeakActivations = before.PeakActivations
	if after != before {
		t.Errorf("the executor holds %+v after a session, %+v before", after, before)
	}
}

// recorder notes every state and output of a rollout.
type recorder struct {
	sdo.Network
	space           sdo.Space
	states, outputs [][]float64
}

func (r *recorder) Predict(ctx context.Context, in sdo.Input, out sdo.Vector) error {
	state, err := r.space.Read(ctx, in.X)
	if err != nil {
		return err
	}
	if err := r.Network.Predict(ctx, in, out); err != nil {
		return err
	}
	output, err := r.space.Read(ctx, out)
	r.states, r.outputs = append(r.states, state), append(r.outputs, output)
	return err
}

// The surrogate's value is the rollout's: P*x_0 + sum w_i*f_i over the recorded
// calls of the embedded network, and the noise of stochastic samplers, gives the
// sample, for every sampler and freeze.
func testSurrogateIsTheRollout(t *testing.T, exec graph.Executor, tolerance float64) {
	eachSampler(t, func(t *testing.T, overrides []string) {
		testSurrogateOf(t, exec, append(overrides, "sampler.num_inference_steps=6"), tolerance)
	})
}

func testSurrogateOf(t *testing.T, exec graph.Executor, overrides []string, tolerance float64) {
	ctx := context.Background()
	s := session(t, exec, glasses(t, overrides...), graph.F32)
	problem := s.Problem()
	recorded := &recorder{Network: problem.Network, space: exec}
	problem.Network = recorded
	chain, err := sdo.NewChain(problem, sdo.Surrogate{})
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Free()
	v, err := chain.Rollout(ctx, sdo.Values{Latents: s.start})
	if err != nil {
		t.Fatal(err)
	}
	sample, err := exec.Read(ctx, v)
	if err != nil {
		t.Fatal(err)
	}
	for _, freeze := range []sampler.Freeze{sampler.FreezeEps, sampler.FreezeV, sampler.FreezeX0} {
		transport, err := s.table.Freeze(freeze)
		if err != nil {
			t.Fatal(err)
		}
		sum := make([]float64, len(sample))
		for i, x := range recorded.states[0] {
			sum[i] = transport.Carry / s.table.Start * x
		}
		for k, step := range transport.Steps {
			for i := range sum {
				f := step.FromState*recorded.states[k][i] + step.FromOutput*recorded.outputs[k][i]
				sum[i] += transport.Weights[k] * f
				if step.Noise != 0 {
					sum[i] += transport.Noises[k] * graph.Normal(s.Recipe.Seed, 1<<31+uint32(k), uint32(i))
				}
			}
		}
		if e := relative(sum, sample); e > tolerance {
			t.Errorf("freeze %s: the surrogate's value differs from the sample by %.2g relative, want at most %g", freeze, e, tolerance)
		}
	}
}

func TestSurrogateIsTheRollout(t *testing.T) {
	testSurrogateIsTheRollout(t, cpu.New[float64](cpu.Options{}), 1e-9)
}

// The smallest runs there are: one picture, one step, guided or not, by every
// method, with updates and without.
func TestSmallestRuns(t *testing.T) {
	exec := cpu.New[float32](cpu.Options{})
	for _, method := range []string{"sdo", "full", "full-checkpoint", "identity"} {
		for _, guidance := range [][]string{nil, {"condition={mood: happy}", "guidance_scale=2"}} {
			for _, updates := range []string{"0", "1"} {
				set := append([]string{"num_images=1", "sampler.num_inference_steps=1", "method.name=" + method, "updates=" + updates}, guidance...)
				s := session(t, exec, glasses(t, set...), graph.F32)
				result, err := s.Steer(context.Background(), nil)
				if err != nil {
					t.Errorf("%v: %v", set, err)
					continue
				}
				images, err := s.Sample(context.Background(), nil)
				if err != nil {
					t.Fatal(err)
				}
				if e := relative(images, result.Before); e != 0 {
					t.Errorf("%v: sampling differs from the run's first sample by %.2g", set, e)
				}
			}
		}
	}
}

// Sampling needs no gradient, so a schedule that leaves none to the freeze is
// no obstacle: from pure noise to a clean picture in one step.
func TestSampleWithoutTerminalSignal(t *testing.T) {
	r := glasses(t, "num_images=1", "sampler.num_inference_steps=1", "updates=0", "objective=[]")
	m, err := LoadModel(r, OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	m.Scheduler.RescaleBetasZeroSNR = true
	p, err := NewPlan(r, m, nil, PlanOptions{Storage: graph.F32})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSession(cpu.New[float32](cpu.Options{}), p)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Sample(context.Background(), nil); err != nil {
		t.Error(err)
	}
}

// The judge is asked each wish once, of attribute terms that want something
// only, and wishes that contradict each other never come true.
func TestWhatTheJudgeIsAsked(t *testing.T) {
	ask := func(terms ...recipes.Term) *Session {
		r := glasses(t)
		r.Objective = append(r.Objective[:0:0], terms...)
		for i := range terms {
			r.Objective[i].Term, r.Objective[i].Copies = "attribute", 1
		}
		m, err := LoadModel(r, OpenBuiltin)
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPlan(r, m, nil, PlanOptions{Storage: graph.F32})
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSession(cpu.New[float32](cpu.Options{}), p)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	happy, sad := recipes.Term{Attribute: "mood", Value: "happy", Weight: 1}, recipes.Term{Attribute: "mood", Value: "sad", Weight: 1}
	away := recipes.Term{Attribute: "hat", Value: "yes", Weight: -1}
	yes := 0
	for want, s := range map[string]*Session{
		"mood: happy":            ask(happy, happy, away),
		"mood: sad":              ask(sad),
		"mood: happy, mood: sad": ask(happy, sad),
		"":                       ask(away),
	} {
		if s.JudgeLabel() != want {
			t.Errorf("the judge is asked %q, want %q", s.JudgeLabel(), want)
		}
		verdicts, err := s.Verdicts(context.Background(), Noise(1, s.Shape))
		if err != nil || (verdicts == nil) != (want == "") {
			t.Errorf("asked %q: %v, %v", want, verdicts, err)
		}
		for _, v := range verdicts {
			if v && strings.Contains(want, ",") {
				t.Error("a face is happy and sad")
			} else if v {
				yes++
			}
		}
	}
	if yes != 2 {
		t.Errorf("%d of two pictures are happy or sad, want both", yes)
	}
}

// Where a recipe names no classifiers it gets the embedded ones that read the
// model's pictures, or none; ones that it names must read them.
func TestClassifiersFitTheModel(t *testing.T) {
	for name, attribute := range map[string]string{"avatars-16-s": "mood", "fashion-28": "class"} {
		m, err := LoadModel(glasses(t, "model="+name, "updates=0", "objective=[]"), OpenBuiltin)
		if err != nil {
			t.Fatal(err)
		}
		for role, c := range map[string]*model.Classifier{"guide": m.Guide, "judge": m.Judge} {
			if c == nil || !slices.Contains(c.Config.Attributes.Names(), attribute) {
				t.Errorf("%s got the %s %+v, want one that reads %s", name, role, c, attribute)
			}
		}
		if slices.Equal(m.Guide.Config.Widths, m.Judge.Config.Widths) {
			t.Errorf("guide and judge of %s have the same widths", name)
		}
	}
	wide := &model.UNet2D{Config: model.UNet2DConfig{InChannels: 3, SampleSize: model.SampleSize{28, 28}}}
	if c, err := loadClassifier("", builtin.Guides, "guide", wide.Config.SampleShape(1), OpenBuiltin); c != nil || err != nil {
		t.Errorf("28x28 pixels in colour got %v, %v, want no guide", c, err)
	}
	_, err := LoadModel(glasses(t, "model=fashion-28", "judge=avatars-16-judge"), OpenBuiltin)
	if err == nil || err.Error() != "judge avatars-16-judge: reads 3 channels of [16 16] pixels, the model makes [1 28 28]" {
		t.Errorf("a judge of other pictures: %v", err)
	}
}

// A recipe is refused with one sentence where the model lacks what it asks for.
func TestModelRefusesTheRecipe(t *testing.T) {
	r := glasses(t)
	m, err := LoadModel(r, OpenBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	m.Guide = nil
	if err := m.check(r); err == nil || !strings.Contains(err.Error(), "no classifier reads images") {
		t.Errorf("attribute terms without a guide: %v", err)
	}
	m.UNet.Embedder = nil
	r = glasses(t, "condition.mood=happy")
	if err := m.check(r); err == nil || !strings.Contains(err.Error(), "takes no attributes") {
		t.Errorf("a condition on an unconditional model: %v", err)
	}
	r = glasses(t, "method.freeze=x0") // the built-in sampler ends without noise
	if m, err = LoadModel(r, OpenBuiltin); err != nil {
		t.Fatal(err)
	}
	if _, err := NewPlan(r, m, nil, PlanOptions{Storage: graph.F32}); err == nil || !strings.Contains(err.Error(), "no gradient") {
		t.Errorf("a freeze without a gradient: %v", err)
	}
}
