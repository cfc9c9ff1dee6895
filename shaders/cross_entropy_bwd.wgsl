// cross_entropy_bwd: dx[m,k] = dloss[m]*(softmax(x[m])[k] - [k = label[m]]).
//
// x, dx: [M,K]; labels, dloss: [M]. One invocation per row, three passes over
// it; the softmax is recomputed. Labels get no gradient.
// Cost: 8*K bytes and about 16*K FLOP per row.
// use: flat_index.wgsl

const WORKGROUP = 64u; // param

struct Block { rows: u32, classes: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> labels: array<f32>;
@group(0) @binding(3) var<storage, read_write> dloss: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let m = flat_index(id, groups, WORKGROUP);
  if (m >= block.rows) { return; }
  let begin = m * block.classes;
  var top = x[begin];
  for (var k = 1u; k < block.classes; k++) { top = max(top, x[begin + k]); }
  var sum = 0.0;
  for (var k = 0u; k < block.classes; k++) { sum += exp(x[begin + k] - top); }
  let seed = dloss[m];
  for (var k = 0u; k < block.classes; k++) {
    let hot = select(0.0, 1.0, f32(k) == labels[m]);
    dx[begin + k] = seed * (exp(x[begin + k] - top) / sum - hot);
  }
}
