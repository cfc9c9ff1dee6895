package recipes

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// A recipe is read in two stages: text becomes plain values that remember where
// they were written (json.go, yaml.go), and the rest of the package reads those.

const (
	maxBytes = 256 << 10 // of one recipe, and of the values of all overrides
	maxDepth = 32        // of nesting, and of an override's path

	maxOverrides = 64
	maxPath      = 200 // bytes of an override's path
	maxProblems  = 20  // that are told one by one
)

type kind int

const (
	missing kind = iota
	null
	boolean
	number
	text
	sequence
	mapping
)

var kindNames = [...]string{"nothing", "null", "true or false", "a number", "text", "a list", "a mapping"}

// value is one node of a recipe and where it was written.
type value struct {
	where  string // "dark.yaml:7", or the flag that set it
	kind   kind
	text   string // scalars, as written
	plain  bool   // text without quotes: 1e-3, which the parser takes for a word, is a number where one is wanted
	items  []*value
	keys   []string // of a mapping, in order
	fields map[string]*value
}

// got describes the value for an error.
func (v *value) got() string {
	switch v.kind {
	case boolean, number:
		return v.text
	case text:
		return quote(v.text)
	case sequence:
		return fmt.Sprintf("a list of %d", len(v.items))
	}
	return kindNames[v.kind]
}

// parseTree reads one document. name is what errors call it.
func parseTree(data []byte, name string, line bool) (*value, error) {
	if len(data) > maxBytes {
		return nil, tooLong(name, len(data))
	}
	at := func(n int) string {
		if !line || n < 1 {
			return name
		}
		return fmt.Sprintf("%s:%d", name, n)
	}
	if json.Valid(data) {
		return parseJSON(data, at)
	}
	if err := screen(data, name); err != nil {
		return nil, err
	}
	return parseYAML(data, name, at)
}

func tooLong(name string, size int) Problem {
	return problem(name, "recipe", fmt.Sprintf("at most %d KiB", maxBytes>>10), fmt.Sprintf("%d bytes", size), "")
}

func tooDeep(where string) Problem {
	return problem(where, "recipe", fmt.Sprintf("at most %d levels", maxDepth), "deeper nesting", "")
}

func severalDocuments(where string) Problem {
	return problem(where, "recipe", "one document", "a second one", "")
}

func twice(where, key string) Problem {
	return problem(where, key, "each key once", "it a second time", "")
}

// set replaces the value at a dotted path, making mappings on the way.
func (v *value) set(path string, to *value) error {
	if strings.Count(path, ".") >= maxDepth {
		return problem(to.where, path, fmt.Sprintf("a path of at most %d keys", maxDepth), "a longer one", "")
	}
	for rest, more := path, true; more; {
		var head string
		at := rest
		head, rest, more = strings.Cut(rest, ".")
		switch v.kind {
		case sequence:
			i, err := strconv.Atoi(head)
			if err != nil || i < 0 || i >= len(v.items) {
				return problem(to.where, at, fmt.Sprintf("an entry from 0 to %d of the list", len(v.items)-1), quote(head), "")
			}
			if !more {
				v.items[i] = to
			}
			v = v.items[i]
		case mapping:
			next := v.fields[head]
			if next == nil {
				v.keys = append(v.keys, head)
				next = &value{where: to.where, kind: mapping, fields: map[string]*value{}}
			}
			if !more {
				next = to
			}
			v.fields[head] = next
			v = next
		default:
			return problem(to.where, at, "a mapping to set a key in", v.got(), "")
		}
	}
	return nil
}

// Problem is one thing wrong with a recipe, told in one sentence.
type Problem struct {
	Where    string // file:line, or the flag
	Field    string // dotted path of the key
	Expected string
	Got      string
	Hint     string // what to do, may be empty
}

// problem makes a Problem of words that may come from the recipe, and so may be
// of any length.
func problem(where, field, expected, got, hint string) Problem {
	return Problem{where, cut(field, 80), cut(expected, 400), cut(got, 80), cut(hint, 400)}
}

func (p Problem) Error() string {
	s := fmt.Sprintf("%s: %s: expected %s, got %s", p.Where, p.Field, p.Expected, p.Got)
	if p.Hint != "" {
		s += "; " + p.Hint
	}
	return s
}

// Placed is the sentence without where it stands, and the line of the file that
// that is; 0 for none.
func (p Problem) Placed() (message string, line int) {
	if i := strings.LastIndexByte(p.Where, ':'); i >= 0 {
		line, _ = strconv.Atoi(p.Where[i+1:])
	}
	return strings.TrimPrefix(p.Error(), p.Where+": "), line
}

// Problems is everything wrong with a recipe, one sentence a line.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// reader collects problems while values are read.
type reader struct {
	problems Problems // the first maxProblems
	more     int      // how many came after them
	next     string   // where the first of those is
}

func (c *reader) add(where, field, expected, got, hint string) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, problem(where, field, expected, got, hint))
		return
	}
	if c.more == 0 {
		c.next = where
	}
	c.more++
}

// count is how many problems there are so far.
func (c *reader) count() int { return len(c.problems) + c.more }

func (c *reader) err() error {
	switch {
	case c.count() == 0:
		return nil
	case c.more == 0:
		return c.problems
	}
	return append(c.problems, problem(c.next, "recipe", "no problems", fmt.Sprintf("%d more from here on", c.more), "mend the ones before first"))
}

// section reads the keys of one mapping. Keys it was asked for are the keys
// that are allowed; done reports the rest.
type section struct {
	c      *reader
	v      *value
	prefix string
	asked  []string // in order
	known  map[string]bool
}

func (c *reader) section(v *value, prefix string) *section {
	if v == nil {
		v = &value{where: "recipe"}
	}
	return &section{c: c, v: v, prefix: prefix, known: map[string]bool{}}
}

func (s *section) path(key string) string {
	if s.prefix == "" {
		return key
	}
	return s.prefix + "." + key
}

// at tells where a key was written, or where it is missing from.
func (s *section) at(key string) string {
	if f := s.v.fields[key]; f != nil {
		return f.where
	}
	return s.v.where
}

// child opens a nested mapping or list entry without complaint, for positions.
func (s *section) child(key string) *section {
	child := s.v.fields[key]
	if i, err := strconv.Atoi(key); err == nil && i < len(s.v.items) {
		child = s.v.items[i]
	}
	if child == nil {
		child = &value{where: s.v.where}
	}
	return s.c.section(child, s.path(key))
}

// get returns the value of a key, nil where it is absent.
func (s *section) get(key string) *value {
	if !s.known[key] {
		s.asked, s.known[key] = append(s.asked, key), true
	}
	return s.v.fields[key]
}

func (s *section) has(key string) bool { return s.v.fields[key] != nil }

// wrong reports the value of key.
func (s *section) wrong(key, expected, hint string) {
	got := "nothing"
	if f := s.v.fields[key]; f != nil {
		got = f.got()
	}
	s.c.add(s.at(key), s.path(key), expected, got, hint)
}

// need reports a required key that is absent.
func (s *section) need(key, expected string) bool {
	if s.get(key) != nil {
		return true
	}
	s.wrong(key, expected, "")
	return false
}

func (s *section) mapping(key string) *section {
	v := s.get(key)
	if v != nil && v.kind != mapping {
		s.wrong(key, "a mapping", "")
		v = nil
	}
	if v == nil {
		v = &value{where: s.at(key)}
	}
	return s.c.section(v, s.path(key))
}

func (s *section) text(key string, dst *string) {
	if v := s.get(key); v == nil {
		return
	} else if v.kind != text {
		s.wrong(key, "text", `put it in "quotes"`)
	} else {
		*dst = v.text
	}
}

// line reads text for a text encoder.
func (s *section) line(key string, dst *string) {
	if s.text(key, dst); len(*dst) > MaxPrompt {
		s.c.add(s.at(key), s.path(key), fmt.Sprintf("at most %d bytes", MaxPrompt), fmt.Sprint(len(*dst)), "a text encoder reads no more than its first words")
		*dst = ""
	}
}

// some reads text that must be there and say something.
func (s *section) some(key string, dst *string, expected string) {
	if !s.need(key, expected) {
		return
	}
	if s.text(key, dst); s.v.fields[key].kind == text && strings.TrimSpace(*dst) == "" {
		s.wrong(key, expected, "")
	}
}

func (s *section) word(key string, dst *string, allowed []string) {
	v := s.get(key)
	if v == nil {
		return
	}
	if v.kind != text || !contains(allowed, v.text) {
		s.wrong(key, "one of "+list(allowed), nearest(v.text, allowed))
		return
	}
	*dst = v.text
}

func (s *section) flag(key string, dst *bool) {
	if v := s.get(key); v == nil {
		return
	} else if v.kind != boolean {
		s.wrong(key, "true or false", "")
	} else {
		*dst = v.text == "true"
	}
}

// whole reads a whole number in [lo, hi]. 1e3 and 20.0 count as whole.
func (s *section) whole(key string, dst *int64, lo, hi int64) {
	v := s.get(key)
	if v == nil {
		return
	}
	f, ok := v.float()
	if !ok || f != math.Trunc(f) || f < float64(lo) || f > float64(hi) {
		s.wrong(key, fmt.Sprintf("a whole number from %d to %d", lo, hi), "")
		return
	}
	*dst = int64(f)
}

func (s *section) count(key string, dst *int, lo, hi int64) {
	n := int64(*dst)
	s.whole(key, &n, lo, hi)
	*dst = int(n)
}

// float reads a finite number that passes ok.
func (s *section) float(key string, dst *float64, expected string, ok func(float64) bool) {
	v := s.get(key)
	if v == nil {
		return
	}
	f, isNumber := v.float()
	if !isNumber || math.IsNaN(f) || math.IsInf(f, 0) || !ok(f) {
		s.wrong(key, expected, "")
		return
	}
	*dst = f
}

var exponent = regexp.MustCompile(`^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$`)

func (v *value) float() (float64, bool) {
	if v.kind != number && !(v.plain && exponent.MatchString(v.text)) {
		return 0, false
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(v.text, "_", ""), 64)
	return f, err == nil
}

func (s *section) color(key string, dst *Color) {
	v := s.get(key)
	if v == nil {
		return
	}
	if v.kind != text || !Color(v.text).valid() {
		hint := ""
		if v.kind == null {
			hint = `a bare # begins a comment, so put the colour in "quotes"`
		}
		s.wrong(key, `a colour "#rrggbb"`, hint)
		return
	}
	*dst = Color(strings.ToLower(v.text))
}

func (s *section) rect(key string) *Rect {
	const expected = "[x, y, width, height] in whole pixels with width and height at least 1"
	v := s.get(key)
	if v == nil {
		return nil
	}
	if v.kind != sequence || len(v.items) != 4 {
		s.wrong(key, expected, "")
		return nil
	}
	var r Rect
	for i, item := range v.items {
		f, ok := item.float()
		if !ok || f != math.Trunc(f) || f < float64(i/2) || f > 4096 {
			s.c.add(item.where, s.path(key), expected, item.got()+" as entry "+strconv.Itoa(i), "")
			return nil
		}
		r[i] = int(f)
	}
	return &r
}

// done reports the keys nobody asked for.
func (s *section) done() {
	for _, key := range s.v.keys {
		if !s.known[key] {
			s.c.add(s.at(key), s.path(key), "one of the keys "+list(s.asked), "an unknown key", nearest(key, s.asked))
		}
	}
}
