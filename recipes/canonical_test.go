package recipes

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// words holds text wherever a recipe has some: values, keys, lists in a line
// and lists of lines.
func words(t *testing.T, s string) *Recipe {
	t.Helper()
	quoted, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{"version": 1, "name": "x", "description": %[1]s, "model": %[1]s, "condition": {%[1]s: %[1]s}, "clip": "c", "updates": 0`, quoted)
	if s != "" {
		rows, palette := []string{s, s}, map[string]string{}
		for _, r := range s {
			palette[string(r)] = "free"
		}
		sketch, err := json.Marshal(map[string]any{"term": "pixels", "rows": rows, "palette": palette})
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf(`, "variables": {"parameters": {"lora": {"targets": [%s, "b", %[1]s]}}}, "objective": [%s`, quoted, sketch)
		if strings.TrimSpace(s) != "" {
			text += fmt.Sprintf(`, {"term": "attribute", "attribute": %s, "value": %[1]s}`, quoted)
			if len(s) <= MaxPrompt/3 { // broken text grows when it is mended
				text += fmt.Sprintf(`, {"term": "clip_similarity", "prompt": %s}`, quoted)
			}
		}
		text += "]"
	}
	return mustParse(t, text+"}")
}

var nasty = []string{
	"", " ", "  a", "a  ", "\t", "a\tb", "\ta", "a\t", "\n", "\n\n", "a\n", "a\n\n", "\na", " \n ", "a\nb", "a\n\nb", "a\n b\nc", "a \nb", "a\n\n\n\nb", "a\n\tb",
	"\r", "\r\n", "a\r\nb", "a\rb", "a\nb\r\nc", "\x00", "a\x00b", "\x07", "\x1b[0m", "\x7f", "\u0085", "a\u2028b", "\ufeff", "\u00a0", "\ufffd", "\U0010ffff",
	": ", "a: b", "a:", ":", ":a", "a:b", "#", "a #b", "#a", "a#b", "null", "Null", "~", "true", "yes", "no", "on", "y", "123", "0x1f", "0o7", "1_000", "1e5", ".5", ".inf", ".nan", "-.inf", "-1", "+1", "1.", "2001-01-01", "12:30:45",
	"-", "- a", "--", "---", "--- a", "...", "? a", "?", "!", "!!str a", "&a", "*a", "|", "|\n a", ">", "%", "%YAML", "@", "`", "<<", "=", "{", "{}", "}", "[", "[]", "]", ",", "a, b", "a]", "{a: b}", "0[0", "a}b",
	`"`, `""`, `"a"`, `'`, `''`, `'a'`, `it's`, `a "b" c`, `\`, `\n`, `a\b`, `\"`, "😀", "a😀b", "ä", "日本語", "a\n---\nb", "a\n...\nb", "a\n#b", "a\n- b", "a\nb: c",
	strings.Repeat("k", 5000), strings.Repeat("\n", 200), strings.Repeat("[", 100), strings.Repeat("a\n", 100), strings.Repeat("- ", 200), strings.Repeat("---\n", 20), strings.Repeat("a", 20<<10),
}

func TestAnyTextReadsBack(t *testing.T) {
	for _, s := range nasty {
		r := words(t, s)
		back, err := Parse(r.Canonical(), "canonical")
		if err != nil {
			t.Errorf("%.80q: %v\n%.2000s", s, err, r.Canonical())
		} else if !same(r, back) {
			t.Errorf("%.80q reads back differently:\n%.2000s", s, r.Canonical())
		}
		if len(s) < 50 && r.Canonical()[0] == '{' {
			t.Errorf("%q is written as JSON:\n%s", s, r.yaml())
		}
		if err := r.Validate(); err != nil {
			t.Errorf("%.80q: %v", s, err)
		}
	}
}

// What people write stays readable.
func TestCanonicalText(t *testing.T) {
	for s, want := range map[string]string{
		"a word":      "description: a word\n",
		"It's (1/2).": "description: It's (1/2).\n",
		"one\ntwo":    "description: |-\n  one\n  two\n",
		"a\tb":        `description: "a\tb"` + "\n",
		"a\r\nb":      `description: "a\r\nb"` + "\n",
	} {
		r := mustParse(t, minimal)
		if r.Description = s; !strings.Contains(string(r.Canonical()), want) {
			t.Errorf("%q: want %s in\n%s", s, want, r.Canonical())
		}
	}
	if text := words(t, strings.Repeat("[", 100)).Canonical(); text[0] != '{' {
		t.Errorf("YAML that Parse refuses:\n%s", text)
	}
}

// FuzzText holds that any text reads back from the canonical form.
func FuzzText(f *testing.F) {
	for _, s := range nasty {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 1000 {
			return
		}
		r := words(t, s)
		back, err := Parse(r.Canonical(), "canonical")
		if err != nil {
			t.Fatalf("%v\n%s", err, r.Canonical())
		}
		if !same(r, back) {
			t.Fatalf("reads back differently:\n%s", r.Canonical())
		}
	})
}
