// attention_lse: lse[n,h,r] = ln(sum_j exp(scale * q[n,r,h,:].k[n,j,h,:]))
//
// q: [N,Lq,C]; k: [N,Lk,C]; lse: [N,heads,Lq]. An invocation owns a few queries
// and streams over the keys. This is all the backward pass of attention keeps
// besides its operands. Cost: 2*N*Lq*Lk*C FLOP.
// use: flat_index.wgsl
// use: attention_tile.wgsl

const WORKGROUP = 64u; // param

@group(0) @binding(1) var<storage, read_write> q: array<T>;
@group(0) @binding(2) var<storage, read_write> k: array<T>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let index = flat_index(id, groups, WORKGROUP);
  if (index >= block.n) { return; }
  var tile = locate(index);

  var tops = array<f32, OWN>();
  var sums = array<f32, OWN>();
  for (var r = 0u; r < OWN; r++) { tops[r] = LOWEST; }
  let end = min(last_key(tile.first), block.end);
  if (block.start > 0u) {
    if (end <= block.start) { return; }
    for (var r = 0u; r < OWN; r++) {
      tops[r] = lse[tile.pair * block.rows + own_row(tile.first, r)];
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
    for (var r = 0u; r < OWN; r++) {
      var scores: array<f32, OTHERS>;
      var top = tops[r];
      for (var j = 0u; j < OTHERS; j++) {
        let key = first + j;
        let counts = key < end && seen(own_row(tile.first, r), key);
        scores[j] = select(LOWEST, block.scale * total(dots[j * OWN + r]), counts);
        top = max(top, scores[j]);
      }
      sums[r] *= exp(tops[r] - top);
      tops[r] = top;
      for (var j = 0u; j < OTHERS; j++) { sums[r] += exp(scores[j] - top); }
    }
  }
  for (var r = 0u; r < OWN; r++) {
    if (tile.first + r < block.rows) {
      lse[tile.pair * block.rows + tile.first + r] = tops[r] + log(sums[r]);
    }
  }
}
