// transpose: y[n,b,a] = x[n,a,b], x: [N,A,B], y: [N,B,A]. Its own transpose.
// Writes are contiguous over invocations, reads are B apart. Cost: 8 bytes per element.
// use: flat_index.wgsl

const WORKGROUP = 64u; // param

struct Block { n: u32, a: u32, b: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  let row = i / block.a;
  let matrix = row / block.b;
  y[i] = x[(matrix * block.a + i - row * block.a) * block.b + row - matrix * block.b];
}
