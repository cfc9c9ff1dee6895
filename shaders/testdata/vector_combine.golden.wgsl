// flat_index numbers invocations that graph/webgpu's fold spread over x and y.
// size is the workgroup size of x; the caller returns when the number is past
// its last element.
fn flat_index(id: vec3<u32>, groups: vec3<u32>, size: u32) -> u32 {
  return id.x + id.y * groups.x * size;
}
// vector_combine: dst = keep*dst + c.x*x0 + c.y*x1 + c.z*x2 + c.w*x3, using the
// first `terms` of the four.
//
// keep = 0 and unused terms are not read, so what lies there cannot poison the
// sum. dst is read through its own binding only: no binding overlaps another,
// as WebGPU demands of writable ones. Cost: up to 24 bytes and 10 FLOP per
// element.

const WORKGROUP = 16u;

struct Block { n: u32, terms: u32, keep: f32, unused: f32, c: vec4<f32> }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> dst: array<f32>;
@group(0) @binding(2) var<storage, read_write> x0: array<f32>;
@group(0) @binding(3) var<storage, read_write> x1: array<f32>;
@group(0) @binding(4) var<storage, read_write> x2: array<f32>;
@group(0) @binding(5) var<storage, read_write> x3: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  var sum = 0.0;
  if (block.keep != 0.0) { sum = block.keep * dst[i]; }
  if (block.terms > 0u) { sum += block.c.x * x0[i]; }
  if (block.terms > 1u) { sum += block.c.y * x1[i]; }
  if (block.terms > 2u) { sum += block.c.z * x2[i]; }
  if (block.terms > 3u) { sum += block.c.w * x3[i]; }
  dst[i] = sum;
}
