// flip: y[r,i] = x[r,width-1-i], the last axis reversed. Its own transpose.
// Cost: 8 bytes per element.
// use: flat_index.wgsl

const WORKGROUP = 64u; // param

struct Block { n: u32, width: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  let column = i % block.width;
  y[i] = x[i - column + (block.width - 1u - column)];
}
