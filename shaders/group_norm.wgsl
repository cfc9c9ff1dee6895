// group_norm: v = gamma[c]*(x - mean)*rstd + beta[c]; y = v, or with SILU
// y = v*sigmoid(v).
//
// x, y: [N,C,...]; stats: [N,G,2] of group_norm_stats. n counts Ts, pixels Ts
// per channel. Saved for backward: x and stats; the activation is recomputed.
// Cost: 8 bytes and 4 FLOP (12 with SILU) per element.
// use: flat_index.wgsl
// use: sigmoid.wgsl

const WORKGROUP = 64u; // param
const SILU = false;    // param

struct Block { n: u32, pixels: u32, channels: u32, per_group: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<T>;
@group(0) @binding(2) var<storage, read_write> stats: array<f32>;
@group(0) @binding(3) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(4) var<storage, read_write> beta: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<T>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  let plane = i / block.pixels;
  let c = plane % block.channels;
  let at = plane / block.per_group * 2u;
  let v = (x[i] - T(stats[at])) * (stats[at + 1u] * gamma[c]) + T(beta[c]);
  if (SILU) {
    y[i] = v * sigmoid(v);
  } else {
    y[i] = v;
  }
}
