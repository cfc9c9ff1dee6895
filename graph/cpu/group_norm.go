package cpu

import "github.com/sdo-go/sdo/graph"

// Group normalisation of x [N C ...] over N*G groups, each a contiguous run of
// C/G channels. Saved for the backward pass: x and stats; the activation is
// recomputed.

// normGeometry views x as [N G C/G pixels].
type normGeometry struct {
	*graph.GroupNormAttrs
	n, channels, perGroup, pixels int
}

func newNormGeometry(x graph.Shape, attrs any) normGeometry {
	a := attrs.(*graph.GroupNormAttrs)
	return normGeometry{a, x[0], x[1], x[1] / a.Groups, x.Size() / (x[0] * x[1])}
}

func (g normGeometry) groups() int { return g.n * g.Groups }
func (g normGeometry) size() int   { return g.perGroup * g.pixels }

// groupNormStats gives each group's mean and 1/sqrt(variance + eps), in two
// passes with float64 sums.
func groupNormStats[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	g := newNormGeometry(n.Inputs[0].Shape, n.Attrs)
	return loop(g.groups(), 4*g.size(), func(c *call[T], lo, hi int) {
		for k := lo; k < hi; k++ {
			x := c.in[0][k*g.size():][:g.size()]
			mean := sum(x) / float64(len(x))
			variance := spread(x, mean) / float64(len(x))
			c.out[2*k] = T(mean)
			c.out[2*k+1] = T(1 / sqrt(variance+g.Eps))
		}
	})
}

// spread is the sum of (x - mean)^2.
func spread[T Float](x []T, mean float64) float64 {
	var s0, s1 float64
	for len(x) >= 2 {
		a, b := float64(x[0])-mean, float64(x[1])-mean
		s0 += a * a
		s1 += b * b
		x = x[2:]
	}
	for _, v := range x {
		a := float64(v) - mean
		s0 += a * a
	}
	return s0 + s1
}

// groupNorm is gamma*(x - mean)*rstd + beta, then silu if asked: per channel a
// scale and a shift.
func groupNorm[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	g := newNormGeometry(n.Shape, n.Attrs)
	if g.pixels == 1 {
		return layerNorm[T](g)
	}
	return loop(g.n*g.channels, 12*g.pixels, func(c *call[T], lo, hi int) {
		stats, gamma, beta := c.in[1], c.in[2], c.in[3]
		for p := lo; p < hi; p++ {
			k, channel := p/g.perGroup, p%g.channels
			scale := gamma[channel] * stats[2*k+1]
			shift := beta[channel] - stats[2*k]*scale
			y, x := c.out[p*g.pixels:][:g.pixels], c.in[0][p*g.pixels:][:g.pixels]
			if !g.SiLU {
				for i, v := range x {
					y[i] = v*scale + shift
				}
				continue
			}
			sigmoids(y, x, scale, shift)
			for i, v := range x {
				y[i] *= v*scale + shift
			}
		}
	})
}

// layerNorm is groupNorm of single pixels, a group at a time.
func layerNorm[T Float](g normGeometry) kernel[T] {
	return loop(g.groups(), 12*g.perGroup, func(c *call[T], lo, hi int) {
		for k := lo; k < hi; k++ {
			mean, rstd := c.in[1][2*k], c.in[1][2*k+1]
			channel := k % g.Groups * g.perGroup
			gamma, beta := c.in[2][channel:][:g.perGroup], c.in[3][channel:][:g.perGroup]
			y, x := c.out[k*g.perGroup:][:g.perGroup], c.in[0][k*g.perGroup:][:g.perGroup]
			for i, v := range x {
				y[i] = (v-mean)*rstd*gamma[i] + beta[i]
			}
			if g.SiLU {
				for i, v := range y {
					y[i] = v * sigmoid(v)
				}
			}
		}
	})
}

// layerNormGradInput is groupNormGradInput of single pixels without activation.
func layerNormGradInput[T Float](g normGeometry) kernel[T] {
	return loop(g.groups(), 10*g.perGroup, func(c *call[T], lo, hi int) {
		for k := lo; k < hi; k++ {
			mean, rstd, at := c.in[2][2*k], c.in[2][2*k+1], k*g.perGroup
			gamma := c.in[3][k%g.Groups*g.perGroup:][:g.perGroup]
			dx, dy, x := c.out[at:][:g.perGroup], c.in[0][at:][:g.perGroup], c.in[1][at:][:g.perGroup]
			for i, v := range gamma {
				dx[i] = dy[i] * v
			}
			total, moment := moments(dx, x, mean, rstd)
			a, b := T(total/float64(g.perGroup)), T(moment/float64(g.perGroup))
			for i, v := range x {
				dx[i] = flush(rstd * (dx[i] - a - (v-mean)*rstd*b))
			}
		}
	})
}

// groupNormGradInput: with d = dy*gamma (times silu' at the output) and the
// normalised xhat, dx = rstd*(d - mean(d) - xhat*mean(d*xhat)).
func groupNormGradInput[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	g := newNormGeometry(n.Shape, n.Attrs)
	if g.pixels == 1 && !g.SiLU {
		return layerNormGradInput[T](g)
	}
	return loop(g.groups(), 24*g.size(), func(c *call[T], lo, hi int) {
		stats, gamma, beta := c.in[2], c.in[3], c.in[4]
		for k := lo; k < hi; k++ {
			at := k * g.size()
			dx, dy, x := c.out[at:][:g.size()], c.in[0][at:][:g.size()], c.in[1][at:][:g.size()]
			mean, rstd := stats[2*k], stats[2*k+1]
			var total, moment float64 // of d and of d*xhat
			for j := range g.perGroup {
				channel := k%g.Groups*g.perGroup + j
				run := j * g.pixels
				d, x := dx[run:][:g.pixels], x[run:][:g.pixels]
				beforeActivation(g.SiLU, d, dy[run:], x, mean, gamma[channel]*rstd, beta[channel])
				s, m := moments(d, x, mean, rstd)
				total += float64(gamma[channel]) * s
				moment += float64(gamma[channel]) * m
			}
			a, b := T(total/float64(g.size())), T(moment/float64(g.size()))
			for j := range g.perGroup {
				scale := gamma[k%g.Groups*g.perGroup+j]
				d, x := dx[j*g.pixels:][:g.pixels], x[j*g.pixels:][:g.pixels]
				for i, v := range x {
					d[i] = flush(rstd * (d[i]*scale - a - (v-mean)*rstd*b))
				}
			}
		}
	})
}

// groupNormGradParams sums dy*silu'*xhat and dy*silu' of each channel over
// images and pixels: row 0 is dgamma, row 1 is dbeta.
func groupNormGradParams[T Float](_ *Executor[T], n *graph.Node) kernel[T] {
	g := newNormGeometry(n.Inputs[1].Shape, n.Attrs)
	return kernel[T]{
		local: g.pixels,
		phases: []phase[T]{{g.channels, 16 * g.n * g.pixels, func(c *call[T], lo, hi int) {
			stats, gamma, beta := c.in[2], c.in[3], c.in[4]
			d := c.local[:g.pixels]
			for channel := lo; channel < hi; channel++ {
				var dgamma, dbeta float64
				for i := range g.n {
					at := (i*g.channels + channel) * g.pixels
					k := i*g.Groups + channel/g.perGroup
					x, mean, rstd := c.in[1][at:][:g.pixels], stats[2*k], stats[2*k+1]
					beforeActivation(g.SiLU, d, c.in[0][at:], x, mean, gamma[channel]*rstd, beta[channel])
					s, m := moments(d, x, mean, rstd)
					dbeta += s
					dgamma += m
				}
				c.out[channel], c.out[g.channels+channel] = T(dgamma), T(dbeta)
			}
		}}},
	}
}

// beforeActivation sends one channel's dy back through the activation, whose
// argument it recomputes from x.
func beforeActivation[T Float](silu bool, d, dy, x []T, mean, scale, beta T) {
	if !silu {
		copy(d, dy)
		return
	}
	shift := beta - mean*scale
	sigmoids(d, x, scale, shift)
	dy = dy[:len(d)]
	for i, s := range d {
		d[i] = dy[i] * s * (1 + (x[i]*scale+shift)*(1-s))
	}
}

// moments are the sums of d and of d*xhat over one channel.
func moments[T Float](d, x []T, mean, rstd T) (s, m float64) {
	for i, v := range x {
		e := float64(d[i])
		s += e
		m += e * float64(v-mean)
	}
	return s, m * float64(rstd)
}
