package demo_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sdo-go/sdo/demo"
	"github.com/sdo-go/sdo/demo/sitetest"
)

const script = "console.log('page')\n"

// files are a small site as a build leaves it. The compressed forms are not
// really compressed: what is tested is which one is sent.
func files() fstest.MapFS {
	site := fstest.MapFS{}
	for name, text := range map[string]string{
		"index.html":                         "<!doctype html><title>sdo</title>",
		".gitkeep":                           "",
		"sdo.wasm":                           "\x00asm plain",
		"sdo.wasm.br":                        "wasm br",
		"sdo.wasm.gz":                        "wasm gz",
		"wasm_exec.js":                       "plain js",
		"wasm_exec.js.gz":                    "js gz",
		"manifest.json":                      "{}",
		"app.webmanifest":                    "{}",
		"icon.svg":                           "<svg/>",
		"assets/index-a1b2.js":               script,
		"assets/index-a1b2.css":              "body{}",
		"models/avatars/weights.safetensors": "0123456789",
	} {
		site[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o444}
	}
	return site
}

// ask sends a request to a handler of files; more are header names and values
// in turn.
func ask(t *testing.T, site fs.FS, method, path string, more ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, "http://localhost"+path, nil)
	for i := 0; i < len(more); i += 2 {
		r.Header.Add(more[i], more[i+1])
	}
	w := httptest.NewRecorder()
	demo.Handler(site).ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, response *http.Response) string {
	t.Helper()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestFilesHaveTheirTypes(t *testing.T) {
	for path, want := range map[string]string{
		"/":                                   "text/html; charset=utf-8",
		"/index.html":                         "text/html; charset=utf-8",
		"/sdo.wasm":                           "application/wasm",
		"/wasm_exec.js":                       "text/javascript; charset=utf-8",
		"/assets/index-a1b2.js":               "text/javascript; charset=utf-8",
		"/assets/index-a1b2.css":              "text/css; charset=utf-8",
		"/manifest.json":                      "application/json",
		"/app.webmanifest":                    "application/manifest+json",
		"/icon.svg":                           "image/svg+xml",
		"/models/avatars/weights.safetensors": "application/octet-stream",
	} {
		for _, encoding := range []string{"", "gzip", "br"} {
			response := ask(t, files(), "GET", path, "Accept-Encoding", encoding)
			if got := response.Header.Get("Content-Type"); response.StatusCode != 200 || got != want {
				t.Errorf("%s as %q: status %d, type %q, want 200 and %q", path, encoding, response.StatusCode, got, want)
			}
		}
	}
}

func TestTheBestEncodingTheBrowserTakes(t *testing.T) {
	for _, c := range []struct{ path, accept, encoding, body string }{
		{"/sdo.wasm", "", "", "\x00asm plain"},
		{"/sdo.wasm", "identity", "", "\x00asm plain"},
		{"/sdo.wasm", "gzip, deflate, br, zstd", "br", "wasm br"},
		{"/sdo.wasm", "GZIP", "gzip", "wasm gz"},
		{"/sdo.wasm", "br;q=0.5, gzip;q=0.8", "gzip", "wasm gz"},
		{"/sdo.wasm", "br; q=0, gzip", "gzip", "wasm gz"},
		{"/sdo.wasm", "*", "br", "wasm br"},
		{"/sdo.wasm", "br;q=0, *;q=0.1", "gzip", "wasm gz"},
		{"/sdo.wasm", "gzip;q=oops", "", "\x00asm plain"},
		{"/wasm_exec.js", "br, gzip", "gzip", "js gz"},
		{"/icon.svg", "br, gzip", "", "<svg/>"},
	} {
		response := ask(t, files(), "GET", c.path, "Accept-Encoding", c.accept)
		text := body(t, response)
		if got := response.Header.Get("Content-Encoding"); got != c.encoding || text != c.body {
			t.Errorf("%s for %q: %q in %q, want %q in %q", c.path, c.accept, text, got, c.body, c.encoding)
		}
		if response.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s for %q: Vary is %q, want Accept-Encoding", c.path, c.accept, response.Header.Get("Vary"))
		}
		if response.ContentLength != int64(len(text)) {
			t.Errorf("%s for %q: length %d said, %d sent", c.path, c.accept, response.ContentLength, len(text))
		}
	}
	// The header may come in parts.
	if got := ask(t, files(), "GET", "/sdo.wasm", "Accept-Encoding", "gzip", "Accept-Encoding", "br").Header.Get("Content-Encoding"); got != "br" {
		t.Errorf("two headers: %q, want br", got)
	}
}

// A tag is strong, tells encodings apart, follows the content, and spares what
// has not changed.
func TestTagsAndWhatTheySpare(t *testing.T) {
	site := files()
	tags := map[string]string{}
	for _, encoding := range []string{"", "gzip", "br"} {
		tag := ask(t, site, "GET", "/sdo.wasm", "Accept-Encoding", encoding).Header.Get("ETag")
		if len(tag) < 18 || tag[0] != '"' {
			t.Fatalf("tag %s of encoding %q is not strong", tag, encoding)
		}
		if other, taken := tags[tag]; taken {
			t.Errorf("encodings %q and %q have one tag", encoding, other)
		}
		tags[tag] = encoding
	}
	for tag, encoding := range tags {
		response := ask(t, site, "GET", "/sdo.wasm", "Accept-Encoding", encoding, "If-None-Match", tag)
		if text := body(t, response); response.StatusCode != http.StatusNotModified || text != "" || response.Header.Get("ETag") != tag {
			t.Errorf("encoding %q: status %d with %q and tag %s, want 304 with nothing and %s", encoding, response.StatusCode, text, response.Header.Get("ETag"), tag)
		}
		if response.Header.Get("Cache-Control") != "no-cache" || response.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("encoding %q: a 304 has headers %v", encoding, response.Header)
		}
		other := ask(t, site, "GET", "/wasm_exec.js", "Accept-Encoding", encoding, "If-None-Match", tag)
		if other.StatusCode != 200 {
			t.Errorf("another file's tag: status %d", other.StatusCode)
		}
	}
}

// While a page is being built the folder changes under the server.
func TestAChangedFileIsSentAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "index.html")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	handler := demo.Handler(os.DirFS(dir))
	get := func(tag string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("If-None-Match", tag)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	tag := get("").Header().Get("ETag")
	if code := get(tag).Code; code != http.StatusNotModified {
		t.Errorf("unchanged: status %d", code)
	}
	write("second one")
	if w := get(tag); w.Code != 200 || w.Body.String() != "second one" || w.Header().Get("ETag") == tag {
		t.Errorf("changed: status %d, %q, tag %s", w.Code, w.Body, w.Header().Get("ETag"))
	}
}

// Ranges are of the file itself, whatever encodings the browser takes.
func TestRanges(t *testing.T) {
	site := files()
	plain := ask(t, site, "GET", "/sdo.wasm").Header.Get("ETag")
	packed := ask(t, site, "GET", "/sdo.wasm", "Accept-Encoding", "br").Header.Get("ETag")
	for _, c := range []struct {
		ranges, condition string
		status            int
		body, content     string
	}{
		{"bytes=1-3", "", 206, "asm", "bytes 1-3/10"},
		{"bytes=-5", "", 206, "plain", "bytes 5-9/10"},
		{"bytes=5-", plain, 206, "plain", "bytes 5-9/10"},
		{"bytes=5-", packed, 200, "\x00asm plain", ""},
		{"bytes=90-", "", 416, "", "bytes */10"},
	} {
		more := []string{"Range", c.ranges, "Accept-Encoding", "br, gzip"}
		if c.condition != "" {
			more = append(more, "If-Range", c.condition)
		}
		response := ask(t, site, "GET", "/sdo.wasm", more...)
		text := body(t, response)
		if response.StatusCode != c.status || c.status != 416 && text != c.body || response.Header.Get("Content-Range") != c.content || response.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s if %q: status %d, %q, range %q, encoding %q; want %d, %q, %q and none", c.ranges, c.condition,
				response.StatusCode, text, response.Header.Get("Content-Range"), response.Header.Get("Content-Encoding"), c.status, c.body, c.content)
		}
	}
	if got := ask(t, site, "GET", "/sdo.wasm").Header.Get("Accept-Ranges"); got != "bytes" {
		t.Errorf("Accept-Ranges is %q", got)
	}
}

func TestHeadSendsNoBody(t *testing.T) {
	for _, encoding := range []string{"", "br"} {
		get := ask(t, files(), "GET", "/sdo.wasm", "Accept-Encoding", encoding)
		head := ask(t, files(), "HEAD", "/sdo.wasm", "Accept-Encoding", encoding)
		if text := body(t, head); head.StatusCode != 200 || text != "" {
			t.Errorf("status %d with %q", head.StatusCode, text)
		}
		for _, key := range []string{"Content-Length", "Content-Type", "Content-Encoding", "ETag", "Cache-Control", "Vary"} {
			if head.Header.Get(key) != get.Header.Get(key) {
				t.Errorf("encoding %q: %s is %q for HEAD, %q for GET", encoding, key, head.Header.Get(key), get.Header.Get(key))
			}
		}
	}
}

func TestCaching(t *testing.T) {
	sum := sha256.Sum256(files()["sdo.wasm"].Data)
	hash := hex.EncodeToString(sum[:])
	for path, want := range map[string]string{
		"/":                           "no-cache",
		"/sdo.wasm":                   "no-cache",
		"/wasm_exec.js":               "no-cache",
		"/assets/index-a1b2.js":       "public, max-age=31536000, immutable",
		"/assets/none.js":             "no-cache",
		"/sdo.wasm?v=" + hash[:10]:    "public, max-age=31536000, immutable",
		"/sdo.wasm?v=" + hash:         "public, max-age=31536000, immutable",
		"/sdo.wasm?v=" + hash[:9]:     "no-cache", // too short to mean one file
		"/sdo.wasm?v=" + hash + "0":   "no-cache",
		"/sdo.wasm?v=":                "no-cache",
		"/sdo.wasm?v=0123456789":      "no-cache", // of another version
		"/wasm_exec.js?v=" + hash[:9]: "no-cache",
		"/none?v=" + hash:             "no-cache",
	} {
		for _, encoding := range []string{"", "br"} {
			if got := ask(t, files(), "GET", path, "Accept-Encoding", encoding).Header.Get("Cache-Control"); got != want {
				t.Errorf("%s as %q: %q, want %q", path, encoding, got, want)
			}
		}
	}
	// A file that changes is no longer what its old address says.
	site := files()
	handler := demo.Handler(site)
	cached := func() string {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("GET", "/sdo.wasm?v="+hash[:10], nil))
		return w.Header().Get("Cache-Control")
	}
	before := cached()
	site["sdo.wasm"] = &fstest.MapFile{Data: []byte("another"), Mode: 0o444}
	if after := cached(); !strings.HasSuffix(before, "immutable") || after != "no-cache" {
		t.Errorf("%q, and %q once the file has changed", before, after)
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	for _, response := range []*http.Response{
		ask(t, files(), "GET", "/"),
		ask(t, files(), "GET", "/nothing"),
		ask(t, files(), "POST", "/"),
	} {
		if got := response.Header.Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("status %d: X-Content-Type-Options is %q", response.StatusCode, got)
		}
		if got := response.Header.Get("Referrer-Policy"); got != "no-referrer" {
			t.Errorf("status %d: Referrer-Policy is %q", response.StatusCode, got)
		}
		policy := response.Header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'self'", "script-src 'self' 'wasm-unsafe-eval'", "worker-src 'self' blob:", "img-src 'self' data: blob:", "connect-src 'self' blob: data:"} {
			if !strings.Contains(policy, part) {
				t.Errorf("status %d: the policy %q lacks %q", response.StatusCode, policy, part)
			}
		}
		for _, loose := range []string{"'unsafe-eval'", "script-src 'self' 'unsafe-inline'", "*", "http:", "https:"} {
			if strings.Contains(strings.ReplaceAll(policy, "'wasm-unsafe-eval'", ""), loose) {
				t.Errorf("status %d: the policy %q allows %s", response.StatusCode, policy, loose)
			}
		}
	}
}

// What is not a file of the site is not there, and says so: folders, hidden
// files, and every way out of the folder.
func TestNothingElseIsServed(t *testing.T) {
	outside := t.TempDir()
	dir := filepath.Join(outside, "dist")
	if err := os.CopyFS(dir, files()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "secret.txt"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"/nothing", "/assets", "/assets/", "/models/avatars", "/.gitkeep", "/.git/config", "/index.html/", "/index.html/x", "//index.html",
		"/../secret.txt", "/assets/../../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/..%5csecret.txt", "/assets/..%5c..%5csecret.txt",
		"/%00", "/index.html%00.js", "/./index.html", "/sdo.wasm.br", "/sdo.wasm.gz",
	} {
		for name, site := range map[string]fs.FS{"memory": files(), "folder": os.DirFS(dir)} {
			response := ask(t, site, "GET", path)
			text := body(t, response)
			if response.StatusCode != http.StatusNotFound || !strings.HasPrefix(text, "There is no ") || !strings.HasSuffix(text, ".\n") {
				t.Errorf("%s in %s: status %d, %q", path, name, response.StatusCode, text)
			}
		}
	}
}

func TestOtherMethodsAreRefused(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
		response := ask(t, files(), method, "/")
		if text := body(t, response); response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != "GET, HEAD" || !strings.Contains(text, method+" is not allowed") {
			t.Errorf("%s: status %d, Allow %q, %q", method, response.StatusCode, response.Header.Get("Allow"), text)
		}
	}
}

// broken is a disk that gives up: files open and cannot be read.
type broken struct{ fs.FS }

type brokenFile struct{ fs.File }

func (b broken) Open(name string) (fs.File, error) {
	file, err := b.FS.Open(name)
	return brokenFile{file}, err
}

func (brokenFile) Read([]byte) (int, error) { return 0, errors.New("the disk is gone") }

func TestAFileThatCannotBeReadSaysSo(t *testing.T) {
	response := ask(t, broken{files()}, "GET", "/sdo.wasm", "Accept-Encoding", "br")
	text := body(t, response)
	if response.StatusCode != http.StatusInternalServerError || text != "sdo.wasm cannot be read: the disk is gone.\n" || response.Header.Get("Content-Encoding") != "" || response.Header.Get("ETag") != "" {
		t.Errorf("status %d, %q, headers %v", response.StatusCode, text, response.Header)
	}
}

// slow is a file system whose files can only be read from front to back.
type slow struct{ fs.FS }

type slowFile struct{ fs.File }

func (s slow) Open(name string) (fs.File, error) {
	file, err := s.FS.Open(name)
	return slowFile{file}, err
}

func TestAnyFileSystemServes(t *testing.T) {
	response := ask(t, slow{files()}, "GET", "/models/avatars/weights.safetensors", "Range", "bytes=2-4")
	if text := body(t, response); response.StatusCode != 206 || text != "234" {
		t.Errorf("status %d, %q", response.StatusCode, text)
	}
}

func TestBelowAnotherPath(t *testing.T) {
	w := httptest.NewRecorder()
	http.StripPrefix("/some/base", demo.Handler(files())).ServeHTTP(w, httptest.NewRequest("GET", "/some/base/assets/index-a1b2.js", nil))
	if w.Code != 200 || !bytes.Equal(w.Body.Bytes(), []byte(script)) {
		t.Errorf("status %d, %q", w.Code, w.Body)
	}
}

// The whole built page, over a connection.
func TestTheBuiltPage(t *testing.T) {
	server := httptest.NewServer(demo.Handler(built(t)))
	defer server.Close()
	sitetest.Run(t, server.URL)
}

func TestBuilt(t *testing.T) {
	if !demo.Built(files()) {
		t.Error("a site with a page is not said to be built")
	}
	if demo.Built(fstest.MapFS{".gitkeep": &fstest.MapFile{}}) {
		t.Error("an empty folder is said to be built")
	}
	if _, err := fs.Stat(demo.Site(), ".gitkeep"); err != nil {
		t.Errorf("the embedded folder: %v", err)
	}
}
