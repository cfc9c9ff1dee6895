"""A small vocabulary in the form of CLIP's: 256 bytes, 256 bytes that end a word,
merges learnt from a few sentences, and the two special tokens.

    python tools/golden/vocabulary.py        # writes model/tokenizer/testdata/{old,new}

old is the folder that transformers wrote before version 5 (vocab.json and
merges.txt, the special tokens with "normalized" set and "!" for padding, as
Stable Diffusion 2 has it), new what save_pretrained writes today.
"""

import collections
import json
import pathlib

from transformers import CLIPTokenizer

TEXT = """
a photo of a cat sitting on a mat, a photograph of an astronaut riding a horse on mars, an oil painting of the sea at
night in the style of the old masters; a portrait of a young woman with red hair and green eyes, highly detailed, sharp
focus, trending, 4k, 8k, cinematic lighting. low quality, blurry, worst quality, bad hands, extra fingers. the quick
brown fox jumps over the lazy dog and it's not what they're doing, we've seen i'm sure you'll say he'd don't. 1girl,
1920s, 100%, (masterpiece:1.2), best_quality, watercolour of a castle on a hill in the fog, mountains, a red apple, a
blue house, café naïve über straße москва привет 日本 東京 ที่ กา 👍🏽 🎨 ❤️ émile niño
"""
MERGES = 240


def byte_texts():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


def learn(text=TEXT, count=MERGES):
    """The vocabulary and the merges, as pairs in order."""
    texts = byte_texts()
    words = collections.Counter(text.split())
    split = {w: [texts[b] for b in w.encode()] for w in words}
    for symbols in split.values():
        symbols[-1] += "</w>"
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for w, symbols in split.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += words[w]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for w, symbols in split.items():
            i, joined = 0, []
            while i < len(symbols):
                if tuple(symbols[i : i + 2]) == best:
                    joined.append(symbols[i] + symbols[i + 1])
                    i += 2
                else:
                    joined.append(symbols[i])
                    i += 1
            split[w] = joined
    tokens = [*texts.values()]
    tokens += [t + "</w>" for t in tokens] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return {t: i for i, t in enumerate(tokens)}, merges


def save_new(folder):
    vocab, merges = learn()
    CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77).save_pretrained(folder)


def save_old(folder, pad="<|endoftext|>"):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vocab, merges = learn()
    special = lambda content: {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    named = {"bos_token": special("<|startoftext|>"), "eos_token": special("<|endoftext|>"), "unk_token": special("<|endoftext|>")}
    config = {k: {"__type": "AddedToken", **v} for k, v in named.items()}
    config |= {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77,
               "name_or_path": "", "pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer"}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    (folder / "special_tokens_map.json").write_text(json.dumps(named | {"pad_token": pad}, indent=2))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


if __name__ == "__main__":
    save_old("model/tokenizer/testdata/old", pad="!")
    save_new("model/tokenizer/testdata/new")
