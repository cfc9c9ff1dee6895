//go:build darwin || freebsd || linux

package hub

import (
	"errors"
	"os"
	"syscall"
)

// lock takes the folder for this process until unlock, or until the process
// ends in whatever way.
func lock(root *os.Root) (unlock func(), err error) {
	file, err := root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		file.Close()
		return nil, errBusy
	}
	// A file system without locks is no reason not to download.
	return func() { file.Close() }, nil
}

// freeSpace is what this user may still write to the disk of a folder, bytes.
func freeSpace(dir string) (free int64, known bool) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return 0, false
	}
	return int64(stat.Bavail) * int64(stat.Bsize), true
}
