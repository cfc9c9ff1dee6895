// slope is the derivative of what follows the normalisation: silu'(v) =
// s + v*s*(1 - s) with s = sigmoid(v), or 1 without SILU.
// use: element.wgsl

const SILU = false; // param

fn slope(v: T) -> T {
  if (!SILU) { return T(1.0); }
  let s = T(1.0) / (T(1.0) + exp(-v));
  return s + v * s / (T(1.0) + exp(v));
}
