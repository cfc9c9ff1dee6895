package recipes

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sdo-go/sdo/recipes/spelling"
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

// nearest asks whether an allowed word was meant, or says nothing.
func nearest(word string, allowed []string) string {
	if meant := spelling.Nearest(word, allowed); meant != "" {
		return "did you mean " + meant + "?"
	}
	return ""
}
