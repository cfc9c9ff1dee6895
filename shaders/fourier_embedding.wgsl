// fourier_embedding: y[b,i] = sin(2*pi*w[i]*t[b]), y[b,half+i] = cos(...), i < half,
// the other way round with FLIP; with LOG of ln(t[b]) instead of t[b]: diffusers'
// GaussianFourierProjection.
//
// t: [B], w: [half], y: [B,2*half]. The products w*t are whole turns and a rest
// that is exact. No gradient. Cost: about 40 FLOP per pair.
// use: flat_index.wgsl
// use: turn.wgsl

const WORKGROUP = 64u; // param
const FLIP = false;    // param
const LOG = false;     // param

struct Block { n: u32, half: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> t: array<f32>;
@group(0) @binding(2) var<storage, read_write> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let at = flat_index(id, groups, WORKGROUP);
  if (at >= block.n) { return; }
  let row = at / block.half;
  let i = at - row * block.half;
  var time = t[row];
  if (LOG) { time = log(time); }
  let turns = time * w[i];
  let circle = turn(turns - floor(turns + 0.5));
  let to = row * 2u * block.half + i;
  if (FLIP) {
    y[to] = circle.x;
    y[to + block.half] = circle.y;
  } else {
    y[to] = circle.y;
    y[to + block.half] = circle.x;
  }
}
