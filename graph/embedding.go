package graph

// TimeEmbeddingAttrs are diffusers' get_timestep_embedding arguments.
type TimeEmbeddingAttrs struct {
	Dim          int
	FlipSinToCos bool    // cosines first
	FreqShift    float64 // subtracted from Dim/2 in the exponent's divisor
	MaxPeriod    float64 // 10000
}

// TimeEmbedding maps timesteps t [B] to sinusoids [B Dim] with frequencies
// exp(-ln(MaxPeriod)*i/(Dim/2-FreqShift)); an odd Dim ends in a zero. Timesteps
// are constants of a call, so no gradient flows to t.
func (g *Graph) TimeEmbedding(t *Node, attrs TimeEmbeddingAttrs) *Node {
	wantRank("time_embedding", "timesteps", t, 1)
	if attrs.Dim < 2 || float64(attrs.Dim/2) == attrs.FreqShift || attrs.MaxPeriod <= 1 {
		fail("time_embedding: dimension %d, frequency shift %g and maximal period %g do not define frequencies",
			attrs.Dim, attrs.FreqShift, attrs.MaxPeriod)
	}
	return g.add("time_embedding", Shape{t.Shape[0], attrs.Dim}, &attrs, t)
}

// FourierEmbeddingAttrs are the switches of diffusers' GaussianFourierProjection.
type FourierEmbeddingAttrs struct {
	FlipSinToCos bool // cosines first
	Log          bool // of the timestep is what is multiplied by the frequencies
}

// FourierEmbedding maps timesteps t [B] to the sines, then the cosines, of
// 2*pi*w*t, or 2*pi*w*ln(t), with frequencies w [H]: [B 2H]. The frequencies are
// drawn once and never learnt, so no gradient flows to t or to w.
func (g *Graph) FourierEmbedding(t, w *Node, attrs FourierEmbeddingAttrs) *Node {
	wantRank("fourier_embedding", "timesteps", t, 1)
	wantRank("fourier_embedding", "frequencies", w, 1)
	return g.add("fourier_embedding", Shape{t.Shape[0], 2 * w.Shape[0]}, &attrs, t, w)
}

// EmbeddingAttrs are the rows [From, To) that a look-up sees of its table.
type EmbeddingAttrs struct{ From, To int }

// Embedding looks up rows of table [V D] by index [M]: [M D]. An index outside
// the table gives NaN.
func (g *Graph) Embedding(table, index *Node) *Node {
	wantRank("embedding", "table", table, 2)
	return g.EmbeddingWithin(table, index, EmbeddingAttrs{0, table.Shape[0]})
}

// EmbeddingWithin is Embedding that sees a range of the rows; those outside give
// zero. A device that cannot see a table at once adds look-ups within its parts.
func (g *Graph) EmbeddingWithin(table, index *Node, rows EmbeddingAttrs) *Node {
	wantRank("embedding", "table", table, 2)
	wantRank("embedding", "index", index, 1)
	if rows.From < 0 || rows.From >= rows.To || rows.To > table.Shape[0] {
		fail("embedding: rows %d to %d of a table of %d", rows.From, rows.To, table.Shape[0])
	}
	return g.add("embedding", Shape{index.Shape[0], table.Shape[1]}, &rows, table, index)
}

func init() {
	kernelOps("time_embedding", "fourier_embedding", "embedding", "embedding_grad")
	vjps["time_embedding"] = func(g *Graph, n, dy *Node, want []bool) []*Node { return []*Node{nil} }
	vjps["fourier_embedding"] = func(g *Graph, n, dy *Node, want []bool) []*Node { return []*Node{nil, nil} }
	vjps["embedding"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		table, index := n.Inputs[0], n.Inputs[1]
		grads := make([]*Node, 2)
		if rows := n.Attrs.(*EmbeddingAttrs); want[0] && rows.To-rows.From < table.Shape[0] {
			within := g.Affine(index, 1, -float64(rows.From)) // what it names outside counts for nothing
			seen := g.add("embedding_grad", Shape{rows.To - rows.From, table.Shape[1]}, nil, dy, within)
			grads[0] = g.add("slice_grad", table.Shape, &SliceAttrs{0, rows.From, rows.To}, seen)
		} else if want[0] {
			grads[0] = g.add("embedding_grad", table.Shape, nil, dy, index)
		}
		return grads
	}
}
