// embedding: y[m,d] = table[index[m],d]. table: [V,D], f32 or halves; index: [M],
// whole numbers carried as floats. The binding holds the table's rows from..to,
// its first number is number first of the table; other rows give zero. An index
// outside the table gives NaN, handed in as a word because WGSL has no literal for
// it. Cost: 8 bytes per element.
// use: flat_index.wgsl
// use: weight.wgsl

const WORKGROUP = 64u; // param

struct Block { n: u32, width: u32, rows: u32, nan: f32, rows_from: u32, rows_to: u32, first: u32 }

@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read_write> table: array<u32>;
@group(0) @binding(2) var<storage, read_write> index: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let at = flat_index(id, groups, WORKGROUP);
  if (at >= block.n) { return; }
  let m = at / block.width;
  let row = index[m];
  if (!(row >= 0.0 && row < f32(block.rows))) {
    y[at] = block.nan;
    return;
  }
  let r = u32(row);
  if (r < block.rows_from || r >= block.rows_to) {
    y[at] = 0.0;
    return;
  }
  let i = r * block.width - block.first + at - m * block.width;
  y[at] = weight_value(table[weight_word(i)], i);
}
