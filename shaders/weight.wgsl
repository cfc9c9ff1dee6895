// weight reads number i of a parameter stored as 32-bit words: one f32 each, or
// with W_F16 two IEEE halves, the even number in the low bits. The caller owns
// the binding, declared array<u32>:
//
//	weight_value(words[weight_word(i)], i)
const W_F16 = false; // param

fn weight_word(i: u32) -> u32 {
  if (W_F16) { return i >> 1u; }
  return i;
}

fn weight_value(word: u32, i: u32) -> f32 {
  if (W_F16) {
    let pair = unpack2x16float(word);
    return select(pair.x, pair.y, (i & 1u) == 1u);
  }
  return bitcast<f32>(word);
}
