package recipes

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Canonical returns the recipe as YAML with every default written out, in the
// order of the struct; as JSON where it is too long or too strange for the YAML
// that Parse reads. Parse(Canonical) gives the same recipe back.
func (r *Recipe) Canonical() []byte {
	var compact, spread bytes.Buffer
	e := json.NewEncoder(&compact)
	e.SetEscapeHTML(false)
	if e.Encode(r) != nil {
		return r.yaml() // NaN or infinity, which Parse refuses in either
	}
	if compact.Len() > maxYAML {
		return compact.Bytes()
	}
	text := r.yaml()
	if _, err := parseTree(text, "recipe", false); err == nil {
		return text
	}
	if err := json.Indent(&spread, compact.Bytes(), "", "  "); err != nil {
		panic("recipe: " + err.Error()) // the encoder wrote it
	}
	return spread.Bytes()
}

func (r *Recipe) yaml() []byte {
	tree, err := yaml.ValueToNode(r, yaml.IndentSequence(true), yaml.UseSingleQuote(false))
	if err != nil {
		panic("recipe: " + err.Error()) // every field is plain data
	}
	ast.Walk(quotes{}, tree)
	return []byte(tree.String() + "\n")
}

// quotes puts text in quotes where the YAML package would write it in a way
// that reads back differently.
type quotes struct{}

func (q quotes) Visit(n ast.Node) ast.Visitor {
	switch n := n.(type) {
	case *ast.MappingValueNode:
		q.put(n.Key, false)
		q.put(n.Value, true)
	case *ast.SequenceNode:
		for _, item := range n.Values {
			q.put(item, false)
		}
	}
	return q
}

// put quotes n if it is text that needs it. block tells whether several lines
// may be written as such.
func (quotes) put(n ast.Node, block bool) {
	s, ok := n.(*ast.StringNode)
	if !ok || strings.HasPrefix(s.Value, `"`) || plainLine(s.Value) || block && paragraphs.MatchString(s.Value) && printable(s.Value) {
		return
	}
	s.Value = strconv.Quote(s.Value)
	s.Token.Value = s.Value
}

// paragraphs is lines that block text holds as they are: they begin and end
// with no space, and neither does the text with an empty one.
var paragraphs = regexp.MustCompile(`^\S([^\n]*\S)?(\n\n?\S([^\n]*\S)?)+$`)

// plainLine tells whether text reads back from a line of its own. The YAML
// package has quoted most of what does not.
func plainLine(s string) bool {
	first, _ := utf8.DecodeRuneInString(s)
	return (unicode.IsLetter(first) || unicode.IsDigit(first) || strings.ContainsRune("._/($+", first)) &&
		token.New(s, s, nil).Type == token.StringType && printable(s) && !strings.ContainsAny(s, "\n[]{}")
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) })
}
