// attention_bwd: the gradients of attention with respect to queries and keys.
// With p[r,j] = exp(scale*q[r].k[j] - lse[r]), recomputed, never stored:
//   ds[r,j] = scale * p[r,j] * (dy[r].v[j] - delta[r])
//   dq[r]   = sum_j ds[r,j] k[j]        OWN_QUERY: own = q, pair = dy; over k, v
//   dk[j]   = sum_r ds[r,j] q[r]        otherwise: own = k, pair = v;  over q, dy
//
// One invocation per (image, head, own row) streams over the other side's rows,
// 8 at a time, and keeps its sum in grad itself. own, pair, grad: [N,rows,C];
// other, other_pair: [N,others,C]; lse, delta: [N,heads,Lq]. All extents of
// channels count Ts. Cost: 6*N*Lq*Lk*C FLOP.
// use: flat_index.wgsl
// use: element.wgsl

const WORKGROUP = 64u;   // param
const OWN_QUERY = true;  // param
const OTHERS = 8u;

struct Block { n: u32, rows: u32, others: u32, heads: u32, channels: u32, width: u32, scale: f32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> own: array<T>;
@group(0) @binding(2) var<storage, read_write> own_pair: array<T>;
@group(0) @binding(3) var<storage, read_write> other: array<T>;
@group(0) @binding(4) var<storage, read_write> other_pair: array<T>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;
@group(0) @binding(6) var<storage, read_write> delta: array<f32>;
@group(0) @binding(7) var<storage, read_write> grad: array<T>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let index = flat_index(id, groups, WORKGROUP);
  if (index >= block.n) { return; }
  let pair = index / block.rows;
  let image = pair / block.heads;
  let channel = (pair - image * block.heads) * block.width;
  let here = (image * block.rows + index - pair * block.rows) * block.channels + channel;
  let base = image * block.others * block.channels + channel;

  for (var first = 0u; first < block.others; first += OTHERS) {
    var rows: array<u32, OTHERS>;
    var dots: array<T, OTHERS>;
    var slopes: array<T, OTHERS>;
    for (var j = 0u; j < OTHERS; j++) {
      rows[j] = base + min(first + j, block.others - 1u) * block.channels;
      dots[j] = T(0.0);
      slopes[j] = T(0.0);
    }
    for (var d = 0u; d < block.width; d++) {
      let a = own[here + d];
      let b = own_pair[here + d];
      for (var j = 0u; j < OTHERS; j++) {
        dots[j] += a * other[rows[j] + d];
        slopes[j] += b * other_pair[rows[j] + d];
      }
    }
    var weights: array<f32, OTHERS>;
    for (var j = 0u; j < OTHERS; j++) {
      var query = index;
      if (!OWN_QUERY) { query = pair * block.others + min(first + j, block.others - 1u); }
      let p = exp(block.scale * total(dots[j]) - lse[query]);
      weights[j] = select(0.0, block.scale * p * (total(slopes[j]) - delta[query]), first + j < block.others);
    }
    for (var d = 0u; d < block.width; d++) {
      var sum = T(0.0);
      if (first > 0u) { sum = grad[here + d]; }
      for (var j = 0u; j < OTHERS; j++) { sum += weights[j] * other[rows[j] + d]; }
      grad[here + d] = sum;
    }
  }
}
