package tokenizer

import (
	"cmp"
	"container/heap"
)

// wordEnd is what the last token of a word ends with.
const wordEnd = "</w>"

// byteText writes every byte as a character that can be printed: itself where it
// is one, else one from U+0100 on.
var byteText = func() (texts [256]string) {
	next := rune(256)
	for b := range texts {
		r := rune(b)
		if b < '!' || b > '~' && b < 0xA1 || b == 0xAD {
			r = next
			next++
		}
		texts[b] = string(r)
	}
	return texts
}()

// appendWord appends the tokens of a word: its bytes, of which pairs are merged,
// the lowest rank first and of one rank from left to right, until none is left
// to merge.
func (t *Tokenizer) appendWord(ids []int, word string) []int {
	from := len(ids)
	for i := range len(word) {
		text := byteText[word[i]]
		if i == len(word)-1 {
			text += wordEnd
		}
		id, known := t.vocab[text]
		if !known {
			id = t.unknown
		}
		ids = append(ids, id)
	}
	symbols := ids[from:]
	n := len(symbols)
	// Symbols are a doubly linked list over their places; one that was merged
	// into another is -1.
	next, previous := make([]int, n), make([]int, n)
	var queue mergeQueue
	push := func(at int) {
		if m, ok := t.merges[pair{symbols[at], symbols[next[at]]}]; ok {
			heap.Push(&queue, candidate{m, at})
		}
	}
	for i := range n {
		previous[i], next[i] = i-1, i+1
		if i < n-1 {
			push(i)
		}
	}
	for len(queue) > 0 {
		c := heap.Pop(&queue).(candidate)
		right := n
		if symbols[c.at] >= 0 {
			right = next[c.at]
		}
		if right == n || t.merges[pair{symbols[c.at], symbols[right]}] != c.merge {
			continue // a neighbour has changed since
		}
		symbols[c.at], symbols[right] = c.id, -1
		next[c.at] = next[right]
		if next[c.at] < n {
			previous[next[c.at]] = c.at
			push(c.at)
		}
		if previous[c.at] >= 0 {
			push(previous[c.at])
		}
	}
	kept := ids[:from]
	for _, id := range symbols {
		if id >= 0 {
			kept = append(kept, id)
		}
	}
	return kept
}

// candidate is a merge of the symbol at a place and the one after it.
type candidate struct {
	merge
	at int
}

type mergeQueue []candidate

func (q mergeQueue) Len() int { return len(q) }
func (q mergeQueue) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[i].rank, q[j].rank), cmp.Compare(q[i].at, q[j].at)) < 0
}
func (q mergeQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *mergeQueue) Push(c any)   { *q = append(*q, c.(candidate)) }
func (q *mergeQueue) Pop() any {
	last := len(*q) - 1
	c := (*q)[last]
	*q = (*q)[:last]
	return c
}
