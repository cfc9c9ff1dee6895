package model

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// DecodeStrict decodes a JSON object into a struct: no unknown keys, upper and
// lower case told apart, no wrong types, nothing after it, and no null where the
// field cannot be null (where encoding/json would keep the default in silence).
func DecodeStrict(text []byte, into any) error {
	var keys map[string]json.RawMessage
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&keys); err != nil {
		return plain(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON object")
	}
	fields := jsonFields(into)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		field, known := fields[key]
		if !known {
			return fmt.Errorf("unknown key %s", short(strconv.Quote(key)))
		}
		_, decodesItself := reflect.New(field).Interface().(json.Unmarshaler)
		if string(keys[key]) == "null" && !decodesItself && field.Kind() != reflect.Pointer {
			return fmt.Errorf("%s must not be null", key)
		}
	}
	d = json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return plain(err)
	}
	return nil
}

// jsonFields are the types of a struct's fields by their keys.
func jsonFields(of any) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for _, field := range reflect.VisibleFields(reflect.TypeOf(of).Elem()) {
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if key != "-" && !field.Anonymous {
			fields[cmp.Or(key, field.Name)] = field.Type
		}
	}
	return fields
}

// averageKeys are those of diffusers' EMAModel, which stand in the config of a
// network that was saved as the average of its training and say nothing of what
// it computes.
var averageKeys = []string{"decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup"}

// decodeDiffusers is DecodeStrict for a config.json of a class of diffusers, where
// keys that begin with an underscore are notes, and a null that stands for a truth
// is false, as it is in Python.
func decodeDiffusers(text []byte, class string, into any) error {
	var keys map[string]json.RawMessage
	if json.Unmarshal(text, &keys) != nil || keys == nil {
		return DecodeStrict(text, into) // which says what is wrong
	}
	var said string
	if json.Unmarshal(keys["_class_name"], &said) == nil && said != class {
		return unsupported("_class_name", said, strconv.Quote(class))
	}
	fields := jsonFields(into)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		value := keys[key]
		field, known := fields[key]
		switch {
		case strings.HasPrefix(key, "_") && (!known || string(value) == "null"), !known && slices.Contains(averageKeys, key):
			delete(keys, key)
		case known && field.Kind() == reflect.Bool && string(value) == "null":
			keys[key] = json.RawMessage("false")
		case !known:
			return fmt.Errorf("unknown key %s; take it out if it is a note and no argument of the network", short(strconv.Quote(key)))
		}
	}
	text, err := json.Marshal(keys)
	if err != nil {
		return err
	}
	return DecodeStrict(text, into)
}

// onOneLine is a value as a sentence shows it.
func onOneLine(value json.RawMessage) string {
	var line bytes.Buffer
	if json.Compact(&line, value) != nil {
		return "something"
	}
	return short(line.String())
}

// plain words an error of encoding/json for the person who wrote the file.
func plain(err error) error {
	var wrong *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &wrong) && wrong.Field != "":
		return fmt.Errorf("%s is a %s, want %s", short(wrong.Field), short(wrong.Value), wrong.Type)
	case errors.As(err, &wrong):
		return fmt.Errorf("a JSON %s stands where an object should", short(wrong.Value))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the JSON is cut short")
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON: %s", short(err.Error()))
	}
	text := strings.TrimPrefix(err.Error(), "json: ")
	return errors.New(short(strings.Replace(text, "unknown field", "unknown key", 1)))
}
