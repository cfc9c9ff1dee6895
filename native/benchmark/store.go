package benchmark

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Store is the file of finished cells, one JSON line each, in the order they were
// made. A bench that was ended takes up where it stopped: whatever is in the file
// is not run again.
type Store struct {
	path  string
	cells map[Cell]*Record
	rates map[string]*Rates
}

// line is one line of the file: a record, or what calls take.
type line struct {
	*Record
	Rates *Rates `json:"rates,omitempty"`
}

// OpenStore reads a file; one that does not exist is empty.
func OpenStore(path string) (*Store, error) {
	s := &Store{path: path, cells: map[Cell]*Record{}, rates: map[string]*Rates{}}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<26)
	for n := 1; lines.Scan(); n++ {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			// A bench that was killed may have left half a line behind.
			fmt.Fprintf(os.Stderr, "%s:%d: not a finished cell, made again: %v\n", path, n, err)
			continue
		}
		s.take(l)
	}
	return s, lines.Err()
}

func (s *Store) take(l line) {
	if l.Rates != nil {
		s.rates[l.Rates.Model] = l.Rates
	} else {
		s.cells[l.Cell] = l.Record
	}
}

// add appends a line and hands it to the disk.
func (s *Store) add(l line) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(s.path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	// After half a line a new one begins.
	if info, err := file.Stat(); err == nil && info.Size() > 0 {
		last := make([]byte, 1)
		if _, err := file.ReadAt(last, info.Size()-1); err == nil && last[0] != '\n' {
			data = append([]byte{'\n'}, data...)
		}
	}
	if _, err := file.Write(append(data, '\n')); err != nil {
		return err
	}
	s.take(l)
	return file.Close()
}

// Has reports whether a cell is made.
func (s *Store) Has(c Cell) bool { return s.cells[c] != nil }

// Len is how many cells are made.
func (s *Store) Len() int { return len(s.cells) }
