package spelling

import "testing"

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"ab", "ba", 2}, {"to_q", "to_k", 1},
	} {
		if got := Distance(tt.a, tt.b); got != tt.want {
			t.Errorf("from %q to %q are %d edits, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"sdo", "stale-r", "draft-lv", "draft-K", "ddim"}
	for written, want := range map[string]string{"sdo": "sdo", "sod": "sdo", "stale-4": "stale-r", "draft-k": "draft-K", "euler": "", "": "", "x": "", "dim": "ddim"} {
		if got := Nearest(written, words); got != want {
			t.Errorf("%q is taken for %q, want %q", written, got, want)
		}
	}
}
