// activation: y[i] = f(x[i]), i < n, with f chosen by FUNCTION:
//   0 silu       x / (1 + exp(-x))
//   1 relu       max(x, 0)
//   2 softplus   ln(1 + exp(x))
//   3 sigmoid    1 / (1 + exp(-x))
//   4 smooth_abs sqrt(x^2 + eps^2) - eps
// Any layout; n counts Ts.
// Saved for backward: x. Cost: 8 bytes and about 10 FLOP per element.
// use: flat_index.wgsl
// use: sigmoid.wgsl

const WORKGROUP = 64u; // param
const FUNCTION = 0u;   // param

struct Block { n: u32, eps: f32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;

fn apply(v: T) -> T {
  if (FUNCTION == 0u) { return v * sigmoid(v); }
  if (FUNCTION == 1u) { return max(v, T(0.0)); }
  if (FUNCTION == 2u) { return softplus(v); }
  if (FUNCTION == 3u) { return sigmoid(v); }
  // The same as the formula above, without its cancellation near zero.
  return v * v / (sqrt(v * v + T(block.eps * block.eps)) + T(block.eps));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  y[i] = apply(x[i]);
}
