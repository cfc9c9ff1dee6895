// activation_bwd: dx[i] = dy[i] * f'(x[i]), i < n, with FUNCTION as in
// activation.wgsl. f is recomputed from x; nothing else was saved.
//   0 silu       s + x*s*(1 - s) with s = sigmoid(x)
//   1 relu       1 where x > 0, else 0
//   2 softplus   sigmoid(x)
//   3 sigmoid    s*(1 - s)
//   4 smooth_abs x / sqrt(x^2 + eps^2)
// Any layout; n counts Ts.
// Cost: 12 bytes and about 12 FLOP per element.
// use: flat_index.wgsl
// use: sigmoid.wgsl

const WORKGROUP = 64u; // param
const FUNCTION = 0u;   // param

struct Block { n: u32, eps: f32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> dy: array<T>;
@group(0) @binding(2) var<storage, read_write> x: array<T>;
@group(0) @binding(3) var<storage, read_write> dx: array<T>;

fn slope(v: T) -> T {
  if (FUNCTION == 0u) { return silu_slope(v); }
  if (FUNCTION == 1u) { return select(T(0.0), T(1.0), v > T(0.0)); }
  if (FUNCTION == 2u) { return sigmoid(v); }
  if (FUNCTION == 3u) { return sigmoid(v) * sigmoid(-v); }
  return v * inverseSqrt(v * v + T(block.eps * block.eps));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  dx[i] = dy[i] * slope(x[i]);
}
