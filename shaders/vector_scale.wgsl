// vector_scale: v[i] *= scales[first + i/cols], i < n: row r of v is scaled by
// scales[first+r]. Cost: 8 bytes and 1 FLOP per element.
// use: flat_index.wgsl

const WORKGROUP = 256u; // param

struct Block { n: u32, cols: u32, first: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> v: array<f32>;
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  v[i] *= scales[block.first + i / block.cols];
}
