//go:build unix && !js

package report

import (
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

// A folder that has no room for what a run will leave is refused before the run,
// and is left as it was.
func TestReadyAsksForRoom(t *testing.T) {
	dir := t.TempDir()
	if err := Ready(dir, 100_000); err != nil {
		t.Fatal(err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Skip(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	small := limit
	small.Cur = 50_000
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		t.Skip(err)
	}
	err := Ready(dir, 100_000)
	if back := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); back != nil {
		t.Fatal(back)
	}
	if err == nil || !strings.Contains(err.Error(), "has no room for the 100 kB") || strings.Contains(err.Error(), ".ready.") {
		t.Errorf("error %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v, %v is left", err, left)
	}
}
