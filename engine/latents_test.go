package engine

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/graph/cpu"
)

// On a device whose kernels see little at once, decoders and encoders of large
// pictures are planned in fragments, too: no tensor is larger, and pictures are
// the same.
func TestLooksKeepToABinding(t *testing.T) {
	const binding = 24 << 10 // the largest tensor of a look is 48 KiB
	overrides := []string{"height=32", "width=48", "objective=[]", "updates=0",
		"start={image: testdata/target.png, strength: 0.5}"}
	pictures := map[int64][]float64{}
	for _, limit := range []int64{0, binding} {
		plan := foxPlan(t, PlanOptions{MaxBinding: limit, MaxBuffer: 4 * limit}, overrides...)
		plans := []*graph.Plan{plan.decoding.plan}
		for _, p := range plan.preparations() {
			plans = append(plans, p.plan)
		}
		exceeds := slices.ContainsFunc(plans, func(p *graph.Plan) bool {
			return slices.ContainsFunc(p.Segments[0].Nodes, func(n *graph.Node) bool { return p.Slot(n).Bytes > binding })
		})
		if exceeds != (limit == 0) {
			t.Errorf("with bindings of %d bytes, a tensor above %d: %v", limit, binding, exceeds)
		}
		s, err := NewSession(cpu.New[float64](cpu.Options{}), plan)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if pictures[limit], err = s.Sample(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if e := relative(pictures[binding], pictures[0]); e > 1e-9 {
		t.Errorf("pictures differ by %.2g", e)
	}
}

// What is made once before a run, and what the judge reads with, keep to a
// device's bindings as the network does.
func TestWhatIsMadeBesideKeepsToABinding(t *testing.T) {
	largest := func(p *graph.Plan) (bytes int64) {
		for _, segment := range p.Segments {
			for _, n := range slices.Concat(segment.Inputs, segment.Nodes) {
				bytes = max(bytes, p.Slot(n).Bytes)
			}
		}
		return bytes
	}
	styled := tinyRecipe(t, "{term: clip_style, image: style.png, layer: 1}", "decoder=taesd")
	m := tinyModel(t, styled)
	for name, made := range map[string]func(o PlanOptions) (*graph.Plan, error){
		"a picture to compare with": func(o PlanOptions) (*graph.Plan, error) {
			c, err := newMetric(styled, m, tinyLatents, tinyPictures, o)
			if err != nil {
				return nil, err
			}
			return c.prepare[0].plan, nil
		},
		"the judge": func(o PlanOptions) (*graph.Plan, error) {
			r, err := newReading(classifier(t, "avatars-16-judge"), graph.Shape{16, 3, 16, 16}, o)
			return r.plan, err
		},
	} {
		free, err := made(PlanOptions{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		limit := largest(free) * 9 / 10 / 4 * 4
		kept, err := made(PlanOptions{MaxBinding: limit})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := largest(kept); got > limit {
			t.Errorf("%s: with bindings of %d bytes, a tensor takes %d", name, limit, got)
		}
	}
	// A prompt's largest tensor is the table of words, which is looked up in parts.
	const binding = 20 << 10
	told := map[int64][]float64{}
	kernels := map[int64]int{}
	for _, limit := range []int64{0, binding} {
		p, err := NewPlan(styled, m, tinyPictures, PlanOptions{MaxBinding: limit})
		if err != nil {
			t.Fatal(err)
		}
		text := p.preparations()[0]
		if err := text.run(context.Background(), cpu.New[float64](cpu.Options{})); err != nil {
			t.Fatal(err)
		}
		told[limit], kernels[limit] = p.prompts.told, len(text.plan.Segments[0].Nodes)
	}
	if kernels[binding] <= kernels[0] {
		t.Errorf("with bindings of %d bytes a prompt takes %d kernels, %d without a limit", binding, kernels[binding], kernels[0])
	}
	if e := relative(told[binding], told[0]); e > 1e-9 {
		t.Errorf("with bindings of %d bytes prompts differ by %.2g", binding, e)
	}
}

// blind is a decoder on a device that was lost.
type blind struct{ graph.Program }

var errLost = errors.New("lost")

func (blind) Run(context.Context, graph.Tape, int, []graph.Feed, []graph.Fetch) error { return errLost }

// What was found is not lost with the look at it.
func TestFoundButNotSeen(t *testing.T) {
	s := foxSession(t, cpu.New[float64](cpu.Options{}), "updates=1")
	s.viewer.program = blind{s.viewer.program}
	result, err := s.Steer(context.Background(), nil)
	if !errors.Is(err, errLost) {
		t.Fatalf("steering ends with %v, want the decoder's error", err)
	}
	if result == nil || len(result.Latents) != s.Shape.Size() || result.Samples != nil || result.Before != nil {
		t.Errorf("result %+v, want the latents and no pictures", result)
	}
}
