// group_norm_params_bwd: the gradients of group_norm's parameters,
//   dgamma[c] = sum over n and pixels of d*xhat    (row 0)
//   dbeta[c]  = sum over n and pixels of d         (row 1)
// with d = dy, times silu'(v) with SILU where v = gamma*xhat + beta.
//
// x, dy: [N,C,...]; stats: [N,G,2]. One workgroup per channel and part, which is
// the pixels [k*part, (k+1)*part) of all images; ROWS rows of invocations over
// images, TEAM/ROWS columns over pixels, counted in Ts. dparams: [parts,2,C],
// added by a second launch where there are several parts.
// Cost: 8 bytes and about 20 FLOP per element.
// use: element.wgsl
// use: team.wgsl
// use: group_norm_slope.wgsl

const ROWS = 1u; // param

struct Block { images: u32, channels: u32, per_group: u32, pixels: u32, part: u32, slots: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> dy: array<T>;
@group(0) @binding(2) var<storage, read_write> x: array<T>;
@group(0) @binding(3) var<storage, read_write> stats: array<f32>;
@group(0) @binding(4) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(5) var<storage, read_write> beta: array<f32>;
@group(0) @binding(6) var<storage, read_write> dparams: array<f32>;

@compute @workgroup_size(TEAM)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) me: u32,
) {
  let slot = group.x + group.y * groups.x;
  if (slot >= block.slots) { return; }
  let c = slot % block.channels;
  let k = slot / block.channels;
  let start = k * block.part;
  let end = min(start + block.part, block.pixels);
  let row = me / (TEAM / ROWS);
  let column = me % (TEAM / ROWS);
  let scale = gamma[c];
  let shift = beta[c];

  var first = T(0.0);
  var second = T(0.0);
  for (var n = row; n < block.images; n += ROWS) {
    let plane = n * block.channels + c;
    let mean = stats[plane / block.per_group * 2u];
    let rstd = stats[plane / block.per_group * 2u + 1u];
    let line = plane * block.pixels;
    for (var i = line + start + column; i < line + end; i += TEAM / ROWS) {
      let xhat = (x[i] - T(mean)) * rstd;
      let d = dy[i] * slope(scale * xhat + T(shift));
      first += d * xhat;
      second += d;
    }
  }
  let sums = team_sum(vec2<f32>(total(first), total(second)), me);
  if (me == 0u) {
    dparams[k * 2u * block.channels + c] = sums.x;
    dparams[(k * 2u + 1u) * block.channels + c] = sums.y;
  }
}
