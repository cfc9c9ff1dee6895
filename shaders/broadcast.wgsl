// broadcast: with x and y viewed as [R,P,Q] and b as [P], OPERATION
//   0  y[r,p,q] = x[r,p,q] + b[p]
//   1  y[r,p,q] = x[r,p,q] * b[p]
// n and q count Ts.
// Saved for backward: x and b for the product. Cost: 8 bytes and 1 FLOP per element.
// use: flat_index.wgsl
// use: element.wgsl

const WORKGROUP = 64u; // param
const OPERATION = 0u;  // param

struct Block { n: u32, p: u32, q: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<T>;
@group(0) @binding(2) var<storage, read_write> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  let v = T(b[i / block.q % block.p]);
  if (OPERATION == 0u) {
    y[i] = x[i] + v;
  } else {
    y[i] = x[i] * v;
  }
}
