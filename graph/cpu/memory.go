package cpu

import (
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"

	"github.com/sdo-go/sdo/graph"
)

// ErrOutOfMemory is wrapped where the machine has no room for what a program
// needs. Go itself would end the process, with the best so far unsaved.
var ErrOutOfMemory = errors.New("out of memory")

// worthAsking is the size in bytes from which the system is asked first; it
// takes some microseconds to answer.
const worthAsking = 1 << 20

// Room is an error where so many bytes more do not fit into the machine.
func Room(bytes int64) error {
	if bytes < worthAsking {
		return nil
	}
	if free := available(); bytes > free {
		return fmt.Errorf("%w: %s are needed at once and %s are free; try fewer pictures", ErrOutOfMemory, graph.Bytes(bytes), graph.Bytes(free))
	}
	return nil
}

// available is the memory that can be had without swapping, where the system
// says it.
var available = func() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if match := regexp.MustCompile(`MemAvailable:\s*(\d+) kB`).FindSubmatch(text); err == nil && match != nil {
		if kib, err := strconv.ParseInt(string(match[1]), 10, 53); err == nil {
			return kib << 10
		}
	}
	return math.MaxInt64
}
