package tokenizer

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalize composes the text (NFC), makes every run of white space one space and
// every letter small.
func normalize(text string) string {
	text = compose(text)
	var b strings.Builder
	b.Grow(len(text))
	space := false
	for _, r := range text {
		if unicode.IsSpace(r) {
			if !space {
				b.WriteByte(' ')
			}
			space = true
			continue
		}
		space = false
		if r == 'İ' { // the only letter whose small form is two runes
			b.WriteString("i\u0307")
			continue
		}
		b.WriteRune(lower(r))
	}
	return b.String()
}

// compose is normalisation form C of Unicode 9. norm.NFC is not: it is of a later
// version, and it breaks runs of more than 30 marks by a joiner, which would be
// another text.
func compose(text string) string {
	if ascii(text) {
		return text
	}
	runes := make([]rune, 0, len(text))
	for i, r := range text {
		if d := norm.NFC.PropertiesString(text[i:]).Decomposition(); d != nil && !unicode.Is(later, r) {
			runes = append(runes, []rune(string(d))...)
			continue
		}
		runes = appendSyllable(runes, r)
	}
	order(runes)

	out := runes[:0] // never longer than what has been read
	starter, last := -1, 0
	for _, r := range runes {
		class := combiningClass(r)
		adjacent := len(out) == starter+1
		if starter >= 0 && (adjacent || last != 0 && last < class) {
			if c := composite(out[starter], r); c != 0 {
				out[starter] = c
				continue
			}
		}
		if class == 0 {
			starter = len(out)
		}
		last = class
		out = append(out, r)
	}
	return string(out)
}

func ascii(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Hangul syllables are composed by arithmetic, Unicode chapter 3.12.
const (
	hangulL, hangulV, hangulT, hangulS = 0x1100, 0x1161, 0x11A7, 0xAC00
	countL, countV, countT             = 19, 21, 28
)

func appendSyllable(runes []rune, r rune) []rune {
	s := r - hangulS
	if s < 0 || s >= countL*countV*countT {
		return append(runes, r)
	}
	runes = append(runes, hangulL+s/(countV*countT), hangulV+s%(countV*countT)/countT)
	if t := s % countT; t != 0 {
		runes = append(runes, hangulT+t)
	}
	return runes
}

// composite is the rune that two compose to, 0 for none.
func composite(a, b rune) rune {
	if l, v := a-hangulL, b-hangulV; l >= 0 && l < countL && v >= 0 && v < countV {
		return hangulS + (l*countV+v)*countT
	}
	if s, t := a-hangulS, b-hangulT; s >= 0 && s < countL*countV*countT && s%countT == 0 && t > 0 && t < countT {
		return a + t
	}
	var text [2 * utf8.UTFMax]byte
	n := utf8.EncodeRune(text[:], a)
	n += utf8.EncodeRune(text[n:], b)
	composed := norm.NFC.Bytes(text[:n])
	if r, size := utf8.DecodeRune(composed); size == len(composed) && !unicode.Is(later, r) {
		return r
	}
	return 0
}

// order sorts every run of marks by class, those of one class in the order they
// stood in.
func order(runes []rune) {
	for from := 0; from < len(runes); from++ {
		to := from
		for to < len(runes) && combiningClass(runes[to]) != 0 {
			to++
		}
		if to-from > 1 {
			slices.SortStableFunc(runes[from:to], func(a, b rune) int { return cmp.Compare(combiningClass(a), combiningClass(b)) })
		}
		from = to
	}
}

func combiningClass(r rune) int {
	if r < 0x300 || unicode.Is(later, r) {
		return 0
	}
	var text [utf8.UTFMax]byte
	return int(norm.NFC.Properties(text[:utf8.EncodeRune(text[:], r)]).CCC())
}
