//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package model

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
)

// mapping is a file in the address space: reading a tensor costs one copy, into
// its float32 numbers, and what is not read is never loaded. A file that gets
// shorter while it is open, or a disk that fails, ends a read in an error. It is
// unmapped when closed, or else when nothing refers to it any more.
type mapping struct {
	mu      sync.RWMutex
	data    []byte // nil once closed
	size    int64
	cleanup runtime.Cleanup
}

// mapFile maps a file of the operating system. It returns nil for any other and
// where mapping fails, as it does on some network file systems: such a file is
// read.
func mapFile(file fs.File, size int64) mapped {
	f, ok := file.(*os.File)
	if !ok || size <= 0 || int64(int(size)) != size {
		return nil
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil
	}
	m := &mapping{size: size}
	if raw.Control(func(fd uintptr) {
		m.data, err = syscall.Mmap(int(fd), 0, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
	}) != nil || err != nil {
		return nil
	}
	m.cleanup = runtime.AddCleanup(m, func(data []byte) { syscall.Munmap(data) }, m.data)
	return m
}

// view shows a range of the file. The kernel answers a touch of what is no
// longer there with a signal, which Go turns into a panic on request.
func (m *mapping) view(at, n int64, use func(raw []byte)) (err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	switch {
	case m.data == nil:
		return fs.ErrClosed
	case at < 0 || n < 0 || at > m.size || n > m.size-at:
		return io.ErrUnexpectedEOF
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			if _, ok := fault.(interface{ Addr() uintptr }); !ok {
				panic(fault)
			}
			err = fmt.Errorf("the file changed while it was being read, or its disk failed: %w", io.ErrUnexpectedEOF)
		}
	}()
	use(m.data[at:][:n])
	return nil
}

// ReadAt is io.ReaderAt's.
func (m *mapping) ReadAt(p []byte, at int64) (int, error) {
	n := min(int64(len(p)), max(0, m.size-at))
	if err := m.view(at, n, func(raw []byte) { copy(p, raw) }); err != nil {
		return 0, err
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return len(p), nil
}

// Close unmaps the file. Reads that follow fail.
func (m *mapping) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data == nil {
		return nil
	}
	m.cleanup.Stop()
	data := m.data
	m.data = nil
	return syscall.Munmap(data)
}
