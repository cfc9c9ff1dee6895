package graph

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes tells a number of bytes to a person.
func Bytes(n int64) string {
	unit, scale, digits := "KiB", float64(1<<10), 1
	switch {
	case n >= 1<<30:
		unit, scale, digits = "GiB", 1<<30, 2
	case n >= 1<<20:
		unit, scale = "MiB", 1<<20
	case n == 1:
		return "1 byte"
	case n < 1<<10:
		return fmt.Sprintf("%d bytes", n)
	}
	number := strconv.FormatFloat(float64(n)/scale, 'f', digits, 64)
	return strings.TrimRight(strings.TrimRight(number, "0"), ".") + " " + unit
}
