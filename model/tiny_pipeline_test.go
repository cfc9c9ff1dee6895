package model_test

import (
	"context"
	"math"
	"os"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
	"github.com/sdo-go/sdo/model"
	"github.com/sdo-go/sdo/model/tokenizer"
)

// The parts of testdata/stable-diffusion, with testdata/taesd and testdata/clip
// beside it, one after the other as a pipeline runs them, each on what PyTorch
// gave the one before it. The fixture is made by tools/golden/tiny_pipeline.py.
func TestTinyPipelineAgainstPyTorch(t *testing.T) {
	files := os.DirFS("testdata/stable-diffusion")
	want, metadata, err := model.LoadSafetensors(files, "fixture.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	words, err := tokenizer.Load(files, "tokenizer")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"ids": metadata["prompt"], "negative_ids": metadata["negative"]} {
		ids, err := words.Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		near(t, name, floats(ids), want[name], 0)
	}

	text := must(model.LoadCLIPText(files, "text_encoder"))
	unet := must(model.LoadUNet2DCondition(files, "unet"))
	vae := must(model.LoadAutoencoder(files, "vae"))
	taesd := must(model.LoadAutoencoder(os.DirFS("testdata"), "taesd"))
	clip := must(model.LoadCLIP(os.DirFS("testdata/clip")))
	for _, opened := range []interface{ Close() error }{text, vae, taesd, clip} {
		defer opened.Close()
		for _, stored := range []model.DType{text.Stored, vae.Stored, taesd.Stored, clip.Text.Stored, clip.Vision.Stored} {
			if stored != model.F16 {
				t.Errorf("weights stored as %s, the files hold F16", stored)
			}
		}
	}

	for name, c := range map[string]struct {
		weights model.Source
		build   func(g *graph.Graph, in func(string) *graph.Node) (output *graph.Node, wrt, grad string)
	}{
		"embeds": {text.Weights, func(g *graph.Graph, in func(string) *graph.Node) (*graph.Node, string, string) {
			hidden, _ := text.Config.Build(g, in("ids"), nil, model.BuildOptions{})
			return hidden, "", ""
		}},
		"cond": {unet.Weights, func(g *graph.Graph, in func(string) *graph.Node) (*graph.Node, string, string) {
			config := unet.Config
			config.Tokens = 77
			timestep := g.Const("timestep", []float32{601}, 1)
			return config.BuildWith(g, in("noise"), timestep, in("embeds"), model.BuildOptions{}), "embeds", "grad_embeds"
		}},
		"image": {vae.Weights, func(g *graph.Graph, in func(string) *graph.Node) (*graph.Node, string, string) {
			return vae.Config.BuildDecoder(g, in("latents"), model.BuildOptions{}), "", ""
		}},
		"encoded": {vae.Weights, func(g *graph.Graph, in func(string) *graph.Node) (*graph.Node, string, string) {
			return vae.Config.BuildEncoder(g, in("image"), model.BuildOptions{}), "", ""
		}},
		"taesd.image": {taesd.Weights, func(g *graph.Graph, in func(string) *graph.Node) (*graph.Node, string, string) {
			return taesd.Config.BuildDecoder(g, in("latents"), model.BuildOptions{}), "", ""
		}},
		"taesd.encoded": {taesd.Weights, func(g *graph.Graph, in func(string) *graph.Node) (*graph.Node, string, string) {
			return taesd.Config.BuildEncoder(g, in("taesd.image"), model.BuildOptions{}), "", ""
		}},
		"clip.text": {clip.Text.Weights, func(g *graph.Graph, in func(string) *graph.Node) (*graph.Node, string, string) {
			ids := make([]int, 77)
			for i, id := range want["ids"].Data {
				ids[i] = int(id)
			}
			ends := g.Const("ends", []float32{float32(clip.Text.Config.Ends([][]int{ids})[0])}, 1)
			_, pooled := clip.Text.Config.Build(g, in("ids"), ends, model.BuildOptions{})
			return pooled, "", ""
		}},
		"clip.image": {clip.Vision.Weights, func(g *graph.Graph, in func(string) *graph.Node) (*graph.Node, string, string) {
			_, embeds := clip.Vision.Config.Build(g, clip.Preprocess.Build(g, in("image"), model.BuildOptions{}), model.BuildOptions{})
			return embeds, "", ""
		}},
		"similarity": {clip.Vision.Weights, func(g *graph.Graph, in func(string) *graph.Node) (*graph.Node, string, string) {
			return similarity(g, clip, in("image"), in("clip.text")), "image", "grad_image"
		}},
		// Networks of two folders in one graph.
		"similarity of latents": {merged(vae.Weights, clip.Vision.Weights), func(g *graph.Graph, in func(string) *graph.Node) (*graph.Node, string, string) {
			image := vae.Config.BuildDecoder(g, in("latents"), model.BuildOptions{Prefix: "vae."})
			return similarity(g, clip, image, in("clip.text")), "latents", "grad_latents"
		}},
		"taesd.similarity": {merged(taesd.Weights, clip.Vision.Weights), func(g *graph.Graph, in func(string) *graph.Node) (*graph.Node, string, string) {
			image := taesd.Config.BuildDecoder(g, in("latents"), model.BuildOptions{Prefix: "vae."})
			return similarity(g, clip, image, in("clip.text")), "latents", "taesd.grad_latents"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := graph.New()
			in := func(name string) *graph.Node { return g.Input(name, want[name].Shape...) }
			output, wrt, grad := c.build(g, in)
			wanted := []*graph.Node{output}
			if wrt != "" {
				seed := g.Const("one", []float32{1}, 1)
				if !output.Shape.Equal(seed.Shape) {
					seed = in("seed")
				}
				wanted = append(wanted, graph.Grad(g, []*graph.Node{output}, []*graph.Node{seed}, []*graph.Node{g.Lookup(wrt)})...)
			}
			values := evaluate(t, g, c.weights, want, wanted...)
			if name == "similarity of latents" {
				name = "similarity"
			}
			near(t, name, values[0], want[name], 1e-6)
			if wrt != "" {
				near(t, grad, values[1], want[grad], 1e-6)
			}
		})
	}
}

// similarity is the cosine of an image's embedding and a text's.
func similarity(g *graph.Graph, clip *model.CLIP, image, text *graph.Node) *graph.Node {
	_, embeds := clip.Vision.Config.Build(g, clip.Preprocess.Build(g, image, model.BuildOptions{}), model.BuildOptions{Prefix: "clip."})
	return g.RowSum(g.Mul(g.L2Normalize(embeds, 0), g.L2Normalize(text, 0)))
}

// merged is an autoencoder's weights and an image tower's in one source, under the
// prefixes of the graphs above.
func merged(vae, clip model.Source) model.Source {
	all := model.Weights{}
	for prefix, source := range map[string]model.Source{"vae.": vae, "clip.": clip} {
		for name, tensor := range must(model.Collect(model.Prefixed(prefix, source))) {
			all[name] = tensor
		}
	}
	return all
}

// evaluate computes nodes in float64 on the CPU. Inputs are fed from values by name.
func evaluate(t *testing.T, g *graph.Graph, weights model.Source, values model.Weights, wanted ...*graph.Node) [][]float64 {
	t.Helper()
	ex := cpu.New[float64](cpu.Options{})
	defer ex.Close()
	plan := must(graph.Compile(g, wanted))
	program := must(ex.Compile(plan, must(model.Upload(ex, plan, weights, model.Prefixed("clip.", weights)))))
	defer program.Release()
	tape := must(program.NewTape())
	ctx := context.Background()
	var feeds []graph.Feed
	for _, n := range plan.Segments[0].Inputs {
		v := must(ex.NewVector(n.Shape.Size()))
		if err := ex.Write(ctx, v, wide(values[n.Name].Data)); err != nil {
			t.Fatal(err)
		}
		feeds = append(feeds, graph.Feed{Node: n, From: v})
	}
	var fetches []graph.Fetch
	for _, n := range wanted {
		fetches = append(fetches, graph.Fetch{Node: n, To: must(ex.NewVector(n.Shape.Size()))})
	}
	if err := program.Run(ctx, tape, 0, feeds, fetches); err != nil {
		t.Fatal(err)
	}
	var results [][]float64
	for _, f := range fetches {
		results = append(results, must(ex.Read(ctx, f.To)))
	}
	return results
}

func near(t *testing.T, what string, got []float64, want model.Tensor, tolerance float64) {
	t.Helper()
	if len(got) != len(want.Data) || len(got) == 0 {
		t.Errorf("%s: %d numbers, want %d", what, len(got), len(want.Data))
		return
	}
	distance, norm := 0.0, 0.0
	for i, w := range want.Data {
		distance += (got[i] - float64(w)) * (got[i] - float64(w))
		norm += float64(w) * float64(w)
	}
	if relative := math.Sqrt(distance / norm); !(relative <= tolerance) {
		t.Errorf("%s: relative error %.3g, allowed %.3g", what, relative, tolerance)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func wide(data []float32) []float64 {
	w := make([]float64, len(data))
	for i, v := range data {
		w[i] = float64(v)
	}
	return w
}

func floats(ids []int) []float64 {
	f := make([]float64, len(ids))
	for i, id := range ids {
		f[i] = float64(id)
	}
	return f
}
