// nearest is the geometry of upsample_nearest: an image of height x width fills
// a larger one of high x wide.

struct Block { n: u32, height: u32, width: u32, high: u32, wide: u32, scale_y: f32, scale_x: f32 }

@group(0) @binding(0) var<uniform> block: Block;

// shown is the position of the small image that position i of the large shows.
fn shown(i: u32, scale: f32, extent: u32) -> u32 {
  return min(u32(f32(i) * scale), extent - 1u);
}

// first_showing is the first position of the large image that shows position i
// of the small, or one past it. The scale is extent by extent and at most 1.
fn first_showing(i: u32, scale: f32, extent: u32) -> u32 {
  var at = u32(f32(i) / scale);
  if (at > 0u) { at -= 1u; }
  while (shown(at, scale, extent) < i) { at++; }
  return at;
}
