// group_norm_bwd: the gradient of group_norm with respect to x, through the
// statistics. With xhat = (x - mean)*rstd and d = dy*gamma, times silu'(v) with
// SILU where v = gamma*xhat + beta is recomputed:
//   dx = rstd*(d - mean(d) - xhat*mean(d*xhat)), means over the group.
//
// x, dy, dx: [N,C,...]; stats: [N,G,2]. One workgroup per group sums, then
// writes; ROWS rows of invocations over channels, TEAM/ROWS columns over pixels,
// counted in Ts. Where a group is cut into parts, each the pixels [k*part,
// (k+1)*part) of its channels, SUM writes sums [parts,N*G,2] of the parts alone,
// and once these are added WRITE reads [N*G,2] and writes dx.
// Cost: 20 bytes and about 35 FLOP per element.
// use: element.wgsl
// use: team.wgsl
// use: group_norm_slope.wgsl

const ROWS = 1u;    // param
const SUM = true;   // param
const WRITE = true; // param

struct Block { runs: u32, groups: u32, per_group: u32, pixels: u32, part: u32, slots: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> dy: array<T>;
@group(0) @binding(2) var<storage, read_write> x: array<T>;
@group(0) @binding(3) var<storage, read_write> stats: array<f32>;
@group(0) @binding(4) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(5) var<storage, read_write> beta: array<f32>;
@group(0) @binding(6) var<storage, read_write> dx: array<T>;
@group(0) @binding(7) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(TEAM)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) me: u32,
) {
  let slot = group.x + group.y * groups.x;
  if (slot >= block.slots) { return; }
  let run = slot % block.runs;
  let start = slot / block.runs * block.part;
  let end = min(start + block.part, block.pixels);
  let row = me / (TEAM / ROWS);
  let column = me % (TEAM / ROWS);
  let channel = run % block.groups * block.per_group;
  let mean = stats[run * 2u];
  let rstd = stats[run * 2u + 1u];

  var whole = vec2<f32>();
  if (SUM) {
    var first = T(0.0);
    var second = T(0.0);
    for (var k = row; k < block.per_group; k += ROWS) {
      let scale = gamma[channel + k];
      let shift = beta[channel + k];
      let line = (run * block.per_group + k) * block.pixels;
      for (var i = line + start + column; i < line + end; i += TEAM / ROWS) {
        let xhat = (x[i] - T(mean)) * rstd;
        let d = dy[i] * slope(scale * xhat + T(shift)) * scale;
        first += d;
        second += d * xhat;
      }
    }
    whole = team_sum(vec2<f32>(total(first), total(second)), me);
  }
  if (!WRITE) {
    if (me == 0u) {
      sums[slot * 2u] = whole.x;
      sums[slot * 2u + 1u] = whole.y;
    }
    return;
  }
  if (!SUM) { whole = vec2<f32>(sums[run * 2u], sums[run * 2u + 1u]); }
  let means = whole / (f32(block.per_group * block.pixels) * WIDTH);
  for (var k = row; k < block.per_group; k += ROWS) {
    let scale = gamma[channel + k];
    let shift = beta[channel + k];
    let line = (run * block.per_group + k) * block.pixels;
    for (var i = line + start + column; i < line + end; i += TEAM / ROWS) {
      let xhat = (x[i] - T(mean)) * rstd;
      let d = dy[i] * slope(scale * xhat + T(shift)) * scale;
      dx[i] = rstd * (d - T(means.x) - xhat * means.y);
    }
  }
}
