package cpu

// window is the geometry of a correlation: which pixels of an image of c
// channels, h x w, each of oh x ow outputs sees through a kh x kw kernel.
type window struct {
	c, h, w   int
	kh, kw    int
	stride    int
	top, left int
	oh, ow    int
}

// taps is the number of inputs of one output per filter.
func (v window) taps() int { return v.c * v.kh * v.kw }

// unfold writes what outputs see (im2col): a matrix with one row per tap
// (channel, ky, kx) of the channels [c0, c1) and one column per output pixel of
// the rows [y0, y1) of each of the images that start at x.
func unfold[T Float](v window, x []T, images, c0, c1, y0, y1 int, col []T) {
	pixels := (y1 - y0) * v.ow
	for c := c0; c < c1; c++ {
		for ky := range v.kh {
			for kx := range v.kw {
				for i := range images {
					plane := x[(i*v.c+c)*v.h*v.w:][:v.h*v.w]
					unfoldPlane(v, plane, ky, kx, y0, y1, col[i*pixels:][:pixels])
				}
				col = col[images*pixels:]
			}
		}
	}
}

func unfoldPlane[T Float](v window, plane []T, ky, kx, y0, y1 int, dst []T) {
	a, b := inside(v.stride, ky-v.top, v.h, y0, y1)
	l, r := inside(v.stride, kx-v.left, v.w, 0, v.ow)
	if a == b || l == r { // the tap sees only padding
		clear(dst)
		return
	}
	clear(dst[:(a-y0)*v.ow])
	clear(dst[(b-y0)*v.ow:])
	dst = dst[(a-y0)*v.ow : (b-y0)*v.ow]
	if v.stride == 1 && v.ow == v.w {
		// The whole block is the plane shifted by a constant: one copy, after
		// which the columns that wrapped around the border are cleared.
		from := (a+ky-v.top)*v.w + kx - v.left
		skip := max(0, -from)
		copy(dst[skip:], plane[from+skip:])
		for ; len(dst) > 0; dst = dst[v.ow:] {
			for x := range l {
				dst[x] = 0
			}
			for x := r; x < v.ow; x++ {
				dst[x] = 0
			}
		}
		return
	}
	for y := a; y < b; y, dst = y+1, dst[v.ow:] {
		src := plane[(y*v.stride+ky-v.top)*v.w:][:v.w]
		clear(dst[:l])
		if v.stride == 1 {
			copy(dst[l:r], src[l+kx-v.left:])
		} else {
			for x := l; x < r; x++ {
				dst[x] = src[x*v.stride+kx-v.left]
			}
		}
		clear(dst[r:v.ow])
	}
}

// fold adds the columns of the rows [y0, y1) of one image back to where unfold
// reads them (col2im).
func fold[T Float](v window, col []T, c0, c1, y0, y1 int, x []T) {
	for c := c0; c < c1; c++ {
		plane := x[c*v.h*v.w:][:v.h*v.w]
		for ky := range v.kh {
			for kx := range v.kw {
				a, b := inside(v.stride, ky-v.top, v.h, y0, y1)
				l, r := inside(v.stride, kx-v.left, v.w, 0, v.ow)
				for y := a; y < b && l < r; y++ {
					from := col[(y-y0)*v.ow+l : (y-y0)*v.ow+r]
					to := plane[(y*v.stride+ky-v.top)*v.w+l*v.stride+kx-v.left:]
					if v.stride == 1 {
						to = to[:len(from)]
						for x, d := range from {
							to[x] += d
						}
						continue
					}
					for x, d := range from {
						to[x*v.stride] += d
					}
				}
				col = col[(y1-y0)*v.ow:]
			}
		}
	}
}

// inside cuts the outputs [from, to) of one axis down to those whose input
// stride*o + shift lies in [0, extent). The result may be empty but is ordered.
func inside(stride, shift, extent, from, to int) (a, b int) {
	a = max(from, (max(0, -shift)+stride-1)/stride)
	b = min(to, (max(0, extent-shift)+stride-1)/stride)
	return min(a, to), max(min(a, to), b)
}
