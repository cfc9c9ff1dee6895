package model

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Bounds of what a config can ask for, so that a wrong number ends in a sentence
// and not in an endless graph.
const (
	maxLevels   = 16
	maxLayers   = 64      // of a level, and transformer blocks of a layer
	maxBlocks   = 1024    // residual blocks and transformer blocks of a network
	maxKernel   = 64      // height and width of a convolution's kernel
	maxChannels = 1 << 20 // of anything that is a width
	maxSide     = 4096    // height and width of an image
	maxQuote    = 100     // characters of a value that an error repeats
)

// unsupported says that a key holds a value this package cannot compute, and
// which ones it can.
func unsupported(key string, value any, want string) error {
	text := fmt.Sprint(value)
	if s, ok := value.(string); ok {
		text = strconv.Quote(short(s))
	}
	return fmt.Errorf("%s %s is not supported, want %s", key, short(text), want)
}

// short cuts what an error repeats of a file, and takes out what is not to be
// printed on a terminal.
func short(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > maxQuote {
		return string(runes[:maxQuote]) + "…"
	}
	return text
}

// checkLevels bounds the levels of a network, and wants a block of each on the way
// down and on the way up.
func checkLevels(levels, down, up int) error {
	if levels == 0 || levels > maxLevels || down != levels || up != levels {
		return fmt.Errorf("block_out_channels, down_block_types and up_block_types have %d, %d and %d entries, want equal numbers from 1 to %d", levels, down, up, maxLevels)
	}
	return nil
}

// checkBlocks bounds the residual and transformer blocks of a whole network.
func checkBlocks(n int) error {
	if n > maxBlocks {
		return fmt.Errorf("layers_per_block and transformer_layers_per_block ask for %d blocks in all, want at most %d", n, maxBlocks)
	}
	return nil
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
