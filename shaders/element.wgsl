// element: a kernel reads and writes its big tensors as T, which is vec4<f32>
// where runs divide by four and f32 elsewhere. WIDTH is the numbers in a T.
alias T = f32;     // param
const WIDTH = 1.0; // param

// total adds the numbers of a T. Both conversions are spelled the same in WGSL:
// a number is spread over four places, each of which then counts a quarter.
fn total(v: T) -> f32 {
  return dot(vec4<f32>(v), vec4<f32>(0.25 * WIDTH));
}
