// upsample_nearest_bwd: dx[p,i,j] = sum of dy over the pixels of plane p that
// show pixel (i, j), which make a rectangle.
//
// dy: [N,C,h,w], dx: [N,C,H,W]. One invocation per element of dx; n counts them.
// Cost: 4 bytes and 1 FLOP per element of dy.
// use: flat_index.wgsl
// use: nearest.wgsl

const WORKGROUP = 64u; // param

@group(0) @binding(1) var<storage, read_write> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let at = flat_index(id, groups, WORKGROUP);
  if (at >= block.n) { return; }
  let row = at / block.width;
  let plane = row / block.height;
  let i = row - plane * block.height;
  let j = at - row * block.width;
  let left = first_showing(j, block.scale_x, block.width);
  var sum = 0.0;
  for (var y = first_showing(i, block.scale_y, block.height); y < block.high; y++) {
    if (shown(y, block.scale_y, block.height) > i) { break; }
    for (var x = left; x < block.wide; x++) {
      if (shown(x, block.scale_x, block.width) > j) { break; }
      sum += dy[(plane * block.high + y) * block.wide + x];
    }
  }
  dx[at] = sum;
}
