//go:build !darwin && !freebsd && !linux

package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// lock takes the folder for this process until unlock. A process that was
// killed leaves the file, which is then to be removed by hand.
func lock(root *os.Root) (unlock func(), err error) {
	file, err := root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w, or one was killed and left %s, which is then to be removed", errBusy, lockFile)
	}
	if err != nil {
		return nil, err
	}
	return func() {
		file.Close()
		root.Remove(lockFile)
	}, nil
}

// freeSpace is not asked for here.
func freeSpace(string) (free int64, known bool) { return 0, false }
