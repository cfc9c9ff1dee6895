// activation_bwd: dx[i] = dy[i] * f'(x[i]), i < n, with FUNCTION as in
// activation.wgsl. f is recomputed from x; nothing else was saved.
//   0 silu       s + x*s*(1 - s) with s = sigmoid(x)
//   1 relu       1 where x > 0, else 0
//   2 softplus   sigmoid(x)
//   3 sigmoid    s*(1 - s)
//   4 smooth_abs x / sqrt(x^2 + a^2)
//   5 gelu       Phi(x) + x*phi(x)
//   6 gelu_tanh  s + x*s*(1 - s)*z'(x) with s = sigmoid(z(x))
//   7 quick_gelu s + 1.702*x*s*(1 - s) with s = sigmoid(1.702*x)
//   8 tanh       4*s*(1 - s) with s = sigmoid(2*x)
//   9 exp        e^x
//  10 rsqrt      -1/(2*x*sqrt(x))
//  11 clamp      1 where a <= x <= b, else 0
// Any layout; n counts Ts.
// Cost: 12 bytes and about 12 FLOP per element.
// use: flat_index.wgsl
// use: sigmoid.wgsl
// use: gelu.wgsl

const WORKGROUP = 64u; // param
const FUNCTION = 0u;   // param

struct Block { n: u32, a: f32, b: f32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> dy: array<T>;
@group(0) @binding(2) var<storage, read_write> x: array<T>;
@group(0) @binding(3) var<storage, read_write> dx: array<T>;

fn slope(v: T) -> T {
  if (FUNCTION == 0u) { return silu_slope(v); }
  if (FUNCTION == 1u) { return select(T(0.0), T(1.0), v > T(0.0)); }
  if (FUNCTION == 2u) { return sigmoid(v); }
  if (FUNCTION == 3u) { return sigmoid(v) * sigmoid(-v); }
  if (FUNCTION == 5u) { return gelu_slope(v); }
  if (FUNCTION == 6u) { return gelu_tanh_slope(v); }
  if (FUNCTION == 7u) { return silu_slope(1.702 * v); }
  if (FUNCTION == 8u) { return 4.0 * sigmoid(2.0 * v) * sigmoid(-2.0 * v); }
  if (FUNCTION == 9u) { return exp(v); }
  if (FUNCTION == 10u) {
    let r = inverseSqrt(v);
    return -0.5 * r * r * r;
  }
  if (FUNCTION == 11u) { return select(T(0.0), T(1.0), (v >= T(block.a)) & (v <= T(block.b))); }
  return v * inverseSqrt(v * v + T(block.a * block.a));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  dx[i] = dy[i] * slope(x[i]);
}
