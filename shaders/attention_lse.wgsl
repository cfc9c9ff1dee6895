// attention_lse: lse[n,h,r] = ln(sum_j exp(scale * q[n,r,h,:].k[n,j,h,:]))
//
// q: [N,Lq,C]; k: [N,Lk,C]; lse: [N,heads,Lq]. All extents of channels count Ts.
// One invocation per (image, head, query) streams over keys, 8 at a time. This
// is all the backward pass of attention keeps besides its operands.
// Cost: 2*N*Lq*Lk*C FLOP.
// use: flat_index.wgsl
// use: element.wgsl

const WORKGROUP = 64u; // param
const KEYS = 8u;

struct Block { n: u32, queries: u32, keys: u32, heads: u32, channels: u32, width: u32, scale: f32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> q: array<T>;
@group(0) @binding(2) var<storage, read_write> k: array<T>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;

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
    sum *= exp(top - highest);
    top = highest;
    for (var j = 0u; j < KEYS; j++) { sum += exp(scores[j] - top); }
  }
  lse[index] = top + log(sum);
}
