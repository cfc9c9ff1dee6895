// turn.wgsl: WGSL leaves the accuracy of sin and cos of large angles open, so
// angles are in turns and Cephes' polynomials take what is left of a quarter.

// turn is (cos, sin) of 2*pi*u for |u| <= 1: quarter turns are split off exactly.
fn turn(u: f32) -> vec2<f32> {
  let quarters = u * 4.0;
  let nearest = floor(quarters + 0.5);
  let r = (quarters - nearest) * 1.57079632679;
  let z = r * r;
  let sine = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * r + r;
  let cosine = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0;
  switch (i32(nearest) & 3) {
    case 0: { return vec2<f32>(cosine, sine); }
    case 1: { return vec2<f32>(-sine, cosine); }
    case 2: { return vec2<f32>(-cosine, -sine); }
    default: { return vec2<f32>(sine, -cosine); }
  }
}
