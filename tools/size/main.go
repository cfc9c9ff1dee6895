// Command size says what a first visit to the page downloads, from the manifest
// of the built page. A test holds it to a budget.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/sdo-go/sdo/demo"
)

// The budgets in bytes. Compressed means gzip, which every static host serves.
const (
	rawModuleBudget = 12_000_000 // what a browser compiles and keeps
	moduleBudget    = 2_500_000
	downloadBudget  = 6_000_000
)

const module = "sdo.wasm"

// model is what the page opens with; the other models load when they are asked
// for.
const model = "avatars-16"

func main() {
	if err := run(os.Stdout, demo.Site()); err != nil {
		fmt.Fprintln(os.Stderr, "size:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, site fs.FS) error {
	files, err := manifest(site)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%-24s%12s%12s%12s\n", "bytes", "raw", "gzip", "brotli")
	row := func(name string, s size) { fmt.Fprintf(w, "%-24s%12d%12d%12d\n", name, s.raw, s.gzip, s.brotli) }
	row("module", sum(files, isModule))
	row("page", sum(files, isPage))
	row(model+" weights", sum(files, isWeights))
	row("first visit", sum(files, isDownload))
	row("other models", sum(files, func(path string) bool { return !isDownload(path) }))
	return nil
}

// file is an entry of manifest.json, which tools/site/compress.mjs writes.
// Absent means that a form would not have been smaller.
type file struct {
	Path   string
	Bytes  int64
	Gzip   int64
	Brotli int64
}

func manifest(site fs.FS) ([]file, error) {
	data, err := fs.ReadFile(site, "manifest.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("the page is not built; run make site")
	}
	if err != nil {
		return nil, err
	}
	var list struct{ Files []file }
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	return list.Files, nil
}

type size struct{ raw, gzip, brotli int64 }

func sum(files []file, which func(path string) bool) size {
	var s size
	for _, f := range files {
		if !which(f.Path) {
			continue
		}
		s.raw += f.Bytes
		s.gzip += least(f.Bytes, f.Gzip)
		s.brotli += least(f.Bytes, f.Brotli)
	}
	return s
}

func least(raw, compressed int64) int64 {
	if compressed == 0 {
		return raw
	}
	return compressed
}

func isModule(path string) bool  { return path == module }
func isModels(path string) bool  { return strings.HasPrefix(path, "models/") }
func isWeights(path string) bool { return strings.HasPrefix(path, "models/"+model+"-") }
func isPage(path string) bool    { return !isModule(path) && !isModels(path) }

// isDownload tells whether a first visit loads the file.
func isDownload(path string) bool { return !isModels(path) || isWeights(path) }
