// upsample: y[p,2h+i,2w+j] = x[p,h,w] for i, j in {0, 1}; planes p = (n, c).
// x: [N,C,H,W], y: [N,C,2H,2W]. One invocation per element of x. Its transpose
// is sum_pool.wgsl. Cost: 20 bytes per element of x.
// use: flat_index.wgsl

const WORKGROUP = 64u; // param

struct Block { n: u32, width: u32 } // of x

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec2<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  // A row of x becomes two rows of y, each as many pairs as x has pixels.
  let to = i + i / block.width * block.width;
  let v = vec2<f32>(x[i]);
  y[to] = v;
  y[to + block.width] = v;
}
