// affine: y[i] = scale*x[i] + shift, i < n.
// Any layout; n counts Ts.
// The backward pass is affine too. Cost: 8 bytes and 2 FLOP per element.
// use: flat_index.wgsl
// use: element.wgsl

const WORKGROUP = 64u; // param

struct Block { n: u32, scale: f32, shift: f32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  y[i] = block.scale * x[i] + T(block.shift);
}
