// Package spelling finds which of some words was meant by one that is none of
// them.
package spelling

// Nearest is the word within two edits of what was written, the first of the
// nearest; empty where there is none.
func Nearest(written string, words []string) string {
	best, bestAt := "", 3
	for _, w := range words {
		if len(w) > len(written)+2 || len(written) > len(w)+2 {
			continue
		}
		if d := Distance(written, w); d < bestAt && d < len(w) {
			best, bestAt = w, d
		}
	}
	return best
}

// Distance is the number of insertions, deletions and replacements of a byte that
// turn a into b (Levenshtein's distance).
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
