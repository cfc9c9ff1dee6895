package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// DecodeStrict decodes a JSON object into a struct: no unknown keys, no wrong
// types, nothing after it, and no null where the field cannot be null (where
// encoding/json would keep the default in silence).
func DecodeStrict(text []byte, into any) error {
	var keys map[string]json.RawMessage
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&keys); err != nil {
		return plain(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON object")
	}
	fields := reflect.TypeOf(into).Elem()
	for i := range fields.NumField() {
		key, _, _ := strings.Cut(fields.Field(i).Tag.Get("json"), ",")
		_, decodesItself := reflect.New(fields.Field(i).Type).Interface().(json.Unmarshaler)
		nullable := decodesItself || fields.Field(i).Type.Kind() == reflect.Pointer
		if value, present := keys[key]; present && string(value) == "null" && !nullable {
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

// plain words an error of encoding/json for the person who wrote the file.
func plain(err error) error {
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong) && wrong.Field != "":
		return fmt.Errorf("%s is a %s, want %s", short(wrong.Field), short(wrong.Value), wrong.Type)
	case errors.As(err, &wrong):
		return fmt.Errorf("a JSON %s stands where an object should", short(wrong.Value))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the JSON is cut short")
	}
	text := strings.TrimPrefix(err.Error(), "json: ")
	return errors.New(short(strings.Replace(text, "unknown field", "unknown key", 1)))
}
