package recipes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// YAML is parsed by goccy/go-yaml, which takes time and memory by the square of
// some texts and the cube of others: it copies the keys above a value for each
// value, and block text for each empty line at its end. What makes them so is
// refused first, and no recipe needs it. Anchors, aliases, merge keys, tags and
// several documents are refused too: a recipe should mean what it shows.

// Limits of YAML.
const (
	maxYAML   = 64 << 10 // bytes
	maxTokens = 8192     // words and signs, without comments
	maxKeys   = 8 << 10  // bytes of all keys together
	maxEmpty  = 64       // empty lines in a row
	maxMarks  = 8        // of documents, left to the parser to tell the line of the second one
)

// screen refuses YAML that would cost the parser more than a recipe may.
func screen(data []byte, name string) error {
	switch {
	case deep(data):
		return tooDeep(name)
	case emptyLines(data) > maxEmpty:
		return problem(name, "recipe", fmt.Sprintf("at most %d empty lines in a row", maxEmpty), "more", "")
	case marks(data) > maxMarks:
		return severalDocuments(name)
	case len(data) > maxYAML:
		hint := asJSON
		if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
			hint += ", which it is not: " + json.Unmarshal(data, new(json.RawMessage)).Error()
		}
		return problem(name, "recipe", fmt.Sprintf("at most %d KiB of YAML", maxYAML>>10), fmt.Sprintf("%d bytes", len(data)), hint)
	}
	return nil
}

// screenTokens is screen for what the scanner made of the text.
func screenTokens(tokens token.Tokens, name string) error {
	count, keys := 0, 0
	before := &token.Token{}
	for _, t := range tokens {
		if t.Type == token.CommentType {
			continue
		}
		if t.Type == token.MappingValueType { // the colon after a key
			keys += len(before.Value)
		}
		before = t
		count++
	}
	if count > maxTokens {
		return problem(name, "recipe", fmt.Sprintf("at most %d words and signs of YAML", maxTokens), fmt.Sprint(count), asJSON)
	}
	if keys > maxKeys {
		return problem(name, "recipe", fmt.Sprintf("keys of at most %d KiB together", maxKeys>>10), fmt.Sprintf("%d bytes", keys), asJSON)
	}
	return nil
}

// asJSON is what to do with YAML that is too much.
var asJSON = fmt.Sprintf("as JSON a recipe may have %d KiB", maxBytes>>10)

// deep tells whether flow brackets or compact block sequences nest further
// than any recipe needs; the parser recurses, so this is asked first. Block
// nesting by indentation is bounded by maxYAML.
func deep(data []byte) bool {
	depth, dashes := 0, 0
	for i, b := range data {
		switch b {
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(0, depth-1)
		case '\n', ',':
			dashes = 0
		case '-', '?', ':':
			if i+1 < len(data) && (data[i+1] == ' ' || data[i+1] == '\t') {
				dashes++
			}
		}
		if depth > maxDepth || dashes > 4*maxDepth {
			return true
		}
	}
	return false
}

// emptyLines counts those of the longest run: block text costs the cube of it.
func emptyLines(data []byte) (longest int) {
	run := 0
	for i, b := range data {
		switch {
		case b == '\r' && i+1 < len(data) && data[i+1] == '\n', b == ' ', b == '\t':
		case b == '\n', b == '\r':
			run++
			longest = max(longest, run-1)
		default:
			run = 0
		}
	}
	return longest
}

// marks counts the lines that begin or end a document.
func marks(data []byte) (n int) {
	for line := range bytes.Lines(data) {
		if bytes.HasPrefix(line, []byte("---")) || bytes.HasPrefix(line, []byte("...")) {
			n++
		}
	}
	return n
}

func parseYAML(data []byte, name string, at func(int) string) (v *value, err error) {
	// The parser is foreign code fed with anything a user may type.
	defer func() {
		if r := recover(); r != nil {
			v, err = nil, problem(name, "recipe", "YAML or JSON", "text the parser cannot read", "")
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if err := screenTokens(tokens, name); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		where, hint := name, ""
		// The whole error shows the text around it, at a cost that grows with the
		// square of the text.
		if syntax := yaml.Error(nil); errors.As(err, &syntax) {
			hint = syntax.GetMessage()
			if t := syntax.GetToken(); t != nil && t.Position != nil {
				where = at(t.Position.Line)
			}
		} else {
			hint = err.Error()
		}
		return nil, problem(where, "syntax", "YAML or JSON", "text that does not parse", strings.Join(strings.Fields(hint), " "))
	}
	var body ast.Node
	for _, d := range file.Docs {
		if d.Body == nil {
			continue
		}
		if body != nil {
			return nil, severalDocuments(at(d.Body.GetToken().Position.Line))
		}
		body = d.Body
	}
	if body == nil {
		return nil, problem(name, "recipe", "a mapping that begins with version: 1", emptyFile, "")
	}
	return convert(body, at, 0)
}

// emptyFile is what is got where there is nothing.
const emptyFile = "an empty file"

func convert(n ast.Node, at func(int) string, depth int) (*value, error) {
	v := &value{where: at(n.GetToken().Position.Line)}
	refuse := func(what string) (*value, error) {
		return nil, problem(v.where, "recipe", "plain values", what, "")
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
				return nil, twice(field.where, name)
			}
			v.keys, v.fields[name] = append(v.keys, name), field
		}
	default:
		return refuse(strings.ToLower(n.Type().String()) + ", which a recipe may not use")
	}
	return v, nil
}
