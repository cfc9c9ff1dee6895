// bce: y[i] = softplus(x[i]) - x[i]*t[i], the binary cross entropy of sigmoid(x)
// against targets t in a form that cannot overflow, i < n.
// Any layout; n counts Ts. Saved for backward: x and t.
// Cost: 12 bytes and about 14 FLOP per element.
// use: flat_index.wgsl
// use: sigmoid.wgsl

const WORKGROUP = 64u; // param

struct Block { n: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<T>;
@group(0) @binding(2) var<storage, read_write> targets: array<T>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  let v = x[i];
  y[i] = softplus(v) - v * targets[i];
}
