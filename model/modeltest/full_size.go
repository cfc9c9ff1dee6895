package modeltest

import (
	"context"
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// FullSizeOptions are what the environment says of a run of FullSize: the folder
// in SDO_SD15, without which the test is skipped, and in SDO_SD15_BUDGET the MiB
// that a kept call may take, 1024 by default.
func FullSizeOptions(t *testing.T) (folder string, o graph.CompileOptions) {
	folder = os.Getenv("SDO_SD15")
	if folder == "" {
		t.Skip("SDO_SD15 names no folder made by tools/golden/sd15.py")
	}
	budget := int64(1024)
	if text := os.Getenv("SDO_SD15_BUDGET"); text != "" {
		if _, err := fmt.Sscan(text, &budget); err != nil {
			t.Fatal(err)
		}
	}
	return folder, graph.CompileOptions{TapeBudget: budget << 20, MaxBuffer: 256 << 20, MaxBinding: 128 << 20}
}

// FullSize runs the network of Stable Diffusion 1.5 once, forward and kept, with
// weights in half precision, from a folder that tools/golden/sd15.py made; it holds
// what it computes against PyTorch and what it takes against the plan.
func FullSize(t *testing.T, e graph.Executor, folder string, o graph.CompileOptions) {
	ctx := context.Background()
	unet, err := model.LoadUNet2DCondition(os.DirFS(folder), "unet")
	if err != nil {
		t.Fatal(err)
	}
	fixture, _, err := model.LoadSafetensors(os.DirFS(folder), "unet.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	var sample, timestep, condition, seed, out *graph.Node
	var grads []*graph.Node
	g, err := graph.Build(func(g *graph.Graph) {
		sample, timestep = g.Input("sample", unet.Config.SampleShape(1)...), g.Input("timestep", 1)
		condition = unet.Config.ConditionNode(g, "condition", 1)
		out = unet.Config.BuildWith(g, sample, timestep, condition, model.BuildOptions{Storage: graph.F16})
		seed = g.Input("seed", out.Shape...)
		grads = graph.Grad(g, []*graph.Node{out}, []*graph.Node{seed}, []*graph.Node{sample})
	})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	plan, err := graph.CompileWith(g, o, []*graph.Node{out}, grads)
	if err != nil {
		t.Fatal(err)
	}
	const mib = 1 << 20
	t.Logf("%+v", e.Device())
	t.Logf("planned in %v: parameters %d MiB, arena %d MiB, tape %d MiB; %d blocks computed again for %d of %d G multiply-adds",
		time.Since(start), e.ParamBytes(plan)/mib, e.ScratchBytes(plan)/mib, plan.TapeBytes/mib,
		len(plan.Recomputed), plan.RecomputedMultiplyAdds/1e9, plan.Segments[0].MultiplyAdds()/1e9)

	start = time.Now()
	params, err := model.Upload(e, plan, unet.Weights)
	if err != nil {
		t.Fatal(err)
	}
	program, err := e.Compile(plan, params)
	if err != nil {
		t.Fatal(err)
	}
	tape, err := program.NewTape()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("uploaded and compiled in %v", time.Since(start))
	planned := e.ParamBytes(plan) + e.ScratchBytes(plan) + plan.TapeBytes
	held := e.Usage().Params + e.Usage().Activations
	t.Logf("%d bytes planned, %d by the ledger, resident %d MiB", planned, held, resident()/mib)
	if math.Abs(float64(held-planned)) > 0.02*float64(planned) {
		t.Errorf("the ledger counts %d bytes, planned were %d", held, planned)
	}

	vector := func(data []float32, size int) graph.Tensor {
		v, err := e.NewVector(size)
		if err != nil {
			t.Fatal(err)
		}
		if data != nil {
			wide := make([]float64, len(data))
			for i, x := range data {
				wide[i] = float64(x)
			}
			if err := e.Write(ctx, v, wide); err != nil {
				t.Fatal(err)
			}
		}
		return v
	}
	feed := func(n *graph.Node) graph.Feed {
		return graph.Feed{Node: n, From: vector(fixture[n.Name].Data, n.Shape.Size())}
	}
	run := func(what string, segment int, feeds []graph.Feed, n *graph.Node, name string) {
		to := vector(nil, n.Shape.Size())
		start := time.Now()
		if err := program.Run(ctx, tape, segment, feeds, []graph.Fetch{{Node: n, To: to}}); err != nil {
			t.Fatal(err)
		}
		got, err := e.Read(ctx, to)
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		var off, norm, worst float64
		for i, w := range fixture[name].Data {
			d := got[i] - float64(w)
			off, norm, worst = off+d*d, norm+float64(w)*float64(w), max(worst, math.Abs(d))
		}
		relative := math.Sqrt(off / norm)
		t.Logf("%s: %v, relative error %.2g, largest %.2g, resident %d MiB", what, took, relative, worst, resident()/mib)
		if !(relative < 1e-4) {
			t.Errorf("%s is off by %.2g of PyTorch's", what, relative)
		}
	}
	run("forward", 0, []graph.Feed{feed(sample), feed(timestep), feed(condition)}, out, "output")
	if _, ok := fixture["grad_sample"]; ok {
		run("backward", 1, []graph.Feed{feed(seed)}, grads[0], "grad_sample")
	}
}

// resident is the memory of this process that is in use, 0 where the system does
// not say.
func resident() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
