// Package sitetest holds whatever serves the built page to one behaviour:
// package demo's handler on any machine, wasm/worker/front.mjs at the edge. It
// asks over a connection and compares bytes, so that it also sees what lies
// between: a proxy, a runtime that packs answers anew.
package sitetest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
)

const (
	noCache   = "no-cache"
	immutable = "public, max-age=31536000, immutable"
)

// guards are on every answer.
var guards = map[string]string{
	"Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; " +
		"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self' blob: data:; " +
		"object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
	"X-Content-Type-Options": "nosniff",
	"Referrer-Policy":        "no-referrer",
}

var mediaTypes = map[string]string{
	".css":         "text/css; charset=utf-8",
	".html":        "text/html; charset=utf-8",
	".js":          "text/javascript; charset=utf-8",
	".json":        "application/json",
	".png":         "image/png",
	".safetensors": "application/octet-stream",
	".svg":         "image/svg+xml",
	".wasm":        "application/wasm",
}

// The files whose behaviour is tested beyond their content. Weights are nothing
// that a platform packs anew, so their answers come as they were sent.
const (
	module  = "sdo.wasm"
	glue    = "wasm_exec.js"
	weights = "models/avatars-16-s/diffusion_pytorch_model.fp16.safetensors"
)

// Run tests the built page that is served at url.
func Run(t *testing.T, url string) {
	s := &site{url: strings.TrimSuffix(url, "/"), client: &http.Client{
		Transport:     &http.Transport{DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	defer s.client.CloseIdleConnections()
	s.readManifest(t)
	t.Run("files", s.files)
	t.Run("names", s.names)
	t.Run("encodings", s.encodings)
	t.Run("caching", s.caching)
	t.Run("conditions", s.conditions)
	t.Run("ranges", s.ranges)
	t.Run("nothing else", s.nothingElse)
	t.Run("methods", s.methods)
}

type site struct {
	url    string
	client *http.Client
	listed map[string]listing
}

// listing is an entry of manifest.json.
type listing struct {
	Path, Sha256        string
	Bytes, Gzip, Brotli int64
}

// tag is the entity tag of a file in an encoding: compressed it is other bytes.
func (l listing) tag(encoding string) string {
	if encoding == "" {
		return `"` + l.Sha256[:32] + `"`
	}
	return `"` + l.Sha256[:32] + "-" + encoding + `"`
}

func (s *site) readManifest(t *testing.T) {
	t.Helper()
	a := s.get(t, "manifest.json", "Accept-Encoding", "identity")
	var manifest struct{ Files []listing }
	if err := json.Unmarshal(a.body, &manifest); err != nil || a.status != http.StatusOK {
		t.Fatalf("manifest.json: status %d, %v, %.200q", a.status, err, a.body)
	}
	s.listed = map[string]listing{}
	for _, l := range manifest.Files {
		s.listed[l.Path] = l
	}
	for _, name := range []string{"index.html", module, glue, weights} {
		if len(s.listed[name].Sha256) != 64 {
			t.Fatalf("manifest.json has no hash of %s", name)
		}
	}
	// It is not in itself, and a file like the others.
	sum := sha256.Sum256(a.body)
	s.listed["manifest.json"] = listing{Path: "manifest.json", Sha256: hex.EncodeToString(sum[:]), Bytes: int64(len(a.body))}
}

// answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	length int64 // as the answer says, -1 where it does not
	body   []byte
	err    error // of a body that broke off
}

func (s *site) get(t *testing.T, path string, more ...string) answer {
	t.Helper()
	return s.ask(t, http.MethodGet, path, more...)
}

// ask sends a request; more are header names and values in turn.
func (s *site) ask(t *testing.T, method, path string, more ...string) answer {
	t.Helper()
	r, err := http.NewRequest(method, s.url+"/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(more); i += 2 {
		r.Header.Add(more[i], more[i+1])
	}
	response, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	for key, want := range guards {
		if got := response.Header.Get(key); got != want {
			t.Errorf("%s %s, status %d: %s is %q, want %q", method, path, response.StatusCode, key, got, want)
		}
	}
	return answer{response.StatusCode, response.Header, response.ContentLength, body, err}
}

// expect compares headers; an empty value means that there is none.
func (a answer) expect(t *testing.T, what string, status int, header map[string]string) {
	t.Helper()
	if a.status != status || a.err != nil {
		t.Errorf("%s: status %d, %v, want %d; %.200q", what, a.status, a.err, status, a.body)
	}
	for _, key := range slices.Sorted(maps.Keys(header)) {
		if got := a.header.Get(key); got != header[key] {
			t.Errorf("%s: %s is %q, want %q", what, key, got, header[key])
		}
	}
}

// refuses expects an answer in one sentence.
func (a answer) refuses(t *testing.T, what string, status int, begins string) {
	t.Helper()
	a.expect(t, what, status, map[string]string{"Content-Type": "text/plain; charset=utf-8", "Cache-Control": noCache, "ETag": ""})
	if text := string(a.unpacked(t)); !strings.HasPrefix(text, begins) || !strings.HasSuffix(text, ".\n") || strings.Count(text, "\n") != 1 {
		t.Errorf("%s: %q is no sentence that begins with %q", what, text, begins)
	}
}

// unpacked is the body without its encoding.
func (a answer) unpacked(t *testing.T) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(a.body)
	var err error
	switch encoding := a.header.Get("Content-Encoding"); encoding {
	case "":
		return a.body
	case "br":
		r = brotli.NewReader(r)
	case "gzip":
		r, err = gzip.NewReader(r)
	default:
		err = fmt.Errorf("the encoding %q is not known here", encoding)
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	body, err := io.ReadAll(r)
	if err != nil {
		t.Errorf("%s: %v", a.header.Get("Content-Encoding"), err)
	}
	return body
}

// files asks for every file in every encoding, whole, without its content, and
// once more with its tag.
func (s *site) files(t *testing.T) {
	for _, l := range s.listed {
		for encoding, size := range map[string]int64{"": l.Bytes, "gzip": l.Gzip, "br": l.Brotli} {
			what := fmt.Sprintf("%s as %q", l.Path, encoding)
			accept := encoding
			if encoding == "" {
				accept = "identity"
			}
			form := encoding
			if size == 0 {
				form = "" // not kept: it would not be smaller
			}
			want := map[string]string{
				"Content-Type":  mediaTypes[path.Ext(l.Path)],
				"Cache-Control": noCache,
				"Vary":          "Accept-Encoding",
				"ETag":          l.tag(form),
				"Accept-Ranges": "bytes",
				"Content-Range": "",
			}
			if strings.HasPrefix(l.Path, "assets/") {
				want["Cache-Control"] = immutable
			}
			if size > 0 {
				want["Content-Encoding"] = encoding
			}
			a := s.get(t, l.Path, "Accept-Encoding", accept)
			a.expect(t, what, http.StatusOK, want)
			if sum := sha256.Sum256(a.unpacked(t)); hex.EncodeToString(sum[:]) != l.Sha256 {
				t.Errorf("%s: the content is not what manifest.json says", what)
			}
			// A proxy on the way may have packed it anew, about as small: wrangler's does.
			if off := int64(len(a.body)) - size; size > 0 && max(off, -off) > size/50+32 {
				t.Errorf("%s: %d bytes came, of a form that has %d", what, len(a.body), size)
			}

			head := s.ask(t, http.MethodHead, l.Path, "Accept-Encoding", accept)
			head.expect(t, what+" by HEAD", http.StatusOK, want)
			if len(head.body) > 0 || size > 0 && head.length >= 0 && head.length != size {
				t.Errorf("%s by HEAD: %d bytes came, and %d are promised of %d", what, len(head.body), head.length, size)
			}

			same := s.get(t, l.Path, "Accept-Encoding", accept, "If-None-Match", l.tag(form))
			want["Content-Type"], want["Accept-Ranges"] = "", ""
			delete(want, "Content-Encoding") // wrangler's proxy names one even where there is no content
			same.expect(t, what+" again", http.StatusNotModified, want)
			if len(same.body) > 0 {
				t.Errorf("%s again: %d bytes came", what, len(same.body))
			}
		}
	}
}

// names tests that the page is at the root, and that a name may be spelt with
// percent signs.
func (s *site) names(t *testing.T) {
	index := s.listed["index.html"]
	for _, at := range []string{"", "?x=1", "index.html?x=1"} {
		a := s.get(t, at, "Accept-Encoding", "br")
		a.expect(t, "/"+at, http.StatusOK, map[string]string{"Content-Type": mediaTypes[".html"], "Cache-Control": noCache, "ETag": index.tag("br")})
		if sum := sha256.Sum256(a.unpacked(t)); hex.EncodeToString(sum[:]) != index.Sha256 {
			t.Errorf("/%s is not index.html", at)
		}
	}
	s.get(t, "wasm%5Fexec.js", "Accept-Encoding", "br").expect(t, "wasm%5Fexec.js", http.StatusOK, map[string]string{"ETag": s.listed[glue].tag("br")})
}

// encodings tests that a browser gets the best of what it takes.
func (s *site) encodings(t *testing.T) {
	l := s.listed[weights]
	for accept, want := range map[string]string{
		"gzip, deflate, br, zstd":   "br",
		"gzip, br":                  "br",
		"GZIP":                      "gzip",
		"br;q=0.5, gzip;q=0.8":      "gzip",
		"br; q=0, gzip":             "gzip",
		"*":                         "br",
		"br;q=0, *;q=0.1":           "gzip",
		"*;q=0":                     "",
		"gzip;q=oops":               "",
		"deflate":                   "",
		"identity":                  "",
		"identity;q=0.5, br;q=0.01": "br",
	} {
		a := s.get(t, weights, "Accept-Encoding", accept)
		a.expect(t, accept, http.StatusOK, map[string]string{"Content-Encoding": want, "ETag": l.tag(want), "Vary": "Accept-Encoding"})
		if size := map[string]int64{"": l.Bytes, "gzip": l.Gzip, "br": l.Brotli}[want]; a.length != size || int64(len(a.body)) != size {
			t.Errorf("%s: %d bytes, %d promised, want %d", accept, len(a.body), a.length, size)
		}
	}
	if got := s.get(t, weights); got.header.Get("Content-Encoding") != "" || int64(len(got.body)) != l.Bytes {
		t.Errorf("a browser that says nothing gets %d bytes as %q", len(got.body), got.header.Get("Content-Encoding"))
	}
}

// caching tests that an address with the hash of its content is kept for good,
// and no other.
func (s *site) caching(t *testing.T) {
	for _, name := range []string{module, glue, weights} {
		hash, other := s.listed[name].Sha256, s.listed["index.html"].Sha256
		for version, want := range map[string]string{
			"":                      noCache,
			"?v=" + hash[:10]:       immutable,
			"?x=1&v=" + hash:        immutable,
			"?v=" + hash[:9]:        noCache, // too short to mean one file
			"?v=" + hash + "0":      noCache,
			"?v=":                   noCache,
			"?v=" + other[:10]:      noCache, // an older page asks a newer site
			"?version=" + hash[:10]: noCache,
		} {
			for _, more := range [][]string{{"Accept-Encoding", "br"}, {"Range", "bytes=0-3"}, {"Accept-Encoding", "br", "If-None-Match", s.listed[name].tag("br")}} {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					a := s.ask(t, method, name+version, more...)
					if got := a.header.Get("Cache-Control"); got != want || a.status >= 400 || a.header.Get("ETag") == "" {
						t.Errorf("%s %s%s with %q: status %d, %q, tag %s, want %q", method, name, version, more, a.status, got, a.header.Get("ETag"), want)
					}
				}
			}
		}
	}
	s.get(t, "assets/none-0123456789.js").refuses(t, "no such asset", http.StatusNotFound, "There is no ")
	s.get(t, "none?v=0123456789").refuses(t, "no such version", http.StatusNotFound, "There is no ")
}

// conditions tests what a tag spares, and what it must not.
func (s *site) conditions(t *testing.T) {
	l := s.listed[weights]
	for _, c := range []struct {
		header, value string
		status        int
	}{
		{"If-None-Match", l.tag("br"), 304},
		{"If-None-Match", "W/" + l.tag("br"), 304},
		{"If-None-Match", `"other", ` + l.tag("br"), 304},
		{"If-None-Match", "*", 304},
		{"If-None-Match", l.tag("gzip"), 200},
		{"If-None-Match", `"other"`, 200},
		{"If-None-Match", s.listed[module].tag("br"), 200},
		{"If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT", 200}, // times mean nothing here
		{"If-Match", l.tag("br"), 200},
		{"If-Match", "*", 200},
		{"If-Match", `"other"`, 412},
		{"If-Match", "W/" + l.tag("br"), 412},
	} {
		a := s.get(t, weights, "Accept-Encoding", "br", c.header, c.value)
		a.expect(t, c.header+": "+c.value, c.status, map[string]string{"ETag": l.tag("br"), "Vary": "Accept-Encoding"})
		if got := int64(len(a.body)); (c.status == 200) != (got == l.Brotli) || (c.status != 200) != (got == 0) {
			t.Errorf("%s: %s: status %d with %d bytes", c.header, c.value, a.status, got)
		}
	}
}

// ranges tests that every range is that slice of the file itself, whatever
// encodings the browser takes.
func (s *site) ranges(t *testing.T) {
	for _, name := range []string{weights, module} {
		whole := s.get(t, name, "Accept-Encoding", "identity").body
		tag, n := s.listed[name].tag(""), len(whole)
		if n < 1<<19 {
			t.Fatalf("%s has %d bytes, too few for what is tested", name, n)
		}
		packs := []string{"identity"}
		if name == weights {
			packs = append(packs, "br, gzip")
		}
		for _, c := range []struct {
			ranges string
			parts  [][2]int // none for the whole file
		}{
			{"bytes=0-0", [][2]int{{0, 1}}},
			{"bytes=1-99", [][2]int{{1, 100}}},
			{"bytes=65530-65545", [][2]int{{65530, 65546}}},
			{"bytes=262000-300000", [][2]int{{262000, 300001}}},
			{"bytes= 5 - 7 ", [][2]int{{5, 8}}},
			{"bytes=,5-7,", [][2]int{{5, 8}}},
			{fmt.Sprintf("bytes=%d-", n-1), [][2]int{{n - 1, n}}},
			{fmt.Sprintf("bytes=%d-%d", n-9, n+9), [][2]int{{n - 9, n}}},
			{"bytes=300000-", [][2]int{{300000, n}}},
			{"bytes=0-", [][2]int{{0, n}}},
			{"bytes=-1", [][2]int{{n - 1, n}}},
			{"bytes=-70000", [][2]int{{n - 70000, n}}},
			{fmt.Sprintf("bytes=-%d", n+1), [][2]int{{0, n}}},
			{"bytes=0-3,8-11", [][2]int{{0, 4}, {8, 12}}},
			{"bytes=400000-400009, 0-3, 2-5,-2", [][2]int{{400000, 400010}, {0, 4}, {2, 6}, {n - 2, n}}},
			{fmt.Sprintf("bytes=0-3,%d-", n), [][2]int{{0, 4}}},
			{"bytes=0-,-1", nil}, // more than there is
			{"bytes=", nil},
		} {
			for _, accept := range packs {
				what := name + " " + c.ranges
				a := s.get(t, name, "Range", c.ranges, "Accept-Encoding", accept)
				if c.parts == nil {
					a.expect(t, what, http.StatusOK, map[string]string{"Content-Range": "", "Content-Encoding": "", "ETag": tag})
					if !bytes.Equal(a.body, whole) {
						t.Errorf("%s is not the whole file", what)
					}
					continue
				}
				a.expect(t, what, http.StatusPartialContent, map[string]string{"Content-Encoding": "", "ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": noCache, "Vary": "Accept-Encoding"})
				if a.length != int64(len(a.body)) {
					t.Errorf("%s: %d bytes came, %d were promised", what, len(a.body), a.length)
				}
				a.compare(t, what, mediaTypes[path.Ext(name)], whole, c.parts)

				head := s.ask(t, http.MethodHead, name, "Range", c.ranges, "Accept-Encoding", accept)
				head.expect(t, what+" by HEAD", http.StatusPartialContent, map[string]string{"Content-Range": a.header.Get("Content-Range"), "ETag": tag})
				if len(head.body) > 0 {
					t.Errorf("%s by HEAD: %d bytes came", what, len(head.body))
				}
			}
		}
		for _, ranges := range []string{fmt.Sprintf("bytes=%d-", n), fmt.Sprintf("bytes=%d-%d,%d-", n, n+5, n+7)} {
			a := s.get(t, name, "Range", ranges, "Accept-Encoding", "identity")
			a.expect(t, name+" "+ranges, http.StatusRequestedRangeNotSatisfiable, map[string]string{
				"Content-Range": fmt.Sprintf("bytes */%d", n), "Content-Type": "text/plain; charset=utf-8", "ETag": "", "Cache-Control": ""})
		}
		for _, ranges := range []string{"bytes=9-3", "bytes=x-", "bytes=-", "bytes=1", "lines=1-2", "bytes=0-1,x"} {
			s.get(t, name, "Range", ranges, "Accept-Encoding", "identity").expect(t, name+" "+ranges, http.StatusRequestedRangeNotSatisfiable, map[string]string{"ETag": ""})
		}
		for condition, partly := range map[string]bool{tag: true, s.listed[name].tag("br"): false, `"other"`: false, "W/" + tag: false, "Fri, 01 Jan 2100 00:00:00 GMT": false} {
			a := s.get(t, name, "Range", "bytes=4-7", "If-Range", condition, "Accept-Encoding", "identity")
			want, status := whole, http.StatusOK
			if partly {
				want, status = whole[4:8], http.StatusPartialContent
			}
			if a.status != status || !bytes.Equal(a.body, want) || a.header.Get("Content-Encoding") != "" {
				t.Errorf("%s if it is %s: status %d with %d bytes, want %d with %d", name, condition, a.status, len(a.body), status, len(want))
			}
		}
		s.get(t, name, "Range", "bytes=4-7", "If-None-Match", tag).expect(t, name+" in a range, again", http.StatusNotModified, map[string]string{"ETag": tag})
	}
}

// compare compares the parts of an answer with those of the whole file.
func (a answer) compare(t *testing.T, what, media string, whole []byte, parts [][2]int) {
	t.Helper()
	compare := func(content, kind string, body []byte, part [2]int) {
		t.Helper()
		if want := fmt.Sprintf("bytes %d-%d/%d", part[0], part[1]-1, len(whole)); content != want || kind != media {
			t.Errorf("%s: a part is %q of type %q, want %q and %q", what, content, kind, want, media)
		}
		if !bytes.Equal(body, whole[part[0]:part[1]]) {
			t.Errorf("%s: the %d bytes of the part are not those of the file", what, len(body))
		}
	}
	if len(parts) == 1 {
		compare(a.header.Get("Content-Range"), a.header.Get("Content-Type"), a.body, parts[0])
		return
	}
	kind, more, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" || a.header.Get("Content-Range") != "" {
		t.Errorf("%s: the type is %q (%v), and Content-Range %q", what, a.header.Get("Content-Type"), err, a.header.Get("Content-Range"))
		return
	}
	reader := multipart.NewReader(bytes.NewReader(a.body), more["boundary"])
	for _, want := range parts {
		part, err := reader.NextRawPart()
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		body, err := io.ReadAll(part)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		compare(part.Header.Get("Content-Range"), part.Header.Get("Content-Type"), body, want)
	}
	if _, err := reader.NextRawPart(); !errors.Is(err, io.EOF) || !bytes.HasSuffix(a.body, []byte("\r\n--"+more["boundary"]+"--\r\n")) {
		t.Errorf("%s: there is more than %d parts, or no end: %v", what, len(parts), err)
	}
}

// nothingElse tests that what is not a file of the page is not there: folders,
// hidden and compressed files, and every way out of the folder.
func (s *site) nothingElse(t *testing.T) {
	for _, name := range []string{
		"nothing", "assets", "assets/", "models/avatars-16-s", ".gitkeep", ".git/config", "index.html/", "index.html/x", "/index.html",
		"../go.mod", "assets/../../go.mod", "%2e%2e/go.mod", "..%2fgo.mod", "..%5cgo.mod", "assets/..%5c..%5cgo.mod", "assets/..%2findex.html",
		"%00", "index.html%00.js", module + ".br", module + ".gz", "constructor", "__proto__", "n%C3%B6",
	} {
		s.get(t, name, "Accept-Encoding", "br").refuses(t, name, http.StatusNotFound, `There is no "/`)
		head := s.ask(t, http.MethodHead, name)
		head.expect(t, name+" by HEAD", http.StatusNotFound, map[string]string{"Cache-Control": noCache})
		if len(head.body) > 0 {
			t.Errorf("%s by HEAD: %d bytes came", name, len(head.body))
		}
	}
}

func (s *site) methods(t *testing.T) {
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch} {
		for _, name := range []string{"", module, "nothing"} {
			a := s.ask(t, method, name)
			a.refuses(t, method+" /"+name, http.StatusMethodNotAllowed, "This page is read only: "+method+" is not allowed")
			a.expect(t, method+" /"+name, http.StatusMethodNotAllowed, map[string]string{"Allow": "GET, HEAD"})
		}
	}
}
