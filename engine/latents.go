package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// Pictures is the shape of what a run makes, [N C H W] in [-1, 1]: its samples,
// or what they decode to.
func (p *Plan) Pictures() graph.Shape {
	if p.decoding == nil {
		return p.Shape
	}
	pictures := slices.Clone(p.decoding.picture.Shape)
	pictures[0] = p.Shape[0]
	return pictures
}

// decoding is the planned decoder of one sample. One at a time is as fast as all
// at once, for a decoder's tensors are large, and takes a fraction of the memory.
type decoding struct {
	plan            *graph.Plan
	latent, picture *graph.Node // [1 C H W]
}

// newDecoding plans how latents of shape [rows C H W] are looked at; nil for a
// model of pixels.
func newDecoding(m *Model, shape graph.Shape, o PlanOptions) (*decoding, error) {
	if m.Decoder == nil {
		return nil, nil
	}
	d := &decoding{}
	g, err := graph.Build(func(g *graph.Graph) {
		d.latent = g.Input("latent", 1, shape[1], shape[2], shape[3])
		d.picture = m.decode(g, d.latent)
	})
	if err == nil {
		d.plan, err = graph.CompileWith(g, o.compile(0), []*graph.Node{d.picture})
	}
	if err != nil {
		return nil, fmt.Errorf("decoder: %w", err)
	}
	return d, nil
}

// viewer is a decoding on a device.
type viewer struct {
	*decoding
	exec    graph.Executor
	program graph.Program
	vectors vectors
	in, out graph.Tensor
}

// newViewer allocates a decoding; its weights are among the aids. On an error,
// too, the result must be released.
func newViewer(exec graph.Executor, d *decoding, aids *resident) (*viewer, error) {
	v := &viewer{decoding: d, exec: exec, vectors: vectors{exec: exec}}
	var err error
	if v.program, err = aids.compile(d.plan); err != nil {
		return v, err
	}
	if v.in, err = v.vectors.new(d.latent.Shape.Size()); err != nil {
		return v, err
	}
	v.out, err = v.vectors.new(d.picture.Shape.Size())
	return v, err
}

// decode turns samples, row after row, into pictures.
func (v *viewer) decode(ctx context.Context, samples []float64) ([]float64, error) {
	var pictures []float64
	for latent := range slices.Chunk(samples, v.latent.Shape.Size()) {
		if err := v.exec.Write(ctx, v.in, latent); err != nil {
			return nil, err
		}
		err := v.program.Run(ctx, nil, 0, []graph.Feed{{Node: v.latent, From: v.in}}, []graph.Fetch{{Node: v.picture, To: v.out}})
		if err != nil {
			return nil, err
		}
		picture, err := v.exec.Read(ctx, v.out)
		if err != nil {
			return nil, err
		}
		pictures = append(pictures, picture...)
	}
	return pictures, nil
}

// Release frees everything the viewer holds on the device; its weights are the
// aids' owner's.
func (v *viewer) Release() {
	if v.program != nil {
		v.program.Release()
	}
	v.vectors.free()
}

// Look reads samples that are on the device as pictures, [N C H W] in [-1, 1]:
// decoded, where they are latents.
func (s *Session) Look(ctx context.Context, samples graph.Tensor) ([]float64, error) {
	x, err := s.Exec.Read(ctx, samples)
	if err != nil || s.viewer == nil {
		return x, err
	}
	return s.viewer.decode(ctx, x)
}

// Cheap reports whether looking at samples costs less than making a sampler's
// step, so that every step can be shown.
func (p *Plan) Cheap() bool {
	return p.decoding == nil || int64(p.Shape[0])*forward(p.decoding.plan) < forward(p.network.predict.plan)
}

// decode appends the decoder to g: samples [N C H W] to pictures. Of a model of
// pixels they are that already.
func (m *Model) decode(g *graph.Graph, samples *graph.Node) *graph.Node {
	if m.Decoder == nil {
		return samples
	}
	return m.Decoder.Config.BuildDecoder(g, samples, model.BuildOptions{Storage: storageOf(m.Decoder.Stored), Prefix: decoderPrefix})
}

// decoderPrefix begins the names of the decoder's parameters.
const decoderPrefix = "decoder."

// prompts are what a model that takes text is told: each text's states, [Tokens
// D], once encoded.
type prompts struct {
	tokens       int
	told, denied []float64 // denied nil where nothing is led away from
}

// planPrompts plans the encoding of what the recipe says.
func (p *Plan) planPrompts() error {
	pipeline := p.Model.Pipeline
	if pipeline == nil {
		return nil
	}
	texts := []string{p.Recipe.Prompt}
	if p.guided() {
		texts = append(texts, p.Recipe.NegativePrompt)
	}
	prep := &preparation{weights: []model.Source{pipeline.Text.Weights}}
	var ids []float64
	for _, text := range texts {
		tokens, err := pipeline.Tokenizer.Encode(text)
		if err != nil {
			return fmt.Errorf("recipe %q: prompt: %w", p.Recipe.Name, err)
		}
		for _, id := range tokens {
			ids = append(ids, float64(id))
		}
	}
	length := len(ids) / len(texts)
	var hidden *graph.Node
	g, err := graph.Build(func(g *graph.Graph) {
		in := g.Input("ids", len(texts), length)
		prep.inputs = []given{{in, ids}}
		hidden, _ = pipeline.Text.Config.Build(g, in, nil, model.BuildOptions{Storage: storageOf(pipeline.Text.Stored), F32: p.Model.single})
		prep.outputs = []*graph.Node{hidden}
	})
	if err == nil {
		prep.plan, err = graph.CompileWith(g, p.compile(0), prep.outputs)
	}
	if err != nil {
		return fmt.Errorf("text encoder: %w", err)
	}
	prep.take = func(values [][]float64) error {
		size := len(values[0]) / len(texts)
		p.prompts = &prompts{told: values[0][:size]}
		if len(texts) > 1 {
			p.prompts.denied = values[0][size:]
		}
		return nil
	}
	p.prepare = append(p.prepare, prep)
	return nil
}

// planEncoding plans how the picture a run begins from becomes a latent.
func (p *Plan) planEncoding(image []float64, take func(latent []float64)) error {
	m := p.Model
	prep := &preparation{weights: []model.Source{m.Decoder.Weights}}
	g, err := graph.Build(func(g *graph.Graph) {
		shape := slices.Clone(p.Pictures())
		shape[0] = 1
		in := g.Input("image", shape...)
		prep.inputs = []given{{in, image}}
		prep.outputs = []*graph.Node{m.Decoder.Config.BuildEncoder(g, in, model.BuildOptions{Storage: storageOf(m.Decoder.Stored)})}
	})
	if err == nil {
		prep.plan, err = graph.CompileWith(g, p.compile(0), prep.outputs)
	}
	if err != nil {
		return fmt.Errorf("encoder: %w", err)
	}
	if got := prep.outputs[0].Shape; got.Size() != p.Shape.Size()/p.Shape[0] {
		return fmt.Errorf("encoder: makes latents %v of a picture, want %v", got, p.Shape)
	}
	prep.take = func(values [][]float64) error {
		take(values[0])
		return nil
	}
	p.prepare = append(p.prepare, prep)
	return nil
}

// preparations lists what is made once, in order.
func (p *Plan) preparations() []*preparation {
	if p.metric == nil {
		return p.prepare
	}
	return append(p.prepare[:len(p.prepare):len(p.prepare)], p.metric.prepare...)
}

// prepared makes what is made once, unless it was for an earlier session.
func (p *Plan) prepared(ctx context.Context, exec graph.Executor) error {
	for _, prep := range p.preparations() {
		if prep.made {
			continue
		}
		if err := prep.run(ctx, exec); err != nil {
			return err
		}
		prep.made = true
	}
	return nil
}
