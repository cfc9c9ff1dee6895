package engine

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
)

// The pipeline of tools/golden/tiny_pipeline.py, and what diffusers computed
// with it.
const tinyPipeline = "../model/testdata/stable-diffusion"

func openDisk(name string) (fs.FS, error) {
	if _, err := os.Stat(name); err != nil {
		return nil, fs.ErrNotExist
	}
	return os.DirFS(name), nil
}

// fox is a recipe for the tiny pipeline. An override of a minus and a key takes
// the key out.
func fox(t *testing.T, overrides ...string) *recipes.Recipe {
	t.Helper()
	set := append([]string{"model=" + tinyPipeline, "num_images=2", "sampler.num_inference_steps=3", "sampler.timestep_spacing=leading",
		"prompt=a red apple", "negative_prompt=blurry", "guidance_scale=3", "guards.early_stop=false", "updates=3",
		`objective=[{term: region_color, region: [0, 0, 12, 20], color: "#d02090"}, {term: total_variation, weight: 0.3, space: latents}]`}, overrides...)
	var list []recipes.Override
	for _, o := range set {
		path, value, _ := strings.Cut(o, "=")
		if slices.Contains(set, "-"+path) || path[0] == '-' {
			continue
		}
		list = append(list, recipes.Override{Path: path, Value: value, From: "test"})
	}
	r, err := recipes.Parse([]byte("version: 1\nname: fox\n"), "test", list...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func foxPlan(t *testing.T, o PlanOptions, overrides ...string) *Plan {
	t.Helper()
	r := fox(t, overrides...)
	m, err := LoadModel(r, openDisk)
	if err != nil {
		t.Fatal(err)
	}
	if o.Storage == graph.F32 {
		o.Storage = m.Storage()
	}
	p, err := NewPlan(r, m, os.DirFS("."), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func foxSession(t *testing.T, exec graph.Executor, overrides ...string) *Session {
	t.Helper()
	s, err := NewSession(exec, foxPlan(t, PlanOptions{}, overrides...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// What a pipeline makes of a prompt, a negative prompt, a scale of guidance and
// noise is what diffusers makes of them: latents and pictures.
func TestPipelineAgainstDiffusers(t *testing.T) {
	golden, words, err := model.LoadSafetensors(os.DirFS(tinyPipeline), "fixture.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	s := foxSession(t, cpu.New[float64](cpu.Options{}), "num_images=1", "sampler.num_inference_steps="+strconv.Itoa(len(golden["timesteps"].Data)),
		"prompt="+quote(words["prompt"]), "negative_prompt="+quote(words["negative"]), "guidance_scale="+words["guidance"])
	agreesWithDiffusers(t, s, golden, 1e-5)
	if want := (graph.Shape{1, 3, 32, 32}); !s.Pictures().Equal(want) {
		t.Errorf("pictures are %v, want %v", s.Pictures(), want)
	}
}

// agreesWithDiffusers samples a session from the noise of a golden file and
// compares what the pipeline makes on the way.
func agreesWithDiffusers(t *testing.T, s *Session, golden map[string]model.Tensor, tolerance float64) {
	t.Helper()
	numbers := func(name string) []float64 { return float64s(golden[name].Data) }
	agrees := func(name string, got []float64) {
		t.Helper()
		e := relative(got, numbers(name))
		t.Logf("%s: relative error %.2g", name, e)
		if !(e <= tolerance) {
			t.Errorf("%s differ by %.2g", name, e)
		}
	}
	for i, step := range s.table.Steps {
		if want := numbers("timesteps")[i]; step.Timestep != want {
			t.Errorf("step %d is at timestep %v, diffusers' at %v", i, step.Timestep, want)
		}
	}
	agrees("embeds", s.prompts.told)
	agrees("negative_embeds", s.prompts.denied)
	ctx := context.Background()
	if err := s.Exec.Write(ctx, s.start, numbers("noise")); err != nil {
		t.Fatal(err)
	}
	var latents []float64
	picture, err := s.Sample(ctx, func(e sdo.Event) {
		if e.Kind == sdo.EventStep && e.Step == s.Calls() {
			var err error
			if latents, err = s.Exec.Read(ctx, e.State); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	agrees("latents", latents)
	agrees("image", picture)
}

func quote(s string) string { return fmt.Sprintf("%q", s) }

// The loss of a pipeline's pictures falls, whatever varies; results are
// pictures; the plan counts what is held, to the byte but for the losses.
func TestPipelineSteers(t *testing.T) {
	for _, c := range []struct {
		name string
		set  []string
	}{
		{"latents", nil},
		{"latents, another size", []string{"height=24", "width=40"}},
		{"latents, TAESD", []string{"decoder=../model/testdata/taesd"}},
		{"latents, without guidance", []string{"guidance_scale=1", "negative_prompt=\"\"", "num_images=1"}},
		{"prompt", []string{"variables={condition: {lr: 0.1}}"}},
		{"prompt and latents, all calls", []string{"variables={condition: {lr: 0.1}, latents: {lr: 0.05}}", "method.name=full"}},
		{"noises and guidance", []string{"variables={noises: {lr: 0.05}, guidance_scale: {optimizer: sgd, lr: 0.05}}", "sampler.eta=0.5"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			exec := cpu.New[float32](cpu.Options{})
			defer exec.Close()
			s := foxSession(t, exec, append([]string{"updates=5"}, c.set...)...)
			exec.ResetPeak()
			ctx, states := context.Background(), int64(0)
			result, err := s.Steer(ctx, func(sdo.Event) { states = max(states, exec.Usage().Vectors) })
			if err != nil {
				t.Fatal(err)
			}
			if first, best := mean(result.Losses[0]), mean(result.BestLoss); !(best < first) {
				t.Errorf("the loss went from %g to %g", first, best)
			}
			if n := s.Pictures().Size(); len(result.Samples) != n || len(result.Before) != n {
				t.Errorf("%d and %d numbers of pictures, want %d", len(result.Before), len(result.Samples), n)
			}
			for name, used := range map[string]int64{"parameters": exec.Usage().Params - s.Memory(exec).Params, "activations": exec.Usage().PeakActivations - s.Memory(exec).Activations} {
				if used != 0 {
					t.Errorf("%d bytes of %s more were used than planned", used, name)
				}
			}
			if planned := s.Memory(exec).States; states > planned+512 || states < planned*9/10 {
				t.Errorf("%d bytes of states planned, %d held", planned, states)
			}
		})
	}
}

func mean(x []float64) (sum float64) {
	for _, v := range x {
		sum += v / float64(len(x))
	}
	return sum
}

// values are the session's variables at their start.
func startOf(s *Session, vary ...sdo.Variable) sdo.Values {
	v := sdo.Values{Latents: s.start}
	if slices.Contains(vary, sdo.Condition) {
		v.Condition = s.cond
	}
	return v
}

// gradients are those of the summed losses at the start, by variable: latents,
// condition, and parameters one after the other.
func gradients(t *testing.T, s *Session, surrogate sdo.Surrogate, vary ...sdo.Variable) map[sdo.Variable][]float64 {
	t.Helper()
	ctx := context.Background()
	chain, err := sdo.NewChain(s.Problem(), surrogate, vary...)
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Free()
	space := bench{t, s.Exec}
	into, params := sdo.Values{}, []sdo.Vector{}
	for _, v := range vary {
		switch v {
		case sdo.Latents:
			into.Latents = space.vector(s.start.Len(), 0)
		case sdo.Condition:
			into.Condition = space.vector(s.cond.Len(), 0)
		case sdo.Parameters:
			for _, p := range s.denoiser.Params() {
				params = append(params, space.vector(p.Value.Len(), 0))
			}
			into.Parameters = params
		}
	}
	if _, err := chain.Forward(ctx, startOf(s, vary...), 0); err != nil {
		t.Fatal(err)
	}
	if err := chain.Backward(ctx, into); err != nil {
		t.Fatal(err)
	}
	found := map[sdo.Variable][]float64{}
	if into.Latents != nil {
		found[sdo.Latents] = space.read(into.Latents)
	}
	if into.Condition != nil {
		found[sdo.Condition] = space.read(into.Condition)
	}
	for _, p := range params {
		found[sdo.Parameters] = append(found[sdo.Parameters], space.read(p)...)
	}
	return found
}

// nudge moves a variable of the session by h times a direction.
func nudge(t *testing.T, s *Session, v sdo.Variable, direction []float64, h float64) {
	t.Helper()
	ctx := context.Background()
	move := func(x graph.Tensor, d []float64) {
		now, err := s.Exec.Read(ctx, x)
		if err != nil {
			t.Fatal(err)
		}
		for i := range now {
			now[i] += h * d[i]
		}
		if err := s.Exec.Write(ctx, x, now); err != nil {
			t.Fatal(err)
		}
	}
	switch v {
	case sdo.Latents:
		move(s.start, direction)
	case sdo.Condition:
		move(s.cond, direction)
	case sdo.Parameters:
		for _, p := range s.denoiser.Params() {
			move(p.Value, direction)
			direction = direction[p.Value.Len():]
		}
		if err := s.denoiser.Changed(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// everything varies: latents, the prompt's states and a LoRA.
var everything = []sdo.Variable{sdo.Latents, sdo.Condition, sdo.Parameters}

// variedSession has a LoRA whose B is not zero, where half of its gradient is.
func variedSession(t *testing.T, exec graph.Executor, overrides ...string) (s *Session, directions map[sdo.Variable][]float64) {
	t.Helper()
	s = foxSession(t, exec, append([]string{"variables={latents: {}, condition: {}, parameters: {lora: {rank: 3, alpha: 2, targets: [to_q, to_k, to_v, to_out.0, conv1]}}}"}, overrides...)...)
	directions = map[sdo.Variable][]float64{}
	for i, size := range []int{s.start.Len(), s.cond.Len(), (&TuningPlan{Plan: s.Plan}).Trained()} {
		directions[everything[i]] = noiseFrom(99, i, graph.Shape{1, size})
	}
	nudge(t, s, sdo.Parameters, directions[sdo.Parameters], 0.1)
	return s, directions
}

// slopes compares gradients with differences of the losses of a rollout, along a
// direction of each variable.
func slopes(t *testing.T, s *Session, network sdo.Network, directions, grads map[sdo.Variable][]float64) {
	t.Helper()
	problem := s.Problem()
	problem.Network = network
	for _, v := range everything {
		want := 0.0
		for i, d := range directions[v] {
			want += d * grads[v][i]
		}
		at := func(h float64) float64 {
			nudge(t, s, v, directions[v], h)
			defer nudge(t, s, v, directions[v], -h)
			chain, err := sdo.NewChain(problem, sdo.Surrogate{})
			if err != nil {
				t.Fatal(err)
			}
			defer chain.Free()
			losses, err := chain.Evaluate(context.Background(), startOf(s, everything...))
			if err != nil {
				t.Fatal(err)
			}
			return losses[0] + losses[1]
		}
		const h = 1e-5
		if got := (at(h) - at(-h)) / (2 * h); math.Abs(got-want) > 1e-5*math.Abs(want) || want == 0 {
			t.Errorf("the slope along a direction of %s is %.8g by differences, %.8g by the gradient", v, got, want)
		}
	}
}

// Full back-propagation through guidance, the sampler, the decoder and the loss
// is the derivative of the whole run.
func TestPipelineFullIsTheDerivative(t *testing.T) {
	s, directions := variedSession(t, cpu.New[float64](cpu.Options{}), "method.name=full")
	slopes(t, s, s.denoiser, directions, gradients(t, s, s.surrogate, everything...))
}

// At one step SDO is full back-propagation, whatever is frozen.
func TestPipelineOneStepIsFull(t *testing.T) {
	exec := cpu.New[float64](cpu.Options{})
	find := func(set ...string) map[sdo.Variable][]float64 {
		s, _ := variedSession(t, exec, append(set, "sampler.num_inference_steps=1")...)
		return gradients(t, s, s.surrogate, everything...)
	}
	full := find("method.name=full")
	for _, freeze := range []string{"eps", "v"} {
		for v, grad := range find("method.freeze="+freeze, "method.active=all") {
			if e := relative(grad, full[v]); e > 1e-9 {
				t.Errorf("%s frozen: the gradient at %s differs from full back-propagation's by %.2g", freeze, v, e)
			}
		}
	}
}

// frozen is a network whose calls after a rollout's first see the states of the
// rollout that was recorded: what SDO differentiates, where the network's own
// output is what is held.
type frozen struct {
	*denoiser
	calls  int // of one rollout, both branches counted
	call   int
	states []graph.Tensor
}

func (f *frozen) Predict(ctx context.Context, in sdo.Input, out sdo.Vector) error {
	at := f.call % f.calls
	if f.call++; f.call <= f.calls {
		state, err := f.exec.NewVector(in.X.Len())
		if err != nil {
			return err
		}
		if err := f.exec.Combine(state, []float64{1}, []graph.Tensor{in.X}); err != nil {
			return err
		}
		f.states = append(f.states, state)
	} else if at >= 2 {
		in.X = f.states[at]
	}
	return f.denoiser.Predict(ctx, in, out)
}

// SDO's gradients are the derivatives of the frozen surrogate.
func TestPipelineSDOIsTheSurrogate(t *testing.T) {
	s, directions := variedSession(t, cpu.New[float64](cpu.Options{}), "method.freeze=v", "method.active=all")
	if s.Model.Scheduler.PredictionType != sampler.PredictV {
		t.Fatalf("the network predicts %s, so v is not its own output", s.Model.Scheduler.PredictionType)
	}
	grads := gradients(t, s, s.surrogate, everything...)
	network := &frozen{denoiser: s.denoiser, calls: 2 * s.Calls()}
	problem := s.Problem()
	problem.Network = network
	chain, err := sdo.NewChain(problem, sdo.Surrogate{})
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Free()
	if _, err := chain.Evaluate(context.Background(), startOf(s, everything...)); err != nil {
		t.Fatal(err)
	}
	slopes(t, s, network, directions, grads)
}

// diffusers' StableDiffusionPipeline moves the leading timesteps by one whether the
// folder's scheduler says so or not; other classes take it at its word.
func TestStepsOffset(t *testing.T) {
	for class, want := range map[string]float64{"StableDiffusionPipeline": 667, "LatentConsistencyModelPipeline": 666} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(tinyPipeline)); err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string][2]string{
			"model_index.json":                {"StableDiffusionPipeline", class},
			"scheduler/scheduler_config.json": {`"steps_offset": 1`, `"steps_offset": 0`},
		} {
			file := filepath.Join(dir, name)
			text, err := os.ReadFile(file)
			if err != nil || !strings.Contains(string(text), change[0]) {
				t.Fatalf("%s: %v", name, err)
			}
			if err := os.WriteFile(file, []byte(strings.Replace(string(text), change[0], change[1], 1)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		m, err := LoadModel(fox(t, "model="+dir), openDisk)
		if err != nil {
			t.Fatal(err)
		}
		table, err := sampler.DDIM(m.Scheduler, 3, 0)
		if err != nil || table.Steps[0].Timestep != want {
			t.Errorf("%s begins at timestep %v, %v; want %v", class, table.Steps[0].Timestep, err, want)
		}
	}
}
