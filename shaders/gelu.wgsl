// gelu.wgsl holds the Gaussian error linear units x*Phi(x). Phi, the distribution
// function of the normal distribution, is erfc(-x/sqrt(2))/2 by the single
// precision polynomials of Moshier's Cephes library; squares end at 80, as the
// exponents in sigmoid.wgsl do.
// use: sigmoid.wgsl

fn normal_cdf(v: T) -> T {
  let z = v * 0.70710678118;
  let s = min(z * z, T(80.0));

  var p = T(7.853861353e-5);
  p = p * s - T(8.010193625e-4);
  p = p * s + T(5.188327685e-3);
  p = p * s - T(2.685381193e-2);
  p = p * s + T(1.128358514e-1);
  p = p * s - T(3.761262582e-1);
  p = p * s + T(1.128379165);
  let middle = 0.5 + 0.5 * z * p; // where s < 1

  let q = inverseSqrt(max(s, T(1.0)));
  let t = q * q;
  var near = T(2.326819970e-2);
  near = near * t - T(1.387039388e-1);
  near = near * t + T(3.687424674e-1);
  near = near * t - T(5.824733027e-1);
  near = near * t + T(6.210004621e-1);
  near = near * t - T(4.944515323e-1);
  near = near * t + T(3.404879937e-1);
  near = near * t - T(2.741127028e-1);
  near = near * t + T(5.638259427e-1);
  var far = T(-1.047766399e+1);
  far = far * t + T(1.297719955e+1);
  far = far * t - T(7.495518717);
  far = far * t + T(2.921019019);
  far = far * t - T(1.015265279);
  far = far * t + T(4.218463358e-1);
  far = far * t - T(2.820767439e-1);
  far = far * t + T(5.641895067e-1);
  let tail = 0.5 * exp(-s) * q * select(far, near, s < T(4.0)); // Phi(-|v|)
  return select(select(tail, 1.0 - tail, v > T(0.0)), middle, s < T(1.0));
}

// gelu_slope is Phi(v) + v*phi(v), with the density phi.
fn gelu_slope(v: T) -> T {
  return normal_cdf(v) + v * 0.39894228040 * exp(-min(0.5 * v * v, T(80.0)));
}

// (1 + tanh(u))/2 is sigmoid(2u); gelu_tanh_steep is that 2u. Beyond 10 either
// way the sigmoid is 0 or 1.
fn gelu_tanh_steep(v: T) -> T {
  let c = clamp(v, T(-10.0), T(10.0));
  return 1.5957691216 * c * (1.0 + 0.044715 * c * c);
}

fn gelu_tanh_slope(v: T) -> T {
  let c = clamp(v, T(-10.0), T(10.0));
  let z = gelu_tanh_steep(v);
  let s = sigmoid(z);
  return s + c * s * sigmoid(-z) * 1.5957691216 * (1.0 + 0.134145 * c * c);
}
