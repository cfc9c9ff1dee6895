// flat_index numbers invocations that graph/webgpu's fold spread over x and y.
// size is the workgroup size of x; the caller returns when the number is past
// its last element.
fn flat_index(id: vec3<u32>, groups: vec3<u32>, size: u32) -> u32 {
  return id.x + id.y * groups.x * size;
}
// vector_copy: dst[i] = src[i], i < n.
//
// Feeds graph inputs and fetches results inside the compute pass of a network
// call. Cost: 8 bytes of traffic per element.

const WORKGROUP = 256u;

struct Block { n: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> dst: array<u32>;
@group(0) @binding(2) var<storage, read_write> src: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  dst[i] = src[i];
}
