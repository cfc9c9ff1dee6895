package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// trie finds added tokens in a text: at every place the longest that is there.
type trie struct {
	next  map[byte]*trie
	token *AddedToken // that ends here, nil for none
}

func (t *trie) add(content string, token *AddedToken) {
	for i := range len(content) {
		if t.next == nil {
			t.next = map[byte]*trie{}
		}
		if t.next[content[i]] == nil {
			t.next[content[i]] = &trie{}
		}
		t = t.next[content[i]]
	}
	if t.token == nil {
		t.token = token
	}
}

// longest is the longest token that text begins with, and its length.
func (t *trie) longest(text string) (found *AddedToken, length int) {
	for i := range len(text) {
		if t = t.next[text[i]]; t == nil {
			return found, length
		}
		if t.token != nil {
			found, length = t.token, i+1
		}
	}
	return found, length
}

// split calls token for every token of the text and between for what lies before,
// between and after them, in order.
func (t *trie) split(text string, token func(id int), between func(string)) {
	from, at := 0, 0
	for at < len(text) {
		found, length := t.longest(text[at:])
		if found == nil {
			at++
			continue
		}
		if !found.SingleWord || !wordBefore(text[:at]) && !wordAfter(text[at+length:]) {
			if from < at {
				between(text[from:at])
			}
			token(found.ID)
			from = at + length
		}
		at += length
	}
	if from < len(text) {
		between(text[from:])
	}
}

func wordBefore(text string) bool {
	r, size := utf8.DecodeLastRuneInString(text)
	return size > 0 && isWord(r)
}

func wordAfter(text string) bool {
	r, size := utf8.DecodeRuneInString(text)
	return size > 0 && isWord(r)
}

// isWord is \w of regular expressions.
func isWord(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
}
