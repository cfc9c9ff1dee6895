//go:build !js

package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/sdo-go/sdo/gpu"
	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/graph/webgpu"
	"github.com/sdo-go/sdo/model/modeltest"
	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
)

// device opens a GPU. Without an adapter the test is skipped, unless
// SDO_REQUIRE_GPU says that there must be one.
func device(t *testing.T) graph.Executor {
	t.Helper()
	exec, err := webgpu.Open(context.Background(), "")
	if errors.Is(err, gpu.ErrNoAdapter) && os.Getenv("SDO_REQUIRE_GPU") == "" {
		t.Skip("no WebGPU adapter; install a Vulkan driver such as mesa-vulkan-drivers to run this test")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("adapter: %s", exec.Device().Name)
	t.Cleanup(func() { exec.Close() })
	return exec
}

// denoise runs one kept call of the session's network at a timestep and sends a
// fixed seed back through it.
func denoise(t *testing.T, s *Session, timestep float64) (out, grad []float64) {
	t.Helper()
	ctx := context.Background()
	vector := func() graph.Tensor {
		v, err := s.Exec.NewVector(s.Shape.Size())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Exec.FreeVector(v) })
		return v
	}
	o, seed, g := vector(), vector(), vector()
	if err := s.Exec.Write(ctx, seed, Noise(5, s.Shape)); err != nil {
		t.Fatal(err)
	}
	kept, err := s.denoiser.Keep(ctx, sdo.Input{X: s.start, Timestep: timestep}, sdo.WrtX, o)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Release()
	if err := kept.Backward(ctx, seed, sdo.Gradients{X: g}); err != nil {
		t.Fatal(err)
	}
	if out, err = s.Exec.Read(ctx, o); err != nil {
		t.Fatal(err)
	}
	if grad, err = s.Exec.Read(ctx, g); err != nil {
		t.Fatal(err)
	}
	return out, grad
}

// The whole embedded network on the GPU against the float64 CPU executor.
func TestNetworkOnGPUMatchesFloat64(t *testing.T) {
	exec := device(t)
	for _, storage := range []graph.Storage{graph.F32, graph.F16} {
		onGPU := session(t, exec, glasses(t), storage)
		truth := session(t, cpu.New[float64](cpu.Options{}), glasses(t), storage)
		for _, timestep := range []float64{999, 500, 50} {
			t.Run(fmt.Sprintf("storage %d, timestep %v", storage, timestep), func(t *testing.T) {
				out, grad := denoise(t, onGPU, timestep)
				wantOut, wantGrad := denoise(t, truth, timestep)
				if e := relative(out, wantOut); e > 1e-5 {
					t.Errorf("forward differs by %.2g relative, want at most 1e-5", e)
				}
				if e := relative(grad, wantGrad); e > 1e-4 {
					t.Errorf("backward differs by %.2g relative, want at most 1e-4", e)
				}
			})
		}
	}
}

// PyTorch and diffusers agree with the GPU: the fixtures of package model, with
// weights as they are and packed.
func TestFixturesOfDiffusersOnGPU(t *testing.T) {
	ex, testdata := device(t), os.DirFS("../model/testdata")
	t.Run("float32", func(t *testing.T) {
		modeltest.Check(t, testdata, ex, graph.F32, modeltest.Tolerance{Forward: 1e-4, Backward: 1e-4, Tensor: 1e-4})
	})
	t.Run("float16 weights", func(t *testing.T) {
		modeltest.Check(t, testdata, ex, graph.F16, modeltest.Tolerance{Forward: 2e-3, Backward: 2e-3, Tensor: 1e-2})
	})
}

// PEFT agrees with the GPU: the adapter of package model, gradients included.
func TestLoRAFixtureOnGPU(t *testing.T) {
	modeltest.LoRA(t, os.DirFS("../model/testdata"), device(t), modeltest.Tolerance{Forward: 1e-5, Backward: 1e-4})
}

func TestKeptCallsOnGPU(t *testing.T) {
	exec, double := device(t), cpu.New[float64](cpu.Options{})
	defer double.Close()
	for _, storage := range []graph.Storage{graph.F32, graph.F16} {
		t.Run(fmt.Sprintf("storage %d", storage), func(t *testing.T) { compareDevices(t, exec, double, storage) })
	}
}

func TestPredictBatchOnGPU(t *testing.T) { testPredictBatch(t, device(t), 1e-5) }

func TestMemoryOfNeedsOnGPU(t *testing.T) {
	testMemoryOfNeeds(t, func() graph.Executor { return device(t) }, graph.F16, "lora of some", "some tensors")
}

func TestOneStepEqualsFullOnGPU(t *testing.T) {
	s := session(t, device(t), glasses(t, "sampler.num_inference_steps=1"), graph.F32)
	full, _ := latentGradient(t, s, sdo.MethodFull, sampler.FreezeV)
	for _, freeze := range []sampler.Freeze{sampler.FreezeEps, sampler.FreezeV} {
		grad, _ := latentGradient(t, s, sdo.MethodSDO, freeze)
		if e := relative(grad, full); e > 1e-4 {
			t.Errorf("freeze %s: the SDO gradient differs from full back-propagation's by %.2g, want at most 1e-4", freeze, e)
		}
	}
}

// runTolerance is how far the losses of one recipe may lie apart on two
// devices, relative to the first loss, over the run of TestOneRecipeEverywhere.
// Devices differ by rounding only, but a run is a chain of updates and Adam
// divides small gradients by their own size, so differences grow with them.
const runTolerance = 1e-4

// The same recipe and seed give the same losses on the GPU and on the CPU.
func TestOneRecipeEverywhere(t *testing.T) {
	recipe := glasses(t, "updates=12", "sampler.num_inference_steps=5", "guards.early_stop=false")
	run := func(exec graph.Executor) *sdo.Result {
		result, err := session(t, exec, recipe, graph.F32).Steer(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	onGPU, onCPU := run(device(t)), run(cpu.New[float32](cpu.Options{}))
	worst := 0.0
	for u, losses := range onCPU.Losses {
		for row, want := range losses {
			worst = math.Max(worst, math.Abs(onGPU.Losses[u][row]-want)/onCPU.Losses[0][row])
		}
	}
	t.Logf("losses differ by at most %.2g of the first over %d updates", worst, onCPU.Updates)
	if worst > runTolerance {
		t.Errorf("losses differ by %.2g of the first, want at most %g", worst, runTolerance)
	}
}

// The arena and the tapes on the device take what the plan said, and SDO's do
// not grow with the steps.
func TestMemoryOnGPU(t *testing.T) {
	var flat int64
	for _, steps := range []string{"2", "6"} {
		exec := device(t)
		s := session(t, exec, glasses(t, "updates=1", "sampler.num_inference_steps="+steps), graph.F32)
		if _, err := s.Steer(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		planned, measured := s.Memory(exec).Activations, exec.Usage().PeakActivations
		if measured != planned {
			t.Errorf("%s steps: %d activation bytes planned, %d measured", steps, planned, measured)
		}
		if planned, measured := s.Memory(exec).Params, exec.Usage().Params; planned != measured {
			t.Errorf("%s steps: %d parameter bytes planned, %d measured", steps, planned, measured)
		}
		if flat != 0 && flat != measured {
			t.Errorf("activations grow from %d to %d bytes with the steps", flat, measured)
		}
		flat = measured
	}
}

// Freezing eps weighs what float32 rounds off the first state by P, which is 2e4
// where the schedule begins almost without signal.
func TestSurrogateIsTheRolloutOnGPU(t *testing.T) { testSurrogateIsTheRollout(t, device(t), 1e-3) }

func TestFirstBadOnGPU(t *testing.T) { testFirstBad(t, device(t)) }

// A GPU gives what float64 gives.
func TestTermsOfLatentsOnWebGPU(t *testing.T) {
	shape := tinyLatents
	exact := cpu.New[float64](cpu.Options{})
	t.Cleanup(func() { exact.Close() })
	onGPU := device(t)
	for _, terms := range latentTerms[:4] {
		x := Noise(3, shape)
		losses, grad := evaluator(t, exact, tinyRecipe(t, terms), shape)(x)
		there, slope := evaluator(t, onGPU, tinyRecipe(t, terms), shape)(x)
		if off := apart(there, float32s(losses)); off > 1e-4 {
			t.Errorf("%s: losses %v, in float64 %v", terms, there, losses)
		}
		if off := apart(slope, float32s(grad)); off > 1e-3 {
			t.Errorf("%s: the gradient is %g off that in float64", terms, off)
		}
	}
}

// The same pipeline, recipe and seed give the same losses and pictures on a GPU,
// with whatever varies and under a budget.
func TestPipelineOnGPUMatchesCPU(t *testing.T) {
	exec := device(t)
	for name, c := range map[string]struct {
		set    []string
		budget float64 // of what the run takes on the GPU without one
	}{
		"latents":          {nil, 0},
		"prompt, budgeted": {[]string{"variables={condition: {lr: 0.1}, latents: {}}", "decoder=../model/testdata/taesd"}, 0.8},
	} {
		t.Run(name, func(t *testing.T) {
			steer := func(exec graph.Executor) *sdo.Result {
				o := PlanOptions{Exec: exec}
				if c.budget > 0 && exec.Device().Kind == "webgpu" {
					o.MemoryBudget = int64(c.budget * float64(foxPlan(t, o, c.set...).Memory(exec).Total()))
				}
				s, err := NewSession(exec, foxPlan(t, o, c.set...))
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				result, err := s.Steer(context.Background(), nil)
				if err != nil {
					t.Fatal(err)
				}
				if planned, used := s.Memory(exec), exec.Usage(); planned.Params != used.Params {
					t.Errorf("on %s %d bytes of parameters are planned and %d used", exec.Device().Name, planned.Params, used.Params)
				}
				return result
			}
			got, want := steer(exec), steer(cpu.New[float32](cpu.Options{}))
			for u, losses := range got.Losses {
				if e := relative(losses, want.Losses[u]); e > 2e-3 {
					t.Errorf("losses after %d updates: %v, on the CPU %v", u, losses, want.Losses[u])
				}
			}
			if e := relative(got.Samples, want.Samples); e > 5e-3 {
				t.Errorf("pictures differ by %.2g", e)
			}
		})
	}
}
