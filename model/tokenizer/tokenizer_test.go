package tokenizer

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"
)

// golden is a line of testdata/ids.json, made by tools/golden/tokenizer.py.
type golden struct {
	Text   string
	Repeat int
	Padded map[string][]int
	New    []int
	Old    []int // nil where it is as New
	Added  []int
	Legacy []int
}

func goldens(t testing.TB) []golden {
	text, err := os.ReadFile("testdata/ids.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []golden
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func load(t testing.TB, name string) *Tokenizer {
	tokenizer, err := Load(os.DirFS("testdata"), name)
	if err != nil {
		t.Fatal(err)
	}
	return tokenizer
}

func TestAgainstTransformers(t *testing.T) {
	compared := map[string]int{}
	for _, name := range []string{"new", "old", "added", "legacy"} {
		tokenizer := load(t, name)
		for _, g := range goldens(t) {
			if g.Padded != nil {
				got, err := tokenizer.Encode(g.Text)
				if err != nil || !slices.Equal(got, g.Padded[name]) {
					t.Errorf("%s: %q to 77 ids: %v, %v; want %v", name, g.Text, got, err, g.Padded[name])
				}
				continue
			}
			want := g.New
			if other := map[string][]int{"old": g.Old, "added": g.Added, "legacy": g.Legacy}[name]; other != nil {
				want = other
				compared[name]++
			}
			compared["new"]++
			got, err := tokenizer.Tokens(strings.Repeat(g.Text, max(1, g.Repeat)))
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %+q: %v, %v; want %v", name, g.Text, got, err, want)
			}
		}
	}
	if compared["new"] < 1200 || compared["old"] < 3 || compared["added"] < 3 || compared["legacy"] < 2 {
		t.Errorf("compared %v texts, want more of every folder", compared)
	}
}

// What a prompt of a hundred kilobytes takes grows with its length, and its
// logarithm, whatever it is made of.
func TestTimeGrowsWithTheText(t *testing.T) {
	tokenizer := load(t, "added")
	for _, text := range []string{"a", "the cat ", "\u0301", "\u0301\u0323", "e\u0301", "<|endoftext|", "<cat", "!", "각", "\u1100\u1161", " ", "0"} {
		took := func(n int) time.Duration {
			best := time.Hour
			for range 3 {
				start := time.Now()
				if _, err := tokenizer.Tokens(strings.Repeat(text, n/len(text))); err != nil {
					t.Fatal(err)
				}
				best = min(best, time.Since(start))
			}
			return best
		}
		for attempt := 1; ; attempt++ { // a busy machine may stop any one of them for a while
			short, long := took(5_000), took(80_000)
			if long <= 100*short+100*time.Millisecond {
				break
			}
			if attempt == 5 {
				t.Errorf("%+q: %v for 5 kB and %v for 80 kB", text, short, long)
				break
			}
		}
	}
}

func TestTextMustBeUTF8(t *testing.T) {
	if _, err := load(t, "new").Encode("a\xff"); err == nil || !strings.Contains(err.Error(), "not UTF-8") {
		t.Errorf("%v, want an error", err)
	}
}

func TestSizes(t *testing.T) {
	for name, want := range map[string]int{"new": 754, "old": 754, "added": 759, "legacy": 756} {
		if got := load(t, name); got.VocabSize() != want || got.MaxLength() != 77 {
			t.Errorf("%s: ids below %d and texts of %d, want %d and 77", name, got.VocabSize(), got.MaxLength(), want)
		}
	}
}

// folder is testdata/old with some files changed; "" removes one.
func folder(t *testing.T, changes map[string]string) fstest.MapFS {
	files := fstest.MapFS{}
	for _, name := range []string{vocabFile, mergesFile, specialFile, configFile} {
		text, err := os.ReadFile("testdata/old/" + name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: text}
	}
	for name, text := range changes {
		if text == "" {
			delete(files, name)
			continue
		}
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return files
}

func TestRefusals(t *testing.T) {
	whole := func(model string) map[string]string {
		return map[string]string{wholeFile: `{"added_tokens": [], "model": ` + model + `}`}
	}
	for _, c := range []struct {
		want    string
		changes map[string]string
	}{
		{"holds neither tokenizer.json nor both vocab.json and merges.txt", map[string]string{mergesFile: ""}},
		{"holds neither tokenizer.json nor both vocab.json and merges.txt", map[string]string{vocabFile: ""}},
		{"holds no vocabulary", map[string]string{vocabFile: "{}"}},
		{"vocab.json: cannot unmarshal", map[string]string{vocabFile: "[]"}},
		{"vocab.json: unexpected end", map[string]string{vocabFile: `{"a"`}},
		{"vocab.json: cannot unmarshal", map[string]string{vocabFile: `{"a": 0.5}`}},
		{`token "a" has the id -1`, map[string]string{vocabFile: `{"a": -1}`}},
		{`token "a" has the id 16777216`, map[string]string{vocabFile: `{"a": 16777216}`}},
		{`tokens "a" and "b" have one id, 3`, map[string]string{vocabFile: `{"b": 3, "a": 3}`}},
		{`needs the token "x", which the vocabulary lacks`, map[string]string{vocabFile: `{"a": 0}`, mergesFile: "x y"}},
		{`the vocabulary lacks the token`, map[string]string{vocabFile: `{"a": 0}`, mergesFile: "#version: 0.2\n"}},
		{`merges.txt: line 2, "a b c", is not two tokens`, map[string]string{mergesFile: "t h\na b c\n"}},
		{`merges.txt: line 1, "", is not two tokens`, map[string]string{mergesFile: "\n"}},
		{"merges.txt: not UTF-8", map[string]string{mergesFile: "\xff \xfe"}},
		{"model.type \"Unigram\" is not supported", whole(`{"type": "Unigram", "vocab": [["<pad>", 0.0]]}`)},
		{"tokenizer.json: cannot unmarshal", whole(`{"end_of_word_suffix": "</w>", "vocab": [["<pad>", 0.0]]}`)},
		{"vocab.json: a pointer of Git LFS stands in the file's place", map[string]string{vocabFile: "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a"}},
		{"merges.txt: a web page stands in the file's place", map[string]string{mergesFile: "<!doctype html>\n<html>"}},
		{"model.end_of_word_suffix \"\" is not supported", whole(`{"type": "BPE"}`)},
		{"model.continuing_subword_prefix \"##\" is not supported", whole(`{"continuing_subword_prefix": "##", "end_of_word_suffix": "</w>"}`)},
		{"merge 0, [\"a\"], is not two tokens", whole(`{"end_of_word_suffix": "</w>", "merges": [["a"]]}`)},
		{"merge 0, 7, is not two tokens", whole(`{"end_of_word_suffix": "</w>", "merges": [7]}`)},
		{"added token \"x\" has no id", map[string]string{wholeFile: `{"added_tokens": [{"content": "x"}], "model": {"end_of_word_suffix": "</w>"}}`}},
		{`tokenizer_class "BertTokenizer" is not supported`, map[string]string{configFile: `{"tokenizer_class": "BertTokenizer"}`}},
		{`padding_side "left" is not supported`, map[string]string{configFile: `{"padding_side": "left"}`}},
		{`truncation_side "left" is not supported`, map[string]string{configFile: `{"truncation_side": "left"}`}},
		{"model_max_length 2 is not supported", map[string]string{configFile: `{"model_max_length": 2}`}},
		{"model_max_length 7.5 is not supported", map[string]string{configFile: `{"model_max_length": 7.5}`}},
		{"model_max_length 100000 is not supported", map[string]string{configFile: `{"model_max_length": 1e5}`}},
		{"two tokens have the id 754", map[string]string{addedFile: `{"x": 754, "y": 754}`}},
		{`added token "xyz" has the id 755, by its place it would have 754`, map[string]string{addedFile: `{"xyz": 755}`}},
		{`added token "a</w>" has the id 3, by its place it would have 320`, map[string]string{configFile: `{"added_tokens_decoder": {"3": {"content": "a</w>"}}}`}},
		{"is 257 bytes long, want at most 256", map[string]string{addedFile: fmt.Sprintf(`{%q: 754}`, strings.Repeat("x", 257))}},
		{"added tokens of more than 262144 bytes in all", map[string]string{addedFile: manyTokens(200)}},
		{"special_tokens_map.json: ", map[string]string{specialFile: `{"bos_token": 3}`}},
	} {
		if _, err := Load(folder(t, c.changes), "."); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.300s: %v, want %q", fmt.Sprint(c.changes), err, c.want)
		}
	}
}

// manyTokens is an added_tokens.json of 1600 long tokens that begin like none of
// the others.
func manyTokens(length int) string {
	added := map[string]int{}
	for i := range 1600 {
		added[fmt.Sprintf("%04d%s", i, strings.Repeat("x", length-4))] = 754 + i
	}
	text, _ := json.Marshal(added)
	return string(text)
}

// Added tokens that are listed apart from the special ones take no more time the
// more of both there are.
func TestManyAddedTokens(t *testing.T) {
	special, added := []string{}, map[string]int{}
	for i := range 30_000 {
		special = append(special, "special token "+strconv.Itoa(i))
		added["added token "+strconv.Itoa(i)] = 754 + i
	}
	names, err := json.Marshal(map[string]any{"additional_special_tokens": special})
	if err != nil {
		t.Fatal(err)
	}
	texts, err := json.Marshal(added)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err = Load(folder(t, map[string]string{specialFile: string(names), addedFile: string(texts)}), ".")
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	if err == nil || !strings.Contains(err.Error(), "added tokens of more than") {
		t.Errorf("%v, want the limit", err)
	}
}

func TestFilesThatSayLess(t *testing.T) {
	for name, changes := range map[string]map[string]string{
		"nothing but vocabulary and merges": {specialFile: "", configFile: ""},
		"no bound on the length":            {configFile: `{"model_max_length": 1000000000000000019884624838656}`},
		"nulls":                             {configFile: `{"pad_token": null, "added_tokens_decoder": null, "extra_special_tokens": {}, "model_max_length": null}`, specialFile: "{}"},
	} {
		tokenizer, err := Load(folder(t, changes), ".")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ids, err := tokenizer.Encode("a cat")
		if err != nil || len(ids) != 77 || ids[0] != 752 || ids[4] != 753 {
			t.Errorf("%s: %v, %v", name, ids, err)
		}
	}
}

// FuzzTokenizer loads folders of one changed file each and tokenises a text with
// those that load: nothing panics, ids are of the vocabulary, padding is exact, and
// a text means what it does composed.
func FuzzTokenizer(f *testing.F) {
	for name, text := range tiny {
		f.Add(name, []byte(text), "a <|endoftext|> ab  Ab")
	}
	f.Add(wholeFile, []byte(`{"added_tokens": [{"id": 7, "content": "<cat>", "single_word": true, "normalized": true}], "model": {"type": "BPE",
		"end_of_word_suffix": "</w>", "vocab": `+tiny[vocabFile]+`, "merges": ["a b</w>", ["a", "a"]]}}`), "<CAT> a<cat>")
	f.Add(addedFile, []byte(`{"<cat-toy>": 7}`), "<cat-toy>")
	f.Add(configFile, []byte(`{"added_tokens_decoder": {"7": {"content": "e\u0301", "normalized": true}}, "model_max_length": 3}`), "É")
	for _, g := range goldens(f)[:80] {
		f.Add(addedFile, []byte(`{}`), g.Text)
	}
	plain := load(f, "new")
	f.Fuzz(func(t *testing.T, name string, contents []byte, text string) {
		for _, tokenizer := range []*Tokenizer{plain, changed(t, name, contents)} {
			if tokenizer == nil {
				continue
			}
			ids, err := tokenizer.Encode(text)
			if utf8.ValidString(text) != (err == nil) {
				t.Fatalf("%q: %v", text, err)
			}
			if err != nil {
				continue
			}
			if len(ids) != tokenizer.MaxLength() {
				t.Fatalf("%q: %d ids, want %d", text, len(ids), tokenizer.MaxLength())
			}
			for _, id := range ids {
				if id < 0 || id >= tokenizer.VocabSize() {
					t.Fatalf("%q: id %d of %d", text, id, tokenizer.VocabSize())
				}
			}
		}
		if utf8.ValidString(text) {
			if once := compose(text); compose(once) != once {
				t.Fatalf("%+q composed is %+q, composed again %+q", text, once, compose(once))
			}
		}
	})
}

// tiny is a folder with a vocabulary so small that a fuzzer gets through it.
var tiny = map[string]string{
	vocabFile:   `{"a": 0, "a</w>": 1, "b</w>": 2, "ab</w>": 3, "aa": 4, "<|startoftext|>": 5, "<|endoftext|>": 6}`,
	mergesFile:  "#version: 0.2\na b</w>\na a\n",
	specialFile: `{"bos_token": {"content": "<|startoftext|>", "normalized": true}, "pad_token": "a"}`,
	configFile:  `{"tokenizer_class": "CLIPTokenizer", "model_max_length": 9, "additional_special_tokens": ["b"], "eos_token": {"__type": "AddedToken", "content": "<|endoftext|>"}}`,
}

// changed loads tiny with one file changed; nil where that is refused.
func changed(t *testing.T, name string, contents []byte) *Tokenizer {
	t.Helper()
	if !slices.Contains([]string{vocabFile, mergesFile, specialFile, configFile, wholeFile, addedFile}, name) {
		return nil
	}
	files := fstest.MapFS{}
	for name, text := range tiny {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	files[name] = &fstest.MapFile{Data: contents}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	tokenizer, err := Load(files, ".")
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20+1024*uint64(len(contents)) {
		t.Errorf("%d bytes made the reader allocate %d", len(contents), used)
	}
	if took > 20*time.Second {
		t.Errorf("%d bytes took %v", len(contents), took)
	}
	if err != nil {
		if text := err.Error(); len(text) > 4096 || strings.Contains(text, "\n") {
			t.Errorf("an error of %d bytes: %.300q", len(text), text)
		}
		return nil
	}
	return tokenizer
}

// Released tokenizers' configs are read as they are, over a vocabulary of CLIP's
// size.
func TestReleasedTokenizers(t *testing.T) {
	vocab := map[string]int{"<|startoftext|>": 49406, "<|endoftext|>": 49407}
	next := 0
	for _, end := range []string{"", wordEnd} {
		for b := '!'; b <= '~'; b++ { // "!" is 0, as it is CLIP's
			vocab[string(b)+end] = next
			next++
		}
		for _, text := range byteText {
			if _, known := vocab[text+end]; !known {
				vocab[text+end] = next
				next++
			}
		}
	}
	for ; next < 49406; next++ {
		vocab[fmt.Sprintf("word %d", next)] = next
	}
	text, err := json.Marshal(vocab)
	if err != nil {
		t.Fatal(err)
	}
	for name, pad := range map[string]int{"stable-diffusion-v1-5": 49407, "stable-diffusion-2": 49407, "sd-turbo": 0} {
		config, err := os.ReadFile("../testdata/released/" + name + ".tokenizer.json")
		if err != nil {
			t.Fatal(err)
		}
		tokenizer, err := Load(fstest.MapFS{vocabFile: {Data: text}, mergesFile: {Data: []byte("#version: 0.2\n")}, configFile: {Data: config}}, ".")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ids, err := tokenizer.Encode("a")
		if want := []int{49406, 256 + 'a' - '!', 49407, pad}; err != nil || len(ids) != 77 || !slices.Equal(ids[:4], want) || ids[76] != pad || tokenizer.VocabSize() != 49408 {
			t.Errorf("%s: %v…, %v; want %v…", name, ids[:min(4, len(ids))], err, want)
		}
	}
}
