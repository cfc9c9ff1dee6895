package engine

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
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
	p, err := NewPlan(r, m, nil, storage)
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

// latentGradient is the gradient of the summed losses at the start latent.
func latentGradient(t *testing.T, s *Session, method sdo.Method, freeze sampler.Freeze) (grad, losses []float64) {
	t.Helper()
	ctx := context.Background()
	chain, err := sdo.NewChain(s.Problem(), method, freeze)
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Free()
	v, err := s.Exec.NewVector(s.Shape.Size())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Exec.FreeVector(v)
	if losses, err = chain.Forward(ctx, s.start); err != nil {
		t.Fatal(err)
	}
	if err := chain.Backward(ctx, v); err != nil {
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
	ctx := context.Background()
	s := session(t, cpu.New[float64](cpu.Options{}), glasses(t, "sampler.num_inference_steps=3"), graph.F32)
	grad, _ := latentGradient(t, s, sdo.MethodFull, sampler.FreezeV)
	direction := Noise(99, s.Shape)
	want := 0.0
	for i, d := range direction {
		want += d * grad[i]
	}
	chain, err := sdo.NewChain(s.Problem(), sdo.MethodIdentity, sampler.FreezeV)
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
		losses, err := chain.Evaluate(ctx, s.start)
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
	p, err := NewPlan(glasses(t, "updates=1"), m, nil, m.Storage())
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
	after.Activations -= p.Memory(exec).Activations - tapes(p) // the arena stays with the executor
	if after != before {
		t.Errorf("the executor holds %+v after a session, %+v before", after, before)
	}
}

// tapes is what a plan pins at its peak.
func tapes(p *Plan) int64 { return p.network.keep.plan.TapeBytes + p.metric.plan.TapeBytes }
