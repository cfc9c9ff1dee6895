// reduce_sum: y[s,p] = sum over split s of r and q of x[r,p,q], x viewed as [R,P,Q].
//
// SERIAL: one invocation per sum, for many short sums. Otherwise one workgroup
// per sum; its invocations form ROWS rows over r and TEAM/ROWS columns over q.
// A split is split_r values of r and split_q values of q; more than one split
// needs a second launch that adds [S,P,1]. The order is fixed, so the result
// does not vary from run to run. The backward pass is repeat.wgsl.
// Cost: 4 bytes and 1 FLOP per element.
// use: flat_index.wgsl
// use: team.wgsl

const SERIAL = false; // param
const ROWS = 1u;      // param

struct Block { r: u32, p: u32, q: u32, split_r: u32, split_q: u32, splits_q: u32, sums: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(TEAM)
fn main(
  @builtin(global_invocation_id) id: vec3<u32>,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) me: u32,
) {
  var slot = group.x + group.y * groups.x;
  var row = me / (TEAM / ROWS);
  var column = me % (TEAM / ROWS);
  var rows = ROWS;
  var columns = TEAM / ROWS;
  if (SERIAL) {
    slot = flat_index(id, groups, TEAM);
    row = 0u;
    column = 0u;
    rows = 1u;
    columns = 1u;
  }
  var sum = 0.0;
  if (slot < block.sums) {
    let split = slot / block.p;
    let p = slot - split * block.p;
    let r0 = split / block.splits_q * block.split_r;
    let q0 = split % block.splits_q * block.split_q;
    let r1 = min(r0 + block.split_r, block.r);
    let q1 = min(q0 + block.split_q, block.q);
    for (var r = r0 + row; r < r1; r += rows) {
      let line = (r * block.p + p) * block.q;
      for (var q = q0 + column; q < q1; q += columns) {
        sum += x[line + q];
      }
    }
  }
  if (!SERIAL) { sum = team_sum(vec2<f32>(sum, 0.0), me).x; }
  if (slot < block.sums && (SERIAL || me == 0u)) { y[slot] = sum; }
}
