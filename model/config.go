package model

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what a config can ask for, so that a wrong number ends in a sentence
// and not in an endless graph.
const (
	maxLevels   = 16
	maxLayers   = 64      // of a level, and transformer blocks of a layer
	maxChannels = 1 << 20 // of anything that is a width
	maxSide     = 4096    // height and width of an image
)

// unsupported says that a key holds a value this package cannot compute, and
// which ones it can.
func unsupported(key string, value any, want string) error {
	if s, ok := value.(string); ok {
		value = strconv.Quote(s)
	}
	return fmt.Errorf("%s %v is not supported, want %s", key, value, want)
}

// namedInt is a number of a config under its key.
type namedInt struct {
	key   string
	value int
}

func appendInts(to []namedInt, key string, values ...int) []namedInt {
	for i, v := range values {
		name := key
		if len(values) > 1 {
			name = fmt.Sprintf("%s[%d]", key, i)
		}
		to = append(to, namedInt{name, v})
	}
	return to
}

// optionalInt is a number that may be null.
type optionalInt struct {
	key   string
	value *int
}

func appendOptional(to []namedInt, optional ...optionalInt) []namedInt {
	for _, o := range optional {
		if o.value != nil {
			to = append(to, namedInt{o.key, *o.value})
		}
	}
	return to
}

// checkInts reports the first number that is not from 1 to most.
func checkInts(numbers []namedInt, most int) error {
	for _, n := range numbers {
		if n.value < 1 || n.value > most {
			return unsupported(n.key, n.value, fmt.Sprintf("a number from 1 to %d", most))
		}
	}
	return nil
}

func quoted(words []string) []string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = strconv.Quote(w)
	}
	return list
}

// oneOf names the keys of a table of supported values.
func oneOf[V any](table map[string]V) string {
	return strings.Join(quoted(slices.Sorted(maps.Keys(table))), ", ")
}
