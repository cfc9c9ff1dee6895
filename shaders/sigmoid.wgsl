// sigmoid.wgsl holds the logistic functions. WGSL lets a driver assume that
// nothing overflows, and Metal's fast mathematics does, so exponents end at 80,
// where a sigmoid is 2e-35 rather than less. 1 - sigmoid(v) is sigmoid(-v).
// use: element.wgsl

fn sigmoid(v: T) -> T { return T(1.0) / (T(1.0) + exp(min(-v, T(80.0)))); }

// silu_slope is the derivative of v*sigmoid(v).
fn silu_slope(v: T) -> T {
  let s = sigmoid(v);
  return s + v * s * sigmoid(-v);
}

// softplus is ln(1 + exp(v)) = max(v, 0) + ln(1 + e) with e = exp(-|v|). Near 1
// the built-in log may be off by 2^-21, so ln(1 + e) = 2 artanh(e/(2 + e)) is a
// series in at most 1/3, within 2e-8 of itself.
fn softplus(v: T) -> T {
  let e = exp(-abs(v));
  let s = e / (T(2.0) + e);
  let z = s * s;
  var sum = T(2.0 / 13.0);
  sum = sum * z + T(2.0 / 11.0);
  sum = sum * z + T(2.0 / 9.0);
  sum = sum * z + T(2.0 / 7.0);
  sum = sum * z + T(2.0 / 5.0);
  sum = sum * z + T(2.0 / 3.0);
  return max(v, T(0.0)) + s * (sum * z + T(2.0));
}
