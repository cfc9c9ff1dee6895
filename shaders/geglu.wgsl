// geglu: y[r,i] = x[r,i] * gelu(x[r,w+i]), i < w: a value times its gate.
//
// x: [rows,2w], y: [rows,w]; n and w count Ts, n of y.
// Saved for backward: x. Cost: 12 bytes and about 50 FLOP per element of y.
// use: flat_index.wgsl
// use: gelu.wgsl

const WORKGROUP = 64u; // param

struct Block { n: u32, width: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  let at = i + i / block.width * block.width;
  let gate = x[at + block.width];
  y[i] = x[at] * gate * normal_cdf(gate);
}
