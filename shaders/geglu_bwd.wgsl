// geglu_bwd: with value v = x[r,i] and gate u = x[r,w+i], i < w,
//   dx[r,i] = dy[r,i] * gelu(u)      dx[r,w+i] = dy[r,i] * v * gelu'(u)
//
// dy: [rows,w]; x, dx: [rows,2w]; n and w count Ts, n of dy.
// Cost: 20 bytes and about 80 FLOP per element of dy.
// use: flat_index.wgsl
// use: gelu.wgsl

const WORKGROUP = 64u; // param

struct Block { n: u32, width: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> dy: array<T>;
@group(0) @binding(2) var<storage, read_write> x: array<T>;
@group(0) @binding(3) var<storage, read_write> dx: array<T>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  let at = i + i / block.width * block.width;
  let value = x[at];
  let gate = x[at + block.width];
  let d = dy[i];
  dx[at] = d * gate * normal_cdf(gate);
  dx[at + block.width] = d * value * gelu_slope(gate);
}
