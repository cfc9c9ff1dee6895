// attention_bwd: the gradients of attention with respect to queries and keys.
// With p[r,j] = exp(scale*q[r].k[j] - lse[r]), recomputed, never stored:
//   ds[r,j] = scale * p[r,j] * (dy[r].v[j] - delta[r])
//   dq[r]   = sum_j ds[r,j] k[j]        OWN_QUERY: own = q, pair = dy; over k, v
//   dk[j]   = sum_r ds[r,j] q[r]        otherwise: own = k, pair = v;  over q, dy
//
// own, own_pair, grad: [N,rows,C]; other, other_pair: [N,others,C]; lse, delta:
// [N,heads,Lq]. An invocation owns a few rows, streams over the other side's
// and keeps its sums in grad itself. Cost: 6*N*Lq*Lk*C FLOP.
// use: flat_index.wgsl
// use: attention_tile.wgsl

const WORKGROUP = 64u;  // param
const OWN_QUERY = true; // param

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
  var tile = locate(index);

  var start = 0u;
  var end = block.end;
  if (OWN_QUERY) { end = min(last_key(tile.first), end); } else { start = first_query(tile.first); }
  for (var first = max(start, block.start); first < end; first += OTHERS) {
    var rows = other_rows(tile.others, first);
    var dots = array<T, CELLS>();
    var slopes = array<T, CELLS>();
    for (var d = 0u; d < block.width; d++) {
      var a: array<T, OWN>;
      var b: array<T, OWN>;
      for (var r = 0u; r < OWN; r++) {
        a[r] = own[tile.own[r] + d];
        b[r] = own_pair[tile.own[r] + d];
      }
      for (var j = 0u; j < OTHERS; j++) {
        let u = other[rows[j] + d];
        let v = other_pair[rows[j] + d];
        for (var r = 0u; r < OWN; r++) {
          dots[j * OWN + r] = fma(a[r], u, dots[j * OWN + r]);
          slopes[j * OWN + r] = fma(b[r], v, slopes[j * OWN + r]);
        }
      }
    }
    var weights: array<f32, CELLS>;
    for (var j = 0u; j < OTHERS; j++) {
      for (var r = 0u; r < OWN; r++) {
        let mine = own_row(tile.first, r);
        let theirs = min(first + j, block.others - 1u);
        var query = tile.pair * block.rows + mine;
        var counts = seen(mine, theirs);
        if (!OWN_QUERY) {
          query = tile.pair * block.others + theirs;
          counts = seen(theirs, mine);
        }
        let p = exp(block.scale * total(dots[j * OWN + r]) - lse[query]);
        let ds = block.scale * p * (total(slopes[j * OWN + r]) - delta[query]);
        weights[j * OWN + r] = select(0.0, ds, counts && first + j < end);
      }
    }
    for (var d = 0u; d < block.width; d++) {
      var sum = array<T, OWN>();
      for (var r = 0u; r < OWN; r++) {
        if (first > start) { sum[r] = grad[tile.own[r] + d]; }
      }
      for (var j = 0u; j < OTHERS; j++) {
        let u = other[rows[j] + d];
        for (var r = 0u; r < OWN; r++) { sum[r] = fma(T(weights[j * OWN + r]), u, sum[r]); }
      }
      for (var r = 0u; r < OWN; r++) { grad[tile.own[r] + d] = sum[r]; }
    }
  }
}
