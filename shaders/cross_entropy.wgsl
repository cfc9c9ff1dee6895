// cross_entropy: loss[m] = ln(sum_k exp(x[m,k])) - x[m,label[m]], row by row.
//
// x: [M,K]; labels: [M], whole numbers carried as floats. One invocation per
// row, three passes over it. A label outside 0..K-1 gives NaN, handed in as a
// word because WGSL has no literal for it. Saved for backward: x and labels.
// Cost: 4*K bytes from memory and about 10*K FLOP per row.
// use: flat_index.wgsl

const WORKGROUP = 64u; // param

struct Block { rows: u32, classes: u32, nan: f32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> labels: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let m = flat_index(id, groups, WORKGROUP);
  if (m >= block.rows) { return; }
  let begin = m * block.classes;
  let end = begin + block.classes;
  var top = x[begin];
  for (var i = begin + 1u; i < end; i++) { top = max(top, x[i]); }
  var sum = 0.0;
  for (var i = begin; i < end; i++) { sum += exp(x[i] - top); }
  let label = labels[m];
  if (label >= 0.0 && label < f32(block.classes)) {
    loss[m] = log(sum) + (top - x[begin + u32(label)]);
  } else {
    loss[m] = block.nan;
  }
}
