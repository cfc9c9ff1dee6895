package model

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/x448/float16"
)

// Every half is what the other implementation makes of it, bit by bit.
func TestHalf(t *testing.T) {
	for bits := range 1 << 16 {
		got, want := half(uint16(bits)), float16.Frombits(uint16(bits)).Float32()
		if math.Float32bits(got) != math.Float32bits(want) && (want == want || got == got) {
			t.Fatalf("half %#04x is %g, want %g", bits, got, want)
		}
	}
}

// shy hides all of a file but what fs.File asks for.
type shy struct{ fs.FS }

func (s shy) Open(name string) (fs.File, error) {
	f, err := s.FS.Open(name)
	return struct{ fs.File }{f}, err
}

// seekable shows io.ReaderAt, too, as a browser's file does.
type seekable struct{ fs.FS }

func (s seekable) Open(name string) (fs.File, error) {
	f, err := s.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return struct {
		fs.File
		io.ReaderAt
	}{f, f.(io.ReaderAt)}, nil
}

// A tensor is the same however its file is read: mapped, in ranges, or whole.
func TestEveryWayToRead(t *testing.T) {
	dir := t.TempDir()
	want := Weights{"odd": {[]int{3, readerBytes/4 - 7}, make([]float32, 3*(readerBytes/4-7))}, "one": {[]int{}, []float32{-2.5}}, "none": {[]int{0, 4}, []float32{}}}
	for i := range want["odd"].Data {
		want["odd"].Data[i] = float32(i%2048) / 8
	}
	for _, dtype := range []DType{F32, F16, BF16} {
		if dtype == BF16 {
			for i := range want["odd"].Data {
				want["odd"].Data[i] = float32(i%256) / 8
			}
		}
		if err := SaveSafetensors(filepath.Join(dir, "w.safetensors"), want, dtype, nil); err != nil {
			t.Fatal(err)
		}
		for way, fsys := range map[string]fs.FS{"mapped": os.DirFS(dir), "ranges": seekable{os.DirFS(dir)}, "whole": shy{os.DirFS(dir)}} {
			f, err := openRanges(fsys, "w.safetensors")
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := f.ReaderAt.(viewer); ok != (way == "mapped" && runtime.GOOS == "linux") && runtime.GOOS == "linux" {
				t.Errorf("%s: mapped is %v", way, ok)
			}
			f.Close()
			got, _, err := LoadSafetensors(fsys, "w.safetensors")
			if err != nil {
				t.Fatal(err)
			}
			for name := range want {
				if !slices.Equal(got[name].Data, want[name].Data) || !slices.Equal(got[name].Shape, want[name].Shape) {
					t.Errorf("%s, %s: %s differs", dtype, way, name)
				}
			}
		}
	}
}

// A file that gets shorter while it is open ends a read in an error, mapped or
// not, and so does one that is closed.
func TestFileCutWhileOpen(t *testing.T) {
	for _, way := range []string{"mapped", "ranges"} {
		dir := t.TempDir()
		file := filepath.Join(dir, "w.safetensors")
		if err := SaveSafetensors(file, Weights{"a": {[]int{1 << 16}, make([]float32, 1<<16)}}, F32, nil); err != nil {
			t.Fatal(err)
		}
		var fsys fs.FS = os.DirFS(dir)
		if way == "ranges" {
			fsys = seekable{fsys}
		}
		s, close, err := openSafetensors(fsys, "w.safetensors")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, 4096); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read("a"); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) || !strings.HasPrefix(err.Error(), `w.safetensors: tensor "a"`) {
			t.Errorf("%s: reading a file that was cut: %v", way, err)
		}
		if err := close(); err != nil {
			t.Error(err)
		}
		if _, err := s.Read("a"); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: reading a closed file: %v", way, err)
		}
	}
}

// Ranges beyond the file are refused before they are touched.
func TestRangesBeyondTheFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openRanges(os.DirFS(dir), "f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range [][2]int64{{0, 11}, {10, 1}, {11, 0}, {-1, 2}, {5, math.MaxInt64}, {math.MaxInt64, 5}} {
		if m, ok := f.ReaderAt.(viewer); ok && c[1] >= 0 {
			if err := m.view(c[0], c[1], func([]byte) { t.Errorf("%v was shown", c) }); err == nil {
				t.Errorf("%v is no error", c)
			}
		}
	}
	tail := make([]byte, 9)
	if n, err := f.ReadAt(tail, 6); n != 4 || err != io.EOF || !bytes.Equal(tail[:n], []byte("6789")) {
		t.Errorf("reading beyond the end gives %d bytes, %v", n, err)
	}
	got := make([]byte, 4)
	if err := readAt(f, got, 6); err != nil || !bytes.Equal(got, []byte("6789")) {
		t.Errorf("the last four bytes are %q, %v", got, err)
	}
}
