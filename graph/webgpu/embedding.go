package webgpu

import (
	"fmt"
	"math"

	"github.com/sdo-go/sdo/graph"
)

// timeEmbedding hands the frequencies over as turns in three parts of 12 bits,
// see time_embedding.wgsl.
func timeEmbedding(n *graph.Node, p *preset) ([]launch, error) {
	a := n.Attrs.(*graph.TimeEmbeddingAttrs)
	half := a.Dim / 2
	if limit := 2048; half > limit {
		return nil, fmt.Errorf("time_embedding: dimension %d needs more than the %d frequencies that fit a uniform block", a.Dim, limit)
	}
	block := words(n.Shape[0], a.Dim, 0, 0)
	for i := range half {
		turns := math.Exp(-math.Log(a.MaxPeriod)*float64(i)/(float64(half)-a.FreqShift)) / (2 * math.Pi)
		high, rest := leading(turns)
		middle, low := leading(rest)
		block = append(block, floatWord(high), floatWord(middle), floatWord(low), 0)
	}
	return one(launch{
		shader:  "time_embedding",
		consts:  consts("WORKGROUP", p.lanes, "HALF", half, "FLIP", a.FlipSinToCos),
		uniform: block,
		bind:    operands(n),
		groups:  fold(n.Shape[0]*half, p.lanes),
	})
}

func fourierEmbedding(n *graph.Node, p *preset) ([]launch, error) {
	if err := wantSingles(n, n.Inputs...); err != nil {
		return nil, err
	}
	a, half := n.Attrs.(*graph.FourierEmbeddingAttrs), n.Inputs[1].Shape[0]
	count := n.Shape[0] * half
	return one(launch{
		shader:  "fourier_embedding",
		consts:  consts("WORKGROUP", p.lanes, "FLIP", a.FlipSinToCos, "LOG", a.Log),
		uniform: words(count, half),
		bind:    operands(n),
		groups:  fold(count, p.lanes),
	})
}

// leading splits off the 12 leading bits of x.
func leading(x float64) (high, rest float64) {
	if x == 0 {
		return 0, 0
	}
	fraction, exponent := math.Frexp(x)
	high = math.Ldexp(math.Trunc(math.Ldexp(fraction, 12)), exponent-12)
	return high, x - high
}

func embedding(n *graph.Node, p *preset) ([]launch, error) {
	table, index := n.Inputs[0], n.Inputs[1]
	if err := wantSingles(n, index); err != nil {
		return nil, err
	}
	rows, bind := n.Attrs.(*graph.EmbeddingAttrs), operands(n)
	number := 4
	if storage(table) == graph.F16 {
		number = 2
	}
	// Offsets of bindings are aligned; the first number may lie before the rows.
	from := rows.From * n.Shape[1] * number / slotAlign * slotAlign
	bind[0].from, bind[0].to = int64(from), int64(rows.To*n.Shape[1]*number)
	uniform := append(words(n.Shape.Size(), n.Shape[1], table.Shape[0]), floatWord(math.NaN()))
	return one(launch{
		shader:  "embedding",
		consts:  consts("WORKGROUP", p.lanes, "W_F16", storage(table) == graph.F16),
		uniform: append(uniform, words(rows.From, rows.To, from/number)...),
		bind:    bind,
		groups:  fold(n.Shape.Size(), p.lanes),
	})
}

func embeddingGrad(n *graph.Node, p *preset) ([]launch, error) {
	return numbers(n, p, "embedding_bwd", n.Shape[1], n.Inputs[1].Shape[0])
}
