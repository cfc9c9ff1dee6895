package engine

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
)

// rows of the tiny network's calls in these tests.
const rows = 2

// tinyUNet is a network of a few thousand numbers with attention and a class
// vector.
func tinyUNet(t *testing.T) *model.UNet2D {
	t.Helper()
	unet, err := model.LoadUNet2D(os.DirFS("../model/testdata/unet2d-attention"))
	if err != nil {
		t.Fatal(err)
	}
	return unet
}

// tinyLoRA adapts layers of every kind; its B is not zero.
func tinyLoRA(t *testing.T, unet *model.UNet2D, targets ...string) *model.LoRA {
	t.Helper()
	lora, err := model.NewLoRA(model.LoRAConfig{Rank: 2, Alpha: 3, Targets: targets}, unet.Config, 4)
	if err != nil {
		t.Fatal(err)
	}
	stream := uint32(0)
	for _, name := range slices.Sorted(maps.Keys(lora.Weights)) {
		stream++
		for i, data := 0, lora.Weights[name].Data; strings.HasSuffix(name, "lora_B.weight") && i < len(data); i++ {
			data[i] = float32(0.1 * graph.Normal(8, stream, uint32(i)))
		}
	}
	return lora
}

func tinyDenoiser(t *testing.T, exec graph.Executor, unet *model.UNet2D, storage graph.Storage, needs needs) *denoiser {
	t.Helper()
	n, err := newNetwork(pixels(unet), rows, PlanOptions{Storage: storage}, needs)
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDenoiser(exec, n, nil)
	t.Cleanup(d.Release)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// bench holds the vectors of a test's calls.
type bench struct {
	*testing.T
	exec graph.Executor
}

// vector is new, of n normal numbers of a stream.
func (b bench) vector(n int, stream uint32) graph.Tensor {
	b.Helper()
	v, err := b.exec.NewVector(n)
	if err == nil {
		err = b.exec.Normal(v, 77, stream)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { b.exec.FreeVector(v) })
	return v
}

func (b bench) read(v graph.Tensor) []float64 {
	b.Helper()
	x, err := b.exec.Read(context.Background(), v)
	if err != nil {
		b.Fatal(err)
	}
	return x
}

// input is a question to a tiny denoiser.
func (b bench) input(d *denoiser, timestep float64, stream uint32, conditional bool) sdo.Input {
	in := sdo.Input{X: b.vector(d.predict.sample.Shape.Size(), stream), Timestep: timestep}
	if conditional {
		in.Cond = b.vector(d.predict.condition.Shape.Size(), 1000+stream)
	}
	return in
}

func (b bench) predict(d *denoiser, in sdo.Input) []float64 {
	b.Helper()
	out := b.vector(d.predict.out.Shape.Size(), 0)
	if err := d.Predict(context.Background(), in, out); err != nil {
		b.Fatal(err)
	}
	return b.read(out)
}

// keep makes a kept call and sends a seed back: the output, and the gradients by
// name ("x", "cond", parameters' names).
func (b bench) keep(d *denoiser, in sdo.Input, wrt sdo.Wrt, seed graph.Tensor) (out []float64, grads map[string][]float64) {
	b.Helper()
	ctx := context.Background()
	y := b.vector(d.predict.out.Shape.Size(), 0)
	kept, err := d.Keep(ctx, in, wrt, y)
	if err != nil {
		b.Fatal(err)
	}
	defer kept.Release()
	var into sdo.Gradients
	vectors := map[string]graph.Tensor{}
	if wrt&sdo.WrtX != 0 {
		into.X = b.vector(in.X.Len(), 0)
		vectors["x"] = into.X
	}
	if wrt&sdo.WrtCond != 0 {
		into.Cond = b.vector(in.Cond.Len(), 0)
		vectors["cond"] = into.Cond
	}
	if wrt&sdo.WrtParams != 0 {
		for _, p := range d.Params() {
			into.Params = append(into.Params, b.vector(p.Value.Len(), 0))
			vectors[p.Name] = into.Params[len(into.Params)-1]
		}
	}
	if err := kept.Backward(ctx, seed, into); err != nil {
		b.Fatal(err)
	}
	grads = map[string][]float64{}
	for name, v := range vectors {
		grads[name] = b.read(v)
	}
	return b.read(y), grads
}

// trainings are the ways parameters vary, by name.
func trainings(t *testing.T, unet *model.UNet2D) map[string]*Training {
	return map[string]*Training{
		"none":            nil,
		"lora everywhere": {LoRA: tinyLoRA(t, unet, "**")},
		"lora of some":    {LoRA: tinyLoRA(t, unet, "to_q", "mid_block.resnets.0.conv1", "downsamplers.0.conv")},
		"every tensor":    {Select: []string{"**"}},
		"some tensors":    {Select: []string{"to_v.weight", "norm1.bias", "conv_in.weight"}},
	}
}

// combinations of what a call can be kept for with a way of training.
func combinations(training *Training) []sdo.Wrt {
	wrts := []sdo.Wrt{sdo.WrtX, sdo.WrtCond, sdo.WrtX | sdo.WrtCond}
	if training != nil {
		for _, w := range append(wrts, 0) {
			wrts = append(wrts, w|sdo.WrtParams)
		}
	}
	return wrts
}

// Every gradient that a call can be kept for is the slope of <Predict, seed>, by
// central differences: at the state, the condition and each parameter. Predict
// uses merged weights where the kept call uses branches, so this also holds
// Changed to its word.
func TestGradientsOfKeptCalls(t *testing.T) {
	ctx := context.Background()
	exec := cpu.New[float64](cpu.Options{})
	defer exec.Close()
	unet := tinyUNet(t)
	for name, training := range trainings(t, unet) {
		t.Run(name, func(t *testing.T) {
			kept := map[sdo.Wrt]int{}
			for _, w := range combinations(training) {
				kept[w] = 1
			}
			d := tinyDenoiser(t, exec, unet, graph.F32, needs{kept: kept, training: training})
			b := bench{t, exec}
			in := b.input(d, 321, 1, true)
			seed := b.vector(d.predict.out.Shape.Size(), 3)
			value := map[string]graph.Tensor{"x": in.X, "cond": in.Cond}
			for _, p := range d.Params() {
				value[p.Name] = p.Value
			}
			slopes := map[string]float64{} // along direction, by name
			direction := func(name string) []float64 {
				x := make([]float64, value[name].Len())
				for i := range x {
					x[i] = graph.Normal(5, uint32(len(name)), uint32(i))
				}
				return x
			}
			for name, v := range value {
				const h = 1e-5
				at, step := b.read(v), direction(name)
				dots := [2]float64{}
				for side, h := range []float64{h, -h, 0} {
					moved := slices.Clone(at)
					for i := range moved {
						moved[i] += h * step[i]
					}
					if err := exec.Write(ctx, v, moved); err != nil {
						t.Fatal(err)
					}
					if err := d.Changed(ctx); err != nil {
						t.Fatal(err)
					}
					if h != 0 {
						dots[side] = dot(b.predict(d, in), b.read(seed))
					}
				}
				slopes[name] = (dots[0] - dots[1]) / (2 * h)
			}
			want := b.predict(d, in)
			for _, w := range combinations(training) {
				out, grads := b.keep(d, in, w, seed)
				if e := relative(out, want); e > 1e-12 {
					t.Errorf("kept for %#x: the output differs by %.2g from Predict's", w, e)
				}
				if w&sdo.WrtParams != 0 && len(grads) < len(d.Params()) {
					t.Errorf("kept for %#x: %d gradients", w, len(grads))
				}
				for name, g := range grads {
					got := dot(g, direction(name))
					if math.Abs(got-slopes[name]) > 1e-5*math.Abs(slopes[name])+1e-6 {
						t.Errorf("kept for %#x: slope along %s is %.9g by differences, %.9g by its gradient", w, name, slopes[name], got)
					}
				}
			}
		})
	}
}

func dot(a, b []float64) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// A rollout sees an adapter's new numbers once Changed was told, and the
// network's own at once; Trained reads them.
func TestChangedReachesRollouts(t *testing.T) {
	ctx := context.Background()
	exec := cpu.New[float32](cpu.Options{})
	defer exec.Close()
	unet := tinyUNet(t)
	for name, training := range trainings(t, unet) {
		if training == nil {
			continue
		}
		d := tinyDenoiser(t, exec, unet, graph.F16, needs{training: training})
		b := bench{t, exec}
		in := b.input(d, 100, 1, true)
		before := b.predict(d, in)
		for _, p := range d.Params() {
			if err := exec.Combine(p.Value, []float64{1.5}, []graph.Tensor{p.Value}); err != nil {
				t.Fatal(err)
			}
		}
		if training.LoRA != nil {
			if e := relative(b.predict(d, in), before); e != 0 {
				t.Errorf("%s: the output moved by %.2g before Changed", name, e)
			}
		}
		if err := d.Changed(ctx); err != nil {
			t.Fatal(err)
		}
		after := b.predict(d, in)
		if e := relative(after, before); !(e > 1e-3) {
			t.Errorf("%s: the output moved by %.2g, want a change", name, e)
		}

		// What Trained reads makes the same network again.
		weights, err := d.trained(ctx)
		if err != nil {
			t.Fatal(err)
		}
		again := &Training{Select: training.Select}
		changed := *unet
		if training.LoRA != nil {
			again.LoRA = &model.LoRA{LoRAConfig: training.LoRA.LoRAConfig, Weights: weights}
		} else {
			changed.Weights = maps.Clone(unet.Weights)
			maps.Copy(changed.Weights, weights)
		}
		other := tinyDenoiser(t, exec, &changed, graph.F16, needs{training: again})
		if e := relative(b.predict(other, in), after); e > 1e-6 {
			t.Errorf("%s: the network made of what was read differs by %.2g", name, e)
		}
	}
}

// Several calls at once give what they give alone, at times and conditions of
// their own; those that do not fill the width, too.
func testPredictBatch(t *testing.T, exec graph.Executor, tolerance float64) {
	ctx := context.Background()
	unet := tinyUNet(t)
	for _, training := range []*Training{nil, {LoRA: tinyLoRA(t, unet, "**")}} {
		for _, width := range []int{0, 2, 3} {
			d := tinyDenoiser(t, exec, unet, graph.F32, needs{batch: width, training: training})
			b := bench{t, exec}
			var ins []sdo.Input
			var outs []sdo.Vector
			for i := range 7 {
				ins = append(ins, b.input(d, float64(140*i), uint32(i+1), i%3 != 0))
				outs = append(outs, b.vector(d.predict.out.Shape.Size(), 0))
			}
			if err := d.PredictBatch(ctx, ins, outs); err != nil {
				t.Fatal(err)
			}
			for i, in := range ins {
				if e := relative(b.read(outs[i]), b.predict(d, in)); !(e <= tolerance) {
					t.Errorf("width %d, call %d: differs by %.2g from the call alone", width, i, e)
				}
			}
			if err := d.PredictBatch(ctx, ins, outs[1:]); err == nil {
				t.Error("calls without an output are not refused")
			}
		}
	}
}

func TestPredictBatch(t *testing.T) {
	exec := cpu.New[float64](cpu.Options{})
	defer exec.Close()
	testPredictBatch(t, exec, 1e-12)
}

// Guidance asks both branches through wide calls as it does one by one.
func TestPredictBatchGuided(t *testing.T) {
	ctx := context.Background()
	exec := cpu.New[float64](cpu.Options{})
	defer exec.Close()
	d := tinyDenoiser(t, exec, tinyUNet(t), graph.F32, needs{batch: 2})
	b := bench{t, exec}
	guided := &sdo.Guided{Space: exec, Network: d, Scales: []float64{2.5, -1}}
	defer guided.Free()
	size := d.predict.out.Shape.Size()
	ins := []sdo.Input{b.input(d, 900, 1, true), b.input(d, 50, 2, true), b.input(d, 7, 3, true)}
	outs := []sdo.Vector{b.vector(size, 0), b.vector(size, 0), b.vector(size, 0)}
	if err := guided.PredictBatch(ctx, ins, outs); err != nil {
		t.Fatal(err)
	}
	for i, in := range ins {
		alone := b.vector(size, 0)
		if err := guided.Predict(ctx, in, alone); err != nil {
			t.Fatal(err)
		}
		if e := relative(b.read(outs[i]), b.read(alone)); !(e <= 1e-12) {
			t.Errorf("call %d: the guided output differs by %.2g", i, e)
		}
	}
}

// demands are sets of calls kept at once, of each way of training.
func demands(training *Training) []needs {
	all := []needs{
		{training: training},
		{training: training, kept: map[sdo.Wrt]int{sdo.WrtX: 1}},
		{training: training, kept: map[sdo.Wrt]int{sdo.WrtX: 3, sdo.WrtX | sdo.WrtCond: 2}},
		{training: training, kept: map[sdo.Wrt]int{sdo.WrtCond: 1}, batch: 5},
	}
	if training != nil {
		all = append(all,
			needs{training: training, kept: map[sdo.Wrt]int{sdo.WrtParams: 2}},
			needs{training: training, kept: map[sdo.Wrt]int{sdo.WrtX: 1, sdo.WrtX | sdo.WrtParams: 1, sdo.WrtParams: 1}, batch: 3},
			needs{training: training, kept: map[sdo.Wrt]int{sdo.WrtX | sdo.WrtCond | sdo.WrtParams: 2}, batch: 2})
	}
	return all
}

// The plan's bytes of parameters and activations are those of the executor's
// ledger, whatever calls are kept for and whatever is trained: every call alive
// at once, all sent back, a rollout and a wide call besides.
func testMemoryOfNeeds(t *testing.T, open func() graph.Executor, storage graph.Storage, names ...string) {
	ctx := context.Background()
	unet := tinyUNet(t)
	ways := trainings(t, unet)
	for _, name := range names {
		for _, needs := range demands(ways[name]) {
			exec := open()
			n, err := newNetwork(pixels(unet), rows, PlanOptions{Storage: storage}, needs)
			if err != nil {
				t.Fatal(err)
			}
			plan := &Plan{Model: pixels(unet), Recipe: glasses(t, "updates=0", "objective=[]"), Shape: unet.Config.SampleShape(rows), table: &sampler.Table{}, network: n}
			d, err := newDenoiser(exec, n, nil)
			if err != nil {
				t.Fatal(err)
			}
			b := bench{t, exec}
			in, seed := b.input(d, 5, 1, true), b.vector(d.predict.out.Shape.Size(), 2)
			b.predict(d, in)
			var alive []sdo.Kept
			for wrt, calls := range needs.kept {
				for range calls {
					kept, err := d.Keep(ctx, in, wrt, seed)
					if err != nil {
						t.Fatal(err)
					}
					alive = append(alive, kept)
				}
			}
			pinned := int64(0)
			for _, kept := range alive {
				pinned += kept.Bytes()
			}
			for _, kept := range alive {
				if err := kept.Backward(ctx, seed, sdo.Gradients{}); err != nil {
					t.Fatal(err)
				}
			}
			outs := make([]sdo.Vector, needs.batch)
			for i := range outs {
				outs[i] = b.vector(d.predict.out.Shape.Size(), 0)
			}
			if err := d.PredictBatch(ctx, slices.Repeat([]sdo.Input{in}, len(outs)), outs); err != nil {
				t.Fatal(err)
			}
			if err := d.Changed(ctx); err != nil {
				t.Fatal(err)
			}
			b.predict(d, in)
			for _, kept := range alive {
				kept.Release()
			}
			planned, usage := plan.Memory(exec), exec.Usage()
			if planned.Params != usage.Params || planned.Activations != usage.PeakActivations {
				t.Errorf("%s, %v: planned %d bytes of parameters and %d of activations, measured %d and %d", name, needs.kept,
					planned.Params, planned.Activations, usage.Params, usage.PeakActivations)
			}
			if exec.Device().Kind == "cpu" && pinned != n.tapeBytes() {
				t.Errorf("%s, %v: calls say they pin %d bytes, planned %d", name, needs.kept, pinned, n.tapeBytes())
			}
			d.Release()
			if after := exec.Usage(); after.Params != 0 {
				t.Errorf("%s, %v: %d bytes of parameters are left behind", name, needs.kept, after.Params)
			}
		}
	}
}

func TestMemoryOfNeeds(t *testing.T) {
	testMemoryOfNeeds(t, func() graph.Executor {
		exec := cpu.New[float32](cpu.Options{})
		t.Cleanup(func() { exec.Close() })
		return exec
	}, graph.F32, "none", "lora everywhere", "lora of some", "every tensor", "some tensors")
}

// What cannot be planned is refused with one sentence.
func TestNetworkRefusesNeeds(t *testing.T) {
	unet, plain := tinyUNet(t), tinyUNet(t)
	plain.Config.ClassEmbedType = nil
	foreign := tinyLoRA(t, unet, "to_q")
	foreign.Weights["conv_in.lora_A.weight"] = model.Tensor{Shape: []int{1}, Data: make([]float32, 1)}
	for want, c := range map[string]struct {
		unet  *model.UNet2D
		needs needs
	}{
		"takes no class vector": {plain, needs{kept: map[sdo.Wrt]int{sdo.WrtCond: 1}}},
		"none of them varies":   {unet, needs{kept: map[sdo.Wrt]int{sdo.WrtParams: 1}}},
		"kept for 0x0":          {unet, needs{kept: map[sdo.Wrt]int{0: 1}}},
		`"to_x" names nothing`:  {unet, needs{training: &Training{Select: []string{"to_x"}}}},
		"no patterns":           {unet, needs{training: &Training{}}},
		"has no place":          {unet, needs{training: &Training{LoRA: foreign}}},
	} {
		if _, err := newNetwork(pixels(c.unet), 1, PlanOptions{Storage: graph.F32}, c.needs); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	exec := cpu.New[float32](cpu.Options{})
	defer exec.Close()
	d := tinyDenoiser(t, exec, unet, graph.F32, needs{kept: map[sdo.Wrt]int{sdo.WrtX: 1}})
	b := bench{t, exec}
	in, out := b.input(d, 5, 1, true), b.vector(d.predict.out.Shape.Size(), 2)
	if _, err := d.Keep(context.Background(), in, sdo.WrtCond, out); err == nil || !strings.Contains(err.Error(), "no call was planned") {
		t.Errorf("a call kept for what was not planned: %v", err)
	}
	kept, err := d.Keep(context.Background(), in, sdo.WrtX, out)
	if err != nil {
		t.Fatal(err)
	}
	if err := kept.Backward(context.Background(), out, sdo.Gradients{Cond: in.Cond}); err == nil || !strings.Contains(err.Error(), "not kept for") {
		t.Errorf("a gradient that was not asked for: %v", err)
	}
	kept.Release()
	if err := kept.Backward(context.Background(), out, sdo.Gradients{}); err == nil {
		t.Error("backward of a released call is not refused")
	}
}

// Where devices agree: outputs and all gradients of a call kept for everything,
// and a rollout after the parameters moved.
func compareDevices(t *testing.T, got, truth graph.Executor, storage graph.Storage) {
	ctx := context.Background()
	unet := tinyUNet(t)
	for name, training := range trainings(t, unet) {
		wrt := sdo.WrtX | sdo.WrtCond
		if training != nil {
			wrt |= sdo.WrtParams
		}
		type result struct {
			out, moved []float64
			grads      map[string][]float64
		}
		run := func(exec graph.Executor) (r result) {
			d := tinyDenoiser(t, exec, unet, storage, needs{kept: map[sdo.Wrt]int{wrt: 1}, training: training})
			b := bench{t, exec}
			in, seed := b.input(d, 321, 1, true), b.vector(d.predict.out.Shape.Size(), 3)
			b.predict(d, in) // so that forms made of the old numbers exist
			r.out, r.grads = b.keep(d, in, wrt, seed)
			for i, p := range d.Params() {
				step := b.vector(p.Value.Len(), uint32(50+i))
				if err := exec.Combine(p.Value, []float64{1, 0.05}, []graph.Tensor{p.Value, step}); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.Changed(ctx); err != nil {
				t.Fatal(err)
			}
			r.moved = b.predict(d, in)
			return r
		}
		a, want := run(got), run(truth)
		if e := relative(a.out, want.out); !(e <= 1e-5) {
			t.Errorf("%s: outputs differ by %.2g", name, e)
		}
		if e := relative(a.moved, want.moved); !(e <= 1e-5) {
			t.Errorf("%s: outputs after a change differ by %.2g", name, e)
		}
		if training != nil && relative(want.moved, want.out) < 1e-3 {
			t.Errorf("%s: the change is too small to tell", name)
		}
		largest := 0.0
		for _, g := range want.grads {
			largest = math.Max(largest, math.Sqrt(dot(g, g)))
		}
		for at, g := range want.grads {
			difference := slices.Clone(g)
			for i := range difference {
				difference[i] -= a.grads[at][i]
			}
			// A gradient that is zero in exact arithmetic (attention does not feel a
			// bias of its keys) is measured against the largest.
			if e := math.Sqrt(dot(difference, difference)); !(e <= 1e-4*(math.Sqrt(dot(g, g))+1e-3*largest)) {
				t.Errorf("%s: gradients at %s differ by %.2g", name, at, e)
			}
		}
	}
}

func TestKeptCallsInSinglePrecision(t *testing.T) {
	single, double := cpu.New[float32](cpu.Options{}), cpu.New[float64](cpu.Options{})
	defer single.Close()
	defer double.Close()
	for _, storage := range []graph.Storage{graph.F32, graph.F16} {
		t.Run(fmt.Sprintf("storage %d", storage), func(t *testing.T) { compareDevices(t, single, double, storage) })
	}
}
