package edge_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/wasm/edge"
	"github.com/sdo-go/sdo/wasm/edge/edgetest"
)

// log keeps what a server says went wrong inside.
type log struct{ lines []string }

func (l *log) add(line string) { l.lines = append(l.lines, line) }

// serve answers one request. The server is told of it as a worker is: by an
// absolute address.
func serve(s http.Handler, method, path string, body io.Reader, more ...string) edgetest.Answer {
	r := httptest.NewRequest(method, "https://edge.example"+path, body)
	for i := 0; i < len(more); i += 2 {
		r.Header.Add(more[i], more[i+1])
	}
	return answer(s, r)
}

func answer(s http.Handler, r *http.Request) edgetest.Answer {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return edgetest.Answer{Status: w.Code, Header: w.Header(), Body: w.Body.Bytes()}
}

const authorization = "Bearer " + edgetest.Secret

// upload is an adapter of the avatars.
func upload(t testing.TB) []byte {
	return edgetest.Kohya(t, edgetest.Adapter(t, "avatars-16-s", 1, 1, "conv_in"))
}

func TestLoRAs(t *testing.T) {
	server := httptest.NewServer(edge.New(edge.Options{Secret: edgetest.Secret, LoRAs: newBucket()}))
	defer server.Close()
	edgetest.LoRAs(t, server.URL)
}

func TestLoRAsSwitchedOff(t *testing.T) {
	for _, path := range []string{"GET /v1/loras", "GET /v1/loras/a", "PUT /v1/loras/a", "DELETE /v1/loras/a"} {
		method, path, _ := strings.Cut(path, " ")
		bare := edge.New(edge.Options{Secret: edgetest.Secret})
		serve(bare, method, path, nil, "Authorization", authorization).Refused(t, 404, "no_registry", "has no bucket for them; docs/edge.md tells how to add one")
		if method == "GET" {
			continue
		}
		for _, given := range []string{"Bearer ", authorization, ""} {
			open := edge.New(edge.Options{LoRAs: newBucket()})
			serve(open, method, path, nil, "Authorization", given).Refused(t, 403, "read_only", "wrangler secret put SDO_SECRET")
		}
	}
}

// What is refused by its headers is not read, and what ends early is not stored.
func TestUploadsAreReadLate(t *testing.T) {
	b := newBucket()
	s := edge.New(edge.Options{Secret: edgetest.Secret, LoRAs: b})
	file := upload(t)
	for name, c := range map[string]struct {
		path, secret string
		body         io.Reader
		length       int64
		match        string
		status       int
		code, gist   string
	}{
		"without a secret": {"a", "", unread{t}, 10, "", 401, "unauthorized", "secret"},
		"with a bad name":  {"A", authorization, unread{t}, 10, "", 400, "bad_request", "name"},
		"too long":         {"a", authorization, unread{t}, 8<<20 + 1, "", 413, "body_too_large", "8388608"},
		"of unknown model": {"a?model=x", authorization, unread{t}, 10, "", 400, "bad_request", "model=x"},
		"already there":    {"there", authorization, unread{t}, 10, "*", 412, "exists", "already"},
		"too long untold":  {"a", authorization, io.MultiReader(bytes.NewReader(make([]byte, 8<<20)), strings.NewReader("x")), -1, "", 413, "body_too_large", "8388608"},
		"cut off":          {"a", authorization, bytes.NewReader(file), int64(len(file)) + 1, "", 400, "bad_request", fmt.Sprintf("ended after %d bytes", len(file))},
		"broken off":       {"a", authorization, io.MultiReader(bytes.NewReader(file), iotest.ErrReader(io.ErrUnexpectedEOF)), -1, "", 400, "bad_request", "ended after"},
	} {
		t.Run(name, func(t *testing.T) {
			serve(s, "PUT", "/v1/loras/there", bytes.NewReader(file), "Authorization", authorization)
			r := httptest.NewRequest("PUT", "/v1/loras/"+c.path, c.body)
			r.ContentLength = c.length
			r.Header.Set("Authorization", c.secret)
			r.Header.Set("If-None-Match", c.match)
			answer(s, r).Refused(t, c.status, c.code, c.gist)
			if len(b.files) != 1 {
				t.Errorf("the bucket has %d files, want only the one of before", len(b.files))
			}
		})
	}
	// A worker does not know how long a body is that does not say.
	r := httptest.NewRequest("PUT", "/v1/loras/a", io.MultiReader(bytes.NewReader(file)))
	r.ContentLength = 0
	r.Header.Set("Authorization", authorization)
	if a := answer(s, r); a.Status != http.StatusCreated {
		t.Errorf("status %d: %s", a.Status, a.Body)
	}
}

// unread is a body that nobody may read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestBucketFaults(t *testing.T) {
	for _, c := range []struct {
		method, path, fault string
		says                string
	}{
		{"GET", "/v1/loras", "List", "listing the adapters: the disk is on fire"},
		{"GET", "/v1/loras/there", "Get", "reading the adapter there: the disk is on fire"},
		{"PUT", "/v1/loras/there", "List", "looking for the adapter there: the disk is on fire"},
		{"PUT", "/v1/loras/there", "Put", "storing the adapter there: the disk is on fire"},
		{"DELETE", "/v1/loras/there", "List", "looking for the adapter there: the disk is on fire"},
		{"DELETE", "/v1/loras/there", "Delete", "deleting the adapter there: the disk is on fire"},
	} {
		t.Run(c.method+" "+c.path+" "+c.fault, func(t *testing.T) {
			b, l := newBucket(), &log{}
			s := edge.New(edge.Options{Secret: edgetest.Secret, LoRAs: b, Log: l.add})
			serve(s, "PUT", "/v1/loras/there", bytes.NewReader(upload(t)), "Authorization", authorization)
			b.fault = func(method string) error {
				if method == c.fault {
					return errors.New("the disk is on fire")
				}
				return nil
			}
			serve(s, c.method, c.path, bytes.NewReader(upload(t)), "Authorization", authorization).Refused(t, 500, "fault", c.says)
			if len(l.lines) != 1 || !strings.Contains(l.lines[0], c.says) {
				t.Errorf("logged %q, want %q", l.lines, c.says)
			}
		})
	}
	// A bucket that takes a file and does not have it lies.
	b := newBucket()
	s := edge.New(edge.Options{Secret: edgetest.Secret, LoRAs: forgetful{b}})
	serve(s, "PUT", "/v1/loras/there", bytes.NewReader(upload(t)), "Authorization", authorization).Refused(t, 500, "fault", "upload it again")
}

// forgetful is a bucket that drops what its files are about.
type forgetful struct{ *bucket }

func (f forgetful) Put(ctx context.Context, key string, data []byte, _ map[string]string) error {
	return f.bucket.Put(ctx, key, data, nil)
}

// What the registry did not write is not of the registry, and breaks nothing.
func TestForeignFilesInTheBucket(t *testing.T) {
	file := upload(t)
	good := func() map[string]string {
		sum := sha256.Sum256(file)
		return map[string]string{"model": "avatars-16-s", "rank": "1", "alpha": "1", "parameters": "51", "modules": "1", "sha256": hex.EncodeToString(sum[:])}
	}
	with := func(key, value string) map[string]string {
		about := good()
		about[key] = value
		return about
	}
	for name, c := range map[string]struct {
		key   string
		about map[string]string
		says  string // in the log; empty where it is fine
	}{
		"as uploaded":       {"loras/a.safetensors", good(), ""},
		"no description":    {"loras/a.safetensors", nil, "upload it again with PUT /v1/loras/a"},
		"no model":          {"loras/a.safetensors", with("model", ""), "upload it again"},
		"no rank":           {"loras/a.safetensors", with("rank", "many"), "upload it again"},
		"rank 0":            {"loras/a.safetensors", with("rank", "0"), "upload it again"},
		"a huge rank":       {"loras/a.safetensors", with("rank", "99999999999999999999"), "upload it again"},
		"alpha NaN":         {"loras/a.safetensors", with("alpha", "NaN"), "upload it again"},
		"alpha infinite":    {"loras/a.safetensors", with("alpha", "+Inf"), "upload it again"},
		"no number":         {"loras/a.safetensors", with("parameters", ""), "upload it again"},
		"no modules":        {"loras/a.safetensors", with("modules", "1.5"), "upload it again"},
		"half a hash":       {"loras/a.safetensors", with("sha256", good()["sha256"][:32]), "upload it again"},
		"no hash":           {"loras/a.safetensors", with("sha256", strings.Repeat("x", 64)), "upload it again"},
		"a foreign name":    {"loras/.DS_Store", good(), `"loras/.DS_Store", which is no name`},
		"a name in a name":  {"loras/a/b.safetensors", good(), "which is no name"},
		"a name with bytes": {"loras/\xff\".safetensors", good(), "which is no name"},
	} {
		t.Run(name, func(t *testing.T) {
			b, l := newBucket(), &log{}
			s := edge.New(edge.Options{Secret: edgetest.Secret, LoRAs: b, Log: l.add})
			b.files[c.key] = stored{file, c.about, time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)}
			if c.says == "" {
				b.files[c.key] = stored{file, c.about, time.Now()}
			}
			var listing struct{ LoRAs []json.RawMessage }
			serve(s, "GET", "/v1/loras", nil).Decode(t, 200, &listing)
			a := serve(s, "GET", "/v1/loras/a", nil)
			if c.says == "" {
				if len(listing.LoRAs) != 1 || len(l.lines) != 0 || a.Status != 200 {
					t.Errorf("%d listed, logged %q, status %d; want it listed and sent", len(listing.LoRAs), l.lines, a.Status)
				}
				return
			}
			if len(listing.LoRAs) != 0 || len(l.lines) == 0 || !strings.Contains(l.lines[0], c.says) {
				t.Errorf("%d listed, logged %q; want none listed and %q", len(listing.LoRAs), l.lines, c.says)
			}
			a.Refused(t, 404, "not_found", "there is no adapter a here")
			// Uploading it is the way out.
			if a := serve(s, "PUT", "/v1/loras/a", bytes.NewReader(file), "Authorization", authorization); a.Status/100 != 2 {
				t.Errorf("uploaded again: status %d: %s", a.Status, a.Body)
			}
			if a := serve(s, "GET", "/v1/loras/a", nil); a.Status != 200 || !bytes.Equal(a.Body, file) {
				t.Errorf("after that: status %d with %d bytes", a.Status, len(a.Body))
			}
		})
	}

	b, l := newBucket(), &log{}
	s := edge.New(edge.Options{LoRAs: b, Log: l.add})
	b.files["loras/a.safetensors"] = stored{append(bytes.Clone(file), 0), good(), time.Now()}
	serve(s, "GET", "/v1/loras/a", nil).Refused(t, 500, "fault", "is not the file that was uploaded; upload it again")
	if _, _, err := s.Adapter(context.Background(), "loras/a.safetensors"); err == nil {
		t.Error("a run gets a file that was changed in the bucket")
	}
}

// Keys that only begin like an adapter's are not it.
func TestNeighboursInTheBucket(t *testing.T) {
	b := newBucket()
	s := edge.New(edge.Options{Secret: edgetest.Secret, LoRAs: b})
	b.files["loras/a.safetensors.bak"] = stored{data: upload(t)}
	serve(s, "DELETE", "/v1/loras/a", nil, "Authorization", authorization).Refused(t, 404, "not_found", "there is no adapter a")
	a := serve(s, "PUT", "/v1/loras/a", bytes.NewReader(upload(t)), "Authorization", authorization, "If-None-Match", "*")
	if a.Status != http.StatusCreated {
		t.Errorf("status %d: %s, want 201", a.Status, a.Body)
	}
}

// plain is no more than an http.ResponseWriter, as the worker's is.
type plain struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (p *plain) Header() http.Header         { return p.header }
func (p *plain) WriteHeader(status int)      { p.status = status }
func (p *plain) Write(b []byte) (int, error) { return p.body.Write(b) }

func TestDownloadToAPlainWriter(t *testing.T) {
	s := edge.New(edge.Options{Secret: edgetest.Secret, LoRAs: newBucket()})
	file := upload(t)
	serve(s, "PUT", "/v1/loras/a", bytes.NewReader(file), "Authorization", authorization)
	for span, want := range map[string][]byte{"": file, "bytes=3-9": file[3:10]} {
		p := &plain{header: http.Header{}}
		r := httptest.NewRequest("GET", "/v1/loras/a", nil)
		r.Header.Set("Range", span)
		s.ServeHTTP(p, r)
		if !bytes.Equal(p.body.Bytes(), want) || p.header.Get("Content-Length") != fmt.Sprint(len(want)) {
			t.Errorf("Range %q: status %d with %d bytes of %s, want %d", span, p.status, p.body.Len(), p.header.Get("Content-Length"), len(want))
		}
	}
}

// A recipe names an adapter of the registry by the path it would have beside it.
func TestAdapterOfARecipe(t *testing.T) {
	ctx := context.Background()
	s := edge.New(edge.Options{Secret: edgetest.Secret, LoRAs: newBucket()})
	file := upload(t)
	serve(s, "PUT", "/v1/loras/hand-drawn", bytes.NewReader(file), "Authorization", authorization)
	sum := sha256.Sum256(file)
	for _, path := range []string{"loras/hand-drawn.safetensors", "./loras//hand-drawn.safetensors"} {
		if data, got, err := s.Adapter(ctx, path); err != nil || !bytes.Equal(data, file) || got != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: %d bytes, %s, %v", path, len(data), got, err)
		}
	}
	for _, path := range []string{
		"", "hand-drawn", "hand-drawn.safetensors", "loras/hand-drawn", "/loras/hand-drawn.safetensors", "loras/../hand-drawn.safetensors", "../loras/hand-drawn.safetensors",
		"loras/a/hand-drawn.safetensors", "loras/Hand.safetensors", "loras/.safetensors", "https://elsewhere.example/loras/hand-drawn.safetensors", "loras/missing.safetensors",
	} {
		_, _, err := s.Adapter(ctx, path)
		var p recipes.Problem
		if !errors.As(err, &p) || p.Field != "lora.path" || !strings.Contains(err.Error(), "loras/NAME.safetensors with a NAME of this registry") || !strings.Contains(err.Error(), "GET /v1/loras") {
			t.Errorf("%q: %v, want a problem with lora.path that tells how adapters are named", path, err)
		}
	}
	_, _, err := edge.New(edge.Options{}).Adapter(ctx, "loras/hand-drawn.safetensors")
	if err == nil || !strings.Contains(err.Error(), "this deployment keeps no adapters") {
		t.Errorf("without a bucket: %v", err)
	}
	b := newBucket()
	b.fault = func(string) error { return errors.New("the disk is on fire") }
	_, _, err = edge.New(edge.Options{LoRAs: b}).Adapter(ctx, "loras/hand-drawn.safetensors")
	if p := (recipes.Problem{}); err == nil || errors.As(err, &p) {
		t.Errorf("a fault of the bucket is told as the recipe's: %v", err)
	}
}

// FuzzUpload: whatever is uploaded, it is refused as no adapter, or stored as it
// is and listed as what it is.
func FuzzUpload(f *testing.F) {
	f.Add(upload(f))
	f.Add(edgetest.PEFT(f, edgetest.Adapter(f, "fashion-28", 1, 0.5, "conv_in", "conv_out")))
	for _, bad := range edgetest.BadLoRAs(f) {
		if len(bad.File) < 1<<16 {
			f.Add(bad.File)
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		s := edge.New(edge.Options{Secret: edgetest.Secret, LoRAs: newBucket()})
		a := serve(s, "PUT", "/v1/loras/fuzz", bytes.NewReader(file), "Authorization", authorization)
		var listing struct{ LoRAs []json.RawMessage }
		serve(s, "GET", "/v1/loras", nil).Decode(t, 200, &listing)
		if a.Status != http.StatusCreated {
			a.Refused(t, 422, "bad_lora", "fuzz.safetensors: ")
			if len(listing.LoRAs) != 0 {
				t.Errorf("what was refused is listed: %s", listing.LoRAs)
			}
			return
		}
		if len(listing.LoRAs) != 1 || string(listing.LoRAs[0]) != strings.TrimSpace(string(a.Body)) {
			t.Errorf("listed %s, answered %s", listing.LoRAs, a.Body)
		}
		if got := serve(s, "GET", "/v1/loras/fuzz", nil); !bytes.Equal(got.Body, file) {
			t.Errorf("%d bytes came back, %d were stored", len(got.Body), len(file))
		}
	})
}
