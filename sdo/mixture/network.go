package mixture

import (
	"context"
	"fmt"

	"github.com/sdo-go/sdo/sampler"
	"github.com/sdo-go/sdo/sdo"
)

// Adapter is how many parameters a Network has: three affine maps of its output.
const Adapter = bases * (Dim*Dim + Dim)

// bases is how many maps the adapter mixes, by powers of the noise level.
const bases = 3

// Network is the exact noise prediction at the levels of a sampler's steps,
//
//	eps(x, c) = -s * grad log p(x - a*c),   out = eps + sum_j s^j (A_j eps + b_j),   j = 0, 1, 2
//
// with the condition c, Dim numbers a row, moving all means, and the adapter's
// A_j and b_j, zeros to begin with, as its parameters. It is an sdo.Trainable.
type Network struct {
	densities map[float64]*density // by timestep
	adapter   *slice               // A_0 b_0 A_1 b_1 A_2 b_2, matrices row-major
}

// Network answers for a table whose network predicts eps.
func (m *Mixture) Network(table *sampler.Table) (*Network, error) {
	if table.Prediction != sampler.PredictEpsilon {
		return nil, fmt.Errorf("mixture: the table is of a network that predicts %s, want %s", table.Prediction, sampler.PredictEpsilon)
	}
	n := &Network{densities: map[float64]*density{}, adapter: &slice{make([]float64, Adapter)}}
	for _, step := range table.Steps {
		n.densities[step.Timestep] = m.at(step.At)
	}
	return n, nil
}

// Params is the adapter.
func (n *Network) Params() []sdo.Param { return []sdo.Param{{Name: "adapter", Value: n.adapter}} }

// Changed has nothing to prepare.
func (n *Network) Changed(context.Context) error { return nil }

// Predict evaluates the network and keeps nothing.
func (n *Network) Predict(_ context.Context, in sdo.Input, out sdo.Vector) error {
	_, err := n.evaluate(in, out)
	return err
}

// Keep evaluates the network and keeps what each row saw.
func (n *Network) Keep(_ context.Context, in sdo.Input, _ sdo.Wrt, out sdo.Vector) (sdo.Kept, error) {
	return n.evaluate(in, out)
}

func (n *Network) evaluate(in sdo.Input, out sdo.Vector) (*kept, error) {
	d := n.densities[in.Timestep]
	if d == nil {
		return nil, fmt.Errorf("mixture: asked at timestep %v, which the sampler's table does not have", in.Timestep)
	}
	x, o := Numbers(in.X), Numbers(out)
	k := &kept{network: n, density: d, views: make([]view, len(x)/Dim)}
	for row := range k.views {
		at := *(*point)(x[row*Dim:])
		if in.Cond != nil {
			for j, c := range Numbers(in.Cond)[row*Dim : (row+1)*Dim] {
				at[j] -= d.level.Signal * c
			}
		}
		d.from(&at, &k.views[row])
		eps := k.eps(row)
		adapted := eps
		n.each(d.level.Noise, func(scale float64, a *[Dim * Dim]float64, b *point, _ int) {
			for i := range Dim {
				adapted[i] += scale * (dot((*point)(a[i*Dim:]), &eps) + b[i])
			}
		})
		copy(o[row*Dim:], adapted[:])
	}
	return k, nil
}

// each visits the adapter's maps with their weights at a noise level and where
// they begin among its numbers.
func (n *Network) each(noise float64, visit func(scale float64, a *[Dim * Dim]float64, b *point, at int)) {
	scale := 1.0
	for j := range bases {
		at := j * (Dim*Dim + Dim)
		visit(scale, (*[Dim * Dim]float64)(n.adapter.x[at:]), (*point)(n.adapter.x[at+Dim*Dim:]), at)
		scale *= noise
	}
}

// kept is a call with what each row saw.
type kept struct {
	network *Network
	density *density
	views   []view
}

func (k *kept) eps(row int) (eps point) {
	for j, s := range k.views[row].score {
		eps[j] = -k.density.level.Noise * s
	}
	return eps
}

func (k *kept) Backward(_ context.Context, seed sdo.Vector, into sdo.Gradients) error {
	if k.views == nil {
		return fmt.Errorf("mixture: backward of a released call")
	}
	noise, signal := k.density.level.Noise, k.density.level.Signal
	var params []float64
	if len(into.Params) > 0 && into.Params[0] != nil {
		params = Numbers(into.Params[0])
		clear(params)
	}
	for row := range k.views {
		from := (*point)(Numbers(seed)[row*Dim:])
		through, eps := *from, k.eps(row) // the seed at eps, before the adapter
		k.network.each(noise, func(scale float64, a *[Dim * Dim]float64, _ *point, at int) {
			for i := range Dim {
				along := scale * from[i]
				for j := range Dim {
					through[j] += along * a[i*Dim+j]
					if params != nil {
						params[at+i*Dim+j] += along * eps[j]
					}
				}
				if params != nil {
					params[at+Dim*Dim+i] += along
				}
			}
		})
		if into.X == nil && into.Cond == nil {
			continue
		}
		h := k.density.hessian(&k.views[row], &through)
		for j := range Dim {
			if into.X != nil {
				Numbers(into.X)[row*Dim+j] = -noise * h[j]
			}
			if into.Cond != nil {
				Numbers(into.Cond)[row*Dim+j] = signal * noise * h[j]
			}
		}
	}
	return nil
}

// Bytes counts a row's view.
func (k *kept) Bytes() int64 { return int64(len(k.views)) * 8 * (1 + Modes + (Modes+1)*Dim) }

func (k *kept) Release() { k.views = nil }
