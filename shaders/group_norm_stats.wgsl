// group_norm_stats: stats[n,g] = (mean, 1/sqrt(var + eps)) of x over group g of
// image n, biased variance. x: [N,C,...], so a group is a contiguous run.
//
// One workgroup per group reads the run twice. The first pass gives the mean;
// the second sums d = x - mean and d^2 and corrects both moments by the mean of
// d, so that neither a large offset nor the rounding of the first sum hurts.
// The statistics are what the backward pass keeps besides x. size counts Ts.
// Cost: 8 bytes and 5 FLOP per element.
// use: element.wgsl
// use: team.wgsl

struct Block { runs: u32, size: u32, eps: f32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<T>;
@group(0) @binding(2) var<storage, read_write> stats: array<f32>;

@compute @workgroup_size(TEAM)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) me: u32,
) {
  let run = group.x + group.y * groups.x;
  if (run >= block.runs) { return; }
  let begin = run * block.size;
  let end = begin + block.size;
  let count = f32(block.size) * WIDTH;

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
    stats[run * 2u] = guess + moments.x;
    stats[run * 2u + 1u] = 1.0 / sqrt(max(moments.y - moments.x * moments.x, 0.0) + block.eps);
  }
}
