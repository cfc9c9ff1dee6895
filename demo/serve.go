package demo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// policy is what the page may do: run its own scripts and WebAssembly, start
// workers, show pictures it made, and fetch from where it came from. Nothing
// else, so that no script from elsewhere ever runs on it.
const policy = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; " +
	"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self' blob: data:; " +
	"object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"

// mediaTypes are those of the files a build leaves. The system's own table is
// not asked: it differs from machine to machine, and browsers refuse to stream
// WebAssembly of the wrong type.
var mediaTypes = map[string]string{
	".css":         "text/css; charset=utf-8",
	".gif":         "image/gif",
	".html":        "text/html; charset=utf-8",
	".ico":         "image/x-icon",
	".jpg":         "image/jpeg",
	".js":          "text/javascript; charset=utf-8",
	".json":        "application/json",
	".mjs":         "text/javascript; charset=utf-8",
	".png":         "image/png",
	".svg":         "image/svg+xml",
	".txt":         "text/plain; charset=utf-8",
	".wasm":        "application/wasm",
	".webmanifest": "application/manifest+json",
	".webp":        "image/webp",
	".woff2":       "font/woff2",
	".yaml":        "application/yaml",
}

type encoding struct{ name, suffix string }

// encodings are the compressed forms a build leaves beside a file, the better
// one first.
var encodings = []encoding{{"br", ".br"}, {"gzip", ".gz"}}

// Handler serves a built page from its root; mount it under another path with
// [http.StripPrefix]. Files come compressed where the browser takes that and
// the build left a compressed form, whole or in ranges, and are sent again only
// when their content has changed. Names with a content hash, which the build
// puts into assets, are never asked for twice.
func Handler(site fs.FS) http.Handler {
	return &handler{site: site, tags: map[string]tag{}}
}

type handler struct {
	site fs.FS

	mu   sync.Mutex
	tags map[string]tag
}

// tag is the entity tag of a file as it was when it had this size and time, so
// that a folder may change while it is served.
type tag struct {
	size    int64
	changed time.Time
	etag    string
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-cache")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, fmt.Sprintf("This page is read only: %s is not allowed, use GET or HEAD.", r.Method), http.StatusMethodNotAllowed)
		return
	}
	name := fileName(r.URL.Path)
	if info, err := fs.Stat(h.site, name); name == "" || err != nil || !info.Mode().IsRegular() {
		http.Error(w, fmt.Sprintf("There is no %q here; the page is at the root of this address.", r.URL.Path), http.StatusNotFound)
		return
	}
	header.Set("Content-Type", mediaType(name))
	if strings.HasPrefix(name, "assets/") {
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	header.Set("Vary", "Accept-Encoding")
	// Ranges are of the file itself: a part of a compressed stream is no use.
	if r.Header.Get("Range") == "" {
		for _, e := range accepted(r.Header.Values("Accept-Encoding")) {
			if file, err := h.site.Open(name + e.suffix); err == nil {
				defer file.Close()
				header.Set("Content-Encoding", e.name)
				h.serve(w, r, name+e.suffix, file)
				return
			}
		}
	}
	file, err := h.site.Open(name)
	if err != nil {
		fail(w, name, err)
		return
	}
	defer file.Close()
	h.serve(w, r, name, file)
}

// serve sends an open file with its tag, or as much of that as is asked for.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, name string, file fs.File) {
	info, err := file.Stat()
	if err != nil {
		fail(w, name, err)
		return
	}
	content, ok := file.(io.ReadSeeker)
	if !ok {
		data, err := io.ReadAll(file)
		if err != nil {
			fail(w, name, err)
			return
		}
		content = bytes.NewReader(data)
	}
	etag, err := h.etag(name, info, content)
	if err != nil {
		fail(w, name, err)
		return
	}
	w.Header().Set("ETag", etag)
	if w.Header().Get("Content-Encoding") != "" {
		// http.ServeContent does not say the length of what is encoded.
		w.Header().Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	}
	http.ServeContent(w, r, name, time.Time{}, content)
}

// etag hashes the content once and again only when the file has changed. A
// compressed form is a file of its own, so its tag is too.
func (h *handler) etag(name string, info fs.FileInfo, content io.ReadSeeker) (string, error) {
	h.mu.Lock()
	known, ok := h.tags[name]
	h.mu.Unlock()
	if ok && known.size == info.Size() && known.changed.Equal(info.ModTime()) {
		return known.etag, nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, content); err != nil {
		return "", err
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	known = tag{info.Size(), info.ModTime(), `"` + hex.EncodeToString(sum.Sum(nil)[:16]) + `"`}
	h.mu.Lock()
	h.tags[name] = known
	h.mu.Unlock()
	return known.etag, nil
}

// fail answers that a file which is there cannot be read, without the headers
// that were meant for its content.
func fail(w http.ResponseWriter, name string, err error) {
	for _, key := range []string{"Content-Encoding", "Content-Length", "ETag"} {
		w.Header().Del(key)
	}
	w.Header().Set("Cache-Control", "no-cache")
	http.Error(w, fmt.Sprintf("%s cannot be read: %v.", name, err), http.StatusInternalServerError)
}

// fileName is the file a URL path means, or empty where it can mean none. A
// path with .. in it, a backslash or a hidden name means none.
func fileName(url string) string {
	name := strings.TrimPrefix(url, "/")
	if name == "" {
		return "index.html"
	}
	if !fs.ValidPath(name) || strings.ContainsAny(name, "\\\x00") {
		return ""
	}
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") {
			return ""
		}
	}
	return name
}

func mediaType(name string) string {
	if media, ok := mediaTypes[path.Ext(name)]; ok {
		return media
	}
	return "application/octet-stream"
}

// accepted are the encodings that a browser takes, by its Accept-Encoding
// headers: ours in our order but for those it weighs less or refuses.
func accepted(headers []string) []encoding {
	weights := map[string]float64{}
	for coding := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		name, parameters, _ := strings.Cut(coding, ";")
		weight := 1.0
		if key, value, ok := strings.Cut(parameters, "="); ok && strings.EqualFold(strings.TrimSpace(key), "q") {
			var err error
			if weight, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil {
				weight = 0
			}
		}
		weights[strings.ToLower(strings.TrimSpace(name))] = weight
	}
	weigh := func(name string) float64 {
		if weight, ok := weights[name]; ok {
			return weight
		}
		return weights["*"]
	}
	var list []encoding
	for _, e := range encodings {
		if weigh(e.name) > 0 {
			list = append(list, e)
		}
	}
	if len(list) == 2 && weigh(list[1].name) > weigh(list[0].name) {
		list[0], list[1] = list[1], list[0]
	}
	return list
}
