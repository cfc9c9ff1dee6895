// Package marked keeps what a program writes into a Markdown file that people
// write the rest of: between the lines <!-- NAME:begin --> and <!-- NAME:end -->.
package marked

import (
	"fmt"
	"os"
	"strings"
)

// Between is what stands between the markers of a name.
func Between(text, name string) (string, error) {
	_, between, _, err := cut(text, name)
	return between, err
}

// Replace is text with something else between the markers of a name.
func Replace(text, name, with string) (string, error) {
	head, _, tail, err := cut(text, name)
	return head + with + tail, err
}

// Write replaces what stands between the markers of a file.
func Write(file, name, with string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	updated, err := Replace(string(text), name, with)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(updated), 0o644)
}

// cut takes a text apart; the markers stay with what is outside of them.
func cut(text, name string) (head, between, tail string, err error) {
	begin, end := fmt.Sprintf("<!-- %s:begin -->\n", name), fmt.Sprintf("<!-- %s:end -->\n", name)
	head, rest, opened := strings.Cut(text, begin)
	between, tail, closed := strings.Cut(rest, end)
	if !opened || !closed {
		return "", "", "", fmt.Errorf("the lines %q and %q are missing", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return head + begin, between, end + tail, nil
}
