// copy_window: y[r, to + i] = x[r, start + i] for every row r and i < width.
//
// Rows are x_row and y_row apart; what lies beside the window in y stays. concat
// is two of these, slice is one. All counts are Ts. n = rows*width.
// Cost: 8 bytes per element.
// use: flat_index.wgsl
// use: element.wgsl

const WORKGROUP = 64u; // param

struct Block { n: u32, width: u32, x_row: u32, start: u32, y_row: u32, to: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> x: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let at = flat_index(id, groups, WORKGROUP);
  if (at >= block.n) { return; }
  let r = at / block.width;
  let i = at - r * block.width;
  y[r * block.y_row + block.to + i] = x[r * block.x_row + block.start + i];
}
