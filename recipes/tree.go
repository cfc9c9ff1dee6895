package recipes

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// A recipe is read in two stages: goccy/go-yaml turns text into a syntax tree
// (JSON is a subset of YAML, so one parser reads both), and this file turns the
// tree into plain values that remember where they were written. Anchors,
// aliases, merge keys, tags and several documents are refused: a recipe should
// mean what it shows.

const (
	maxBytes = 256 << 10 // of one recipe
	maxDepth = 32        // of nesting
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
func parseTree(data []byte, name string, line bool) (v *value, err error) {
	if len(data) > maxBytes {
		return nil, Problem{Where: name, Field: "recipe", Expected: fmt.Sprintf("at most %d KiB", maxBytes>>10), Got: fmt.Sprintf("%d bytes", len(data))}
	}
	if deep(data) {
		return nil, Problem{Where: name, Field: "recipe", Expected: fmt.Sprintf("at most %d levels", maxDepth), Got: "deeper nesting"}
	}
	at := func(n int) string {
		if !line || n < 1 {
			return name
		}
		return fmt.Sprintf("%s:%d", name, n)
	}
	// The parser is foreign code fed with anything a user may type.
	defer func() {
		if r := recover(); r != nil {
			v, err = nil, Problem{Where: name, Field: "recipe", Expected: "YAML or JSON", Got: "text the parser cannot read"}
		}
	}()
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		problem := Problem{Where: name, Field: "syntax", Expected: "YAML or JSON", Got: "text that does not parse", Hint: err.Error()}
		var at2 yaml.Error
		if errors.As(err, &at2) {
			problem.Hint = at2.GetMessage()
			if t := at2.GetToken(); t != nil && t.Position != nil {
				problem.Where = at(t.Position.Line)
			}
		}
		problem.Hint = strings.Join(strings.Fields(problem.Hint), " ")
		return nil, problem
	}
	var body ast.Node
	for _, d := range file.Docs {
		if d.Body == nil {
			continue
		}
		if body != nil {
			return nil, Problem{Where: at(d.Body.GetToken().Position.Line), Field: "recipe", Expected: "one document", Got: "a second one"}
		}
		body = d.Body
	}
	if body == nil {
		return nil, Problem{Where: name, Field: "recipe", Expected: "a mapping that begins with version: 1", Got: "an empty file"}
	}
	return convert(body, at, 0)
}

// deep tells whether flow brackets or compact block sequences nest further
// than any recipe needs; the parser recurses, so this is asked first. Block
// nesting by indentation is bounded by maxBytes.
func deep(data []byte) bool {
	depth, dashes := 0, 0
	for i, b := range data {
		switch b {
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(0, depth-1)
		case '\n':
			dashes = 0
		case '-', '?', ':':
			if i+1 < len(data) && data[i+1] == ' ' {
				dashes++
			}
		}
		if depth > maxDepth || dashes > 4*maxDepth {
			return true
		}
	}
	return false
}

func convert(n ast.Node, at func(int) string, depth int) (*value, error) {
	v := &value{where: at(n.GetToken().Position.Line)}
	refuse := func(what string) (*value, error) {
		return nil, Problem{Where: v.where, Field: "recipe", Expected: "plain values", Got: what}
	}
	if depth > maxDepth {
		return refuse("deeper nesting than any recipe needs")
	}
	switch n := n.(type) {
	case *ast.NullNode:
		v.kind = null
	case *ast.BoolNode:
		v.kind, v.text = boolean, strconv.FormatBool(n.Value)
	case *ast.IntegerNode:
		v.kind, v.text = number, n.Token.Value
	case *ast.FloatNode:
		v.kind, v.text = number, n.Token.Value
	case *ast.InfinityNode:
		v.kind, v.text = number, strconv.FormatFloat(n.Value, 'g', -1, 64)
	case *ast.NanNode:
		v.kind, v.text = number, "NaN"
	case *ast.StringNode:
		v.kind, v.text, v.plain = text, n.Value, n.Token.Type == token.StringType
	case *ast.LiteralNode:
		v.kind, v.text = text, n.Value.Value
	case *ast.SequenceNode:
		v.kind = sequence
		for _, e := range n.Values {
			item, err := convert(e, at, depth+1)
			if err != nil {
				return nil, err
			}
			v.items = append(v.items, item)
		}
	case ast.MapNode:
		v.kind, v.fields = mapping, map[string]*value{}
		for it := n.MapRange(); it.Next(); {
			key, ok := it.Key().(ast.ScalarNode)
			if !ok {
				return refuse("a key that is not a word (" + it.Key().Type().String() + ")")
			}
			name := key.GetToken().Value
			field, err := convert(it.Value(), at, depth+1)
			if err != nil {
				return nil, err
			}
			if field.where = at(key.GetToken().Position.Line); v.fields[name] != nil {
				return nil, Problem{Where: field.where, Field: name, Expected: "each key once", Got: "it a second time"}
			}
			v.keys, v.fields[name] = append(v.keys, name), field
		}
	default:
		return refuse(strings.ToLower(n.Type().String()) + ", which a recipe may not use")
	}
	return v, nil
}

// set replaces the value at a dotted path, making mappings on the way.
func (v *value) set(path string, to *value) error {
	head, rest, more := strings.Cut(path, ".")
	if v.kind == sequence {
		i, err := strconv.Atoi(head)
		if err != nil || i < 0 || i >= len(v.items) {
			return Problem{Where: to.where, Field: path, Expected: fmt.Sprintf("an entry from 0 to %d of the list", len(v.items)-1), Got: quote(head)}
		}
		if !more {
			v.items[i] = to
			return nil
		}
		return v.items[i].set(rest, to)
	}
	if v.kind != mapping {
		return Problem{Where: to.where, Field: path, Expected: "a mapping to set a key in", Got: v.got()}
	}
	if v.fields[head] == nil {
		v.keys = append(v.keys, head)
		v.fields[head] = &value{where: to.where, kind: mapping, fields: map[string]*value{}}
	}
	if !more {
		v.fields[head] = to
		return nil
	}
	return v.fields[head].set(rest, to)
}

// Problem is one thing wrong with a recipe, told in one sentence.
type Problem struct {
	Where    string // file:line, or the flag
	Field    string // dotted path of the key
	Expected string
	Got      string
	Hint     string // what to do, may be empty
}

func (p Problem) Error() string {
	s := fmt.Sprintf("%s: %s: expected %s, got %s", p.Where, p.Field, p.Expected, p.Got)
	if p.Hint != "" {
		s += "; " + p.Hint
	}
	return s
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
type reader struct{ problems Problems }

func (c *reader) add(where, field, expected, got, hint string) {
	c.problems = append(c.problems, Problem{where, field, expected, got, hint})
}

func (c *reader) err() error {
	if len(c.problems) == 0 {
		return nil
	}
	return c.problems
}

// section reads the keys of one mapping. Keys it was asked for are the keys
// that are allowed; done reports the rest.
type section struct {
	c      *reader
	v      *value
	prefix string
	asked  []string
}

func (c *reader) section(v *value, prefix string) *section {
	if v == nil {
		v = &value{where: "recipe"}
	}
	return &section{c: c, v: v, prefix: prefix}
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
	if !contains(s.asked, key) {
		s.asked = append(s.asked, key)
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
		if !contains(s.asked, key) {
			s.c.add(s.at(key), s.path(key), "one of the keys "+list(s.asked), "an unknown key", nearest(key, s.asked))
		}
	}
}
