package recipes

import (
	"bytes"
	"encoding/json"

	"github.com/goccy/go-yaml/token"
)

// JSON is read without the YAML parser, in time and memory that grow with the
// text, into the values that the parser would have given.

// jsonReader walks the tokens of valid JSON.
type jsonReader struct {
	tokens *json.Decoder
	data   []byte
	at     func(line int) string
	line   int    // of the token read last; no token spans two
	read   int    // bytes up to its end
	where  string // at(line)
}

// parseJSON reads text that json.Valid accepts.
func parseJSON(data []byte, at func(int) string) (*value, error) {
	r := jsonReader{tokens: json.NewDecoder(bytes.NewReader(data)), data: data, at: at, line: 1, where: at(1)}
	r.tokens.UseNumber()
	return r.value(0)
}

func (r *jsonReader) next() (json.Token, error) {
	t, err := r.tokens.Token()
	end := int(r.tokens.InputOffset())
	if lines := bytes.Count(r.data[r.read:end], []byte("\n")); lines > 0 {
		r.line += lines
		r.where = r.at(r.line)
	}
	r.read = end
	return t, err
}

func (r *jsonReader) value(depth int) (*value, error) {
	t, err := r.next()
	if err != nil {
		return nil, err
	}
	v := &value{where: r.where}
	switch t := t.(type) {
	case nil:
		v.kind = null
	case bool:
		v.kind, v.text = boolean, "false"
		if t {
			v.text = "true"
		}
	case string:
		v.kind, v.text = text, t
	case json.Number:
		// 1e-3 is a word to the YAML parser, and a number where one is wanted.
		if v.kind, v.text = number, t.String(); token.ToNumber(v.text) == nil {
			v.kind, v.plain = text, true
		}
	case json.Delim:
		if depth == maxDepth {
			return nil, tooDeep(r.where)
		}
		if t == '[' {
			err = r.items(v, depth)
		} else {
			err = r.fields(v, depth)
		}
		if err == nil {
			_, err = r.next() // the closing bracket
		}
	}
	return v, err
}

func (r *jsonReader) items(v *value, depth int) error {
	v.kind = sequence
	for r.tokens.More() {
		item, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		v.items = append(v.items, item)
	}
	return nil
}

func (r *jsonReader) fields(v *value, depth int) error {
	v.kind, v.fields = mapping, map[string]*value{}
	for r.tokens.More() {
		t, err := r.next()
		if err != nil {
			return err
		}
		key, where := t.(string), r.where
		field, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		if field.where = where; v.fields[key] != nil {
			return twice(where, key)
		}
		v.keys, v.fields[key] = append(v.keys, key), field
	}
	return nil
}
