package marked

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const page = "# A page\n<!-- table:begin -->\nold\n<!-- table:end -->\nThe rest.\n"

func TestWriteReplacesWhatIsBetween(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(file, "table", "new\nlines\n"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if want := strings.Replace(page, "old\n", "new\nlines\n", 1); err != nil || string(text) != want {
		t.Errorf("got %q, %v, want %q", text, err, want)
	}
	if between, err := Between(string(text), "table"); err != nil || between != "new\nlines\n" {
		t.Errorf("between the markers stands %q, %v", between, err)
	}
}

func TestMarkersAreWanted(t *testing.T) {
	for what, text := range map[string]string{
		"none":        "no markers",
		"another's":   page,
		"no end":      "<!-- mine:begin -->\nx",
		"no begin":    "x\n<!-- mine:end -->\n",
		"wrong order": "<!-- mine:end -->\nx\n<!-- mine:begin -->\n",
	} {
		if _, err := Replace(text, "mine", "y"); err == nil || !strings.Contains(err.Error(), `"<!-- mine:begin -->" and "<!-- mine:end -->" are missing`) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}
