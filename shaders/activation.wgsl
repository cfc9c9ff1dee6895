// activation: y[i] = f(x[i]), i < n, with f chosen by FUNCTION:
//   0 silu       x / (1 + exp(-x))
//   1 relu       max(x, 0)
//   2 softplus   ln(1 + exp(x))
//   3 sigmoid    1 / (1 + exp(-x))
//   4 smooth_abs sqrt(x^2 + a^2) - a
//   5 gelu       x*Phi(x), by erf
//   6 gelu_tanh  x*(1 + tanh(sqrt(2/pi)*(x + 0.044715*x^3)))/2
//   7 quick_gelu x*sigmoid(1.702*x)
//   8 tanh       (exp(x) - exp(-x)) / (exp(x) + exp(-x))
//   9 exp        e^x
//  10 rsqrt      1/sqrt(x)
//  11 clamp      min(max(x, a), b)
// Any layout; n counts Ts.
// Saved for backward: x. Cost: 8 bytes and about 10 FLOP per element.
// use: flat_index.wgsl
// use: sigmoid.wgsl
// use: gelu.wgsl

const WORKGROUP = 64u; // param
const FUNCTION = 0u;   // param

struct Block { n: u32, a: f32, b: f32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;

fn apply(v: T) -> T {
  if (FUNCTION == 0u) { return v * sigmoid(v); }
  if (FUNCTION == 1u) { return max(v, T(0.0)); }
  if (FUNCTION == 2u) { return softplus(v); }
  if (FUNCTION == 3u) { return sigmoid(v); }
  if (FUNCTION == 5u) { return v * normal_cdf(v); }
  if (FUNCTION == 6u) { return v * sigmoid(gelu_tanh_steep(v)); }
  if (FUNCTION == 7u) { return v * sigmoid(1.702 * v); }
  if (FUNCTION == 8u) { return tanh(clamp(v, T(-10.0), T(10.0))); } // which overflows in some drivers
  if (FUNCTION == 9u) { return exp(v); }
  if (FUNCTION == 10u) { return inverseSqrt(v); }
  if (FUNCTION == 11u) { return min(max(v, T(block.a)), T(block.b)); }
  // The same as the formula above, without its cancellation near zero.
  return v * v / (sqrt(v * v + T(block.a * block.a)) + T(block.a));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  y[i] = apply(x[i]);
}
