// flat_index numbers invocations that graph/webgpu's fold spread over x and y.
// size is the workgroup size of x; the caller returns when the number is past
// its last element.
fn flat_index(id: vec3<u32>, groups: vec3<u32>, size: u32) -> u32 {
  return id.x + id.y * groups.x * size;
}
// vector_normal: v[i] = graph.Normal(seed, stream, i), i < n.
//
// Philox4x32-10 (Salmon et al., SC 2011) at counter (i/4, 0, stream, 0) and key
// seed gives four words, two Box-Muller pairs, four elements: one invocation.
// The words are exact. WGSL leaves ln, sin and cos too loose (sin and cos may
// miss by 2^-11), so they are Cephes' single-precision polynomials on exactly
// reduced arguments; the result is within 2e-6 of float64. Cost: 4 bytes and
// about 60 integer operations per element.

const WORKGROUP = 64u;

struct Block { n: u32, stream: u32, seed: vec2<u32> }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> v: array<f32>;

// wide is the 64-bit product as (high, low), from 16-bit halves.
fn wide(a: u32, b: u32) -> vec2<u32> {
  let al = a & 0xffffu;
  let ah = a >> 16u;
  let bl = b & 0xffffu;
  let bh = b >> 16u;
  let low = al * bl;
  let mid = ah * bl + (low >> 16u);
  let mid2 = al * bh + (mid & 0xffffu);
  return vec2<u32>(ah * bh + (mid >> 16u) + (mid2 >> 16u), a * b);
}

fn philox(start: vec4<u32>, seed: vec2<u32>) -> vec4<u32> {
  var c = start;
  var key = seed;
  for (var round = 0u; round < 10u; round++) {
    let p0 = wide(0xD2511F53u, c.x);
    let p1 = wide(0xCD9E8D57u, c.z);
    c = vec4<u32>(p1.x ^ c.y ^ key.x, p1.y, p0.x ^ c.w ^ key.y, p0.y);
    key += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
  }
  return c;
}

// uniform01 is (r>>9 + 1/2) * 2^-23, exact.
fn uniform01(r: u32) -> f32 {
  return (f32(r >> 9u) + 0.5) * 1.1920928955078125e-7;
}

// ln of a normal number in (0, 1), with a small relative error near 1 too:
// the mantissa is brought into [sqrt(1/2), sqrt(2)) and f = mantissa - 1 is
// exact.
fn ln(u: f32) -> f32 {
  let bits = bitcast<u32>(u);
  var e = i32(bits >> 23u) - 126;
  var x = bitcast<f32>((bits & 0x7fffffu) | 0x3f000000u);
  if (x < 0.70710678) {
    e -= 1;
    x = x + x;
  }
  let f = x - 1.0;
  let z = f * f;
  var y = 7.0376836292e-2;
  y = y * f - 1.1514610310e-1;
  y = y * f + 1.1676998740e-1;
  y = y * f - 1.2420140846e-1;
  y = y * f + 1.4249322787e-1;
  y = y * f - 1.6668057665e-1;
  y = y * f + 2.0000714765e-1;
  y = y * f - 2.4999993993e-1;
  y = y * f + 3.3333331174e-1;
  y = y * f * z;
  let k = f32(e);
  y += k * -2.12194440e-4;
  y -= 0.5 * z;
  return (f + y) + k * 0.693359375;
}

// root is sqrt with one Newton step, since WGSL allows several ULP.
fn root(x: f32) -> f32 {
  let s = sqrt(x);
  return s - (s * s - x) / (2.0 * s);
}

// turn is (cos, sin) of 2*pi*u: quarter turns are split off exactly.
fn turn(u: f32) -> vec2<f32> {
  let quarters = u * 4.0;
  let nearest = floor(quarters + 0.5);
  let t = (quarters - nearest) * 1.57079632679;
  let z = t * t;
  let sine = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * t + t;
  let cosine = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0;
  switch (u32(nearest) & 3u) {
    case 0u: { return vec2<f32>(cosine, sine); }
    case 1u: { return vec2<f32>(-sine, cosine); }
    case 2u: { return vec2<f32>(-cosine, -sine); }
    default: { return vec2<f32>(sine, -cosine); }
  }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let quad = flat_index(id, groups, WORKGROUP);
  let i = quad * 4u;
  if (i >= block.n) { return; }
  let r = philox(vec4<u32>(quad, 0u, block.stream, 0u), block.seed);
  let a = root(-2.0 * ln(uniform01(r.x))) * turn(uniform01(r.y));
  let b = root(-2.0 * ln(uniform01(r.z))) * turn(uniform01(r.w));
  v[i] = a.x;
  if (i + 1u < block.n) { v[i + 1u] = a.y; }
  if (i + 2u < block.n) { v[i + 2u] = b.x; }
  if (i + 3u < block.n) { v[i + 3u] = b.y; }
}
