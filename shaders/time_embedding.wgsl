// time_embedding: y[b,i] = sin(t[b]*f[i]), y[b,half+i] = cos(t[b]*f[i]) for
// i < half = floor(dim/2), the other way round with FLIP, and 0 in the last
// column of an odd dim. f[i] = exp(-ln(period)*i/(half - shift)), diffusers'
// get_timestep_embedding.
//
// t: [B], y: [B,dim]. t*f reaches a thousand radians, where f32 has lost four
// digits and WGSL's sin is unspecified. So the frequencies come from float64 as
// turns, f/2pi, in three parts of 12 bits each: t times a part is exact for
// whole t < 4096, whole turns drop out exactly, and Cephes' polynomials take
// the rest. No gradient. Cost: about 40 FLOP per pair.
// use: flat_index.wgsl
// use: turn.wgsl

const WORKGROUP = 64u; // param
const HALF = 1u;       // param
const FLIP = false;    // param

struct Block { rows: u32, dim: u32, unused: vec2<u32>, turns: array<vec4<f32>, HALF> }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> t: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let at = flat_index(id, groups, WORKGROUP);
  if (at >= block.rows * HALF) { return; }
  let row = at / HALF;
  let i = at - row * HALF;
  let part = t[row] * block.turns[i].xyz;
  let rest = part - floor(part);
  let sum = rest.x + rest.y + rest.z;
  let circle = turn(sum - floor(sum + 0.5));
  let to = row * block.dim;
  if (FLIP) {
    y[to + i] = circle.x;
    y[to + HALF + i] = circle.y;
  } else {
    y[to + i] = circle.y;
    y[to + HALF + i] = circle.x;
  }
  if (i == 0u && block.dim % 2u == 1u) { y[to + block.dim - 1u] = 0.0; }
}
