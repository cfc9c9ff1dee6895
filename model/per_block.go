package model

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// PerBlock is an argument of diffusers that is either one value for every block
// or a list with one for each.
type PerBlock[T any] struct {
	All  T
	List []T // nil where All stands
}

// At is the value of block i.
func (p PerBlock[T]) At(i int) T {
	if p.List != nil {
		return p.List[i]
	}
	return p.All
}

// values lists what the JSON holds, once each.
func (p PerBlock[T]) values() []T {
	if p.List != nil {
		return p.List
	}
	return []T{p.All}
}

// reversed is the argument as the upward blocks count.
func (p PerBlock[T]) reversed() PerBlock[T] {
	r := PerBlock[T]{All: p.All}
	for i := len(p.List) - 1; i >= 0; i-- {
		r.List = append(r.List, p.List[i])
	}
	return r
}

// MarshalJSON writes a value or a list.
func (p PerBlock[T]) MarshalJSON() ([]byte, error) {
	if p.List != nil {
		return json.Marshal(p.List)
	}
	return json.Marshal(p.All)
}

// UnmarshalJSON reads a value or a list. The list is tried first, so that the
// values may be lists themselves.
func (p *PerBlock[T]) UnmarshalJSON(text []byte) error {
	*p = PerBlock[T]{}
	var list []T
	if string(text) != "null" {
		if json.Unmarshal(text, &list) == nil && list != nil {
			p.List = list
			return nil
		}
		if json.Unmarshal(text, &p.All) == nil {
			return nil
		}
	}
	return &json.UnmarshalTypeError{Value: jsonKind(text), Type: reflect.TypeFor[T]()}
}

// checkLength reports a list that has not one value for each block.
func (p PerBlock[T]) checkLength(key string, blocks int) error {
	if p.List != nil && len(p.List) != blocks {
		return fmt.Errorf("%s has %d entries for %d blocks, want one value or one for each", key, len(p.List), blocks)
	}
	return nil
}

// jsonKind names what a JSON value is.
func jsonKind(text []byte) string {
	if len(text) == 0 {
		return "nothing"
	}
	switch text[0] {
	case '"':
		return "string"
	case '[':
		return "list of something else"
	case '{':
		return "object"
	case 't', 'f':
		return "bool"
	case 'n':
		return "null"
	}
	return "number " + short(string(text))
}
