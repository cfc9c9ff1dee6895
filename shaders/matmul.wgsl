// matmul: y[m,n] = bias[n] + sum_k op(a)[m,k] op(b)[k,n]
//
// a: [M,K], or [K,M] with TRANS_A; b: [K,N], or [N,K] with TRANS_B, f32 or
// halves; y: [M,N]; all row-major. Tiles of 64x16 of a and 16x64 of b are
// staged in workgroup memory (8 KiB), 256 invocations hold 4x4 outputs each.
// Positions outside the matrices are staged as zeros. Where outputs are few, k is
// cut into splits of part, a multiple of 16, each with workgroups and a [M,N] of
// y of its own, which another launch adds. For hardware adapters; software ones
// pack b and use conv2d.wgsl.
// Saved for backward: nothing beyond a and b. Cost: 2*M*N*K FLOP.
// use: weight.wgsl

const TRANS_A = false; // param
const TRANS_B = false; // param
const BIAS = false;    // param

// tiles of 64 rows; slots are those of all splits, spread over groups y and z.
struct Block { m: u32, n: u32, k: u32, part: u32, tiles: u32, slots: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> b: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> bias: array<f32>; // unread without BIAS

var<workgroup> tile_a: array<vec4<f32>, 256>; // [16][64] as vec4s over m
var<workgroup> tile_b: array<vec4<f32>, 256>; // [16][64] as vec4s over n

fn load_a(m: u32, k: u32) -> f32 {
  if (m >= block.m || k >= block.k) { return 0.0; }
  if (TRANS_A) { return a[k * block.m + m]; }
  return a[m * block.k + k];
}

fn load_b(k: u32, n: u32) -> f32 {
  if (n >= block.n || k >= block.k) { return 0.0; }
  var i = k * block.n + n;
  if (TRANS_B) { i = n * block.k + k; }
  return weight_value(b[weight_word(i)], i);
}

fn put(split: u32, m: u32, n: u32, sum: vec4<f32>) {
  if (m >= block.m) { return; }
  for (var i = 0u; i < 4u; i++) {
    if (n + i >= block.n) { return; }
    var v = sum;
    var value = v[i];
    if (BIAS && split == 0u) { value += bias[n + i]; }
    y[(split * block.m + m) * block.n + n + i] = value;
  }
}

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) me: u32,
) {
  let slot = group.y + group.z * groups.y;
  if (slot >= block.slots) { return; }
  let split = slot / block.tiles;
  let m0 = slot % block.tiles * 64u;
  let n0 = group.x * 64u;
  let row = me / 16u;
  let column = me % 16u;
  // Neighbours load neighbours: along k where k is contiguous.
  var ka = column;
  var ma = row * 4u;
  if (TRANS_A) {
    ka = row;
    ma = column * 4u;
  }
  var kb = row;
  var nb = column * 4u;
  if (TRANS_B) {
    kb = column;
    nb = row * 4u;
  }
  var s0 = vec4<f32>(0.0);
  var s1 = s0;
  var s2 = s0;
  var s3 = s0;
  for (var k = split * block.part; k < min((split + 1u) * block.part, block.k); k += 16u) {
    let m = m0 + ma;
    let n = n0 + nb;
    tile_a[ka * 16u + ma / 4u] =
      vec4<f32>(load_a(m, k + ka), load_a(m + 1u, k + ka), load_a(m + 2u, k + ka), load_a(m + 3u, k + ka));
    tile_b[kb * 16u + nb / 4u] =
      vec4<f32>(load_b(k + kb, n), load_b(k + kb, n + 1u), load_b(k + kb, n + 2u), load_b(k + kb, n + 3u));
    workgroupBarrier();
    for (var i = 0u; i < 256u; i += 16u) {
      let u = tile_a[i + row];
      let v = tile_b[i + column];
      s0 = fma(u.xxxx, v, s0);
      s1 = fma(u.yyyy, v, s1);
      s2 = fma(u.zzzz, v, s2);
      s3 = fma(u.wwww, v, s3);
    }
    workgroupBarrier();
  }
  let m = m0 + row * 4u;
  let n = n0 + column * 4u;
  put(split, m, n, s0);
  put(split, m + 1u, n, s1);
  put(split, m + 2u, n, s2);
  put(split, m + 3u, n, s3);
}
