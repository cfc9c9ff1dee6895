// Command size says what a first visit to the page downloads, from the manifest
// of the built page, and what the edge worker uploads, from its bundle. A test
// holds both to a budget.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sdo-go/sdo/demo"
)

// The budgets in bytes. Compressed means gzip, which every static host serves.
const (
	rawModuleBudget = 14_500_000 // what a browser compiles and keeps
	moduleBudget    = 3_100_000
	downloadBudget  = 6_000_000
	edgeBudget      = 3_500_000 // the worker's module
)

// What Cloudflare takes of a worker, in bytes
// (https://developers.cloudflare.com/workers/platform/limits/#worker-size).
const (
	workerLimit = 64 << 20 // as it is, on every plan
	// Until September 2026 the limits were of what gzip makes of it.
	workerLimitOnceFree = 3 << 20
	workerLimitOncePaid = 10 << 20
)

const module = "sdo.wasm"

// model is what the page opens with; the other models load when they are asked
// for.
const model = "avatars-16"

// bundle is where make worker leaves what wrangler would upload.
const bundle = "wasm/worker/build/bundle"

func main() {
	if err := run(os.Stdout, demo.Site(), os.DirFS(bundle)); err != nil {
		fmt.Fprintln(os.Stderr, "size:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, site, bundle fs.FS) error {
	files, err := manifest(site)
	if err != nil {
		return err
	}
	modules, err := upload(bundle)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%-24s%12s%12s%12s\n", "bytes", "raw", "gzip", "brotli")
	row := func(name string, s size) {
		fmt.Fprintf(w, "%-24s%12s%12s%12s\n", name, number(s.raw), number(s.gzip), number(s.brotli))
	}
	row("module", sum(files, isModule))
	row("page", sum(files, isPage))
	row(model+" weights", sum(files, isWeights))
	row("first visit", sum(files, isDownload))
	row("other models", sum(files, func(path string) bool { return !isDownload(path) }))
	// Nobody packs a worker with brotli.
	for _, part := range []struct {
		name  string
		which func(string) bool
	}{{"edge module", isWasm}, {"edge worker", all}} {
		s := sum(modules, part.which)
		row(part.name, size{raw: s.raw, gzip: s.gzip})
	}
	row("its limit", size{raw: workerLimit})
	row("once, on a free plan", size{gzip: workerLimitOnceFree})
	row("once, on a paid plan", size{gzip: workerLimitOncePaid})
	return nil
}

// number is a column; a form that is not asked for has none.
func number(bytes int64) string {
	if bytes == 0 {
		return "-"
	}
	return strconv.FormatInt(bytes, 10)
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

// upload measures the modules of a worker's bundle.
func upload(bundle fs.FS) (modules []file, err error) {
	names, err := fs.Glob(bundle, "*")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !slices.Contains([]string{".js", ".wasm", ".safetensors"}, path.Ext(name)) { // a map, a text about it
			continue
		}
		data, err := fs.ReadFile(bundle, name)
		if err != nil {
			return nil, err
		}
		var packed bytes.Buffer
		z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		if err != nil {
			return nil, err
		}
		if _, err := z.Write(data); err != nil {
			return nil, err
		}
		if err := z.Close(); err != nil {
			return nil, err
		}
		modules = append(modules, file{Path: name, Bytes: int64(len(data)), Gzip: int64(packed.Len())})
	}
	if len(modules) == 0 {
		return nil, errors.New("the edge worker is not built; run make worker")
	}
	return modules, nil
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

func all(string) bool            { return true }
func isWasm(path string) bool    { return strings.HasSuffix(path, ".wasm") }
func isModule(path string) bool  { return path == module }
func isModels(path string) bool  { return strings.HasPrefix(path, "models/") }
func isWeights(path string) bool { return strings.HasPrefix(path, "models/"+model+"-") }
func isPage(path string) bool    { return !isModule(path) && !isModels(path) }

// isDownload tells whether a first visit loads the file.
func isDownload(path string) bool { return !isModels(path) || isWeights(path) }
