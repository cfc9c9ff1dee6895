// upsample_nearest: y[p,i,j] = x[p,floor(i*scale_y),floor(j*scale_x)]; planes
// p = (n, c). The scales are H/h and W/w in f32, so that pixels are PyTorch's.
//
// x: [N,C,H,W], y: [N,C,h,w]. One invocation per element of y; n counts them.
// Its transpose is upsample_nearest_bwd.wgsl. Cost: 8 bytes per element of y.
// use: flat_index.wgsl
// use: nearest.wgsl

const WORKGROUP = 64u; // param

@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let at = flat_index(id, groups, WORKGROUP);
  if (at >= block.n) { return; }
  let row = at / block.wide;
  let plane = row / block.high;
  let i = shown(row - plane * block.high, block.scale_y, block.height);
  let j = shown(at - row * block.wide, block.scale_x, block.width);
  y[at] = x[(plane * block.height + i) * block.width + j];
}
