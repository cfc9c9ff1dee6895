package model

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// WriteFileAtomic writes a file so that path holds either its old contents or
// all of the new ones, whatever interrupts the program: a temporary file beside
// it is written, synced, renamed over it, and the folder synced. The folder
// must exist; the file's mode is 0644.
func WriteFileAtomic(path string, write func(w io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return named(path, err)
	}
	defer func() {
		if err != nil {
			file.Close()
			os.Remove(file.Name())
			err = named(path, err)
		}
	}()
	buffered := bufio.NewWriterSize(file, 1<<16)
	if err = write(buffered); err != nil {
		return err
	}
	if err = buffered.Flush(); err != nil {
		return err
	}
	if err = file.Chmod(0o644); err != nil {
		return err
	}
	if err = file.Sync(); err != nil {
		return err
	}
	if err = file.Close(); err != nil {
		return err
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return err
	}
	if folder, openErr := os.Open(dir); openErr == nil {
		folder.Sync() // not every file system can sync a folder; the rename stands without it
		folder.Close()
	}
	return nil
}

// named is an error of the temporary file as one of the file that it stands for.
func named(path string, err error) error {
	var of *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &link):
		return &fs.PathError{Op: "write", Path: path, Err: link.Err}
	case errors.As(err, &of) && strings.HasPrefix(filepath.Base(of.Path), "."+filepath.Base(path)+"."):
		return &fs.PathError{Op: "write", Path: path, Err: of.Err}
	}
	return err
}
