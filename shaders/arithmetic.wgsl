// arithmetic: y[i] = a[i] + b[i] (OPERATION 0), a[i] - b[i] (1) or a[i] * b[i] (2), i < n.
// Any layout; n counts Ts.
// The backward pass uses the same kernel. Cost: 12 bytes and 1 FLOP per element.
// use: flat_index.wgsl
// use: element.wgsl

const WORKGROUP = 64u; // param
const OPERATION = 0u;  // param

struct Block { n: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> a: array<T>;
@group(0) @binding(2) var<storage, read_write> b: array<T>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = flat_index(id, groups, WORKGROUP);
  if (i >= block.n) { return; }
  if (OPERATION == 0u) {
    y[i] = a[i] + b[i];
  } else if (OPERATION == 1u) {
    y[i] = a[i] - b[i];
  } else {
    y[i] = a[i] * b[i];
  }
}
