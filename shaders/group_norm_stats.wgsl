// group_norm_stats: stats[n,g] = (mean, 1/sqrt(var + eps)) of x over group g of
// image n, biased variance. x: [N,C,...], so a group is a contiguous run.
//
// One workgroup per part of a group reads it twice. The first pass gives the
// mean; the second sums d = x - mean and d^2 and corrects both moments by the
// mean of d, so that neither a large offset nor the rounding of the first sum
// hurts. With PARTS the result is (mean, var) of each part, which
// group_norm_merge.wgsl joins. The statistics are what the backward pass keeps
// besides x. size counts Ts of a group, part those of one part.
// Cost: 8 bytes and 5 FLOP per element.
// use: element.wgsl
// use: team.wgsl

const PARTS = false; // param

struct Block { slots: u32, size: u32, part: u32, parts: u32, eps: f32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<T>;
@group(0) @binding(2) var<storage, read_write> stats: array<f32>;

@compute @workgroup_size(TEAM)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) me: u32,
) {
  let slot = group.x + group.y * groups.x;
  if (slot >= block.slots) { return; }
  let start = slot % block.parts * block.part;
  let length = min(block.part, block.size - start);
  let begin = slot / block.parts * block.size + start;
  let end = begin + length;
  let count = f32(length) * WIDTH;

  var sum = T(0.0);
  for (var i = begin + me; i < end; i += TEAM) { sum += x[i]; }
  let guess = team_sum(vec2<f32>(total(sum), 0.0), me).x / count;

  var first = T(0.0);
  var second = T(0.0);
  for (var i = begin + me; i < end; i += TEAM) {
    let d = x[i] - T(guess);
    first += d;
    second += d * d;
  }
  let moments = team_sum(vec2<f32>(total(first), total(second)), me) / count;
  if (me == 0u) {
    let variance = max(moments.y - moments.x * moments.x, 0.0);
    stats[slot * 2u] = guess + moments.x;
    if (PARTS) {
      stats[slot * 2u + 1u] = variance;
    } else {
      stats[slot * 2u + 1u] = 1.0 / sqrt(variance + block.eps);
    }
  }
}
