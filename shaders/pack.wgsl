// pack: panel[j/8][t*K + k][j%8] = weights[j*step_j + k*step_k + t] for j < N, 0
// for the padding up to a whole strip, and a last row that holds the bias, or 0.
//
// Lays a right operand out as its product kernel reads it, front to back: strips
// of 8 output columns, within a strip the inner extent in rows, halves decoded.
// conv2d: t is a tap of the window and (j, k) are output and input channel, or
// the other way round for the gradient of the input. matmul: one tap.
// Cost: taps*K*N reads and as many writes, against pixels*taps*K*N*2 FLOP of
// the product.
// use: flat_index.wgsl
// use: weight.wgsl

const WORKGROUP = 64u; // param
const BIAS = false;    // param

struct Block { taps: u32, k: u32, n: u32, strips: u32, step_k: u32, step_j: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> weights: array<u32>;
@group(0) @binding(2) var<storage, read_write> panel: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> bias: array<f32>; // unread without BIAS

fn element(row: u32, j: u32) -> f32 {
  if (j >= block.n) { return 0.0; }
  if (row == block.taps * block.k) {
    if (BIAS) { return bias[j]; }
    return 0.0;
  }
  let i = j * block.step_j + (row % block.k) * block.step_k + row / block.k;
  return weight_value(weights[weight_word(i)], i);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let at = flat_index(id, groups, WORKGROUP);
  let rows = block.taps * block.k + 1u;
  if (at >= 2u * rows * block.strips) { return; }
  let strip = at / (2u * rows);
  let row = at / 2u - strip * rows;
  let j = strip * 8u + at % 2u * 4u;
  panel[at] = vec4<f32>(element(row, j), element(row, j + 1u), element(row, j + 2u), element(row, j + 3u));
}
