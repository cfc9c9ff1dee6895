// vector_adam: one AdamW update in place (Loshchilov and Hutter, "Decoupled
// weight decay regularization", 2019, algorithm 2), row r with its own rate:
//
//   m = beta1*m + (1-beta1)*g        v = beta2*v + (1-beta2)*g^2
//   p = p - lr*(m*correct1 / (sqrt(v*correct2) + eps) + decay*p)
//
// correct1 = 1/(1-beta1^t) and correct2 = 1/(1-beta2^t) come from the host, as
// do 1-beta1 and 1-beta2, in float64. lr of row r is rates[first+r]; a rate of
// 0 leaves p alone. Cost: 28 bytes and about 15 FLOP per element.
// use: flat_index.wgsl

const WORKGROUP = 256u; // param

struct Block {
  n: u32, cols: u32, first: u32, decay: f32,
  beta1: f32, rest1: f32, beta2: f32, rest2: f32,
  correct1: f32, correct2: f32, eps: f32,
}

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> p: array<f32>;
@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> grad: array<f32>;
@group(0) @binding(5) var<storage, read_write> rates: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  let g = grad[i];
  let first = block.beta1 * m[i] + block.rest1 * g;
  let second = block.beta2 * v[i] + block.rest2 * g * g;
  m[i] = first;
  v[i] = second;
  let rate = rates[block.first + i / block.cols];
  if (rate == 0.0) { return; }
  let step = first * block.correct1 / (sqrt(second * block.correct2) + block.eps);
  p[i] -= rate * (step + block.decay * p[i]);
}
