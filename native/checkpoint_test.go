package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A run that is begun anew leaves nothing to continue from, whatever ends it before
// its first checkpoint.
func TestDiscardCheckpoint(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, checkpointFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // nor is it an error that there was none
		if err := discardCheckpoint(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, checkpointFile)); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("the checkpoint is still there: %v", err)
		}
	}
}
