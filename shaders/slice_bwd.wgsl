// slice_bwd: dx[r, start + i] = dy[r, i] for i < width, and 0 beside the window.
// Rows of dx are row apart. All counts are Ts; n is the size of dx.
// Cost: 4 bytes per element of dx and 4 per element of dy.
// use: flat_index.wgsl
// use: element.wgsl

const WORKGROUP = 64u; // param

struct Block { n: u32, width: u32, row: u32, start: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> dy: array<T>;
@group(0) @binding(2) var<storage, read_write> dx: array<T>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let at = flat_index(id, groups, WORKGROUP);
  if (at >= block.n) { return; }
  let r = at / block.row;
  let i = at - r * block.row;
  var v = T(0.0);
  if (i >= block.start && i < block.start + block.width) {
    v = dy[r * block.width + i - block.start];
  }
  dx[at] = v;
}
