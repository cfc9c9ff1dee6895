// scale_shift: y[p,q] = x[p,q]*(1 + scale[p]) + shift[p] with x viewed as [P,Q],
// P = N*C and Q = H*W: the time conditioning of a residual block.
// n and q count Ts.
// Saved for backward: x and scale. Cost: 8 bytes and 3 FLOP per element.
// use: flat_index.wgsl
// use: element.wgsl

const WORKGROUP = 64u; // param

struct Block { n: u32, p: u32, q: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<T>;
@group(0) @binding(2) var<storage, read_write> scale: array<f32>;
@group(0) @binding(3) var<storage, read_write> shift: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  let p = i / block.q % block.p;
  y[i] = x[i] * (1.0 + scale[p]) + T(shift[p]);
}
