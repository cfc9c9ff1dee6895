package webgpu

import (
	"testing"

	"github.com/sdo-go/sdo/graph"
)

// No invocation's loops take more turns than every adapter grants, whatever the
// sizes of the networks that people bring.
func TestTurnsOfLoops(t *testing.T) {
	for _, p := range []*preset{&softwarePreset, &hardwarePreset} {
		for _, channels := range []int{40, 64, 129, 512, 2048} {
			h := newHeads(graph.Shape{1, 16384, channels}, &graph.AttentionAttrs{Heads: 1})
			launches, err := h.launch(p, "attention", 16384, 16384, nil)
			if err != nil {
				t.Fatal(err)
			}
			next := uint32(0)
			for _, l := range launches {
				start, end := l.uniform[len(l.uniform)-2], l.uniform[len(l.uniform)-1]
				if start != next || end <= start {
					t.Fatalf("%d channels: a launch visits rows %d to %d after %d", channels, start, end, next)
				}
				next = end
				if turns := ceil(int(end-start), p.others) * 2 * h.perHead; turns > maxTurns {
					t.Errorf("%d channels: %d turns", channels, turns)
				}
			}
			if next != 16384 {
				t.Errorf("%d channels: the launches end at row %d", channels, next)
			}
		}
		for _, side := range []int{64, 256, 512, 2048} {
			g := convolution{w: graph.Shape{512, 512, 3, 3}, y: graph.Shape{2, 512, side, side}}
			rows, splits := g.splitRows(p)
			if rows*side > maxTurns || rows*splits < 2*side {
				t.Errorf("side %d: %d splits of %d rows", side, splits, rows)
			}
		}
		for _, a := range []graph.BroadcastAttrs{{R: 1, P: 1, Q: 1 << 26}, {R: 2, P: 320, Q: 1 << 20}, {R: 1 << 20, P: 2000, Q: 1}, {R: 3, P: 4, Q: 1 << 21}, {R: 1 << 18, P: 1, Q: 5}, {R: 70_000, P: 1 << 17, Q: 1}} {
			r := newReduction(&graph.Node{Attrs: &a}, p)
			rows := teamRows(p.team, r.splitQ)
			turns := ceil(r.splitR, rows) * ceil(r.splitQ, p.team/rows)
			if r.serial {
				turns = r.splitR * r.splitQ
			}
			if turns > maxTurns || r.splits() > maxTurns || r.splitR*r.splitsR < a.R || r.splitQ*r.splitsQ < a.Q {
				t.Errorf("%+v: %+v takes %d turns", a, r, turns)
			}
		}
		for _, repeats := range []int{1, 9, 16, 256} {
			for _, terms := range []int{1, 40, 1280, 200_000} {
				for _, threads := range []int{1, 500, 1 << 20} {
					part, parts := p.parts(threads, terms, repeats)
					if part*repeats > maxTurns || part*parts < terms || part*(parts-1) >= terms {
						t.Errorf("%d terms of %d: %d parts of %d", terms, repeats, parts, part)
					}
				}
			}
		}
		for _, lines := range []int{1, 4, 50, 1 << 13} {
			for _, length := range []int{1, 3, 63, 4096, 1023 * 1025, 1 << 24} {
				for _, sums := range []int{1, 32, 1 << 20} {
					part, parts := p.partsOfLines(sums, lines, length)
					rows := teamRows(p.team, length)
					if turns := 2 * ceil(lines, rows) * ceil(part, p.team/rows); turns > maxTurns {
						t.Errorf("%d lines of %d: %d turns", lines, length, turns)
					}
					if part*parts < length || part*(parts-1) >= length {
						t.Errorf("%d lines of %d: %d parts of %d", lines, length, parts, part)
					}
				}
			}
		}
	}
}
