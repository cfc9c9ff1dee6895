// embedding_bwd: dtable[v,d] = sum of dy[m,d] over the m with index[m] = v.
// dy: [M,D]; index: [M]; dtable: [V,D]. One invocation per element of dtable
// scans all indices, so the order of additions is fixed and no atomics are
// needed; meant for small M. Cost: 4*M bytes per element of dtable.
// use: flat_index.wgsl

const WORKGROUP = 64u; // param

struct Block { n: u32, width: u32, count: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> index: array<f32>;
@group(0) @binding(3) var<storage, read_write> dtable: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let at = flat_index(id, groups, WORKGROUP);
  if (at >= block.n) { return; }
  let v = at / block.width;
  let d = at - v * block.width;
  var sum = 0.0;
  for (var m = 0u; m < block.count; m++) {
    if (i32(index[m]) == i32(v)) { sum += dy[m * block.width + d]; }
  }
  dtable[at] = sum;
}
