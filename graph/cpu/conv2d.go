package cpu

import (
	"gonum.org/v1/gonum/blas"

	"github.com/sdo-go/sdo/graph"
)

// Convolutions are matrix products over unfolded tiles: a tile is a group of
// small images, or a band of rows of a large one, and a few channels are
// unfolded at a time, so that they stay in a core's cache. Nothing is saved for
// the backward pass; the weight gradient unfolds x again.
//
// Cost of each of the three: 2*N*OH*OW*O*C*KH*KW floating point operations.

// cacheTarget is the size of what is unfolded at a time, tilePixels the pixels
// of a tile: as many as make the product fast.
const cacheTarget, tilePixels = 512 << 10, 512

// correlation is y = w (*) x + bias, the loop shared by the forward pass and,
// for stride 1, by the gradient of the input.
type correlation[T Float] struct {
	window
	n, o     int  // images and filters
	images   int  // of one tile
	rows     int  // output rows of one tile
	channels int  // unfolded at a time
	filters  int  // of one item
	direct   bool // a 1x1 kernel sees x itself: nothing to unfold
	gemm     gemm[T]
}

func newCorrelation[T Float](e *Executor[T], v window, n, o int) *correlation[T] {
	s := &correlation[T]{window: v, n: n, o: o, gemm: e.gemm}
	pixels := tilePixels
	if o*v.taps() < n*v.c*v.h*v.w { // what is read again for every tile is the smaller part
		pixels = min(pixels, max(64, n*v.oh*v.ow/e.workers)) // leave every worker a tile
	}
	s.images, s.rows = tile(v, n, pixels)
	s.channels = v.channelsAtOnce(s.columns(), elementSize[T]())
	s.direct = v.kh == 1 && v.kw == 1 && v.stride == 1 && v.top == 0 && v.left == 0 &&
		v.oh == v.h && v.ow == v.w && s.images == 1
	tiles := s.groups() * s.bands()
	s.filters = (o + (e.workers+tiles-1)/tiles - 1) / ((e.workers + tiles - 1) / tiles)
	return s
}

// tile chooses how many images, or how many rows of one image, make a tile of
// about the given pixels.
func tile(v window, n, pixels int) (images, rows int) {
	if one := v.oh * v.ow; one <= pixels {
		return min(n, pixels/one), v.oh
	}
	bands := (v.oh*v.ow + pixels - 1) / pixels
	return 1, (v.oh + bands - 1) / bands
}

// channelsAtOnce is how many channels make cacheTarget with their taps at so
// many pixels.
func (v window) channelsAtOnce(pixels, size int) int {
	return min(v.c, max(1, cacheTarget/(size*v.kh*v.kw*pixels)))
}

func (s *correlation[T]) columns() int { return s.images * s.rows * s.ow }
func (s *correlation[T]) groups() int  { return (s.n + s.images - 1) / s.images }
func (s *correlation[T]) bands() int   { return (s.oh + s.rows - 1) / s.rows }
func (s *correlation[T]) parts() int   { return (s.o + s.filters - 1) / s.filters }
func (s *correlation[T]) items() int   { return s.groups() * s.bands() * s.parts() }
func (s *correlation[T]) cost() int    { return 2 * s.columns() * s.filters * s.taps() }

// unfolded is the size of what is unfolded at a time.
func (s *correlation[T]) unfolded() int {
	if s.direct {
		return 0
	}
	return s.channels * s.kh * s.kw * s.columns()
}

// local is the private memory of a worker: unfolded inputs, then outputs of a
// group of images before they are dealt out.
func (s *correlation[T]) local() int {
	size := s.unfolded()
	if s.images > 1 {
		size += s.filters * s.columns()
	}
	return size
}

func (s *correlation[T]) run(c *call[T], x, w, bias, y []T, lo, hi int) {
	area, taps, k := s.oh*s.ow, s.taps(), s.kh*s.kw
	for item := lo; item < hi; item++ {
		tile, o0 := item/s.parts(), item%s.parts()*s.filters
		first, y0 := tile/s.bands()*s.images, tile%s.bands()*s.rows
		images, y1, filters := min(s.images, s.n-first), min(y0+s.rows, s.oh), min(s.filters, s.o-o0)
		pixels := (y1 - y0) * s.ow
		columns := images * pixels

		out, ldc := y[(first*s.o+o0)*area+y0*s.ow:], area
		if images > 1 {
			out, ldc = c.local[s.unfolded():], columns
		}
		beta := T(0)
		if bias != nil {
			beta = 1
			for o, v := range bias[o0 : o0+filters] {
				fill(out[o*ldc:][:columns], v)
			}
		}
		x, w := x[first*s.c*s.h*s.w:], w[o0*taps:]
		if s.direct {
			s.gemm(blas.NoTrans, blas.NoTrans, filters, columns, taps, 1, w, taps, x[y0*s.ow:], area, beta, out, ldc)
		} else {
			for c0 := 0; c0 < s.c; c0 += s.channels {
				c1 := min(c0+s.channels, s.c)
				unfold(s.window, x, images, c0, c1, y0, y1, c.local)
				s.gemm(blas.NoTrans, blas.NoTrans, filters, columns, (c1-c0)*k, 1, w[c0*k:], taps, c.local, columns, beta, out, ldc)
				beta = 1
			}
		}
		if images > 1 {
			for i := range images {
				for o := range filters {
					copy(y[((first+i)*s.o+o0+o)*area:][:area], out[o*columns+i*area:])
				}
			}
		}
	}
}

func conv2d[T Float](e *Executor[T], n *graph.Node) kernel[T] {
	s := newCorrelation(e, forwardWindow(n.Inputs[0].Shape, n.Inputs[1].Shape, n.Shape, n.Attrs), n.Shape[0], n.Shape[1])
	return kernel[T]{
		local: s.local(),
		phases: []phase[T]{{s.items(), s.cost(), func(c *call[T], lo, hi int) {
			var bias []T
			if len(c.in) == 3 {
				bias = c.in[2]
			}
			s.run(c, c.in[0], c.in[1], bias, c.out, lo, hi)
		}}},
	}
}

func forwardWindow(x, w, y graph.Shape, attrs any) window {
	a := attrs.(*graph.Conv2DAttrs)
	return window{
		c: x[1], h: x[2], w: x[3], kh: w[2], kw: w[3],
		stride: a.Stride, top: a.PadTop, left: a.PadLeft, oh: y[2], ow: y[3],
	}
}

// turnedTarget is the size of the filters up to which conv2dGradInput turns
// them: they are spread over memory as they are, and in the way of other things.
const turnedTarget = 1 << 20

// conv2dGradInput sends dy back to x. For stride 1 that is again a correlation,
// of dy with the filters turned by 180 degrees and transposed. Otherwise, and
// where there are many filters, the products w^T dy are folded back, a band of
// dy at a time.
func conv2dGradInput[T Float](e *Executor[T], n *graph.Node) kernel[T] {
	dy, w := n.Inputs[0].Shape, n.Inputs[1].Shape
	v := forwardWindow(n.Shape, w, dy, n.Attrs)
	if v.stride == 1 && w.Size()*elementSize[T]() <= turnedTarget {
		back := window{
			c: w[0], h: v.oh, w: v.ow, kh: v.kh, kw: v.kw,
			stride: 1, top: v.kh - 1 - v.top, left: v.kw - 1 - v.left, oh: v.h, ow: v.w,
		}
		s := newCorrelation(e, back, n.Shape[0], v.c)
		return kernel[T]{
			shared: w.Size(), local: s.local(),
			phases: []phase[T]{
				{w[0], v.taps(), func(c *call[T], lo, hi int) { turn(c.in[1], c.shared, w, lo, hi) }},
				{s.items(), s.cost(), func(c *call[T], lo, hi int) { s.run(c, c.in[0], c.shared, nil, c.out, lo, hi) }},
			},
		}
	}

	// One item is a run of channels of one image; a batch of one is split too.
	filters, area, k := w[0], v.oh*v.ow, v.kh*v.kw
	_, rows := tile(v, 1, tilePixels)
	width := v.channelsAtOnce(rows*v.ow, elementSize[T]())
	if dy[0] < e.workers {
		width = min(width, (v.c+e.workers-1)/e.workers)
	}
	runs := (v.c + width - 1) / width
	return kernel[T]{
		local: width * k * rows * v.ow,
		phases: []phase[T]{{dy[0] * runs, 2 * width * k * area * filters, func(c *call[T], lo, hi int) {
			for item := lo; item < hi; item++ {
				i, c0 := item/runs, item%runs*width
				c1 := min(c0+width, v.c)
				dx := c.out[i*v.c*v.h*v.w:][:v.c*v.h*v.w]
				clear(dx[c0*v.h*v.w : c1*v.h*v.w])
				for y0 := 0; y0 < v.oh; y0 += rows {
					y1 := min(y0+rows, v.oh)
					columns := (y1 - y0) * v.ow
					e.gemm(blas.Trans, blas.NoTrans, (c1-c0)*k, columns, filters, 1,
						c.in[1][c0*k:], v.taps(), c.in[0][i*filters*area+y0*v.ow:], area, 0, c.local, columns)
					fold(v, c.local, c0, c1, y0, y1, dx)
				}
			}
		}}},
	}
}

// turn writes filters [lo, hi) of w [O C KH KW] into t [C O KH KW], rotated.
func turn[T Float](w, t []T, shape graph.Shape, lo, hi int) {
	filters, channels, k := shape[0], shape[1], shape[2]*shape[3]
	for o := lo; o < hi; o++ {
		for c := range channels {
			src, dst := w[(o*channels+c)*k:][:k], t[(c*filters+o)*k:][:k]
			for i, v := range src {
				dst[k-1-i] = v
			}
		}
	}
}

// conv2dGradWeight sums dy (x) unfolded x over images. Workers own runs of
// input channels and go through all images, so no partial sums are combined
// and the result does not depend on who did what.
func conv2dGradWeight[T Float](e *Executor[T], n *graph.Node) kernel[T] {
	dy, x := n.Inputs[0].Shape, n.Inputs[1].Shape
	v := forwardWindow(x, n.Shape, dy, n.Attrs)
	filters, area, k, taps := dy[1], v.oh*v.ow, v.kh*v.kw, v.taps()
	width := (v.c + e.workers - 1) / e.workers
	runs := (v.c + width - 1) / width
	part := v
	part.c = width
	images, rows := tile(part, dy[0], min(max(cacheTarget/elementSize[T]()/part.taps(), 64), 1024))
	tileSize := images * rows * v.ow
	return kernel[T]{
		local: width*k*tileSize + filters*tileSize,
		phases: []phase[T]{{runs, 2 * dy[0] * area * filters * width * k, func(c *call[T], lo, hi int) {
			for run := lo; run < hi; run++ {
				c0 := run * width
				c1 := min(c0+width, v.c)
				beta := T(0)
				for first := 0; first < dy[0]; first += images {
					count := min(images, dy[0]-first)
					for y0 := 0; y0 < v.oh; y0 += rows {
						y1 := min(y0+rows, v.oh)
						pixels := (y1 - y0) * v.ow
						columns := count * pixels
						unfold(v, c.in[1][first*v.c*v.h*v.w:], count, c0, c1, y0, y1, c.local)

						seed, lda := c.in[0][first*filters*area+y0*v.ow:], area
						if count > 1 { // gather the group's dy, filter by filter
							gathered := c.local[width*k*tileSize:]
							for i := range count {
								for o := range filters {
									copy(gathered[o*columns+i*pixels:][:pixels], seed[(i*filters+o)*area:])
								}
							}
							seed, lda = gathered, columns
						}
						e.gemm(blas.NoTrans, blas.Trans, filters, (c1-c0)*k, columns, 1,
							seed, lda, c.local, columns, beta, c.out[c0*k:], taps)
						beta = 1
					}
				}
			}
		}}},
	}
}
