// attention: y[n,r,h,:] = sum_j softmax_j(scale * q[n,r,h,:].k[n,j,h,:]) v[n,j,h,:]
// with j up to r only if CAUSAL.
//
// q, y: [N,Lq,C]; k, v: [N,Lk,C]. An invocation owns a few queries and streams
// over the keys with a running maximum (arXiv 2205.14135): no score is ever
// stored. The weighted sum is kept in y itself, so the width of a head is not
// limited by registers; where several dispatches share the keys, state [N,heads,Lq]
// has the log-sum-exp of those before. Saved for backward: one log-sum-exp per query, by
// attention_lse.wgsl. Cost: 4*N*Lq*Lk*C FLOP.
// use: flat_index.wgsl
// use: attention_tile.wgsl

const WORKGROUP = 64u; // param
const PARTS = false;   // param

@group(0) @binding(1) var<storage, read_write> q: array<T>;
@group(0) @binding(2) var<storage, read_write> k: array<T>;
@group(0) @binding(3) var<storage, read_write> v: array<T>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;
@group(0) @binding(5) var<storage, read_write> state: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let index = flat_index(id, groups, WORKGROUP);
  if (index >= block.n) { return; }
  var tile = locate(index);

  var tops = array<f32, OWN>();
  var sums = array<f32, OWN>();
  for (var r = 0u; r < OWN; r++) { tops[r] = LOWEST; }
  let end = min(last_key(tile.first), block.end);
  if (PARTS && block.start > 0u) {
    if (end <= block.start) { return; }
    for (var r = 0u; r < OWN; r++) {
      tops[r] = state[tile.pair * block.rows + own_row(tile.first, r)];
      sums[r] = 1.0;
    }
  }
  for (var first = block.start; first < end; first += OTHERS) {
    var rows = other_rows(tile.others, first);
    var dots = array<T, CELLS>();
    for (var d = 0u; d < block.width; d++) {
      var a: array<T, OWN>;
      for (var r = 0u; r < OWN; r++) { a[r] = q[tile.own[r] + d]; }
      for (var j = 0u; j < OTHERS; j++) {
        let b = k[rows[j] + d];
        for (var r = 0u; r < OWN; r++) { dots[j * OWN + r] = fma(a[r], b, dots[j * OWN + r]); }
      }
    }
    var weights: array<f32, CELLS>;
    var fades: array<f32, OWN>;
    for (var r = 0u; r < OWN; r++) {
      var top = tops[r];
      for (var j = 0u; j < OTHERS; j++) {
        let key = first + j;
        let counts = key < end && seen(own_row(tile.first, r), key);
        let score = select(LOWEST, block.scale * total(dots[j * OWN + r]), counts);
        weights[j * OWN + r] = score;
        top = max(top, score);
      }
      fades[r] = exp(tops[r] - top);
      tops[r] = top;
      sums[r] *= fades[r];
      for (var j = 0u; j < OTHERS; j++) {
        let weight = exp(weights[j * OWN + r] - top);
        weights[j * OWN + r] = weight;
        sums[r] += weight;
      }
    }
    for (var d = 0u; d < block.width; d++) {
      var mix = array<T, OWN>();
      for (var r = 0u; r < OWN; r++) {
        if (first > 0u) { mix[r] = y[tile.own[r] + d] * fades[r]; }
      }
      for (var j = 0u; j < OTHERS; j++) {
        let b = v[rows[j] + d];
        for (var r = 0u; r < OWN; r++) { mix[r] = fma(T(weights[j * OWN + r]), b, mix[r]); }
      }
      for (var r = 0u; r < OWN; r++) { y[tile.own[r] + d] = mix[r]; }
    }
  }
  // A repeated last row must not be divided twice.
  for (var r = 0u; r < OWN; r++) {
    if (tile.first + r >= block.rows) { break; }
    if (PARTS) { state[tile.pair * block.rows + tile.first + r] = tops[r] + log(sums[r]); }
    for (var d = 0u; d < block.width; d++) { y[tile.own[r] + d] = y[tile.own[r] + d] / sums[r]; }
  }
}
