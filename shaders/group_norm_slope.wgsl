// slope is the derivative of what follows the normalisation: silu'(v), or 1
// without SILU.
// use: sigmoid.wgsl

const SILU = false; // param

fn slope(v: T) -> T {
  if (!SILU) { return T(1.0); }
  return silu_slope(v);
}
