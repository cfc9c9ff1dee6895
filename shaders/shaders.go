// Package shaders holds the WGSL kernels and turns a file into the text of one
// variant. Every file is valid WGSL as it stands, with defaults for its
// tunables, so that any WGSL tool reads it; specialising replaces the
// right-hand side of marked lines and nothing else:
//
//	const TILE = 16u;    // param
//	alias T = vec4<f32>; // param
//	// use: weight.wgsl
//
// The last line puts another file in front, once however often it is asked
// for. Override constants would do the same and do not parse in the native
// library.
//
// The package knows no device and compiles for every target.
package shaders

import (
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// FS holds the kernels, one family per file.
//
//go:embed *.wgsl
var FS embed.FS

// Specialise returns the WGSL of file name+".wgsl" with its helpers in front
// and each named parameter replaced by the given WGSL value. A name without a
// marked line, a malformed marker, a value that is not a plain constant or
// type, a helper that includes itself and a token outside the portable subset
// are errors.
func Specialise(name string, params map[string]string) (string, error) {
	return specialise(FS, name, params)
}

var (
	use    = regexp.MustCompile(`^\s*// use: (\S+\.wgsl)\s*$`)
	param  = regexp.MustCompile(`^(\s*(?:const|alias)\s+([A-Za-z_]\w*)\s*(?::[^=;]+)?=\s*)([^;]+);\s*// param\s*$`)
	marker = regexp.MustCompile(`//\s*(param|use:)`)

	// value admits numbers, names, types and arithmetic: nothing that could end
	// the line, open a comment or declare something.
	value = regexp.MustCompile(`^[\w.+\-*<>(), ]+$`)

	// forbidden lists what naga 0.19, inside the native library, does not parse.
	forbidden = regexp.MustCompile(`\b(override|enable|requires|const_assert|diagnostic|subgroup\w*|dot4\w*8Packed)\b`)
)

func specialise(files fs.FS, name string, params map[string]string) (string, error) {
	lines, err := expand(files, name+".wgsl", nil, map[string]bool{})
	if err != nil {
		return "", fmt.Errorf("shader %s: %w", name, err)
	}
	used := map[string]bool{}
	for i, line := range lines {
		m := param.FindStringSubmatch(line)
		if m == nil {
			if marker.MatchString(line) {
				return "", fmt.Errorf("shader %s: line %q is marked but is neither a one-line const or alias nor a use directive", name, strings.TrimSpace(line))
			}
			continue
		}
		declaration, key, text := m[1], m[2], strings.TrimSpace(m[3])
		if used[key] {
			return "", fmt.Errorf("shader %s: parameter %s is declared twice", name, key)
		}
		used[key] = true
		if given, ok := params[key]; ok {
			if text = strings.TrimSpace(given); !value.MatchString(text) {
				return "", fmt.Errorf("shader %s: parameter %s cannot be %q", name, key, given)
			}
		}
		lines[i] = declaration + text + ";"
	}
	for _, key := range slices.Sorted(maps.Keys(params)) {
		if !used[key] {
			return "", fmt.Errorf("shader %s: no line marked // param declares %s", name, key)
		}
	}
	if at, token := findForbidden(lines); token != "" {
		return "", fmt.Errorf("shader %s: line %d of the variant uses %s, which the native library does not parse", name, at, token)
	}
	return strings.Join(lines, "\n") + "\n", nil
}

// expand returns the lines of a file behind those of the helpers it uses.
func expand(files fs.FS, file string, stack []string, seen map[string]bool) ([]string, error) {
	if slices.Contains(stack, file) {
		return nil, fmt.Errorf("%s uses itself through %s", file, strings.Join(append(stack, file), " -> "))
	}
	if seen[file] {
		return nil, nil
	}
	seen[file] = true
	text, err := fs.ReadFile(files, file)
	if err != nil {
		return nil, fmt.Errorf("no file %s", file)
	}
	var helpers, own []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		m := use.FindStringSubmatch(line)
		if m == nil {
			own = append(own, line)
			continue
		}
		helper, err := expand(files, m[1], append(stack, file), seen)
		if err != nil {
			return nil, err
		}
		helpers = append(helpers, helper...)
	}
	return append(helpers, own...), nil
}

// findForbidden returns the first token outside the portable subset and its
// line, counted from 1. Comments may say anything.
func findForbidden(lines []string) (int, string) {
	depth := 0 // block comments nest in WGSL
	for i, line := range lines {
		var code strings.Builder
		for j := 0; j < len(line); j++ {
			switch pair := line[j:min(j+2, len(line))]; {
			case pair == "/*":
				depth++
				j++
			case pair == "*/" && depth > 0:
				depth--
				j++
			case depth > 0:
			case pair == "//":
				j = len(line)
			default:
				code.WriteByte(line[j])
				continue
			}
			code.WriteByte(' ')
		}
		if token := forbidden.FindString(code.String()); token != "" {
			return i + 1, token
		}
	}
	return 0, ""
}
