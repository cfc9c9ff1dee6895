// Package hubtest is a hub for tests: honest unless a test gives it a fault.
package hubtest

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Large is the size from which on a file is not Git's own and has a SHA-256.
const Large = 4096

// Commit is what every revision is at.
const Commit = "0123456789abcdef0123456789abcdef01234567"

// Server is a hub with one model, Name.
type Server struct {
	*httptest.Server
	Name  string
	Files map[string][]byte

	// Bare leaves sizes and checksums out of the listing, as some mirrors do.
	Bare bool
	// Listing changes the listing before it is sent, Fault answers a request
	// itself where it returns true.
	Listing func(siblings []map[string]any) []map[string]any
	Fault   func(w http.ResponseWriter, r *http.Request, file string) bool

	mu       sync.Mutex
	requests []*http.Request
}

// New begins to serve files as OWNER/NAME until the test ends.
func New(t *testing.T, name string, files map[string][]byte) *Server {
	s := &Server{Name: name, Files: files}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// Requests are those that came so far, for files of a path's end.
func (s *Server) Requests(suffix string) []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.requests), func(r *http.Request) bool { return !strings.HasSuffix(r.URL.Path, suffix) })
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r)
	s.mu.Unlock()
	file, _ := strings.CutPrefix(r.URL.Path, "/"+s.Name+"/resolve/"+Commit+"/")
	if s.Fault != nil && s.Fault(w, r, file) {
		return
	}
	if strings.HasPrefix(r.URL.Path, "/api/models/"+s.Name+"/revision/") {
		s.list(w)
		return
	}
	contents, ok := s.Files[file]
	if !ok {
		w.Header().Set("X-Error-Message", "Entry not found")
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("ETag", `"`+ETag(contents)+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(contents))
}

func (s *Server) list(w http.ResponseWriter) {
	var names []string
	for name := range s.Files {
		names = append(names, name)
	}
	slices.Sort(names)
	var siblings []map[string]any
	for _, name := range names {
		sibling := map[string]any{"rfilename": name}
		if contents := s.Files[name]; !s.Bare {
			sibling["size"], sibling["blobId"] = len(contents), gitSum(contents)
			if len(contents) >= Large {
				sibling["blobId"] = strings.Repeat("ab", 20) // of the pointer
				sibling["lfs"] = map[string]any{"sha256": ETag(contents), "size": len(contents), "pointerSize": 134}
			}
		}
		siblings = append(siblings, sibling)
	}
	if s.Listing != nil {
		siblings = s.Listing(siblings)
	}
	json.NewEncoder(w).Encode(map[string]any{"id": s.Name, "sha": Commit, "siblings": siblings})
}

// ETag is the checksum a hub gives a file.
func ETag(contents []byte) string {
	if len(contents) >= Large {
		return fmt.Sprintf("%x", sha256.Sum256(contents))
	}
	return gitSum(contents)
}

func gitSum(contents []byte) string {
	return fmt.Sprintf("%x", sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(contents)), contents...)))
}

// Redirect sends a request to another server's file, as hubs do with large
// ones, and says what it is.
func Redirect(w http.ResponseWriter, r *http.Request, to string, contents []byte) {
	w.Header().Set("X-Linked-Etag", `"`+ETag(contents)+`"`)
	w.Header().Set("X-Linked-Size", fmt.Sprint(len(contents)))
	w.Header().Set("Location", to+"?"+url.Values{"signature": {"secret"}}.Encode())
	w.WriteHeader(http.StatusFound)
}
