package placeholder

import "testing"

func TestCheck(t *testing.T) {
	for head, want := range map[string]error{
		"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e": errPointer,
		"\ufeff\n<!DOCTYPE html>\n<html lang=\"en\">":                                             errPage,
		"<html><head>":             errPage,
		"":                         nil,
		"#version: 0.2\ni n":       nil,
		`{"_class_name": "<html"}`: nil,
		"PK\x03\x04":               nil,
	} {
		if err := Check([]byte(head)); err != want {
			t.Errorf("%.30q: %v, want %v", head, err, want)
		}
	}
}
