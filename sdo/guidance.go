package sdo

import (
	"context"
	"slices"
)

// Guided is classifier-free guidance as a Network:
//
//	output = unconditional + s*(conditional - unconditional)
//
// with a scale s for each row. A kept call keeps both branches, so it pins twice
// the activations; the unconditional one is left out where only the condition is
// differentiated. A call without a condition passes straight through. Free
// returns its scratch vectors.
type Guided struct {
	Space   Space
	Network Network
	Scales  []float64 // one for each row, or one for all

	difference Vector // conditional less unconditional output of the last call
	spare      Vector
	others     []Vector // unconditional outputs of a batch
	params     []Vector // one branch's gradients
}

// Difference is the conditional less the unconditional output of the last
// Predict or Keep. The next call overwrites it.
func (g *Guided) Difference() Vector { return g.difference }

// Predict asks both branches.
func (g *Guided) Predict(ctx context.Context, in Input, out Vector) error {
	if in.Cond == nil {
		return g.Network.Predict(ctx, in, out)
	}
	if err := grow(g.Space, &g.difference, out.Len()); err != nil {
		return err
	}
	if err := g.Network.Predict(ctx, in, out); err != nil {
		return err
	}
	if err := g.Network.Predict(ctx, unconditional(in), g.difference); err != nil {
		return err
	}
	return g.mix(out, g.difference)
}

// Keep asks both branches and keeps what wrt needs of them.
func (g *Guided) Keep(ctx context.Context, in Input, wrt Wrt, out Vector) (Kept, error) {
	if in.Cond == nil {
		return g.Network.Keep(ctx, in, wrt, out)
	}
	if err := grow(g.Space, &g.difference, out.Len()); err != nil {
		return nil, err
	}
	conditional, err := g.Network.Keep(ctx, in, wrt, out)
	if err != nil {
		return nil, err
	}
	kept := &guidedKept{guided: g, scales: g.Scales, conditional: conditional}
	if free := wrt &^ WrtCond; free != 0 {
		kept.unconditional, err = g.Network.Keep(ctx, unconditional(in), free, g.difference)
	} else {
		err = g.Network.Predict(ctx, unconditional(in), g.difference)
	}
	if err == nil {
		err = g.mix(out, g.difference)
	}
	if err != nil {
		kept.Release()
		return nil, err
	}
	return kept, nil
}

// PredictBatch asks both branches of every call, each branch at once. The
// network must be a Batcher.
func (g *Guided) PredictBatch(ctx context.Context, ins []Input, outs []Vector) error {
	batcher := g.Network.(Batcher)
	if err := batcher.PredictBatch(ctx, ins, outs); err != nil {
		return err
	}
	free := make([]Input, len(ins))
	for k, in := range ins {
		if len(g.others) == k {
			g.others = append(g.others, nil)
		}
		if err := grow(g.Space, &g.others[k], outs[k].Len()); err != nil {
			return err
		}
		free[k] = unconditional(in)
	}
	if err := batcher.PredictBatch(ctx, free, g.others[:len(ins)]); err != nil {
		return err
	}
	for k, out := range outs {
		if err := g.mix(out, g.others[k]); err != nil {
			return err
		}
	}
	return nil
}

// Free returns the scratch vectors to the space.
func (g *Guided) Free() {
	freeVectors(g.Space, g.difference, g.spare)
	freeVectors(g.Space, g.others...)
	freeVectors(g.Space, g.params...)
	g.difference, g.spare, g.others, g.params = nil, nil, nil, nil
}

// mix turns out, a conditional output, into the guided one and free, the
// unconditional one, into their difference.
func (g *Guided) mix(out, free Vector) error {
	if err := g.Space.Combine(free, []float64{1, -1}, []Vector{out, free}); err != nil {
		return err
	}
	if uniform(g.Scales) {
		return g.Space.Combine(out, []float64{1, g.Scales[0] - 1}, []Vector{out, free})
	}
	beyond := make([]float64, len(g.Scales))
	for row, s := range g.Scales {
		beyond[row] = s - 1
	}
	if err := g.scaled(free, beyond); err != nil {
		return err
	}
	return g.Space.Combine(out, []float64{1, 1}, []Vector{out, g.spare})
}

// scaled sets spare to x with every row scaled.
func (g *Guided) scaled(x Vector, scales []float64) error {
	if err := grow(g.Space, &g.spare, x.Len()); err != nil {
		return err
	}
	if uniform(scales) {
		return g.Space.Combine(g.spare, scales[:1], []Vector{x})
	}
	if err := g.Space.Combine(g.spare, []float64{1}, []Vector{x}); err != nil {
		return err
	}
	return g.Space.ScaleRows(g.spare, scales)
}

func uniform(scales []float64) bool {
	return !slices.ContainsFunc(scales, func(s float64) bool { return s != scales[0] })
}

// grow makes *v a vector of n numbers unless it is one.
func grow(space Space, v *Vector, n int) (err error) {
	if *v != nil && (*v).Len() == n {
		return nil
	}
	freeVectors(space, *v)
	*v, err = space.NewVector(n)
	return err
}

func unconditional(in Input) Input {
	in.Cond = nil
	return in
}

type guidedKept struct {
	guided                     *Guided
	scales                     []float64 // when the call was made
	conditional, unconditional Kept      // the second nil where only the condition is differentiated
}

// Backward sends s times the seed through the conditional branch and 1-s times
// it through the other, and adds.
func (k *guidedKept) Backward(ctx context.Context, seed Vector, into Gradients) error {
	g := k.guided
	if err := g.scaled(seed, k.scales); err != nil {
		return err
	}
	if err := k.conditional.Backward(ctx, g.spare, into); err != nil {
		return err
	}
	if into.X == nil && into.Params == nil {
		return nil
	}
	rest := make([]float64, len(k.scales))
	for row, s := range k.scales {
		rest[row] = 1 - s
	}
	if err := g.scaled(seed, rest); err != nil {
		return err
	}
	var free Gradients
	if into.X != nil {
		// The last call's difference is not needed on the way back.
		if err := grow(g.Space, &g.difference, into.X.Len()); err != nil {
			return err
		}
		free.X = g.difference
	}
	for i, p := range into.Params {
		if len(g.params) == i {
			g.params = append(g.params, nil)
		}
		if err := grow(g.Space, &g.params[i], p.Len()); err != nil {
			return err
		}
	}
	if into.Params != nil {
		free.Params = g.params[:len(into.Params)]
	}
	if err := k.unconditional.Backward(ctx, g.spare, free); err != nil {
		return err
	}
	if into.X != nil {
		if err := g.Space.Combine(into.X, []float64{1, 1}, []Vector{into.X, free.X}); err != nil {
			return err
		}
	}
	for i, p := range into.Params {
		if err := g.Space.Combine(p, []float64{1, 1}, []Vector{p, free.Params[i]}); err != nil {
			return err
		}
	}
	return nil
}

func (k *guidedKept) Bytes() int64 {
	bytes := k.conditional.Bytes()
	if k.unconditional != nil {
		bytes += k.unconditional.Bytes()
	}
	return bytes
}

func (k *guidedKept) Release() {
	k.conditional.Release()
	if k.unconditional != nil {
		k.unconditional.Release()
	}
}
