package graph

import (
	"errors"
	"strings"
	"testing"
)

// chain builds conv -> group norm + SiLU -> conv, its input gradient, and a
// two-segment plan of it.
func chain(t *testing.T) (g *Graph, out, dx *Node, plan *Plan) {
	t.Helper()
	g = New()
	x := g.Input("x", 2, 8, 4, 4)
	seed := g.Input("seed", 2, 8, 4, 4)
	w1, w2 := g.Param("w1", 8, 8, 3, 3), g.Param("w2", 8, 8, 3, 3)
	gamma, beta := g.Param("gamma", 8), g.Param("beta", 8)
	h := g.Conv2D(x, w1, nil, Same(3))
	h = g.GroupNorm(h, gamma, beta, GroupNormAttrs{Groups: 4, Eps: 1e-5, SiLU: true})
	out = g.Conv2D(h, w2, nil, Same(3))
	dx = Grad(g, []*Node{out}, []*Node{seed}, []*Node{x})[0]
	plan, err := Compile(g, []*Node{out}, []*Node{dx})
	if err != nil {
		t.Fatal(err)
	}
	return g, out, dx, plan
}

func TestGradOfInputAloneMakesNoWeightGradients(t *testing.T) {
	g, _, dx, _ := chain(t)
	if !dx.Shape.Equal(Shape{2, 8, 4, 4}) {
		t.Fatalf("gradient has shape %v", dx.Shape)
	}
	for _, n := range g.Nodes {
		if strings.Contains(n.Op, "grad_weight") || strings.Contains(n.Op, "grad_params") {
			t.Errorf("%v was built although only the input gradient was asked for", n)
		}
	}
}

func TestPlanPinsWhatTheBackwardReads(t *testing.T) {
	g, _, _, plan := chain(t)
	tape := map[string]bool{}
	for _, n := range g.Nodes {
		if s := plan.Slot(n); s.Region == RegionTape {
			tape[n.Op] = true
		}
	}
	// conv2d (the norm's input) and the statistics; x itself is not needed for
	// the input gradient of a convolution, nor is the activated output.
	if len(tape) != 2 || !tape["conv2d"] || !tape["group_norm_stats"] {
		t.Errorf("tape holds %v, want conv2d and group_norm_stats", tape)
	}
	if want := int64(2*8*4*4*4 + 256); plan.TapeBytes != want {
		t.Errorf("tape is %d bytes, want %d", plan.TapeBytes, want)
	}
}

func TestPlanNeverOverlapsLiveTensors(t *testing.T) {
	_, _, _, plan := chain(t)
	for s, segment := range plan.Segments {
		// Alive after kernel i: made before, read at or after.
		for i, n := range segment.Nodes {
			out := plan.Slot(n)
			for j := i; j < len(segment.Nodes); j++ {
				for _, in := range segment.Nodes[j].Inputs {
					if root(in) == root(n) || made(segment, in) > i {
						continue
					}
					other := plan.Slot(in)
					if other.Region == out.Region && out.Region == RegionScratch &&
						out.Offset < other.Offset+other.Bytes && other.Offset < out.Offset+out.Bytes {
						t.Errorf("segment %d: %v overwrites %v, which %v still reads", s, n, in, segment.Nodes[j])
					}
				}
			}
			if out.Offset%slotAlign != 0 {
				t.Errorf("%v lies at offset %d, not a multiple of %d", n, out.Offset, slotAlign)
			}
			if out.Region == RegionScratch && out.Offset+out.Bytes > plan.ScratchBytes {
				t.Errorf("%v ends at %d, beyond the arena's %d bytes", n, out.Offset+out.Bytes, plan.ScratchBytes)
			}
		}
	}
}

func made(segment Segment, n *Node) int {
	for i, other := range segment.Nodes {
		if other == root(n) {
			return i
		}
	}
	return -1
}

func TestScratchIsReused(t *testing.T) {
	g := New()
	x := g.Input("x", 1, 1024)
	for range 50 {
		x = g.SiLU(x)
	}
	plan, err := Compile(g, []*Node{x})
	if err != nil {
		t.Fatal(err)
	}
	if plan.ScratchBytes != 2*4096 {
		t.Errorf("50 chained activations take %d bytes, want two tensors of 4096", plan.ScratchBytes)
	}
}

func TestShapeErrorsAreSentences(t *testing.T) {
	for name, c := range map[string]struct {
		build func(g *Graph)
		want  string
	}{
		"conv2d channels": {func(g *Graph) {
			g.Conv2D(g.Input("x", 1, 3, 4, 4), g.Param("w", 8, 4, 3, 3), nil, Same(3))
		}, "conv2d: input has 3 channels, weight wants 4"},
		"linear": {func(g *Graph) {
			g.Linear(g.Input("x", 2, 5), g.Param("w", 3, 4), nil)
		}, "linear: input [2 5] ends in another extent than the weight's 4 inputs"},
		"group norm": {func(g *Graph) {
			g.GroupNorm(g.Input("x", 1, 6, 2), g.Param("a", 6), g.Param("b", 6), GroupNormAttrs{Groups: 4})
		}, "group_norm: 6 channels do not divide into 4 groups"},
		"duplicate name": {func(g *Graph) {
			g.Input("x", 1)
			g.Param("x", 1)
		}, `the name "x" is taken`},
		"slice": {func(g *Graph) {
			g.Slice(g.Input("x", 2, 3), 1, 2, 5)
		}, "slice: range [2, 5) of axis 1 does not lie in [2 3]"},
	} {
		_, err := Build(c.build)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestPhiloxKnownAnswers(t *testing.T) {
	// Random123's kat_vectors for philox4x32 with 10 rounds.
	got := Philox([4]uint32{}, [2]uint32{})
	if want := [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}; got != want {
		t.Errorf("zero counter and key: %08x, want %08x", got, want)
	}
	const f = 0xffffffff
	got = Philox([4]uint32{f, f, f, f}, [2]uint32{f, f})
	if want := [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}; got != want {
		t.Errorf("all ones: %08x, want %08x", got, want)
	}
}

// A tensor that a segment was asked for stays whole to its end, however early it
// was made.
func TestWantedTensorsSurviveTheSegment(t *testing.T) {
	g := New()
	x := g.Input("x", 1, 1024)
	first := g.SiLU(x)
	last := first
	for range 6 {
		last = g.SiLU(last)
	}
	plan, err := Compile(g, []*Node{first, last})
	if err != nil {
		t.Fatal(err)
	}
	kept := plan.Slot(first)
	for _, n := range plan.Segments[0].Nodes[1:] {
		if s := plan.Slot(n); s.Offset < kept.Offset+kept.Bytes && kept.Offset < s.Offset+s.Bytes {
			t.Errorf("%v is written over %v, which is wanted at the end", n, first)
		}
	}
}

// Under a limit no tensor lies across the boundary of two buffers, and no buffer
// is larger.
func TestNoTensorStraddlesBuffers(t *testing.T) {
	g := New()
	x := g.Input("x", 1, 700)
	h := x
	for i := range 9 {
		h = g.Concat(g.SiLU(h), g.Slice(h, 1, 0, 1+i), 1)
	}
	dx := Grad(g, []*Node{h}, []*Node{g.Input("seed", h.Shape...)}, []*Node{x})
	for _, limit := range []int64{3072, 5000, 7 << 10, 1 << 20} {
		plan, err := CompileWith(g, CompileOptions{MaxBuffer: limit}, []*Node{h}, dx)
		if err != nil {
			t.Fatal(err)
		}
		total := map[Region]int64{}
		for region, buffers := range map[Region][]int64{RegionScratch: plan.Scratch, RegionTape: plan.Tape} {
			for _, bytes := range buffers {
				total[region] += bytes
				if bytes > limit {
					t.Errorf("limit %d: a buffer of %d bytes", limit, bytes)
				}
			}
		}
		if total[RegionScratch] != plan.ScratchBytes || total[RegionTape] != plan.TapeBytes {
			t.Errorf("limit %d: buffers hold %v, the plan says %d and %d", limit, total, plan.ScratchBytes, plan.TapeBytes)
		}
		if limit < 1<<20 && len(plan.Tape) < 2 {
			t.Errorf("limit %d: one buffer holds all of %d bytes", limit, plan.TapeBytes)
		}
		for _, n := range g.Nodes {
			s := plan.Slot(n)
			if s.Bytes == 0 {
				continue
			}
			buffers := plan.Scratch
			if s.Region == RegionTape {
				buffers = plan.Tape
			}
			if s.Offset%slotAlign != 0 || s.Offset+s.Bytes > buffers[s.Buffer] {
				t.Errorf("limit %d: %v lies at [%d, +%d) of a buffer of %d", limit, n, s.Offset, s.Bytes, buffers[s.Buffer])
			}
		}
	}
	_, err := CompileWith(g, CompileOptions{MaxBuffer: 2560}, []*Node{h}, dx)
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "at most 2560 in one piece") {
		t.Errorf("a tensor larger than a buffer: %v", err)
	}
	_, err = CompileWith(g, CompileOptions{MaxBinding: 1 << 10}, []*Node{h}, dx)
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("a tensor that is wanted whole and larger than a binding: %v", err)
	}
}
