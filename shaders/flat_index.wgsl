// flat_index numbers invocations that graph/webgpu's fold spread over x and y.
// size is the workgroup size of x; the caller returns when the number is past
// its last element.
fn flat_index(id: vec3<u32>, groups: vec3<u32>, size: u32) -> u32 {
  return id.x + id.y * groups.x * size;
}
