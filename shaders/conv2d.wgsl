// conv2d: y[n,o,p,q] = bias[o] + sum_{c,i,j} x[n,c,p*S+i-top,q*S+j-left] w[o,c,i,j]
// and, with GRAD, the gradient of its input:
//         dx[n,c,p,q] = sum_{o,i,j} dy[n,o,(p+top-i)/S,(q+left-j)/S] w[o,c,i,j]
// over taps where the division is whole. Positions outside the image are zero.
//
// x, y: NCHW. panel: the weights as pack.wgsl writes them, strips of 8 output
// channels, each with a row per (tap, input channel) and a last one with the bias.
// Implicit GEMM without workgroup memory: an invocation keeps 8 pixels x 8
// output channels in registers. The pixels of an invocation lie WORKGROUP
// apart, so neighbouring invocations read neighbouring pixels; offsets and the
// padding mask are made once per tap, outside the loop over channels.
// A matrix product a[M,K] b[K,N] is the case of M one-pixel images with K
// channels; a transposed left operand only changes the strides image and plane.
// Where outputs are few, the channels are cut into splits of part, each with its
// own invocations and its own [N,O,OH,OW] of y, which another launch adds.
// Saved for backward: nothing beyond x and w.
// Cost: 2*N*O*OH*OW*C*KH*KW FLOP; per 64 multiply-adds 8 words of x and 8 of
// the panel are read. GRAD with stride 2 multiplies by masked zeros 3 of 4
// times.

const WORKGROUP = 64u; // param
const GRAD = false;    // param

struct Block {
  pixels: u32,    // of all images of y
  channels: u32,  // of x
  height: i32,    // of x
  width: i32,
  image: u32,     // elements from one image of x to the next
  plane: u32,     // elements from one channel of x to the next
  outs: u32,      // channels of y
  out_height: u32,
  out_width: u32,
  taps_y: i32,
  taps_x: i32,
  stride: i32,
  top: i32,
  left: i32,
  part: u32,      // channels of a split
  tiles: u32,     // pixel tiles
  slots: u32,     // tiles of all splits, spread over groups x and z
}

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> panel: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

// source is the position along one axis that tap i reads for the output
// position whose first tap is at start; -1 where there is none.
fn source(start: vec4<i32>, i: i32, extent: i32) -> vec4<i32> {
  var at = start + i;
  if (GRAD) {
    let whole = (start - i) / block.stride;
    at = select(vec4<i32>(-1), whole, whole * block.stride == start - i);
  }
  return select(vec4<i32>(-1), at, (at >= vec4<i32>(0)) & (at < vec4<i32>(extent)));
}

fn first(position: vec4<u32>, padding: i32) -> vec4<i32> {
  if (GRAD) { return vec4<i32>(position) + padding; }
  return vec4<i32>(position) * block.stride - padding;
}

// put stores one output channel of four pixels, those that exist.
fn put(p: vec4<u32>, to: vec4<u32>, sum: vec4<f32>) {
  if (p.x < block.pixels) { y[to.x] = sum.x; }
  if (p.y < block.pixels) { y[to.y] = sum.y; }
  if (p.z < block.pixels) { y[to.z] = sum.z; }
  if (p.w < block.pixels) { y[to.w] = sum.w; }
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) me: u32,
) {
  let slot = group.x + group.z * groups.x;
  if (slot >= block.slots) { return; }
  let tile = slot % block.tiles;
  let split = slot / block.tiles;
  let begin = split * block.part;
  let end = min(begin + block.part, block.channels);
  let p0 = tile * WORKGROUP * 8u + me + vec4<u32>(0u, 1u, 2u, 3u) * WORKGROUP;
  let p1 = p0 + 4u * WORKGROUP;

  // Pixels past the end compute the last one again and are not stored.
  let image = block.out_height * block.out_width;
  let c0 = min(p0, vec4<u32>(block.pixels - 1u));
  let c1 = min(p1, vec4<u32>(block.pixels - 1u));
  let n0 = c0 / image;
  let n1 = c1 / image;
  let r0 = c0 - n0 * image;
  let r1 = c1 - n1 * image;
  let row0 = r0 / block.out_width;
  let row1 = r1 / block.out_width;
  let y0 = first(row0, block.top);
  let y1 = first(row1, block.top);
  let x0 = first(r0 - row0 * block.out_width, block.left);
  let x1 = first(r1 - row1 * block.out_width, block.left);
  let base0 = n0 * block.image + begin * block.plane;
  let base1 = n1 * block.image + begin * block.plane;

  let rows = u32(block.taps_y * block.taps_x) * block.channels + 1u;
  let strip = group.y * rows * 2u;
  let first_split = split == 0u; // adds the bias
  var a0 = select(vec4<f32>(0.0), panel[strip + rows * 2u - 2u], first_split);
  var a1 = a0;
  var a2 = a0;
  var a3 = a0;
  var a4 = a0;
  var a5 = a0;
  var a6 = a0;
  var a7 = a0;
  var b0 = select(vec4<f32>(0.0), panel[strip + rows * 2u - 1u], first_split);
  var b1 = b0;
  var b2 = b0;
  var b3 = b0;
  var b4 = b0;
  var b5 = b0;
  var b6 = b0;
  var b7 = b0;

  for (var i = 0; i < block.taps_y; i++) {
    let sy0 = source(y0, i, block.height);
    let sy1 = source(y1, i, block.height);
    for (var j = 0; j < block.taps_x; j++) {
      let sx0 = source(x0, j, block.width);
      let sx1 = source(x1, j, block.width);
      let in0 = (sy0 >= vec4<i32>(0)) & (sx0 >= vec4<i32>(0));
      let in1 = (sy1 >= vec4<i32>(0)) & (sx1 >= vec4<i32>(0));
      var at0 = base0 + select(vec4<u32>(0u), vec4<u32>(sy0 * block.width + sx0), in0);
      var at1 = base1 + select(vec4<u32>(0u), vec4<u32>(sy1 * block.width + sx1), in1);
      var k = strip + (u32(i * block.taps_x + j) * block.channels + begin) * 2u;
      for (var c = begin; c < end; c++) {
        let w0 = panel[k];
        let w1 = panel[k + 1u];
        let s = select(vec4<f32>(0.0), vec4<f32>(x[at0.x], x[at0.y], x[at0.z], x[at0.w]), in0);
        let t = select(vec4<f32>(0.0), vec4<f32>(x[at1.x], x[at1.y], x[at1.z], x[at1.w]), in1);
        a0 = fma(s.xxxx, w0, a0);
        b0 = fma(s.xxxx, w1, b0);
        a1 = fma(s.yyyy, w0, a1);
        b1 = fma(s.yyyy, w1, b1);
        a2 = fma(s.zzzz, w0, a2);
        b2 = fma(s.zzzz, w1, b2);
        a3 = fma(s.wwww, w0, a3);
        b3 = fma(s.wwww, w1, b3);
        a4 = fma(t.xxxx, w0, a4);
        b4 = fma(t.xxxx, w1, b4);
        a5 = fma(t.yyyy, w0, a5);
        b5 = fma(t.yyyy, w1, b5);
        a6 = fma(t.zzzz, w0, a6);
        b6 = fma(t.zzzz, w1, b6);
        a7 = fma(t.wwww, w0, a7);
        b7 = fma(t.wwww, w1, b7);
        k += 2u;
        at0 += block.plane;
        at1 += block.plane;
      }
    }
  }

  // One output channel of each half at a time: component x, then the rest move up.
  let o = group.y * 8u;
  let to = split * block.pixels * block.outs + o * image;
  var to0 = to + n0 * block.outs * image + r0;
  var to1 = to + n1 * block.outs * image + r1;
  let half = 4u * image;
  for (var i = o; i < min(o + 4u, block.outs); i++) {
    put(p0, to0, vec4<f32>(a0.x, a1.x, a2.x, a3.x));
    put(p1, to1, vec4<f32>(a4.x, a5.x, a6.x, a7.x));
    if (i + 4u < block.outs) {
      put(p0, to0 + half, vec4<f32>(b0.x, b1.x, b2.x, b3.x));
      put(p1, to1 + half, vec4<f32>(b4.x, b5.x, b6.x, b7.x));
    }
    to0 += image;
    to1 += image;
    a0 = a0.yzwx;
    a1 = a1.yzwx;
    a2 = a2.yzwx;
    a3 = a3.yzwx;
    a4 = a4.yzwx;
    a5 = a5.yzwx;
    a6 = a6.yzwx;
    a7 = a7.yzwx;
    b0 = b0.yzwx;
    b1 = b1.yzwx;
    b2 = b2.yzwx;
    b3 = b3.yzwx;
    b4 = b4.yzwx;
    b5 = b5.yzwx;
    b6 = b6.yzwx;
    b7 = b7.yzwx;
  }
}
