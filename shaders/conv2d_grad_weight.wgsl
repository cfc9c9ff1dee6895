// conv2d_grad_weight: dw[o,c,i,j] = sum_{n,p,q} dy[n,o,p,q] x[n,c,p*S+i-top,q*S+j-left]
//
// dy, x: NCHW. A GEMM over pixels: an invocation keeps 8 output x 8 input
// channels of one tap in registers and walks rows of pixels, cut to the part
// that meets the image. The rows are split over invocations, each split writes
// its own partial dw, and reduce_sum adds them: no atomics, so the result does
// not vary from run to run. With one split the partial is dw itself.
// Cost: 2*N*O*OH*OW*C*KH*KW FLOP, 16 words read per 64 multiply-adds.
// use: flat_index.wgsl

const WORKGROUP = 64u; // param

struct Block {
  rows: u32,  // N * out_height
  split_rows: u32,  // rows of one split
  splits: u32,
  outs: u32,  // channels of dy
  channels: u32,  // of x
  height: i32,  // of x
  width: i32,
  out_height: u32,
  out_width: i32,
  taps_y: u32,
  taps_x: u32,
  stride: i32,
  top: i32,
  left: i32,
}

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> part: array<f32>;

// put stores one output channel against four input channels, those that exist.
fn put(to: u32, step: u32, c: u32, sum: vec4<f32>) {
  if (c < block.channels) { part[to + c * step] = sum.x; }
  if (c + 1u < block.channels) { part[to + (c + 1u) * step] = sum.y; }
  if (c + 2u < block.channels) { part[to + (c + 2u) * step] = sum.z; }
  if (c + 3u < block.channels) { part[to + (c + 3u) * step] = sum.w; }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  // Invocation -> (split, output tile, input tile, tap), taps fastest: their
  // neighbours read neighbouring pixels.
  let taps = block.taps_y * block.taps_x;
  let c_tiles = (block.channels + 7u) / 8u;
  let o_tiles = (block.outs + 7u) / 8u;
  let index = flat_index(id, groups, WORKGROUP);
  let tap = index % taps;
  let above = index / taps;
  let c = above % c_tiles * 8u;
  let higher = above / c_tiles;
  let o = higher % o_tiles * 8u;
  let split = higher / o_tiles;
  if (split >= block.splits) { return; }

  let i = i32(tap / block.taps_x) - block.top;
  let j = i32(tap % block.taps_x) - block.left;
  // Columns q with 0 <= q*S + j < width.
  let begin = max(0, (block.stride - 1 - j) / block.stride);
  let end = min(block.out_width, (block.width - 1 - j + block.stride) / block.stride);

  let image = block.out_height * u32(block.out_width);
  let plane = u32(block.height * block.width);
  let steps = vec4<u32>(0u, 1u, 2u, 3u);
  let dy0 = min(o + steps, vec4<u32>(block.outs - 1u)) * image;
  let dy1 = min(o + 4u + steps, vec4<u32>(block.outs - 1u)) * image;
  let x0 = min(c + steps, vec4<u32>(block.channels - 1u)) * plane;
  let x1 = min(c + 4u + steps, vec4<u32>(block.channels - 1u)) * plane;

  // a and b: output channels o..o+3 and o+4..o+7 against input channel c+k.
  var a0 = vec4<f32>(0.0);
  var a1 = a0;
  var a2 = a0;
  var a3 = a0;
  var a4 = a0;
  var a5 = a0;
  var a6 = a0;
  var a7 = a0;
  var b0 = a0;
  var b1 = a0;
  var b2 = a0;
  var b3 = a0;
  var b4 = a0;
  var b5 = a0;
  var b6 = a0;
  var b7 = a0;

  let first = split * block.split_rows;
  for (var row = first; row < min(first + block.split_rows, block.rows); row++) {
    let n = row / block.out_height;
    let p = row - n * block.out_height;
    let source = i32(p) * block.stride + i;
    if (source < 0 || source >= block.height) { continue; }
    let at_dy = n * block.outs * image + p * u32(block.out_width);
    let at_x = n * block.channels * plane + u32(source * block.width);
    for (var q = begin; q < end; q++) {
      let start = at_dy + u32(q);
      let d0 = dy0 + start;
      let d1 = dy1 + start;
      let u = vec4<f32>(dy[d0.x], dy[d0.y], dy[d0.z], dy[d0.w]);
      let v = vec4<f32>(dy[d1.x], dy[d1.y], dy[d1.z], dy[d1.w]);
      let at = at_x + u32(q * block.stride + j);
      let e0 = x0 + at;
      let e1 = x1 + at;
      let s = vec4<f32>(x[e0.x], x[e0.y], x[e0.z], x[e0.w]);
      let t = vec4<f32>(x[e1.x], x[e1.y], x[e1.z], x[e1.w]);
      a0 = fma(s.xxxx, u, a0);
      b0 = fma(s.xxxx, v, b0);
      a1 = fma(s.yyyy, u, a1);
      b1 = fma(s.yyyy, v, b1);
      a2 = fma(s.zzzz, u, a2);
      b2 = fma(s.zzzz, v, b2);
      a3 = fma(s.wwww, u, a3);
      b3 = fma(s.wwww, v, b3);
      a4 = fma(t.xxxx, u, a4);
      b4 = fma(t.xxxx, v, b4);
      a5 = fma(t.yyyy, u, a5);
      b5 = fma(t.yyyy, v, b5);
      a6 = fma(t.zzzz, u, a6);
      b6 = fma(t.zzzz, v, b6);
      a7 = fma(t.wwww, u, a7);
      b7 = fma(t.wwww, v, b7);
    }
  }

  // One output channel of each half at a time: component x, then the rest move up.
  let row_size = block.channels * taps;
  var to = (split * block.outs + o) * row_size + tap;
  for (var k = o; k < min(o + 4u, block.outs); k++) {
    put(to, taps, c, vec4<f32>(a0.x, a1.x, a2.x, a3.x));
    put(to, taps, c + 4u, vec4<f32>(a4.x, a5.x, a6.x, a7.x));
    if (k + 4u < block.outs) {
      put(to + 4u * row_size, taps, c, vec4<f32>(b0.x, b1.x, b2.x, b3.x));
      put(to + 4u * row_size, taps, c + 4u, vec4<f32>(b4.x, b5.x, b6.x, b7.x));
    }
    to += row_size;
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
