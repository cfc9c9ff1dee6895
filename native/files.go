package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sdo-go/sdo/engine"
)

// disk is the file system as the user names it: relative to the working folder
// or absolute. os.DirFS would refuse "..".
type disk struct{}

func (disk) Open(name string) (fs.File, error) { return os.Open(filepath.FromSlash(name)) }

// plainFiles is a folder on disk of which nothing but files and folders is
// opened. A pipe in place of a model's file would be waited for without end, and
// so would the end of a device.
type plainFiles string

func (f plainFiles) Open(name string) (fs.File, error) {
	info, err := f.Stat(name)
	if err != nil {
		return nil, err
	}
	if kind := oddity(info.Mode()); kind != "" {
		return nil, fmt.Errorf("%s: is %s, want a file; put the file itself in its place", name, kind)
	}
	return os.DirFS(string(f)).Open(name)
}

func (f plainFiles) Stat(name string) (fs.FileInfo, error) {
	return fs.Stat(os.DirFS(string(f)), name)
}

func (f plainFiles) ReadDir(name string) ([]fs.DirEntry, error) {
	return fs.ReadDir(os.DirFS(string(f)), name)
}

// oddity says what is neither a file nor a folder.
func oddity(mode fs.FileMode) string {
	switch {
	case mode.IsRegular() || mode.IsDir():
		return ""
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "a socket or the like"
}

// onDisk finds a file or a folder as the user names it, or else among the models
// that were pulled.
func onDisk(name string) (path string, info fs.FileInfo, err error) {
	if info, err = os.Stat(name); err == nil {
		return name, info, nil
	}
	if kept, keptErr := keptModels(); keptErr == nil && filepath.IsLocal(name) {
		path = filepath.Join(kept, name)
		if info, keptErr := os.Stat(path); keptErr == nil {
			return path, info, nil
		}
	}
	return name, nil, err
}

// openFolder finds a model by the name a recipe gives it: a built-in one, or
// else a folder on disk, or else one that was pulled from a hub under this name.
func openFolder(name string) (fs.FS, error) {
	folder, err := engine.OpenBuiltin(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return folder, err
	}
	path, info, diskErr := onDisk(filepath.FromSlash(name))
	switch {
	case errors.Is(diskErr, fs.ErrNotExist):
		return nil, err
	case diskErr != nil:
		return nil, diskErr
	case !info.IsDir():
		return nil, errors.New("is a file; give the folder that holds config.json (diffusers makes one of a checkpoint in one file: from_single_file, then save_pretrained)")
	}
	if snapshots, err := filepath.Glob(filepath.Join(path, "snapshots", "*")); err == nil && len(snapshots) > 0 && !there(plainFiles(path), "config.json") {
		return nil, fmt.Errorf("is a hub's cache; the model in it is %s", strings.Join(snapshots, " or "))
	}
	return plainFiles(path), nil
}
