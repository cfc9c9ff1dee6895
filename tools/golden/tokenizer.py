"""Makes model/tokenizer/testdata: folders with the small vocabulary of
vocabulary.py, and ids.json, what transformers' CLIPTokenizer makes of texts that
tokenizers disagree about.

    pip install transformers
    python tools/golden/tokenizer.py       # from the root of the repository

    old     vocab.json and merges.txt, special tokens that are found in any case,
            padding by "!" as in Stable Diffusion 2
    new     tokenizer.json
    added   new with tokens that somebody added
    legacy  old with added_tokens.json

ids.json lists {"text", "repeat" (1 if absent), FOLDER: ids}: the ids of the text
repeated, without the beginning and the end; a folder that gives what "new" gives
is left out. And {"text", "padded": {FOLDER: ids}}: to 77 ids, with both.
"""

import json
import pathlib
import random
import shutil
import unicodedata

from transformers import AddedToken, CLIPTokenizer

import vocabulary

FOLDER = pathlib.Path("model/tokenizer/testdata")
TEXTS = """
a photo of a cat
A PHOTO of THE Cat
  spaces   between\twords\u3000and\u00a0others\u2003\u2028here\u0085\x0b\x0cend\x1c
don't we've i'm you're he'll she'd it's 's ''s ''' 'S 'RE 'ſ it’s
rock'n'roll 'tis the '90s dogs' o'clock 'd'd'd l'll
1girl 1920s 3.14159 100% 4k 8K 1,000,000 ½ ² Ⅷ ٣ 三 ๓ 𝟙 ①
(masterpiece:1.2), [best quality], {detail}, best_quality, __init__, <lora:x:0.8>
a_b a__b _ __ -- --- ... …… !? ?!?! @#$%^&*() ~`|\\ "quoted" «guillemets» „low“
naïve café CAFÉ ÀÉÎÕÜ ßẞ æÆ øØ łŁ
e\u0301 E\u0301 a\u0308\u0301 o\u0302\u0323 o\u0323\u0302 \u1e9b\u0323 \u212b \u2126 \u2329x\u232a
I\u0307 İ ı Iı İI DİYARBAKIR ǅ ǆ ß ﬀ ﬃ ŉ ΐ ΣΑΣ ὈΔΥΣΣΕΎΣ Ω K
\u0344 \u0374 \u037e \u1fef \u0958 \u0f77 \u2adc \ufb1d \ufb4e \uf900 \uf8ff 豈 更
가각갂 \u1100\u1161 \u1100\u1161\u11a8 \u1100\u11a8 \uac00\u11a8 \uac01\u11a8 \u1161\u1100 ㄱㅏ
\u09c7\u09be \u09c7\u09d7 \u0b47\u0b3e \u0bc6\u0bbe \u0d46\u0d3e \u0dd9\u0dcf \u1025\u102e \U00011131\U00011127
日本語テキスト カタカナ ｶﾀｶﾅ が か\u3099 中文字符 繁體字 한국어 텍스트
x\u0345\u07fd\u0334 x\u0345\u08d3\u0334 x\u0345\u09fe\u0334 x\u0345\u0d3b\u0334 x\u0345\u1dfa\u0334 x\u0345\U00010f49\u0334 x\u0345\U0001e136\u0334 \U00011935\U00011930 \U00011938
\U00011bc4\U00011bc2\U00011bd0 a\u1c89b a\ua7cbb \ua7ccx \ua7da\ua7dc \U00010d50\U00010d65 a\U00016ea0b \U00013460x \U0002ebf0y !\U00010d40! !\U0001e5fa! a\U000113b8b
ภาษาไทย ที่นี่ น้ำ กำ ๑๒๓ ພາສາລາວ ျမန္မာ
العربية مُحَمَّد שָׁלוֹם हिन्दी क्षत्रिय தமிழ் తెలుగు
привет МИР Ёлка й и\u0306 ελληνικά ᾳ Ἀθῆναι
👍 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ❤️ ☺︎ 1️⃣ 🫠 🧑🏿‍🚀 ♀
zero\u200bwidth\u200cjoin\u200ders\u2060and\ufeffmarks soft\u00adhyphen
left\u200eto\u200fright \u202aembed\u202c \u2066isolate\u2069
nul\x00inside bell\x07 esc\x1b[31m del\x7f c1\x80\x9f \ufffd \ufffe \U0010ffff \ue000 \U000f0000
\u180e mongolian \u1680 ogham \u2009 thin \u202f narrow \u205f math
𝓈𝒸𝓇𝒾𝓅𝓉 𝔉𝔯𝔞𝔨𝔱𝔲𝔯 ＦＵＬＬ ｗｉｄｔｈ ⓒⓘⓡⓒⓛⓔ ㎏ ㍿ ™ ℡ ﷺ
z̸̡̢a̷͓͝l̵̨͘g̶̗͝o̴͓̕ h̴̫̕e̵̛̖ c̶̮̐o̸̜͠m̴͔̈́e̸̬͋s̷͖̈
<|startoftext|> <|endoftext|> a<|endoftext|>b <|ENDOFTEXT|> <|startoftext|><|startoftext|> <|endoftext| |endoftext|>
!<|startoftext|> a<|StartOfText|>! <|endoftext|>'s '<|endoftext|>s
<cat-toy> a<cat-toy>b <CAT-TOY> wörd WÖRD wo\u0308rd sword wörds _wörd wörd_ wörd! two  words two words Two Words
HTML &amp; &lt;b&gt; entities &eacute; are kept; so are Ã© mojibake â€œ and ﬁ ligatures
the quick brown fox jumps over the lazy dog, an oil painting of the sea at night in the style of the old masters
""".strip("\n").split("\n")
# What vocabulary.py's merges know, cut anywhere.
BLOCKS = [(0x20, 0x7F), (0x20, 0x7F), (0x00, 0x20), (0xA0, 0x250), (0x2B0, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0xE80), (0x1100, 0x1200),
          (0x1E00, 0x2000), (0x2000, 0x2070), (0x2100, 0x2200), (0x3000, 0x3100), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xF900, 0xFB50), (0xFF00, 0xFFF0),
          (0x1D400, 0x1D800), (0x1F300, 0x1F700), (0xE0000, 0xE0080)]


def texts():
    yield ""
    yield " "
    yield "\n"
    for text in TEXTS:
        yield text
    rng = random.Random(6)
    for i in range(260):
        blocks = rng.sample(BLOCKS, rng.randint(1, 3))
        characters = []
        for _ in range(rng.randint(1, 24)):
            c = chr(rng.randrange(*rng.choice(blocks)))
            if unicodedata.category(c) == "Cn":  # later versions of Unicode may say what it is
                c = rng.choice(" 'sx\u0301")
            characters.append(c)
        yield "".join(characters)


REPEATED = [("a", 10000), ("ab", 3000), ("the cat ", 500), ("e\u0301", 400), ("\u0301", 1000), ("\u0301\u0323", 300), ("👍🏽", 300), ("!", 1000), ("'s", 500),
            ("<|endoftext|", 100), ("<|endoftext|>", 100), ("photograph", 300), ("\u3000", 1000), ("1", 500)]
PADDED = ["", "a photo of a cat!", "the cat " * 40, "<|endoftext|> " * 80, "a red apple, " * 24 + "a red", "x" * 500]


def folders():
    for name in ("new", "old", "added", "legacy"):
        shutil.rmtree(FOLDER / name, ignore_errors=True)
    vocabulary.save_old(FOLDER / "old", pad="!")
    vocabulary.save_new(FOLDER / "new")
    tokens = [AddedToken("<cat-toy>"), AddedToken("wörd", single_word=True, normalized=True), AddedToken("two  words", normalized=True),
              AddedToken("the", special=True, single_word=True), AddedToken("<cat", lstrip=True, rstrip=True)]
    tokenizer = CLIPTokenizer.from_pretrained(FOLDER / "new")
    tokenizer.add_tokens(tokens)
    tokenizer.save_pretrained(FOLDER / "added")
    vocabulary.save_old(FOLDER / "legacy")
    size = len(vocabulary.learn()[0])
    (FOLDER / "legacy/added_tokens.json").write_text(json.dumps({"<cat-toy>": size, "wörd": size + 1}))
    return {name: CLIPTokenizer.from_pretrained(FOLDER / name) for name in ("new", "old", "added", "legacy")}


def main():
    tokenizers = folders()
    cases = []
    for text, repeat in [(t, 1) for t in texts()] + REPEATED:
        case = {"text": text} | ({"repeat": repeat} if repeat > 1 else {})
        for name, tokenizer in tokenizers.items():
            ids = tokenizer(text * repeat).input_ids[1:-1]
            if name == "new" or ids != case["new"]:
                case[name] = ids
        cases.append(case)
    for text in PADDED:
        cases.append({"text": text, "padded": {
            name: t(text, padding="max_length", truncation=True, max_length=t.model_max_length).input_ids for name, t in tokenizers.items()}})
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (FOLDER / "ids.json").write_text(f"[\n{lines}\n]\n")
    for file in FOLDER.rglob("*.*"):
        if file.is_file():
            file.chmod(0o644)
    print(len(cases), "texts,", sum(f.stat().st_size for f in FOLDER.rglob("*") if f.is_file()) // 1000, "kB")


if __name__ == "__main__":
    main()
