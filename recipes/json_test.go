package recipes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// bothWays reads JSON by the JSON reader and by the YAML parser.
func bothWays(data []byte) (j, y *value, jErr, yErr error) {
	at := func(n int) string { return fmt.Sprint("t:", n) }
	j, jErr = parseJSON(data, at)
	if yErr = screen(data, "t"); yErr == nil {
		y, yErr = parseYAML(data, "t", at)
	}
	return j, y, jErr, yErr
}

// JSON gives the values that the YAML parser gives, kinds, words and lines
// included.
func TestJSONReadsAsYAML(t *testing.T) {
	texts := []string{
		"{\n\"a\": [1, -2.5, 1e5, 1E-3, 1.5e3, 0, -0,\n 0.0],\n \"b\":\n {\"c\": null, \"d\": true,\n\"e\": false}}",
		`{"": "", "yes": "yes", "1": "1", "<<": "<<", "q": "a\"b\\c\/d\n\t\u00e9"}`,
		"\n\n[[], {}, [\n[]], \"x\"]\n", "12", "\"a\"", "null", "1e5", "9007199254740993", "123456789012345678901234567890",
	}
	for _, name := range append(List(), Tunings()...) {
		r, err := Find(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var spread bytes.Buffer
		if err := json.Indent(&spread, data, "", "  "); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(data), spread.String())
	}
	for _, text := range texts {
		j, y, jErr, yErr := bothWays([]byte(text))
		if jErr != nil || yErr != nil {
			t.Errorf("%s:\nJSON %v, YAML %v", text, jErr, yErr)
		} else if !reflect.DeepEqual(j, y) {
			t.Errorf("%s reads differently:\nJSON %s\nYAML %s", text, show(j), show(y))
		}
	}
}

// show is a value in one line.
func show(v *value) string {
	s := fmt.Sprintf("%s %d %q %v", v.where, v.kind, v.text, v.plain)
	for _, item := range v.items {
		s += " [" + show(item) + "]"
	}
	for _, key := range v.keys {
		s += fmt.Sprintf(" %q{%s}", key, show(v.fields[key]))
	}
	return s
}

func TestJSONProblems(t *testing.T) {
	for text, want := range map[string]string{
		"{\"version\": 1,\n\"name\": \"x\",\n\"updates\": \"many\", \"seed\":\n1.5}": "t:3: seed: expected a whole number from 0 to 9007199254740991, got 1.5\n" +
			"t:3: updates: expected a whole number from 0 to 10000, got \"many\"",
		"{\"version\": 1,\n\"name\": \"x\",\n\"name\": \"y\"}": "t:3: name: expected each key once, got it a second time",
		"{\"version\": 1,\n\"name\": 12, \"updates\": 0}":      `t:2: name: expected text, got 12; put it in "quotes"`,
		"[1, 2]": "t:1: recipe: expected a mapping that begins with version: 1, got a list of 2",
		"\n" + strings.Repeat("[", 33) + strings.Repeat("]", 33):                                            "t:2: recipe: expected at most 32 levels, got deeper nesting",
		strings.Repeat("[", 20000) + strings.Repeat("]", 20000):                                             "t: recipe: expected at most 32 levels, got deeper nesting",
		strings.Repeat(`{"a":`, 33) + "1" + strings.Repeat("}", 33):                                         "t:1: recipe: expected at most 32 levels, got deeper nesting",
		`{"version": 1, "name": "x", "updates": ` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + "}": "t:1: updates: expected a whole number from 0 to 10000, got a list of 1",
	} {
		if _, err := Parse([]byte(text), "t"); err == nil || err.Error() != want {
			t.Errorf("%.80q:\n got %v\nwant %s", text, err, want)
		}
	}
}

// FuzzJSON holds the JSON reader against the YAML parser where both accept.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a": [1, 1e5, "b"], "c": {"d": null}}`, `{"version":1,"name":"x","updates":0}`, "[\n1,\n{\"a\":\n true}]", `"\ud83d\ude00"`, `{"a":1,"a":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// The YAML parser takes a carriage return for a line, and folds what JSON
		// takes literally.
		if !json.Valid(data) || bytes.ContainsRune(data, '\r') {
			return
		}
		j, y, jErr, yErr := bothWays(data)
		if jErr == nil && yErr == nil && !reflect.DeepEqual(j, y) {
			t.Fatalf("reads differently:\nJSON %s\nYAML %s", show(j), show(y))
		}
	})
}
