// attention_value_bwd: dv[n,j,h,:] = sum_r p[r,j] dy[n,r,h,:] with
// p[r,j] = exp(scale*q[r].k[j] - lse[r]), recomputed, never stored.
//
// q, dy: [N,Lq,C]; k, dv: [N,Lk,C]; lse: [N,heads,Lq]. An invocation owns a few
// keys, streams over the queries and keeps its sums in dv itself.
// Cost: 4*N*Lq*Lk*C FLOP.
// use: flat_index.wgsl
// use: attention_tile.wgsl

const WORKGROUP = 64u; // param

@group(0) @binding(1) var<storage, read_write> q: array<T>;
@group(0) @binding(2) var<storage, read_write> k: array<T>;
@group(0) @binding(3) var<storage, read_write> dy: array<T>;
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;
@group(0) @binding(5) var<storage, read_write> dv: array<T>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let index = flat_index(id, groups, WORKGROUP);
  if (index >= block.n) { return; }
  var tile = locate(index);

  let start = first_query(tile.first);
  for (var first = max(start, block.start); first < block.end; first += OTHERS) {
    var rows = other_rows(tile.others, first);
    var dots = array<T, CELLS>();
    for (var d = 0u; d < block.width; d++) {
      var a: array<T, OWN>;
      for (var r = 0u; r < OWN; r++) { a[r] = k[tile.own[r] + d]; }
      for (var j = 0u; j < OTHERS; j++) {
        let b = q[rows[j] + d];
        for (var r = 0u; r < OWN; r++) { dots[j * OWN + r] = fma(a[r], b, dots[j * OWN + r]); }
      }
    }
    var weights: array<f32, CELLS>;
    for (var j = 0u; j < OTHERS; j++) {
      let query = min(first + j, block.others - 1u);
      let level = lse[tile.pair * block.others + query];
      for (var r = 0u; r < OWN; r++) {
        let p = exp(block.scale * total(dots[j * OWN + r]) - level);
        let counts = first + j < block.end && seen(query, own_row(tile.first, r));
        weights[j * OWN + r] = select(0.0, p, counts);
      }
    }
    for (var d = 0u; d < block.width; d++) {
      var sum = array<T, OWN>();
      for (var r = 0u; r < OWN; r++) {
        if (first > start) { sum[r] = dv[tile.own[r] + d]; }
      }
      for (var j = 0u; j < OTHERS; j++) {
        let b = dy[rows[j] + d];
        for (var r = 0u; r < OWN; r++) { sum[r] = fma(T(weights[j * OWN + r]), b, sum[r]); }
      }
      for (var r = 0u; r < OWN; r++) { dv[tile.own[r] + d] = sum[r]; }
    }
  }
}
