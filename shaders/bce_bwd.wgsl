// bce_bwd: dx[i] = dloss[i]*(sigmoid(x[i]) - t[i]), i < n. No gradient flows to
// the targets. Any layout; n counts Ts. Cost: 16 bytes and about 6 FLOP per element.
// use: flat_index.wgsl
// use: sigmoid.wgsl

const WORKGROUP = 64u; // param

struct Block { n: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<T>;
@group(0) @binding(2) var<storage, read_write> targets: array<T>;
@group(0) @binding(3) var<storage, read_write> dloss: array<T>;
@group(0) @binding(4) var<storage, read_write> dx: array<T>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  dx[i] = dloss[i] * (sigmoid(x[i]) - targets[i]);
}
