// group_norm_merge: stats[run] = (mean, 1/sqrt(var + eps)) of a group from the
// (mean, var) of its parts, by the pairwise rule of Chan, Golub and LeVeque (1983).
//
// moments: [runs,parts,2]; stats: [runs,2]. A group of size Ts is cut into parts
// of part Ts, the last of which may be shorter. One invocation per group.
// Cost: 8 bytes per part.
// use: flat_index.wgsl

const WORKGROUP = 64u; // param

struct Block { runs: u32, size: u32, part: u32, parts: u32, eps: f32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> moments: array<f32>;
@group(0) @binding(2) var<storage, read_write> stats: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let run = flat_index(id, groups, WORKGROUP);
  if (run >= block.runs) { return; }
  var mean = 0.0;
  var variance = 0.0;
  for (var k = 0u; k < block.parts; k++) {
    let at = (run * block.parts + k) * 2u;
    let end = min((k + 1u) * block.part, block.size);
    let share = f32(end - k * block.part) / f32(end); // of what was seen so far
    let d = moments[at] - mean;
    mean += d * share;
    variance += (moments[at + 1u] - variance + d * d * (1.0 - share)) * share;
  }
  stats[run * 2u] = mean;
  stats[run * 2u + 1u] = 1.0 / sqrt(variance + block.eps);
}
