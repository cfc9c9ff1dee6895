package model

import (
	"testing"
	"time"

	"github.com/sdo-go/sdo/graph"
)

const mib, gib = 1 << 20, 1 << 30

// stableDiffusion is the network of Stable Diffusion 1 for latents of side x side.
func stableDiffusion(side int) UNet2DConditionConfig {
	c := DefaultUNet2DConditionConfig()
	c.CrossAttentionDim = PerBlock[int]{All: 768}
	c.SampleSize, c.Tokens = SampleSize{side, side}, 77
	return c
}

// fullDecoder is its autoencoder.
func fullDecoder() AutoencoderKLConfig {
	c := DefaultAutoencoderKLConfig()
	c.DownBlockTypes, c.UpBlockTypes = nil, nil
	for range 4 {
		c.DownBlockTypes, c.UpBlockTypes = append(c.DownBlockTypes, "DownEncoderBlock2D"), append(c.UpBlockTypes, "UpDecoderBlock2D")
	}
	c.BlockOutChannels, c.LayersPerBlock = []int{128, 256, 512, 512}, 2
	return c
}

// planUNet plans a call of n latents: one that keeps nothing, or one kept for the
// latents, and for an adapter of the attention if there is one.
func planUNet(t *testing.T, side, n int, kept bool, lora *LoRAConfig, o graph.CompileOptions) *graph.Plan {
	t.Helper()
	c := stableDiffusion(side)
	var segments [][]*graph.Node
	g, err := graph.Build(func(g *graph.Graph) {
		sample := g.Input("sample", c.SampleShape(n)...)
		out := c.BuildWith(g, sample, g.Input("timestep", n), c.ConditionNode(g, "condition", n),
			BuildOptions{Storage: graph.F16, LoRA: lora})
		segments = append(segments, []*graph.Node{out})
		wrt := []*graph.Node{sample}
		if lora != nil {
			params, err := lora.Params(c)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range params {
				wrt = append(wrt, g.Lookup(p.Name))
			}
		}
		if kept {
			segments = append(segments, graph.Grad(g, []*graph.Node{out}, []*graph.Node{g.Input("seed", out.Shape...)}, wrt))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return compiled(t, g, o, segments)
}

// planDecoder plans a decoder with the gradient at its latents.
func planDecoder(t *testing.T, c Autoencoder, pixels int, o graph.CompileOptions) *graph.Plan {
	t.Helper()
	var segments [][]*graph.Node
	g, err := graph.Build(func(g *graph.Graph) {
		shape, err := c.LatentShape(1, pixels, pixels)
		if err != nil {
			t.Fatal(err)
		}
		latents := g.Input("latents", shape...)
		out := c.BuildDecoder(g, latents, BuildOptions{Storage: graph.F16})
		grads := graph.Grad(g, []*graph.Node{out}, []*graph.Node{g.Input("seed", out.Shape...)}, []*graph.Node{latents})
		segments = [][]*graph.Node{{out}, grads}
	})
	if err != nil {
		t.Fatal(err)
	}
	return compiled(t, g, o, segments)
}

func compiled(t *testing.T, g *graph.Graph, o graph.CompileOptions, segments [][]*graph.Node) *graph.Plan {
	t.Helper()
	start := time.Now()
	plan, err := graph.CompileWith(g, o, segments...)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 10*time.Second { // well below one on a machine with nothing else to do
		t.Errorf("planning took %v", took)
	}
	return plan
}

// What Stable Diffusion 1.5 takes, weights in half precision, is known from its
// plans. Guided calls are kept in pairs, so tapes count twice.
func TestMemoryOfStableDiffusion(t *testing.T) {
	adapter := &LoRAConfig{Rank: 4, Alpha: 4, Targets: []string{"to_q", "to_k", "to_v", "to_out.0"}}
	tiny, full := Autoencoder(DefaultAutoencoderTinyConfig()), Autoencoder(fullDecoder())
	for _, c := range []struct {
		pixels  int
		lora    *LoRAConfig
		decoder Autoencoder
		budget  int64 // of the kept calls, in MiB
		most    int64 // in all, in MiB
		extra   float64
	}{
		{512, nil, tiny, 0, 4090, 0},
		{512, adapter, tiny, 0, 4280, 0},
		{512, nil, full, 0, 6150, 0},
		{512, adapter, full, 0, 6340, 0},
		{512, adapter, full, 1024, 5320, 0.2},
		{512, nil, full, 1, 4920, 0.7},
		{256, nil, tiny, 0, 2270, 0},
		{256, adapter, full, 0, 2910, 0},
		{256, adapter, full, 1, 2530, 0.7},
	} {
		o := graph.CompileOptions{TapeBudget: c.budget * mib, Tapes: 2}
		predict := planUNet(t, c.pixels/8, 2, false, nil, o)
		kept := planUNet(t, c.pixels/8, 1, true, c.lora, o)
		decoder := planDecoder(t, c.decoder, c.pixels, graph.CompileOptions{})
		scratch := max(predict.ScratchBytes, kept.ScratchBytes, decoder.ScratchBytes)
		total := kept.ParamBytes + decoder.ParamBytes + scratch + 2*kept.TapeBytes + decoder.TapeBytes
		extra := float64(kept.RecomputedMultiplyAdds) / float64(kept.Segments[0].MultiplyAdds())
		t.Logf("%d pixels, %T, LoRA %v, budget %d MiB: %d MiB, of it weights %d, arena %d, tapes 2 x %d, decoder's tape %d; %.0f %% of the forward computed again",
			c.pixels, c.decoder, c.lora != nil, c.budget, total/mib, (kept.ParamBytes+decoder.ParamBytes)/mib, scratch/mib,
			kept.TapeBytes/mib, decoder.TapeBytes/mib, 100*extra)
		if total > c.most*mib {
			t.Errorf("%d pixels, budget %d MiB: an update takes %d MiB, want at most %d", c.pixels, c.budget, total/mib, c.most)
		}
		if target := map[int]float64{512: 6.5, 256: 3}[c.pixels]; float64(total) > target*gib {
			t.Errorf("%d pixels: an update takes %d MiB, which is above the target", c.pixels, total/mib)
		}
		if extra > c.extra {
			t.Errorf("%d pixels, budget %d MiB: %.2f of the forward is computed again, want at most %.2f", c.pixels, c.budget, extra, c.extra)
		}
	}
}

// Under WebGPU's default limits, buffers of 256 MiB and bindings of 128, every
// plan of Stable Diffusion at 512 x 512 can still be made: the full decoder's
// largest activation alone is 256 MiB.
func TestStableDiffusionUnderDefaultLimits(t *testing.T) {
	const buffer, binding = 256 * mib, 128 * mib
	o := graph.CompileOptions{MaxBuffer: buffer, MaxBinding: binding}
	whole := planDecoder(t, fullDecoder(), 512, graph.CompileOptions{})
	decoder := planDecoder(t, fullDecoder(), 512, o)
	for what, plan := range map[string]*graph.Plan{
		"decoder": decoder,
		"unet":    planUNet(t, 64, 2, true, nil, o),
	} {
		t.Logf("%s: arena %d MiB in %d buffers, tape %d MiB in %d", what, plan.ScratchBytes/mib, len(plan.Scratch), plan.TapeBytes/mib, len(plan.Tape))
		for _, bytes := range append(plan.Scratch, plan.Tape...) {
			if bytes > buffer {
				t.Errorf("%s: a buffer of %d bytes", what, bytes)
			}
		}
		for _, segment := range plan.Segments {
			for _, n := range append(segment.Nodes, plan.Params...) {
				if bytes := plan.Slot(n).Bytes; bytes > binding {
					t.Errorf("%s: %v takes %d bytes", what, n, bytes)
				}
			}
		}
	}
	sum := func(p *graph.Plan) int64 { return p.Segments[0].MultiplyAdds() + p.Segments[1].MultiplyAdds() }
	if got, want := sum(decoder), sum(whole); got != want {
		t.Errorf("in fragments the decoder takes %d multiply-adds, whole %d", got, want)
	}
	if got, want := decoder.ScratchBytes+decoder.TapeBytes, whole.ScratchBytes+whole.TapeBytes; got > want*3/2 {
		t.Errorf("in fragments the decoder takes %d MiB, whole %d", got/mib, want/mib)
	}
}
