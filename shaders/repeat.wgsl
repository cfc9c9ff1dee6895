// repeat: y[r,p,q] = b[p] with y viewed as [R,P,Q]: the transpose of reduce_sum.
// n and q count Ts.
// Cost: 4 bytes per element.
// use: flat_index.wgsl
// use: element.wgsl

const WORKGROUP = 64u; // param

struct Block { n: u32, p: u32, q: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  y[i] = T(b[i / block.q % block.p]);
}
