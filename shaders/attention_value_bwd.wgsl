// attention_value_bwd: dv[n,j,h,:] = sum_r p[r,j] dy[n,r,h,:] with
// p[r,j] = exp(scale*q[r].k[j] - lse[r]), recomputed, never stored.
//
// q, dy: [N,Lq,C]; k, dv: [N,Lk,C]; lse: [N,heads,Lq]. All extents of channels
// count Ts. One invocation per (image, head, key) streams over queries, 8 at a
// time, and keeps its sum in dv itself. Cost: 4*N*Lq*Lk*C FLOP.
// use: flat_index.wgsl
// use: element.wgsl

const WORKGROUP = 64u; // param
const QUERIES = 8u;

struct Block { n: u32, keys: u32, queries: u32, heads: u32, channels: u32, width: u32, scale: f32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> q: array<T>;
@group(0) @binding(2) var<storage, read_write> k: array<T>;
@group(0) @binding(3) var<storage, read_write> dy: array<T>;
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;
@group(0) @binding(5) var<storage, read_write> dv: array<T>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let index = flat_index(id, groups, WORKGROUP);
  if (index >= block.n) { return; }
  let pair = index / block.keys;
  let image = pair / block.heads;
  let channel = (pair - image * block.heads) * block.width;
  let here = (image * block.keys + index - pair * block.keys) * block.channels + channel;
  let base = image * block.queries * block.channels + channel;

  for (var first = 0u; first < block.queries; first += QUERIES) {
    var rows: array<u32, QUERIES>;
    var dots: array<T, QUERIES>;
    for (var r = 0u; r < QUERIES; r++) {
      rows[r] = base + min(first + r, block.queries - 1u) * block.channels;
      dots[r] = T(0.0);
    }
    for (var d = 0u; d < block.width; d++) {
      let a = k[here + d];
      for (var r = 0u; r < QUERIES; r++) { dots[r] += a * q[rows[r] + d]; }
    }
    var weights: array<f32, QUERIES>;
    for (var r = 0u; r < QUERIES; r++) {
      let query = min(first + r, block.queries - 1u);
      let p = exp(block.scale * total(dots[r]) - lse[pair * block.queries + query]);
      weights[r] = select(0.0, p, first + r < block.queries);
    }
    for (var d = 0u; d < block.width; d++) {
      var sum = T(0.0);
      if (first > 0u) { sum = dv[here + d]; }
      for (var r = 0u; r < QUERIES; r++) { sum += weights[r] * dy[rows[r] + d]; }
      dv[here + d] = sum;
    }
  }
}
