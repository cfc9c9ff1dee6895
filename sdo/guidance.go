package sdo

import "context"

// Guided is classifier-free guidance as a Network:
//
//	output = Scale*conditional + (1-Scale)*unconditional
//
// A kept call keeps both branches, so it pins twice the activations. A call
// without a condition passes straight through. Free returns its one scratch
// vector.
type Guided struct {
	Space   Space
	Network Network
	Scale   float64

	scratch Vector
}

// Predict asks both branches.
func (g *Guided) Predict(ctx context.Context, in Input, out Vector) error {
	if in.Cond == nil {
		return g.Network.Predict(ctx, in, out)
	}
	if err := g.grow(out.Len()); err != nil {
		return err
	}
	if err := g.Network.Predict(ctx, in, out); err != nil {
		return err
	}
	if err := g.Network.Predict(ctx, unconditional(in), g.scratch); err != nil {
		return err
	}
	return g.mix(out)
}

// Keep asks both branches and keeps both.
func (g *Guided) Keep(ctx context.Context, in Input, wrt Wrt, out Vector) (Kept, error) {
	if in.Cond == nil {
		return g.Network.Keep(ctx, in, wrt, out)
	}
	if err := g.grow(out.Len()); err != nil {
		return nil, err
	}
	conditional, err := g.Network.Keep(ctx, in, wrt, out)
	if err != nil {
		return nil, err
	}
	free, err := g.Network.Keep(ctx, unconditional(in), wrt, g.scratch)
	if err != nil {
		conditional.Release()
		return nil, err
	}
	kept := &guidedKept{guided: g, conditional: conditional, unconditional: free}
	if err := g.mix(out); err != nil {
		kept.Release()
		return nil, err
	}
	return kept, nil
}

// Free returns the scratch vector to the space.
func (g *Guided) Free() {
	if g.scratch != nil {
		g.Space.FreeVector(g.scratch)
		g.scratch = nil
	}
}

// mix sets v to Scale*v + (1-Scale)*scratch: the rule for outputs and, being
// linear with the same coefficients, for gradients.
func (g *Guided) mix(v Vector) error {
	return g.Space.Combine(v, []float64{g.Scale, 1 - g.Scale}, []Vector{v, g.scratch})
}

func (g *Guided) grow(n int) (err error) {
	if g.scratch != nil && g.scratch.Len() == n {
		return nil
	}
	g.Free()
	g.scratch, err = g.Space.NewVector(n)
	return err
}

func unconditional(in Input) Input {
	in.Cond = nil
	return in
}

type guidedKept struct {
	guided                     *Guided
	conditional, unconditional Kept
}

func (k *guidedKept) Backward(ctx context.Context, seed Vector, into Gradients) error {
	if err := k.conditional.Backward(ctx, seed, into); err != nil {
		return err
	}
	if err := k.unconditional.Backward(ctx, seed, Gradients{X: k.guided.scratch}); err != nil {
		return err
	}
	return k.guided.mix(into.X)
}

func (k *guidedKept) Bytes() int64 { return k.conditional.Bytes() + k.unconditional.Bytes() }

func (k *guidedKept) Release() {
	k.conditional.Release()
	k.unconditional.Release()
}
