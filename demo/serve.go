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

// immutable is for what never changes under its address.
const immutable = "public, max-age=31536000, immutable"

// Handler serves a built page from its root; mount it under another path with
// [http.StripPrefix]. Files come compressed where the browser takes that and
// the build left a compressed form, as themselves in ranges, and are sent again
// only when their content has changed. An address with a content hash in it is
// never asked for twice: the names that the build puts into assets, and any
// other with the beginning of its file's SHA-256 as ?v=. The same site on
// Cloudflare is wasm/worker/front.mjs, and demo/sitetest holds both to one table.
func Handler(site fs.FS) http.Handler {
	return &handler{site: site, sums: map[string]sum{}}
}

type handler struct {
	site fs.FS

	mu   sync.Mutex
	sums map[string]sum
}

// sum is the SHA-256 of a file as it was when it had this size and time, so
// that a folder may change while it is served.
type sum struct {
	size    int64
	changed time.Time
	sha256  string
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
	f, err := h.open(name)
	if err != nil {
		fail(w, name, err)
		return
	}
	defer f.Close()
	hash, err := h.sha256(name, f)
	if err != nil {
		fail(w, name, err)
		return
	}
	header.Set("Content-Type", mediaType(name))
	header.Set("Vary", "Accept-Encoding")
	if strings.HasPrefix(name, "assets/") || versionOf(r.URL.Query().Get("v"), hash) {
		header.Set("Cache-Control", immutable)
	}
	// A compressed form is the same content in other bytes, so its tag is another.
	tag := hash[:32]
	// Ranges are of the file itself: a part of a compressed stream is no use.
	if r.Header.Get("Range") == "" {
		for _, e := range accepted(r.Header.Values("Accept-Encoding")) {
			form, err := h.open(name + e.suffix)
			if err != nil {
				continue
			}
			defer form.Close()
			f, tag = form, tag+"-"+e.name
			header.Set("Content-Encoding", e.name)
			// http.ServeContent does not say the length of what is encoded. It would
			// leave this one on the empty answer to an If-Match that is not met.
			if r.Header.Get("If-Match") == "" {
				header.Set("Content-Length", strconv.FormatInt(form.info.Size(), 10))
			}
			break
		}
	}
	header.Set("ETag", `"`+tag+`"`)
	http.ServeContent(w, r, name, time.Time{}, f)
}

// versionOf tells whether v is the beginning of a hash, and long enough to mean
// no other file.
func versionOf(v, hash string) bool { return len(v) >= 10 && strings.HasPrefix(hash, v) }

// file is an open file that can be read from anywhere.
type file struct {
	io.ReadSeeker
	io.Closer
	info fs.FileInfo
}

func (h *handler) open(name string) (*file, error) {
	f, err := h.site.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	content, ok := f.(io.ReadSeeker)
	if !ok {
		data, err := io.ReadAll(f)
		if err != nil {
			f.Close()
			return nil, err
		}
		content = bytes.NewReader(data)
	}
	return &file{content, f, info}, nil
}

// sha256 hashes the content once and again only when the file has changed, and
// may leave it at its end.
func (h *handler) sha256(name string, f *file) (string, error) {
	h.mu.Lock()
	known, ok := h.sums[name]
	h.mu.Unlock()
	if ok && known.size == f.info.Size() && known.changed.Equal(f.info.ModTime()) {
		return known.sha256, nil
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", err
	}
	known = sum{f.info.Size(), f.info.ModTime(), hex.EncodeToString(hash.Sum(nil))}
	h.mu.Lock()
	h.sums[name] = known
	h.mu.Unlock()
	return known.sha256, nil
}

// fail answers that a file which is there cannot be read.
func fail(w http.ResponseWriter, name string, err error) {
	http.Error(w, fmt.Sprintf("%s cannot be read: %v.", name, err), http.StatusInternalServerError)
}

// fileName is the file a URL path means, or empty where it can mean none. A
// path with .. in it, a backslash or a hidden name means none, and a compressed
// form is no file of its own.
func fileName(url string) string {
	name := strings.TrimPrefix(url, "/")
	if name == "" {
		return "index.html"
	}
	if !fs.ValidPath(name) || strings.ContainsAny(name, "\\\x00") {
		return ""
	}
	for _, e := range encodings {
		if strings.HasSuffix(name, e.suffix) {
			return ""
		}
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
