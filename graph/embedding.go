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

// Embedding looks up rows of table [V D] by index [M]: [M D].
func (g *Graph) Embedding(table, index *Node) *Node {
	wantRank("embedding", "table", table, 2)
	wantRank("embedding", "index", index, 1)
	return g.add("embedding", Shape{index.Shape[0], table.Shape[1]}, nil, table, index)
}

func init() {
	kernelOps("time_embedding", "embedding", "embedding_grad")
	vjps["time_embedding"] = func(g *Graph, n, dy *Node, want []bool) []*Node { return []*Node{nil} }
	vjps["embedding"] = func(g *Graph, n, dy *Node, want []bool) []*Node {
		table, index := n.Inputs[0], n.Inputs[1]
		grads := make([]*Node, 2)
		if want[0] {
			grads[0] = g.add("embedding_grad", table.Shape, nil, dy, index)
		}
		return grads
	}
}
