// attention_tile is what the attention kernels share. An invocation owns OWN
// rows of one image and head, queries or keys, and streams over the rows of the
// other side, OTHERS at a time; CELLS pairs are in registers at once. Tensors
// are [N,rows,C], head h owns C/heads contiguous channels, and all extents of
// channels count Ts. The last rows are repeated where an extent does not divide.
//
// Sums declared inside a loop are set to zero in so many words: naga 0.19, inside
// the native library, zeroes a plain var once and not on every turn.
// use: element.wgsl

const OWN = 1u;    // param
const OTHERS = 8u; // param
const CELLS = OWN * OTHERS;
const LOWEST = -1.0e30; // below every score; exp takes it to 0 without overflowing

struct Block { n: u32, rows: u32, others: u32, heads: u32, channels: u32, width: u32, scale: f32 }

@group(0) @binding(0) var<uniform> block: Block;

struct Tile {
  pair: u32,              // image*heads + head
  first: u32,             // own row
  own: array<u32, OWN>,   // offsets of the own rows
  others: u32,            // offset of the other side's first row
}

fn locate(index: u32) -> Tile {
  let tiles = (block.rows + OWN - 1u) / OWN;
  var tile: Tile;
  tile.pair = index / tiles;
  tile.first = (index - tile.pair * tiles) * OWN;
  let image = tile.pair / block.heads;
  let channel = (tile.pair - image * block.heads) * block.width;
  for (var r = 0u; r < OWN; r++) {
    tile.own[r] = (image * block.rows + min(tile.first + r, block.rows - 1u)) * block.channels + channel;
  }
  tile.others = image * block.others * block.channels + channel;
  return tile;
}

// other_rows are the offsets of OTHERS rows of the other side.
fn other_rows(start: u32, first: u32) -> array<u32, OTHERS> {
  var rows: array<u32, OTHERS>;
  for (var j = 0u; j < OTHERS; j++) {
    rows[j] = start + min(first + j, block.others - 1u) * block.channels;
  }
  return rows;
}
