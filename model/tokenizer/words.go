package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The texts of CLIP's own special tokens are words of their own even where they
// are no special tokens; what they are made of then are three.
var literals = []string{"<|startoftext|>", "<|endoftext|>"}

// contractions are cut off whatever precedes them.
var contractions = []string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}

// words cuts normalised text as CLIP's regular expression does, at every place
// the first of: a literal, a contraction, letters, one digit, anything else but
// white space. Spaces are left out.
func words(text string, word func(string)) {
	for len(text) > 0 {
		n := prefix(text, literals)
		if n > 0 {
			word(text[:2])
			word(text[2 : n-2])
			word(text[n-2 : n])
			text = text[n:]
			continue
		}
		if n = prefix(text, contractions); n == 0 {
			r, size := utf8.DecodeRuneInString(text)
			n = size
			switch {
			case unicode.IsSpace(r):
				text = text[n:]
				continue
			case isLetter(r):
				n += run(text[n:], isLetter)
			case !isNumber(r):
				n += run(text[n:], func(r rune) bool { return !unicode.IsSpace(r) && !isLetter(r) && !isNumber(r) })
			}
		}
		word(text[:n])
		text = text[n:]
	}
}

// prefix is the length of the first of texts that text begins with.
func prefix(text string, texts []string) int {
	for _, t := range texts {
		if strings.HasPrefix(text, t) {
			return len(t)
		}
	}
	return 0
}

// run is the length of the runes of a kind that text begins with.
func run(text string, kind func(rune) bool) int {
	for i, r := range text {
		if !kind(r) {
			return i
		}
	}
	return len(text)
}
