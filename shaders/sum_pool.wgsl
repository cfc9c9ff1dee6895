// sum_pool: y[p,h,w] = sum of x[p,2h+i,2w+j] over i, j in {0, 1}; planes p = (n, c).
// x: [N,C,2H,2W], y: [N,C,H,W]. One invocation per element of y. Its transpose
// is upsample.wgsl. Cost: 20 bytes and 3 FLOP per element of y.
// use: flat_index.wgsl

const WORKGROUP = 64u; // param

struct Block { n: u32, width: u32 } // of y

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  let at = i + i / block.width * block.width;
  let v = x[at] + x[at + block.width];
  y[i] = v.x + v.y;
}
