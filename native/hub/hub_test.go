package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sdo-go/sdo/native/hub/hubtest"
)

const (
	name    = "some-one/tiny.model_v1"
	weights = "unet/diffusion_pytorch_model.safetensors"
)

// noise is the contents of a file, different for every seed.
func noise(seed uint64, size int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// tiny is a pipeline's files: small and large, an empty one, two that are the
// same, one whose name needs escaping.
func tiny() map[string][]byte {
	return map[string][]byte{
		"model_index.json":            []byte(`{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}`),
		"unet/config.json":            []byte("{}\n"),
		weights:                       noise(1, 3*ground+12_345),
		"vae/config.json":             []byte("{}\n"),
		"tokenizer/merges 100%#?.txt": noise(2, 100),
		"tokenizer/empty.txt":         {},
		"vae/a.safetensors":           noise(3, hubtest.Large),
		"vae/b.safetensors":           noise(3, hubtest.Large),
	}
}

// clientOf asks a test's hub without pausing; pauses are noted.
func clientOf(t *testing.T, s *hubtest.Server, token string) (c *Client, pauses *[]time.Duration) {
	t.Helper()
	c, err := New(s.URL, token)
	if err != nil {
		t.Fatal(err)
	}
	pauses = &[]time.Duration{}
	c.pause = func(ctx context.Context, d time.Duration) error {
		*pauses = append(*pauses, d)
		return ctx.Err()
	}
	return c, pauses
}

// pullAll downloads everything a hub lists.
func pullAll(ctx context.Context, c *Client, dir string) ([]Pulled, error) {
	l, err := c.List(ctx, name, "main")
	if err != nil {
		return nil, err
	}
	return c.Pull(ctx, l, l.Files, dir, func(Progress) {})
}

// wantFolder holds a folder against the files it should have, the download's
// own aside.
func wantFolder(t *testing.T, dir string, want map[string][]byte) {
	t.Helper()
	got := map[string][]byte{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if path == privateFolder {
				return fs.SkipDir
			}
			return err
		}
		got[path], err = os.ReadFile(filepath.Join(dir, path))
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if !maps.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("the folder holds %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// parts are what is left unfinished.
func parts(t *testing.T, dir string) (names []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, privateFolder, "*.part"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestPullBringsEveryFileOnce(t *testing.T) {
	for _, bare := range []bool{false, true} {
		files := tiny()
		s := hubtest.New(t, name, files)
		s.Bare = bare
		c, _ := clientOf(t, s, "")
		dir := filepath.Join(t.TempDir(), "deep", "down")
		last := Progress{}
		l, err := c.List(t.Context(), name, "main")
		if err != nil {
			t.Fatal(err)
		}
		if l.Commit != hubtest.Commit || len(l.Files) != len(files) {
			t.Errorf("listing %v", l)
		}
		done, err := c.Pull(t.Context(), l, l.Files, dir, func(p Progress) {
			if p.Checking == last.Checking && p.Done < last.Done || p.Done > p.Total {
				t.Errorf("progress went from %v to %v", last, p)
			}
			last = p
		})
		if err != nil {
			t.Fatal(err)
		}
		wantFolder(t, dir, files)
		if last.Done != last.Total || last.Checking || last.Total != total(l.Files) {
			t.Errorf("progress ended at %v", last)
		}
		for _, f := range done {
			if f.Fetched != f.Size || f.Had != 0 {
				t.Errorf("%s: had %d, fetched %d of %d bytes", f.Path, f.Had, f.Fetched, f.Size)
			}
		}
		record, err := ReadRecord(os.DirFS(dir))
		if err != nil || record.Name != name || record.Commit != hubtest.Commit || record.Files[weights] != Digest("sha256:"+hubtest.ETag(files[weights])) {
			t.Errorf("record %v: %v", record, err)
		}

		before := len(s.Requests(""))
		done, err = pullAll(t.Context(), c, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range done {
			if f.Fetched != 0 || f.Had != f.Size {
				t.Errorf("again: %s: had %d, fetched %d of %d bytes", f.Path, f.Had, f.Fetched, f.Size)
			}
		}
		if n := len(s.Requests("")) - before; n != 1 && !bare {
			t.Errorf("%d requests where only the listing was due", n)
		}
		wantFolder(t, dir, files)
	}
}

// hangUp ends the connection after what was written.
func hangUp(w http.ResponseWriter) {
	w.(http.Flusher).Flush()
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		conn.Close()
	}
}

// from reads where a request wants a file to begin.
func from(r *http.Request) (at int) {
	fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
	return at
}

// A server that breaks its promises in one way, and what comes of it: the
// files, or a sentence. Whatever it does, nothing wrong lies under a file's
// name, and nothing outside the folder.
func TestFaultsOfAServer(t *testing.T) {
	files := tiny()
	full := files[weights]
	size := len(full)
	answer := func(w http.ResponseWriter, status int, header map[string]string, body []byte) {
		for k, v := range header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
		w.Write(body)
	}
	ranged := func(at int) map[string]string {
		return map[string]string{"Content-Range": fmt.Sprintf("bytes %d-%d/%d", at, size-1, size), "Content-Length": fmt.Sprint(size - at)}
	}
	tries := 0
	tests := []struct {
		name  string
		fault func(w http.ResponseWriter, r *http.Request) bool // of the weights
		want  string                                            // "" for success
		kept  bool                                              // whether a part is left to continue
	}{
		{"cuts every connection", func(w http.ResponseWriter, r *http.Request) bool {
			at := from(r)
			header := ranged(at)
			status := http.StatusPartialContent
			if at == 0 {
				delete(header, "Content-Range")
				status = http.StatusOK
			}
			answer(w, status, header, full[at:min(size, at+ground)])
			hangUp(w)
			return true
		}, "", false},
		{"cuts before ground is gained", func(w http.ResponseWriter, r *http.Request) bool {
			at := from(r)
			header := ranged(at)
			status := http.StatusPartialContent
			if at == 0 {
				delete(header, "Content-Range")
				status = http.StatusOK
			}
			answer(w, status, header, full[at:at+1])
			hangUp(w)
			return true
		}, "the connection was cut; given up after 6 attempts", true},
		{"hangs up at once", func(w http.ResponseWriter, r *http.Request) bool {
			hangUp(w)
			return true
		}, "given up after 6 attempts", true},
		{"knows no ranges and cuts once", func(w http.ResponseWriter, r *http.Request) bool {
			if tries++; tries > 1 {
				answer(w, http.StatusOK, map[string]string{"Content-Length": fmt.Sprint(size)}, full)
				return true
			}
			answer(w, http.StatusOK, map[string]string{"Content-Length": fmt.Sprint(size)}, full[:size/2])
			hangUp(w)
			return true
		}, "", false},
		{"knows no ranges and cuts always", func(w http.ResponseWriter, r *http.Request) bool {
			answer(w, http.StatusOK, map[string]string{"Content-Length": fmt.Sprint(size)}, full[:size/2])
			hangUp(w)
			return true
		}, "the connection was cut; given up after 6 attempts", true},
		{"tells a shorter length once", func(w http.ResponseWriter, r *http.Request) bool {
			if from(r) > 0 {
				return false
			}
			answer(w, http.StatusOK, map[string]string{"Content-Length": fmt.Sprint(size / 3)}, full[:size/3])
			return true
		}, "", false},
		{"tells a longer length", func(w http.ResponseWriter, r *http.Request) bool {
			answer(w, http.StatusOK, map[string]string{"Content-Length": fmt.Sprint(size + 1)}, append(slices.Clone(full), 0))
			return true
		}, fmt.Sprintf("the server sends a file of %d bytes where it lists %d bytes", size+1, size), true},
		{"tells a length that does not come", func(w http.ResponseWriter, r *http.Request) bool {
			if from(r) > 0 {
				return false
			}
			answer(w, http.StatusOK, map[string]string{"Content-Length": fmt.Sprint(size)}, full[:size-1])
			hangUp(w)
			return true
		}, "", false},
		{"tells no length", func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			w.Write(full)
			return true
		}, "", false},
		{"never ends", func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			for w.Write(full); ; {
				if _, err := w.Write(full); err != nil {
					return true
				}
			}
		}, "the server sends more than the", true},
		{"sends other bytes", func(w http.ResponseWriter, r *http.Request) bool {
			answer(w, http.StatusOK, nil, noise(9, size))
			return true
		}, "nothing of it was kept", false},
		{"sends one other bit", func(w http.ResponseWriter, r *http.Request) bool {
			wrong := slices.Clone(full)
			wrong[size-1] ^= 1
			answer(w, http.StatusOK, nil, wrong)
			return true
		}, "nothing of it was kept", false},
		{"continues elsewhere", func(w http.ResponseWriter, r *http.Request) bool {
			if at := from(r); at > 0 {
				answer(w, http.StatusPartialContent, ranged(at-1), full[at-1:])
				return true
			}
			answer(w, http.StatusOK, map[string]string{"Content-Length": fmt.Sprint(size)}, full[:size/2])
			hangUp(w)
			return true
		}, fmt.Sprintf("the server sends the file from byte %d where byte %d was asked for", size/2-1, size/2), true},
		{"continues another file", func(w http.ResponseWriter, r *http.Request) bool {
			if at := from(r); at > 0 {
				answer(w, http.StatusPartialContent, map[string]string{"Content-Range": fmt.Sprintf("bytes %d-%d/%d", at, size, size+1)}, full[at:])
				return true
			}
			answer(w, http.StatusOK, map[string]string{"Content-Length": fmt.Sprint(size)}, full[:size/2])
			hangUp(w)
			return true
		}, fmt.Sprintf("the server sends a file of %d bytes where it lists %d", size+1, size), true},
		{"sends a part unasked", func(w http.ResponseWriter, r *http.Request) bool {
			answer(w, http.StatusPartialContent, ranged(0), full)
			return true
		}, "a part of the file where all of it was asked for", true},
		{"does not say which part", func(w http.ResponseWriter, r *http.Request) bool {
			if from(r) > 0 {
				answer(w, http.StatusPartialContent, map[string]string{"Content-Range": "bytes"}, full)
				return true
			}
			answer(w, http.StatusOK, map[string]string{"Content-Length": fmt.Sprint(size)}, full[:size/2])
			hangUp(w)
			return true
		}, "a part of the file without saying which", true},
		{"wants a log-in", func(w http.ResponseWriter, r *http.Request) bool {
			answer(w, http.StatusOK, map[string]string{"Content-Type": "text/html; charset=utf-8"}, []byte("<html>Welcome to our network</html>"))
			return true
		}, "the server sends a web page where it lists", true},
		{"packs its answer", func(w http.ResponseWriter, r *http.Request) bool {
			answer(w, http.StatusOK, map[string]string{"Content-Encoding": "gzip"}, full)
			return true
		}, "the server packs its answer as gzip, unasked", true},
		{"is busy for a while", func(w http.ResponseWriter, r *http.Request) bool {
			if tries++; tries > 5 {
				return false
			}
			answer(w, []int{500, 502, 503, 429, 408}[tries-1], nil, nil)
			return true
		}, "", false},
		{"is busy for ever", func(w http.ResponseWriter, r *http.Request) bool {
			answer(w, http.StatusBadGateway, nil, nil)
			return true
		}, "the server answers 502 Bad Gateway; given up after 6 attempts", true},
		{"wants an hour", func(w http.ResponseWriter, r *http.Request) bool {
			answer(w, http.StatusTooManyRequests, map[string]string{"Retry-After": "3600"}, nil)
			return true
		}, "the server answers 429 Too Many Requests; it asks to come back in 1h0m0s", true},
		{"has lost the file", func(w http.ResponseWriter, r *http.Request) bool {
			answer(w, http.StatusNotFound, map[string]string{"X-Error-Message": "Entry\u202e not\tfound. "}, nil)
			return true
		}, "the server answers 404 Not Found (Entry not found); the hub lists the file and does not have it", true},
		{"turns in a circle", func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
			return true
		}, "the server redirects 10 times and more", true},
		{"redirects to nowhere", func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusFound)
			return true
		}, "the server redirects to nowhere", true},
		{"redirects to a file", func(w http.ResponseWriter, r *http.Request) bool {
			answer(w, http.StatusFound, map[string]string{"Location": "file:///etc/passwd"}, nil)
			return true
		}, "the server redirects to file://, which is not followed", true},
		{"has another file by now", func(w http.ResponseWriter, r *http.Request) bool {
			hubtest.Redirect(w, r, "/"+name+"/resolve/"+hubtest.Commit+"/vae/a.safetensors", noise(3, hubtest.Large))
			return true
		}, "the hub now holds another file than it listed; try again", true},
		{"stalls", func(w http.ResponseWriter, r *http.Request) bool {
			if from(r) > 0 {
				return false
			}
			answer(w, http.StatusOK, map[string]string{"Content-Length": fmt.Sprint(size)}, full[:size/2])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return true
		}, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tries = 0
			s := hubtest.New(t, name, files)
			s.Fault = func(w http.ResponseWriter, r *http.Request, file string) bool {
				return file == weights && tt.fault(w, r)
			}
			c, _ := clientOf(t, s, "")
			c.stall = 200 * time.Millisecond
			outside := t.TempDir()
			dir := filepath.Join(outside, "model")
			_, err := pullAll(t.Context(), c, dir)
			if got := fmt.Sprint(err); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(got, tt.want) {
				t.Errorf("error %q, want %q", got, tt.want)
			}
			want := maps.Clone(files)
			if tt.want != "" {
				// Files come in the order of their names; the weights are among the last.
				for path := range want {
					if path >= weights {
						delete(want, path)
					}
				}
				if strings.Contains(err.Error(), "\n") {
					t.Errorf("not one sentence: %q", err)
				}
			}
			wantFolder(t, dir, want)
			if left := len(parts(t, dir)); left > 1 || (left == 1) != tt.kept {
				t.Errorf("%d parts are left", left)
			}
			if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
				t.Errorf("beside the folder: %v, %v", entries, err)
			}
			if tt.want == "" {
				return
			}
			// Once the server has come to its senses the same command ends well.
			s.Fault = nil
			if _, err := pullAll(t.Context(), c, dir); err != nil {
				t.Error(err)
			}
			wantFolder(t, dir, files)
			if left := parts(t, dir); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// What an interrupted download has is not fetched again.
func TestInterruptedDownloadContinues(t *testing.T) {
	files := tiny()
	s := hubtest.New(t, name, files)
	c, _ := clientOf(t, s, "")
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	l, err := c.List(ctx, name, "main")
	if err != nil {
		t.Fatal(err)
	}
	s.Fault = func(w http.ResponseWriter, r *http.Request, file string) bool {
		if file != weights || from(r) > 0 {
			return false
		}
		w.Write(files[weights][:2*ground])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	_, err = c.Pull(ctx, l, l.Files, dir, func(p Progress) {
		if p.File == weights && !p.Checking {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	left := parts(t, dir)
	if len(left) != 1 {
		t.Fatalf("parts %v", left)
	}
	stat, err := os.Stat(left[0])
	if err != nil || stat.Size() == 0 || stat.Size() >= int64(len(files[weights])) {
		t.Fatalf("part of %d bytes: %v", stat.Size(), err)
	}
	before := len(s.Requests(weights))
	done, err := c.Pull(t.Context(), l, l.Files, dir, func(Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	wantFolder(t, dir, files)
	for _, f := range done {
		if f.Path == weights && (f.Had != stat.Size() || f.Had+f.Fetched != f.Size) {
			t.Errorf("had %d, fetched %d of %d bytes where %d had come", f.Had, f.Fetched, f.Size, stat.Size())
		}
	}
	requests := s.Requests(weights)[before:]
	if len(requests) != 1 || from(requests[0]) != int(stat.Size()) {
		t.Errorf("%d requests, the first from byte %d", len(requests), from(requests[0]))
	}
}

// A part that this disk has damaged, or that is too long, costs a download from
// the beginning and no more.
func TestDamagedPart(t *testing.T) {
	files := tiny()
	for name, damage := range map[string]func([]byte) []byte{
		"a bit":    func(b []byte) []byte { b[10] ^= 1; return b },
		"too long": func([]byte) []byte { return noise(5, len(files[weights])+1) },
		"complete": func([]byte) []byte { return noise(5, len(files[weights])) },
	} {
		t.Run(name, func(t *testing.T) {
			s := hubtest.New(t, "some-one/tiny.model_v1", files)
			c, _ := clientOf(t, s, "")
			l, err := c.List(t.Context(), "some-one/tiny.model_v1", "main")
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			f, _ := l.Find(weights)
			path := filepath.Join(dir, part(f))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(slices.Clone(files[weights][:ground])), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Pull(t.Context(), l, l.Files, dir, func(Progress) {}); err != nil {
				t.Fatal(err)
			}
			wantFolder(t, dir, files)
		})
	}
}

func TestRefusals(t *testing.T) {
	status := func(code int, message string) func(w http.ResponseWriter, r *http.Request, file string) bool {
		return func(w http.ResponseWriter, r *http.Request, file string) bool {
			w.Header().Set("X-Error-Message", message)
			w.WriteHeader(code)
			return true
		}
	}
	body := func(text string) func(w http.ResponseWriter, r *http.Request, file string) bool {
		return func(w http.ResponseWriter, r *http.Request, file string) bool {
			io.WriteString(w, text)
			return true
		}
	}
	tests := []struct {
		name, token string
		fault       func(w http.ResponseWriter, r *http.Request, file string) bool
		want        string
		refusal     bool // the user's to put right
	}{
		{"no token", "", status(401, "Repository not found"), "the server answers 401 Unauthorized (Repository not found); set HF_TOKEN", true},
		{"wrong token", "hf_x", status(401, ""), "the token in HF_TOKEN may be wrong", true},
		{"gated", "hf_x", status(403, "Access to model is restricted"), "accept its conditions on its page", true},
		{"no model", "", status(404, ""), `there is no such model, or it has no revision "main"`, true},
		{"web page", "", body("<!doctype html><html>"), "the server answers with a web page", false},
		{"not JSON", "", body("[1, 2]"), "not the JSON of a hub", false},
		{"no files", "", body(`{"siblings": []}`), "the server lists no files", false},
		{"a commit that is none", "", body(`{"sha": "../../x", "siblings": [{"rfilename": "a"}]}`), "names a commit that is none", false},
		{"negative size", "", body(`{"siblings": [{"rfilename": "a", "size": -4, "blobId": "x"}]}`), `gives "a" a size of -4 bytes`, false},
		{"size that is none", "", body(`{"siblings": [{"rfilename": "a", "size": 1000000000000000000}]}`), `gives "a" a size of`, false},
		{"checksum that is none", "", body(`{"siblings": [{"rfilename": "a", "size": 4, "lfs": {"sha256": "abc"}}]}`), `gives "a" a checksum that is none`, false},
		{"twice", "", body(`{"siblings": [{"rfilename": "a", "size": 4}, {"rfilename": "a", "size": 4}]}`), `lists "a" twice`, false},
		{"no checksum anywhere", "", func(w http.ResponseWriter, r *http.Request, file string) bool {
			if r.Method == http.MethodHead {
				return true
			}
			io.WriteString(w, `{"siblings": [{"rfilename": "a"}]}`)
			return true
		}, "what comes could not be checked", false},
		{"a listing without end", "", func(w http.ResponseWriter, r *http.Request, file string) bool {
			for chunk := bytes.Repeat([]byte(" "), 1<<20); ; {
				if _, err := w.Write(chunk); err != nil {
					return true
				}
			}
		}, "longer than 67108864 bytes", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := hubtest.New(t, name, tiny())
			s.Fault = tt.fault
			c, _ := clientOf(t, s, tt.token)
			dir := filepath.Join(t.TempDir(), "model")
			_, err := pullAll(t.Context(), c, dir)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if refusal := (Refusal{}); errors.As(err, &refusal) != tt.refusal {
				t.Errorf("a refusal: %v", !tt.refusal)
			}
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the folder was made: %v", err)
			}
		})
	}
}

func TestNamesThatLeaveTheFolder(t *testing.T) {
	for _, bad := range []string{"../x", "a/../../x", "/etc/passwd", `..\x`, "a//b", "", ".", "a/", "./a", ".git/hooks/post-checkout", ".pull/record.json", ".Pull/record.json", ".GIT/config", "a\nb", "a\x00b", "a\u202eb", strings.Repeat("a", 1025)} {
		s := hubtest.New(t, name, tiny())
		s.Listing = func(siblings []map[string]any) []map[string]any {
			return append(siblings, map[string]any{"rfilename": bad, "size": 4, "blobId": strings.Repeat("ab", 20)})
		}
		c, _ := clientOf(t, s, "")
		if _, err := c.List(t.Context(), name, "main"); err == nil || !strings.Contains(err.Error(), "does not stay inside the model's folder") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	// Nor does a folder that was made to lead elsewhere.
	elsewhere, dir := t.TempDir(), t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(dir, "unet")); err != nil {
		t.Skip(err)
	}
	c, _ := clientOf(t, hubtest.New(t, name, tiny()), "")
	if _, err := pullAll(t.Context(), c, dir); err == nil || !strings.Contains(err.Error(), "escapes") {
		t.Errorf("a link to elsewhere: %v", err)
	}
	if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) != 0 {
		t.Errorf("elsewhere: %v, %v", entries, err)
	}
}

// The token is for the hub alone, also when a server elsewhere leads back.
func TestTokenStaysAtTheHub(t *testing.T) {
	const token = "hf_secret"
	files := tiny()
	var elsewhere *httptest.Server
	told := map[string][]string{}
	s := hubtest.New(t, name, files)
	s.Fault = func(w http.ResponseWriter, r *http.Request, file string) bool {
		told[file] = append(told[file], r.Header.Get("Authorization"))
		switch {
		case r.URL.Query().Has("back"):
			return false
		case file == weights:
			hubtest.Redirect(w, r, elsewhere.URL+"/blob", files[file])
			return true
		case file == "vae/a.safetensors":
			w.Header().Set("Location", r.URL.Path+"?back")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	var stolen []string
	elsewhere = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, values := range r.Header {
			stolen = append(stolen, values...)
		}
		w.Header().Set("Location", s.URL+"/"+name+"/resolve/"+hubtest.Commit+"/"+weights+"?back")
		w.WriteHeader(http.StatusFound)
	}))
	defer elsewhere.Close()
	c, _ := clientOf(t, s, token)
	if _, err := pullAll(t.Context(), c, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if len(stolen) == 0 || strings.Contains(strings.Join(stolen, " "), token) {
		t.Errorf("the other server was sent %q", stolen)
	}
	with := "Bearer " + token
	if got := told[weights]; !slices.Equal(got, []string{with, ""}) {
		t.Errorf("the hub was told %q, and again after the other server", got)
	}
	if got := told["vae/a.safetensors"]; !slices.Equal(got, []string{with, with}) {
		t.Errorf("the hub was told %q, and again after its own redirect", got)
	}
	// Over plain HTTP it goes to this machine only.
	for endpoint, want := range map[string]bool{"https://hub.example": true, "http://hub.example": false, "http://127.0.0.1:80": true, "http://[::1]:80": true, "http://localhost": true, "http://127.0.0.1.hub.example": false} {
		c, err := New(endpoint, token)
		if err != nil || c.mayTell() != want {
			t.Errorf("%s: told %v, %v", endpoint, c.mayTell(), err)
		}
	}
}

func TestAddresses(t *testing.T) {
	for endpoint, want := range map[string]string{
		"ftp://hub.example":          "expected https://host or http://host",
		"hub.example":                "expected https://host or http://host",
		"https://":                   "expected https://host or http://host",
		"https://u:p@hub.example":    "expected no user",
		"https://hub.example/?a=b":   "expected no user, query",
		"https://hub.example/%zz":    "invalid URL escape",
		"https://hub.example/mirror": "",
	} {
		_, err := New(endpoint, "")
		if got := fmt.Sprint(err); (err == nil) != (want == "") || !strings.Contains(got, want) || strings.Contains(got, "u:p@") {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
	if _, err := New(Endpoint, "two words"); err == nil {
		t.Error("a token of two words was taken")
	}
	for _, bad := range []string{"name", "a/b/c", "../x", "a/..", "a/b ", "/b", "a/", "a/b\n", "a/-b"} {
		if CheckName(bad) == nil {
			t.Errorf("%q was taken for a name", bad)
		}
	}
	// A hub below a path, a revision with a slash.
	s := hubtest.New(t, "mirror/x", nil)
	c, err := New(s.URL+"/pre%20fix/", "")
	if err != nil {
		t.Fatal(err)
	}
	c.List(t.Context(), name, "refs/pr/1")
	if got := s.Requests("")[0].RequestURI; got != "/pre%20fix/api/models/"+name+"/revision/refs%2Fpr%2F1?blobs=true" {
		t.Errorf("asked %s", got)
	}
}

func TestPauses(t *testing.T) {
	s := hubtest.New(t, name, tiny())
	left := 3
	s.Fault = func(w http.ResponseWriter, r *http.Request, file string) bool {
		if left--; left == 1 {
			w.Header().Set("Retry-After", "17")
		}
		if left >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return left >= 0
	}
	c, pauses := clientOf(t, s, "")
	var notes []string
	c.Note = func(s string) { notes = append(notes, s) }
	if _, err := c.List(t.Context(), name, "main"); err != nil {
		t.Fatal(err)
	}
	if p := *pauses; len(p) != 3 || p[0] < 500*time.Millisecond || p[0] > 750*time.Millisecond || p[1] != 17*time.Second || p[2] < 2*time.Second || p[2] > 3*time.Second {
		t.Errorf("pauses %v", p)
	}
	if len(notes) != 3 || notes[1] != name+": the server answers 503 Service Unavailable; again in 17s" {
		t.Errorf("notes %q", notes)
	}
	if d := retryAfter(time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)); d < 85*time.Second || d > 90*time.Second {
		t.Errorf("a date in 90 s was read as %s", d)
	}
	for _, s := range []string{"", "soon", "-5", "99999999999999999999"} {
		if d := retryAfter(s); d != 0 {
			t.Errorf("%q was read as %s", s, d)
		}
	}
}

func TestDiskSpaceIsAskedForFirst(t *testing.T) {
	files := tiny()
	s := hubtest.New(t, name, files)
	c, _ := clientOf(t, s, "")
	need := int64(0)
	for _, f := range files {
		need += int64(len(f))
	}
	dir := t.TempDir()
	c.space = func(string) (int64, bool) { return need - 1, true }
	if _, err := pullAll(t.Context(), c, dir); err == nil || !strings.Contains(err.Error(), "are to come and") {
		t.Errorf("error %v", err)
	}
	if n := len(s.Requests(weights)); n != 0 {
		t.Errorf("%d requests for the weights", n)
	}
	c.space = func(string) (int64, bool) { return need, true }
	if _, err := pullAll(t.Context(), c, dir); err != nil {
		t.Error(err)
	}
	c.space = func(string) (int64, bool) { return 0, true }
	if _, err := pullAll(t.Context(), c, dir); err != nil {
		t.Errorf("with everything there: %v", err)
	}
	if free, known := freeSpace(dir); known && free <= 0 {
		t.Errorf("%d bytes are free", free)
	}
}

func TestOneDownloadAtATime(t *testing.T) {
	s := hubtest.New(t, name, tiny())
	c, _ := clientOf(t, s, "")
	dir := t.TempDir()
	l, err := c.List(t.Context(), name, "main")
	if err != nil {
		t.Fatal(err)
	}
	var second error
	once := false
	if _, err := c.Pull(t.Context(), l, l.Files, dir, func(Progress) {
		if !once {
			once = true
			_, second = c.Pull(t.Context(), l, l.Files, dir, func(Progress) {})
		}
	}); err != nil {
		t.Error(err)
	}
	if !errors.Is(second, errBusy) {
		t.Errorf("the second: %v", second)
	}
	if _, err := c.Pull(t.Context(), l, l.Files, dir, func(Progress) {}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Files of an older revision are replaced, what somebody wrote is not.
func TestReplacedAreOnlyItsOwnFiles(t *testing.T) {
	files := tiny()
	s := hubtest.New(t, name, files)
	c, _ := clientOf(t, s, "")
	dir := t.TempDir()
	if _, err := pullAll(t.Context(), c, dir); err != nil {
		t.Fatal(err)
	}
	// Large before and small now, so that its checksum is of another kind.
	files[weights], files["vae/a.safetensors"] = noise(20, ground), noise(21, 50)
	if _, err := pullAll(t.Context(), c, dir); err != nil {
		t.Fatal(err)
	}
	wantFolder(t, dir, files)

	config := filepath.Join(dir, "unet", "config.json")
	if err := os.WriteFile(config, []byte(`{"mine": true}`), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := pullAll(t.Context(), c, dir)
	if refusal := (Refusal{}); !errors.As(err, &refusal) || !strings.Contains(err.Error(), config+" is there and is not what the hub has; it was changed after it was downloaded") {
		t.Errorf("error %v", err)
	}
	files["unet/config.json"] = []byte(`{"mine": true}`)
	wantFolder(t, dir, files)

	// In a folder that was never pulled, too.
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "model_index.json"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := pullAll(t.Context(), c, dir); err == nil || !strings.Contains(err.Error(), "no download put it there, so it is not replaced") {
		t.Errorf("error %v", err)
	}
	// A folder where a file should be.
	dir = t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, weights), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := pullAll(t.Context(), c, dir); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("error %v", err)
	}
}

func TestDamagedRecord(t *testing.T) {
	c, _ := clientOf(t, hubtest.New(t, name, tiny()), "")
	for _, text := range []string{"", "{}", "[", `{"format": 2}`, `{"format": 1, "files": {"a": "b"}}`, `{"format": 1, "files": {"a": ""}}`} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, privateFolder), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, recordFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := pullAll(t.Context(), c, dir); err == nil || !strings.Contains(err.Error(), recordFile) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestNamesThatDifferInCaseOnly(t *testing.T) {
	files := tiny()
	files["UNet/Config.json"] = []byte("{}")
	c, _ := clientOf(t, hubtest.New(t, name, files), "")
	if _, err := pullAll(t.Context(), c, t.TempDir()); err == nil || !strings.Contains(err.Error(), "not every disk can tell apart") {
		t.Errorf("error %v", err)
	}
}
