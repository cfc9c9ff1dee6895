package recipes

import (
	"slices"
	"strconv"
	"strings"
)

func contains(words []string, w string) bool { return slices.Contains(words, w) }

func quote(s string) string {
	if len(s) > 60 {
		s = s[:57] + "..."
	}
	return strconv.Quote(s)
}

// cut shortens s to n characters, the last of them an ellipsis.
func cut(s string, n int) string {
	last := 0 // where the ellipsis would be
	for i := range s {
		switch n--; n {
		case 0:
			last = i
		case -1:
			return s[:last] + "…"
		}
	}
	return s
}

func list(words []string) string { return strings.Join(words, ", ") }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// nearest suggests the allowed word within two edits, or nothing.
func nearest(word string, allowed []string) string {
	best, bestAt := "", 3
	for _, a := range allowed {
		if d := distance(word, a); d < bestAt && d < len(a) {
			best, bestAt = a, d
		}
	}
	if best == "" {
		return ""
	}
	return "did you mean " + best + "?"
}

// distance is the Levenshtein distance, capped at 3 by length difference.
func distance(a, b string) int {
	if len(a) > len(b)+2 || len(b) > len(a)+2 {
		return 3
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
