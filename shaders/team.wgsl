// team sums over a workgroup of TEAM invocations, a power of two, in a fixed
// order. Every invocation calls it, in uniform control flow, and all receive
// the total. Two sums travel together because most reductions here want two.
const TEAM = 64u; // param

var<workgroup> team_sums: array<vec2<f32>, TEAM>;

fn team_sum(value: vec2<f32>, me: u32) -> vec2<f32> {
  team_sums[me] = value;
  workgroupBarrier();
  for (var half = TEAM / 2u; half > 0u; half /= 2u) {
    if (me < half) { team_sums[me] += team_sums[me + half]; }
    workgroupBarrier();
  }
  let total = team_sums[0];
  workgroupBarrier();
  return total;
}
