package engine

import (
	"cmp"
	"context"
	"math"
	"slices"

	"gonum.org/v1/gonum/dsp/fourier"
	"gonum.org/v1/gonum/mathext"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/sdo"
)

const (
	// ringFreedom is the number of real degrees of freedom that the power of a
	// ring is averaged over: enough for a mean to be told from 1, few enough for
	// eight rings on a channel of 16x16.
	ringFreedom = 32
	// touched is the share of truly white rows in which any limit is passed.
	touched = 0.05
	// slack is how far past a limit still counts as at it, so that what was put
	// there and stored in float32 is not moved again.
	slack = 1e-5
)

// whiteness holds latents to the flat power spectrum of white noise, after the
// spectral constraint set of arXiv 2602.08646. That set fixes the norm of each
// block of the spectrum, which would move true white noise too; here a block
// and a coefficient may be anywhere white noise is found, and only what lies
// outside is rescaled.
//
// Each channel of a row is transformed, X = DFT2(x). Of white noise the power
// of a coefficient, over the row's mean power, follows chi-square with two
// degrees of freedom, halved, or with one where the coefficient is its own
// conjugate. Rings of rising frequency with ringFreedom degrees each have a
// lower and an upper limit on their power, every coefficient an upper one.
type whiteness struct {
	exec          graph.Executor
	shape         graph.Shape // [N C H W]
	rows, columns *fourier.CmplxFFT
	waves         []wave // of one channel, by rising frequency
	rings         []ring // of one channel
}

// wave is a coefficient with its conjugate, which may be itself.
type wave struct {
	at, conjugate int
	freedom       float64
	most          float64 // its highest power, counting each degree of freedom as 1
}

// ring is the waves from first up to but not including end.
type ring struct {
	first, end  int
	least, most float64 // its power, counted likewise
}

func newWhiteness(exec graph.Executor, shape graph.Shape) *whiteness {
	height, width := shape[2], shape[3]
	w := &whiteness{exec: exec, shape: shape, rows: fourier.NewCmplxFFT(width), columns: fourier.NewCmplxFFT(height)}
	frequency := func(v wave) float64 {
		y, x := v.at/width, v.at%width
		fy, fx := float64(min(y, height-y))/float64(height), float64(min(x, width-x))/float64(width)
		return fy*fy + fx*fx
	}
	for at := range height * width {
		y, x := at/width, at%width
		conjugate := (height-y)%height*width + (width-x)%width
		switch {
		case conjugate == at:
			w.waves = append(w.waves, wave{at: at, conjugate: at, freedom: 1})
		case conjugate > at:
			w.waves = append(w.waves, wave{at: at, conjugate: conjugate, freedom: 2})
		}
	}
	slices.SortFunc(w.waves, func(a, b wave) int {
		return cmp.Or(cmp.Compare(frequency(a), frequency(b)), cmp.Compare(a.at, b.at))
	})
	rings := max(1, height*width/ringFreedom)
	freedoms, free := make([]float64, rings), 0.0
	for i, v := range w.waves {
		free += v.freedom
		now := min(rings-1, int((free-1)*float64(rings)/float64(height*width)))
		if now >= len(w.rings) {
			w.rings = append(w.rings, ring{first: i})
		}
		last := len(w.rings) - 1
		w.rings[last].end = i + 1
		freedoms[last] += v.freedom
	}
	// Each of the tests of a row fails by itself in an equal share of touched.
	tail := touched / float64(shape[1]*(2*len(w.rings)+len(w.waves)))
	for i := range w.waves {
		w.waves[i].most = chiSquare(w.waves[i].freedom, 1-tail)
	}
	for i := range w.rings {
		w.rings[i].least, w.rings[i].most = chiSquare(freedoms[i], tail), chiSquare(freedoms[i], 1-tail)
	}
	return w
}

// chiSquare is the quantile of the chi-square distribution.
func chiSquare(freedom, p float64) float64 { return 2 * mathext.GammaIncRegInv(freedom/2, p) }

// project is an sdo.Options.Whiten. Rows that did not move, or are white, keep
// every bit.
func (w *whiteness) project(ctx context.Context, noise sdo.Vector, moved []bool) error {
	if !slices.Contains(moved, true) {
		return nil
	}
	values, err := w.exec.Read(ctx, noise)
	if err != nil {
		return err
	}
	changed, cols := false, len(values)/len(moved)
	for row, wanted := range moved {
		changed = wanted && w.whiten(values[row*cols:(row+1)*cols]) || changed
	}
	if !changed {
		return nil
	}
	return w.exec.Write(ctx, noise, values)
}

// whiten makes one row white, [C H W], its norm and the phase of every wave
// kept, and reports whether anything had to be done. A wave without any power
// stays without.
func (w *whiteness) whiten(x []float64) bool {
	size, channels := w.shape[2]*w.shape[3], w.shape[1]
	mean := 0.0
	for _, v := range x {
		mean += v * v / float64(len(x))
	}
	if mean == 0 || math.IsNaN(mean) || math.IsInf(mean, 0) {
		return false // the norm guard says so
	}
	spectra := make([][]complex128, channels)
	powers := make([]float64, channels*len(w.waves))
	highest := make([]float64, len(powers))
	var ringPowers, least, most []float64
	white := true
	for c := range channels {
		spectra[c] = w.transform(x[c*size : (c+1)*size])
		of := powers[c*len(w.waves) : (c+1)*len(w.waves)]
		for i, v := range w.waves {
			z := spectra[c][v.at]
			of[i] = v.freedom * (real(z)*real(z) + imag(z)*imag(z)) / (float64(size) * mean)
			highest[c*len(w.waves)+i] = v.most
			white = white && of[i] <= v.most*(1+slack)
		}
		for _, r := range w.rings {
			sum := 0.0
			for _, p := range of[r.first:r.end] {
				sum += p
			}
			white = white && sum >= r.least*(1-slack) && sum <= r.most*(1+slack)
			ringPowers, least, most = append(ringPowers, sum), append(least, r.least), append(most, r.most)
		}
	}
	if white {
		return false
	}
	targets := fill(ringPowers, least, most, float64(len(x)))
	for c := range channels {
		for k, r := range w.rings {
			from, to := c*len(w.waves)+r.first, c*len(w.waves)+r.end
			want := fill(powers[from:to], make([]float64, to-from), highest[from:to], targets[c*len(w.rings)+k])
			for i, v := range w.waves[r.first:r.end] {
				if had := powers[from+i]; had > 0 {
					scale := complex(math.Sqrt(want[i]/had), 0)
					spectra[c][v.at] *= scale
					if v.conjugate != v.at {
						spectra[c][v.conjugate] *= scale
					}
				}
			}
		}
		w.invert(spectra[c], x[c*size:(c+1)*size])
	}
	return true
}

// fill scales powers by one factor, holds each between its limits, and chooses
// the factor so that they add up to total, or as near as the limits allow.
func fill(powers, least, most []float64, total float64) []float64 {
	held := func(i int, factor float64) float64 {
		if powers[i] == 0 {
			return 0
		}
		return min(max(factor*powers[i], least[i]), most[i])
	}
	// Powers differ by many orders, so the search is for the factor's logarithm.
	low, high := 1e-12, 1e-12
	for i, p := range powers {
		if p > 0 {
			high = max(high, most[i]/p)
		}
	}
	for range 64 { // the sum rises with the factor
		middle, sum := math.Sqrt(low)*math.Sqrt(high), 0.0
		for i := range powers {
			sum += held(i, middle)
		}
		if sum < total {
			low = middle
		} else {
			high = middle
		}
	}
	filled := make([]float64, len(powers))
	for i := range filled {
		filled[i] = held(i, high)
	}
	return filled
}

// transform is the discrete Fourier transform of one channel, not normalised.
func (w *whiteness) transform(x []float64) []complex128 {
	z := make([]complex128, len(x))
	for i, v := range x {
		z[i] = complex(v, 0)
	}
	w.each(z, func(f *fourier.CmplxFFT, line []complex128) { f.Coefficients(line, line) })
	return z
}

// invert undoes transform.
func (w *whiteness) invert(z []complex128, x []float64) {
	w.each(z, func(f *fourier.CmplxFFT, line []complex128) { f.Sequence(line, line) })
	for i := range x {
		x[i] = real(z[i]) / float64(len(x))
	}
}

// each does something to every line of a channel, and then to every column.
func (w *whiteness) each(z []complex128, do func(*fourier.CmplxFFT, []complex128)) {
	width := w.shape[3]
	for from := 0; from < len(z); from += width {
		do(w.rows, z[from:from+width])
	}
	column := make([]complex128, w.shape[2])
	for x := range width {
		for y := range column {
			column[y] = z[y*width+x]
		}
		do(w.columns, column)
		for y := range column {
			z[y*width+x] = column[y]
		}
	}
}
