// vector_dots: partial[r*chunks + k] = sum of x[i]*y[i] over chunk k of row r.
//
// One workgroup sums one chunk of CHUNK elements in a fixed
// order; the caller adds the partial sums in float64, so the result is
// deterministic and its error does not grow with the row. SAME reads x for y,
// because the same range must not be bound twice. Cost: 8 bytes and 2 FLOP per
// element.

const WORKGROUP = 16u;
const CHUNK = 4096u;
const SAME = true;

struct Block { rows: u32, cols: u32, chunks: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

var<workgroup> lane: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) me: u32,
) {
  let slot = group.x + group.y * groups.x;
  let row = slot / block.chunks;
  let chunk = slot % block.chunks;
  var sum = 0.0;
  if (row < block.rows) {
    let end = min((chunk + 1u) * CHUNK, block.cols);
    for (var col = chunk * CHUNK + me; col < end; col += WORKGROUP) {
      let i = row * block.cols + col;
      let a = x[i];
      var b = a;
      if (!SAME) { b = y[i]; }
      sum += a * b;
    }
  }
  lane[me] = sum;
  workgroupBarrier();
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    if (me < half) { lane[me] += lane[me + half]; }
    workgroupBarrier();
  }
  if (me == 0u && row < block.rows) { sums[slot] = lane[0]; }
}
