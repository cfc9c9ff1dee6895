// attention_tile is what the attention kernels share. An invocation owns OWN
// rows of one image and head, queries or keys, and streams over the rows of the
// other side, OTHERS at a time; CELLS pairs are in registers at once. Tensors
// are [N,rows,C], head h owns C/heads contiguous channels, and all extents of
// channels count Ts. The last rows are repeated where an extent does not divide.
//
// A dispatch streams over rows start..end of the other side and goes on from what
// those before it left: some adapters end an invocation's loops after 65535 turns,
// without a word, and others a dispatch that takes seconds.
//
// Sums declared inside a loop are set to zero in so many words: naga 0.19, inside
// the native library, zeroes a plain var once and not on every turn.
// use: element.wgsl

const OWN = 1u;        // param
const OTHERS = 8u;     // param
const CAUSAL = false; // param
const CELLS = OWN * OTHERS;
const LOWEST = -1.0e30; // below every score; exp takes it to 0 without overflowing

struct Block { n: u32, rows: u32, others: u32, heads: u32, channels: u32, width: u32, scale: f32, start: u32, end: u32 }

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
    tile.own[r] = (image * block.rows + own_row(tile.first, r)) * block.channels + channel;
  }
  tile.others = image * block.others * block.channels + channel;
  return tile;
}

// last_key is the end of the keys that the queries of a tile see, first_query the
// first query that sees one of its keys; seen tells of one pair.
fn last_key(tile: u32) -> u32 {
  if (CAUSAL) { return min(tile + OWN, block.others); }
  return block.others;
}

fn first_query(tile: u32) -> u32 {
  if (CAUSAL) { return tile; }
  return 0u;
}

fn seen(query: u32, key: u32) -> bool { return !CAUSAL || key <= query; }

// own_row is row r of a tile, the last one where there are fewer.
fn own_row(tile: u32, r: u32) -> u32 { return min(tile + r, block.rows - 1u); }

// other_rows are the offsets of OTHERS rows of the other side.
fn other_rows(start: u32, first: u32) -> array<u32, OTHERS> {
  var rows: array<u32, OTHERS>;
  for (var j = 0u; j < OTHERS; j++) {
    rows[j] = start + min(first + j, block.others - 1u) * block.channels;
  }
  return rows;
}
