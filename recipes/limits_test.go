package recipes

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"
)

// filled is unit again and again, up to size bytes.
func filled(size int, unit string) string { return strings.Repeat(unit, size/len(unit)) }

// numbered is format with 0, 1, ... up to size bytes.
func numbered(size int, format string) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// Nobody means these texts, and without the limits each would take minutes or
// gigabytes.
func TestHostileTextIsRefused(t *testing.T) {
	const (
		asJSON  = "; as JSON a recipe may have 256 KiB"
		long    = "t: recipe: expected at most 64 KiB of YAML, got %d bytes" + asJSON
		notJSON = ", which it is not: "
	)
	for _, tt := range []struct{ text, want string }{
		{filled(maxBytes, "{}"), long + notJSON + "invalid character '{' after top-level value"},
		{filled(maxBytes, "&a "), long},
		{filled(maxBytes, "!a "), long},
		{"{" + numbered(200<<10, "k%d: 1, ") + "}", long + notJSON + "invalid character 'k' looking for beginning of object key string"},
		{filled(maxBytes, " "), long},
		{filled(maxBytes, "a: 1\n"), long},
		{strings.Repeat(" ", maxBytes+1), "t: recipe: expected at most 256 KiB, got 262145 bytes"},
		{"a: |\n" + filled(16<<10, "\n"), "t: recipe: expected at most 64 empty lines in a row, got more"},
		{"a: |\n" + filled(16<<10, "  \r\n") + "b: 1\n", "t: recipe: expected at most 64 empty lines in a row, got more"},
		{filled(16<<10, "--- a\n"), "t: recipe: expected one document, got a second one"},
		{filled(16<<10, "a\n...\n"), "t: recipe: expected one document, got a second one"},
		{filled(maxYAML, "k:\n"), "t: recipe: expected at most 8192 words and signs of YAML, got 43690" + asJSON},
		{"[" + filled(32<<10, "a,") + "a]", "t: recipe: expected at most 8192 words and signs of YAML, got 32771" + asJSON},
		{strings.Repeat("k", 9000) + ": 1\n", "t: recipe: expected keys of at most 8 KiB together, got 9000 bytes" + asJSON},
		{"? " + strings.Repeat("k", 9000) + " # c\n: 1\n", "t: recipe: expected keys of at most 8 KiB together, got 9000 bytes" + asJSON},
		{filled(16<<10, "- "), "t: recipe: expected at most 32 levels, got deeper nesting"},
		{filled(16<<10, "?\t"), "t: recipe: expected at most 32 levels, got deeper nesting"},
	} {
		want := tt.want
		if strings.HasPrefix(want, long) {
			want = strings.Replace(want, "%d", fmt.Sprint(len(tt.text)), 1)
		}
		if _, err := Parse([]byte(tt.text), "t"); err == nil || err.Error() != want {
			t.Errorf("%.20q...:\n got %.300v\nwant %s", tt.text, err, want)
		}
	}
}

// What the limits let pass costs little, whatever it is.
func TestHostileTextIsCheap(t *testing.T) {
	const most = 100 << 20 // bytes
	const accepted = `{"version":1,"name":"x","updates":0,"condition":{`
	texts := []string{"a: |\n  x\n" + filled(maxYAML-8, "  a\n"+strings.Repeat("\n", maxEmpty)), "[" + filled(maxYAML-1, "a: 1,")}
	for _, unit := range []string{"{}", "&a ", "*a ", "!a ", "? a\n", "a\n", "]", "|\n", "- |\n    \n", "<<: {}\n", "'' "} {
		texts = append(texts, filled(maxYAML, unit))
	}
	for _, format := range []string{"k%d:\n", "k%d: 1\n", "k%d: 1 #c\n"} {
		texts = append(texts, numbered(maxYAML-16, format))
	}
	texts = append(texts, "{"+numbered(maxYAML-16, "k%d: 1, ")+"}",

		"{"+numbered(maxTokens, "k%d: 1, ")+"}", strings.Repeat("k", 7000)+":\n"+filled(20000, " - - - - - a\n"), strings.Repeat("k", 7000)+": ["+filled(8000, "1,")+"1]",
		// JSON of full length.
		"{"+numbered(maxBytes-32, `"k%d":1,`)+`"k":1}`, "["+filled(maxBytes-8, "[],")+"1]", `{"version":1,"name":"x","condition":{`+numbered(maxBytes-64, `"k%d":1,`)+`"k":1}}`,
		accepted+numbered(maxBytes*3/4, `"k%d":"",`)+`"k":""}}`)
	for _, text := range texts {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Parse([]byte(text), "t")
		runtime.ReadMemStats(&after)
		if (err == nil) != strings.HasPrefix(text, accepted) || err != nil && len(err.Error()) > maxProblems*1000 {
			t.Errorf("%.20q...: %.200v", text, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > most {
			t.Errorf("%.20q... of %d bytes took %d MiB", text, len(text), used>>20)
		}
	}
}

func TestLongJSONIsRead(t *testing.T) {
	row := strings.Repeat("a", 400)
	sketch := `{"version":1,"name":"x","objective":[{"term":"pixels","palette":{"a":"free"},"rows":["` + filled(200<<10, row+`","`) + row + `"]}]}`
	r := mustParse(t, sketch)
	if back := mustParse(t, string(r.Canonical())); !same(r, back) {
		t.Error("reads back differently")
	}
	if c := r.Canonical(); c[0] != '{' {
		t.Errorf("canonical form of %d bytes is YAML", len(c))
	}
	if err := r.Validate(); err != nil {
		t.Error(err)
	}
	// What was read must be read again with all it leaves out.
	full := `{"version":1,"name":"x","updates":0,"description":"` + strings.Repeat("a", maxBytes-60) + `"}`
	want := "t: recipe: expected at most 256 KiB with every default written out, got "
	if _, err := Parse([]byte(full), "t"); len(full) > maxBytes || err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if _, err := Parse([]byte(minimal), "t", Override{"description", full[len(full)-200<<10 : len(full)-1], "--set"}); err == nil {
		t.Error("a value that is half a string passed")
	}
	big := `"` + strings.Repeat("a", 200<<10) + `"`
	if r := mustParse(t, minimal, Override{"description", big, "--set"}); len(r.Description) != 200<<10 {
		t.Errorf("description of %d bytes", len(r.Description))
	}
	if _, err := Parse([]byte(minimal), "t", Override{"description", big, "--set"}, Override{"name", big, "--set"}); err == nil || err.Error() != "t: recipe: expected changes of at most 256 KiB together, got more" {
		t.Errorf("two long values: %v", err)
	}
}

func TestOverridesAreBounded(t *testing.T) {
	set := func(overrides ...Override) string {
		_, err := Parse([]byte(minimal), "t", overrides...)
		if err == nil {
			return ""
		}
		return err.Error()
	}
	const tooMany = "f: a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a: expected a path of at most 32 keys, got a longer one"
	for path, want := range map[string]string{
		strings.Repeat(".", 245_000):    "f: recipe: expected a path of at most 200 bytes, got 245000 bytes",
		"a" + strings.Repeat(".a", 32):  tooMany,
		"seed.a":                        "f: seed.a: expected a mapping to set a key in, got nothing",
		"objective.1.weight":            `f: 1.weight: expected an entry from 0 to 0 of the list, got "1"`,
		"objective.0.term.deeper":       `f: deeper: expected a mapping to set a key in, got "total_variation"`,
		"objective.0." + "weight":       "",
		"sampler.num_inference_steps":   "",
		"variables.latents.lr":          "",
		"a" + strings.Repeat(".a", 31):  "f: a: expected one of the keys",
		strings.Repeat("a", maxPath):    "f: " + strings.Repeat("a", 79) + "…: expected one of the keys",
		strings.Repeat("a", maxPath+1):  "f: recipe: expected a path of at most 200 bytes, got 201 bytes",
		strings.Repeat("é", maxPath/2):  "f: " + strings.Repeat("é", 79) + "…: expected one of the keys",
		"objective.0.rows." + "0":       "f: objective.0.rows: expected one of the keys",
		"objective.99999999999999999.a": `f: 99999999999999999.a: expected an entry from 0 to 0 of the list, got "99999999999999999"`,
	} {
		if path == "seed.a" {
			want = "f: seed: expected a whole number from 0 to 9007199254740991, got a mapping"
		}
		if got := set(Override{path, "1", "f"}); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%.40q:\n got %.300s\nwant %s", path, got, want)
		}
	}
	many := make([]Override, maxOverrides+1)
	for i := range many {
		many[i] = Override{"seed", fmt.Sprint(i), "f"}
	}
	if got, want := set(many...), "t: recipe: expected at most 64 changes to it, got 65; write them into the recipe"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if r := mustParse(t, minimal, many[:maxOverrides]...); r.Seed != maxOverrides-1 {
		t.Errorf("the last of %d changes is not the one that counts: seed %d", maxOverrides, r.Seed)
	}
	if got := set(Override{"seed", "[", strings.Repeat("f", 1000)}); len(got) > 300 {
		t.Errorf("names the whole flag: %s", got)
	}
}

func TestProblemsAreFewAndShort(t *testing.T) {
	_, err := Parse([]byte(`{"version":1,"name":"x","updates":0`+numbered(200<<10, ",\n\"k%d\":1")+`}`), "t")
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != maxProblems+1 {
		t.Fatalf("%d problems: %.300v", len(problems), err)
	}
	count := strings.Count(numbered(200<<10, ",\n\"k%d\":1"), "\n")
	want := fmt.Sprintf("t:22: recipe: expected no problems, got %d more from here on; mend the ones before first", count-maxProblems)
	if got := problems[maxProblems].Error(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	for _, text := range []string{
		`{"version":1,"name":"x","updates":0,"` + strings.Repeat("k", 200<<10) + `":1}`,
		`{"version":1,"name":"x","updates":` + strings.Repeat("1", 200<<10) + `}`,
		`{"version":1,"name":"x","updates":"` + strings.Repeat("é", 100<<10) + `"}`,
		`{"version":1,"name":"x","optimizer":{"betas":[` + strings.Repeat("1", 200<<10) + `,0]}}`,
		strings.Repeat("k", 8000) + ": 1\n",
		"a: {" + strings.Repeat("k", 4000) + ": 1, " + strings.Repeat("k", 4000) + ": 1}\n",
		term(`term: pixels, rows: ["~"], palette: {` + strings.Join(strings.Split(palette(2000), ""), ": free, ") + `: free}`),
	} {
		_, err := Parse([]byte(text), "t")
		if err == nil || len(err.Error()) > 1500 || !strings.Contains(err.Error(), "…") && !strings.Contains(err.Error(), "...") || !utf8.ValidString(err.Error()) {
			t.Errorf("%.60q...: %.2000v", text, err)
		}
	}
	if err := mustParse(t, minimal+"condition: {"+strings.Repeat("k", 8000)+": a}\n").CheckAttributes(Vocabulary{}, Vocabulary{}); err == nil || len(err.Error()) > 500 {
		t.Errorf("a condition with a long name: %.600v", err)
	}
	if _, err := Find(strings.Repeat("k", 100000), nil); err == nil || len(err.Error()) > 500 {
		t.Errorf("a recipe with a long name: %.600v", err)
	}
}

// palette is n different characters.
func palette(n int) string {
	var b strings.Builder
	for r := rune(0x4e00); r < rune(0x4e00+n); r++ {
		b.WriteRune(r)
	}
	return b.String()
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		s    string
		n    int
		want string
	}{{"", 3, ""}, {"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"äöü", 3, "äöü"}, {"äöüß", 3, "äö…"}, {"abcd", 1, "…"}} {
		if got := cut(tt.s, tt.n); got != tt.want {
			t.Errorf("cut(%q, %d) = %q, want %q", tt.s, tt.n, got, tt.want)
		}
	}
}
