// attention: y[n,r,h,:] = sum_j softmax_j(scale * q[n,r,h,:].k[n,j,h,:]) v[n,j,h,:]
//
// q, y: [N,Lq,C]; k, v: [N,Lk,C]; head h owns C/heads contiguous channels. All
// extents of channels count Ts. One invocation per (image, head, query) streams
// over keys, 8 at a time, with a running maximum (arXiv 2205.14135): no score
// is ever stored. The weighted sum is kept in y itself, so the width of a head
// is not limited by registers. Saved for backward: one log-sum-exp per query,
// by attention_lse.wgsl. Cost: 4*N*Lq*Lk*C FLOP.
// use: flat_index.wgsl
// use: element.wgsl

const WORKGROUP = 64u; // param
const KEYS = 8u;

struct Block { n: u32, queries: u32, keys: u32, heads: u32, channels: u32, width: u32, scale: f32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> q: array<T>;
@group(0) @binding(2) var<storage, read_write> k: array<T>;
@group(0) @binding(3) var<storage, read_write> v: array<T>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let index = flat_index(id, groups, WORKGROUP);
  if (index >= block.n) { return; }
  let pair = index / block.queries;
  let image = pair / block.heads;
  let channel = (pair - image * block.heads) * block.width;
  let own = (image * block.queries + index - pair * block.queries) * block.channels + channel;
  let base = image * block.keys * block.channels + channel;

  var top = -3.0e38;
  var sum = 0.0;
  for (var first = 0u; first < block.keys; first += KEYS) {
    var rows: array<u32, KEYS>;
    var dots: array<T, KEYS>;
    for (var j = 0u; j < KEYS; j++) {
      rows[j] = base + min(first + j, block.keys - 1u) * block.channels;
      dots[j] = T(0.0);
    }
    for (var d = 0u; d < block.width; d++) {
      let a = q[own + d];
      for (var j = 0u; j < KEYS; j++) { dots[j] += a * k[rows[j] + d]; }
    }
    var scores: array<f32, KEYS>;
    var highest = top;
    for (var j = 0u; j < KEYS; j++) {
      scores[j] = select(-3.0e38, block.scale * total(dots[j]), first + j < block.keys);
      highest = max(highest, scores[j]);
    }
    let fade = exp(top - highest);
    top = highest;
    sum *= fade;
    for (var j = 0u; j < KEYS; j++) {
      scores[j] = exp(scores[j] - top);
      sum += scores[j];
    }
    for (var d = 0u; d < block.width; d++) {
      var mix = T(0.0);
      if (first > 0u) { mix = y[own + d] * fade; }
      for (var j = 0u; j < KEYS; j++) { mix += scores[j] * v[rows[j] + d]; }
      y[own + d] = mix;
    }
  }
  for (var d = 0u; d < block.width; d++) { y[own + d] = y[own + d] / sum; }
}
