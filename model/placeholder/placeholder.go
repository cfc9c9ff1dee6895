// Package placeholder knows what stands in a file's place where a model was not
// downloaded as hubs mean it: Git without its large files leaves pointers, and a
// browser's "save as" the page about the file.
package placeholder

import (
	"bytes"
	"errors"
)

// Bytes is how much of a file's beginning Check wants to see.
const Bytes = 64

var (
	errPointer = errors.New("a pointer of Git LFS stands in the file's place; run git lfs pull in its folder, or download the file itself")
	errPage    = errors.New("a web page stands in the file's place; download the file itself, from the address with /resolve/ where the page's has /blob/")
)

// Check reports what the beginning of a file shows it to be instead of a file of
// a model.
func Check(head []byte) error {
	if bytes.HasPrefix(head, []byte("version https://git-lfs.github.com/")) {
		return errPointer
	}
	head = bytes.ToLower(bytes.TrimLeft(head, "\ufeff \t\r\n"))
	for _, page := range []string{"<!doctype html", "<html"} {
		if bytes.HasPrefix(head, []byte(page)) {
			return errPage
		}
	}
	return nil
}
