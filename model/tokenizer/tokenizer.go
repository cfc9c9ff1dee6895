// Package tokenizer turns prompts into the ids of CLIP's byte-level BPE, exactly
// as transformers' CLIPTokenizer does: normalisation, splitting into words,
// merges, special tokens, truncation and padding.
package tokenizer

import (
	"fmt"
	"unicode/utf8"
)

// Tokenizer is a vocabulary with its merges. Safe for concurrent use.
type Tokenizer struct {
	vocab         map[string]int
	merges        map[pair]merge
	added         []AddedToken
	raw           *trie // added tokens that are looked for in the text as it is
	normalized    *trie // and those looked for after it is normalised
	bos, eos, pad int
	unknown       int
	maxLength     int
	size          int
}

// AddedToken is a text that is one token wherever it stands, whatever the merges
// say.
type AddedToken struct {
	ID         int
	Content    string
	SingleWord bool // only where no letter or digit is next to it
	Normalized bool // Content and the text are compared after normalisation
}

// pair is two neighbouring tokens.
type pair [2]int

// merge says that a pair becomes one token; those of lower rank come first.
type merge struct{ rank, id int }

// MaxLength is the number of ids that Encode gives.
func (t *Tokenizer) MaxLength() int { return t.maxLength }

// VocabSize is one more than the highest id.
func (t *Tokenizer) VocabSize() int { return t.size }

// Encode gives the MaxLength ids of a text: beginning of text, its tokens, of
// which those that do not fit are cut off, end of text, padding.
func (t *Tokenizer) Encode(text string) ([]int, error) {
	tokens, err := t.Tokens(text)
	if err != nil {
		return nil, err
	}
	ids := make([]int, 0, t.maxLength)
	ids = append(ids, t.bos)
	ids = append(ids, tokens[:min(len(tokens), t.maxLength-2)]...)
	ids = append(ids, t.eos)
	for len(ids) < t.maxLength {
		ids = append(ids, t.pad)
	}
	return ids, nil
}

// Tokens gives the ids of a text alone, all of them: Encode has room for
// MaxLength - 2. The time it takes is that of sorting the text's bytes.
func (t *Tokenizer) Tokens(text string) ([]int, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("tokenizer: the text %.40q is not UTF-8", text)
	}
	var ids []int
	t.raw.split(text, func(id int) { ids = append(ids, id) }, func(text string) {
		t.normalized.split(normalize(text), func(id int) { ids = append(ids, id) }, func(text string) {
			words(text, func(word string) { ids = t.appendWord(ids, word) })
		})
	})
	return ids, nil
}
