// attention_delta: delta[n,h,r] = sum over the channels of head h of
// y[n,r,:]*dy[n,r,:], the term that the softmax's Jacobian subtracts.
//
// y, dy: [N,Lq,C]; delta: [N,heads,Lq]. Extents of channels count Ts.
// Cost: 8 bytes and 2 FLOP per element.
// use: flat_index.wgsl
// use: element.wgsl

const WORKGROUP = 64u; // param

struct Block { n: u32, queries: u32, heads: u32, channels: u32, width: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> y: array<T>;
@group(0) @binding(2) var<storage, read_write> dy: array<T>;
@group(0) @binding(3) var<storage, read_write> delta: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let index = flat_index(id, groups, WORKGROUP);
  if (index >= block.n) { return; }
  let pair = index / block.queries;
  let image = pair / block.heads;
  let channel = (pair - image * block.heads) * block.width;
  let own = (image * block.queries + index - pair * block.queries) * block.channels + channel;
  var sum = T(0.0);
  for (var i = own; i < own + block.width; i++) { sum += y[i] * dy[i]; }
  delta[index] = total(sum);
}
