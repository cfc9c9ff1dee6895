// Package mixture is a denoiser whose every number is exact: of data from six
// Gaussians in eight dimensions. Steering methods are measured on it before any
// trained network, in milliseconds and in float64 (docs/results). It is an
// sdo.Network with a condition and parameters, with the space it lives in and
// losses to steer by.
package mixture

import (
	"math"
	"math/rand/v2"

	"github.com/sdo-go/sdo/sampler"
)

const (
	Dim   = 8 // numbers of a sample
	Modes = 6 // Gaussians, equally likely
)

// Eigenvalues of the covariances lie between these, evenly in the logarithm:
// thin directions, so that most of space is far from the data.
const (
	thinnest = 0.003
	widest   = 0.6
)

type (
	point  = [Dim]float64
	matrix = [Dim]point
)

// Mixture is the distribution of the data. Every dimension has second moment 1.
type Mixture struct {
	means  [Modes]point
	axes   [Modes]matrix // orthonormal rows
	spread [Modes]point  // variance along each axis
}

// New draws a mixture.
func New(seed uint64) *Mixture {
	random := rand.New(rand.NewPCG(seed, 0x313))
	m := &Mixture{}
	var variance, square point // of a dimension, averaged over modes
	for k := range Modes {
		m.axes[k] = rotation(random)
		for j := range Dim {
			m.spread[k][j] = thinnest * math.Pow(widest/thinnest, random.Float64())
			m.means[k][j] = random.NormFloat64()
		}
		for j := range Dim {
			square[j] += m.means[k][j] * m.means[k][j] / Modes
			for i := range Dim {
				variance[j] += m.spread[k][i] * m.axes[k][i][j] * m.axes[k][i][j] / Modes
			}
		}
	}
	for k := range Modes {
		for j := range Dim {
			m.means[k][j] *= math.Sqrt((1 - variance[j]) / square[j])
		}
	}
	return m
}

// rotation orthonormalises normal noise row by row (Gram and Schmidt).
func rotation(random *rand.Rand) (q matrix) {
	for i := range q {
		for j := range q[i] {
			q[i][j] = random.NormFloat64()
		}
		for k := range i {
			along := dot(&q[i], &q[k])
			for j := range q[i] {
				q[i][j] -= along * q[k][j]
			}
		}
		length := math.Sqrt(dot(&q[i], &q[i]))
		for j := range q[i] {
			q[i][j] /= length
		}
	}
	return q
}

func dot(x, y *point) (sum float64) {
	for j := range x {
		sum += x[j] * y[j]
	}
	return sum
}

// Draw makes n samples of the data, n x Dim.
func (m *Mixture) Draw(seed uint64, n int) []float64 {
	random := rand.New(rand.NewPCG(seed, 0xDA7A))
	x := make([]float64, 0, n*Dim)
	for range n {
		k := random.IntN(Modes)
		sample := m.means[k]
		for i := range Dim {
			along := math.Sqrt(m.spread[k][i]) * random.NormFloat64()
			for j := range Dim {
				sample[j] += along * m.axes[k][i][j]
			}
		}
		x = append(x, sample[:]...)
	}
	return x
}

// density is the mixture with noise of a level added: modes at Signal*mean with
// covariance Signal^2*cov + Noise^2*I.
type density struct {
	level   sampler.Level
	means   [Modes]point
	inverse [Modes]matrix // of the covariances
	log     [Modes]float64
}

// at is the density of states at a level.
func (m *Mixture) at(l sampler.Level) *density {
	d := &density{level: l}
	for k := range Modes {
		d.log[k] = -math.Log(Modes) - Dim/2*math.Log(2*math.Pi)
		for j := range Dim {
			d.means[k][j] = l.Signal * m.means[k][j]
		}
		for i := range Dim {
			variance := l.Signal*l.Signal*m.spread[k][i] + l.Noise*l.Noise
			d.log[k] -= math.Log(variance) / 2
			axis := &m.axes[k][i]
			for a := range Dim {
				for b := range Dim {
					d.inverse[k][a][b] += axis[a] * axis[b] / variance
				}
			}
		}
	}
	return d
}

// view is a density seen from one point.
type view struct {
	log    float64        // log-density
	weight [Modes]float64 // each mode's share of the density
	scores [Modes]point   // gradient of each mode's log-density
	score  point          // gradient of log
}

func (d *density) from(x *point, v *view) {
	highest := math.Inf(-1)
	for k := range Modes {
		var off point
		for j := range Dim {
			off[j] = d.means[k][j] - x[j]
		}
		for j := range Dim {
			v.scores[k][j] = dot(&d.inverse[k][j], &off)
		}
		v.weight[k] = d.log[k] - dot(&off, &v.scores[k])/2
		highest = max(highest, v.weight[k])
	}
	total := 0.0
	for k, log := range v.weight {
		v.weight[k] = math.Exp(log - highest)
		total += v.weight[k]
	}
	v.log = highest + math.Log(total)
	v.score = point{}
	for k := range Modes {
		v.weight[k] /= total
		for j := range Dim {
			v.score[j] += v.weight[k] * v.scores[k][j]
		}
	}
}

// hessian multiplies the second derivative of the log-density with u: the modes'
// mean of score score^T - cov^-1, less the outer product of the mean score.
func (d *density) hessian(v *view, u *point) (h point) {
	along := dot(&v.score, u)
	for j := range Dim {
		h[j] = -v.score[j] * along
	}
	for k := range Modes {
		along := dot(&v.scores[k], u)
		for j := range Dim {
			h[j] += v.weight[k] * (v.scores[k][j]*along - dot(&d.inverse[k][j], u))
		}
	}
	return h
}

// clean is the level of data.
var clean = sampler.Level{Signal: 1}

// Surprise is minus the log-density of the data at every row of x, n x Dim: high
// where a steered sample has left what the model knows.
func (m *Mixture) Surprise(x []float64) []float64 {
	d, surprise := m.at(clean), make([]float64, len(x)/Dim)
	var v view
	for row := range surprise {
		d.from((*point)(x[row*Dim:]), &v)
		surprise[row] = -v.log
	}
	return surprise
}
