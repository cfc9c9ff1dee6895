package edge_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sdo-go/sdo/wasm/edge"
	"github.com/sdo-go/sdo/wasm/edge/edgetest"
)

const short = "version: 1\nname: short\nupdates: 0\n"

func TestLinks(t *testing.T) {
	server := httptest.NewServer(edge.New(edge.Options{Links: newLinks(time.Now)}))
	defer server.Close()
	edgetest.Links(t, server.URL)
}

func TestLinksSwitchedOff(t *testing.T) {
	s := edge.New(edge.Options{})
	for _, path := range []string{"POST /v1/recipes", "GET /v1/recipes/0123456789", "GET /r/0123456789"} {
		method, path, _ := strings.Cut(path, " ")
		serve(s, method, path, strings.NewReader(short)).Refused(t, 404, "no_links", "has no store for them; docs/edge.md tells how to add one")
	}
}

// link stores a recipe.
func link(t *testing.T, s http.Handler, text string) (id, url string) {
	t.Helper()
	var l struct{ ID, URL string }
	serve(s, "POST", "/v1/recipes", strings.NewReader(text)).Decode(t, http.StatusCreated, &l)
	return l.ID, l.URL
}

// The link's address is that of the request, as a worker or a server tells it.
func TestLinkAddress(t *testing.T) {
	s := edge.New(edge.Options{Links: newLinks(time.Now)})
	for want, r := range map[string]*http.Request{
		"https://edge.example/r/":       httptest.NewRequest("POST", "https://edge.example/v1/recipes", strings.NewReader(short)),
		"http://127.0.0.1:8787/r/":      httptest.NewRequest("POST", "http://127.0.0.1:8787/v1/recipes", strings.NewReader(short)),
		"http://plain.example/r/":       httptest.NewRequest("POST", "/v1/recipes", strings.NewReader(short)),
		"https://encrypted.example/r/":  httptest.NewRequest("POST", "/v1/recipes", strings.NewReader(short)),
		"http://forwarded.example:1/r/": httptest.NewRequest("POST", "/v1/recipes", strings.NewReader(short)),
	} {
		if host := strings.Split(want, "/")[2]; r.URL.IsAbs() {
			r.Host, r.TLS = "", nil // which a worker does not tell
		} else {
			r.Host = host
		}
		if strings.Contains(want, "encrypted") {
			r.TLS = &tls.ConnectionState{}
		}
		if strings.Contains(want, "forwarded") {
			r.Header.Set("X-Forwarded-Proto", "https")
			r.Header.Set("X-Forwarded-Host", "elsewhere.example")
		}
		var l struct{ ID, URL string }
		answer(s, r).Decode(t, http.StatusCreated, &l)
		if l.URL != want+l.ID {
			t.Errorf("%s, want %s%s", l.URL, want, l.ID)
		}
	}
}

// An id that another text has is no reason to overwrite it: the link grows.
func TestLinksThatCollide(t *testing.T) {
	kept := newLinks(time.Now)
	s := edge.New(edge.Options{Links: kept})
	id, _ := link(t, s, short)
	key := "recipes/" + id
	text := kept.texts[key]
	if text.text == "" || len(id) != 10 {
		t.Fatalf("%q holds %+v, want the recipe under ten characters", id, kept.texts)
	}
	other := text
	other.text = `{"another": "recipe"}`
	for length := 11; length <= 32; length++ {
		kept.texts[key] = other
		longer, url := link(t, s, short)
		if len(longer) != length || !strings.HasPrefix(longer, id) || !strings.HasSuffix(url, "/r/"+longer) {
			t.Errorf("id %s at %s, want %d characters from %s on", longer, url, length, id)
		}
		if again, _ := link(t, s, short); again != longer {
			t.Errorf("the same recipe again has the id %s, want %s", again, longer)
		}
		if a := serve(s, "GET", "/v1/recipes/"+longer, nil); a.Status != 200 || strings.TrimSpace(string(a.Body)) != text.text {
			t.Errorf("status %d: %s, want the recipe", a.Status, a.Body)
		}
		if kept.texts[key] != other {
			t.Errorf("the text that was there under %s is overwritten", key)
		}
		key = "recipes/" + longer
	}
	kept.texts[key] = other
	serve(s, "POST", "/v1/recipes", strings.NewReader(short)).Refused(t, 500, "fault", "the store is damaged")
	for _, path := range []string{"/v1/recipes/", "/r/"} {
		serve(s, "GET", path+id, nil).Refused(t, 500, "fault", "is not the recipe that was stored there")
	}
}

// A recipe that is there already is not written again, unless its time runs.
func TestLinkLife(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	for _, life := range []time.Duration{0, 24 * time.Hour} {
		kept := newLinks(clock)
		writes := 0
		kept.fault = func(method string) error {
			if method == "Put" {
				writes++
			}
			return nil
		}
		s := edge.New(edge.Options{Links: kept, LinkLife: life, Now: clock})
		id, _ := link(t, s, short)
		is := func(status int) {
			t.Helper()
			if a := serve(s, "GET", "/r/"+id, nil); a.Status != status {
				t.Errorf("life %v: status %d, want %d", life, a.Status, status)
			}
		}
		now = now.Add(23 * time.Hour)
		is(302)
		link(t, s, short)
		now = now.Add(23 * time.Hour)
		is(302)
		now = now.Add(2 * time.Hour)
		want := map[time.Duration]struct{ status, writes int }{0: {302, 1}, 24 * time.Hour: {404, 2}}[life]
		is(want.status)
		if writes != want.writes {
			t.Errorf("life %v: written %d times, want %d", life, writes, want.writes)
		}
	}
}

func TestLinkFaults(t *testing.T) {
	for _, c := range []struct{ method, path, fault, says string }{
		{"POST", "/v1/recipes", "Get", "looking for the recipe "},
		{"POST", "/v1/recipes", "Put", "storing the recipe "},
		{"GET", "/v1/recipes/0123456789", "Get", "reading the recipe 0123456789: the disk is on fire"},
		{"GET", "/r/0123456789", "Get", "reading the recipe 0123456789: the disk is on fire"},
	} {
		kept, l := newLinks(time.Now), &log{}
		kept.fault = func(method string) error {
			if method == c.fault {
				return errors.New("the disk is on fire")
			}
			return nil
		}
		s := edge.New(edge.Options{Links: kept, Log: l.add})
		serve(s, c.method, c.path, strings.NewReader(short)).Refused(t, 500, "fault", c.says)
		if len(l.lines) != 1 || !strings.Contains(l.lines[0], "the disk is on fire") {
			t.Errorf("logged %q", l.lines)
		}
	}
}

// What cannot be an id is not looked for: a store may refuse such keys.
func TestMalformedLinks(t *testing.T) {
	kept := newLinks(time.Now)
	s := edge.New(edge.Options{Links: kept})
	kept.fault = func(string) error { return errors.New("the store was asked") }
	for _, id := range []string{"012345678", strings.Repeat("0", 33), strings.Repeat("0", 600), "01234567il", "0123456789%00", "%2e%2e%2f%2e%2e%2f0123456789"} {
		serve(s, "GET", "/v1/recipes/"+id, nil).Refused(t, 404, "not_found", "there is no recipe under")
		serve(s, "GET", "/r/"+id, nil).Refused(t, 404, "not_found", "there is no recipe under")
	}
}

// What is kept is one line of JSON, with nothing in it that JSON does not need
// escaped.
func TestKeptText(t *testing.T) {
	kept := newLinks(time.Now)
	s := edge.New(edge.Options{Links: kept})
	id, _ := link(t, s, "version: 1\nname: '<b>&'\nupdates: 0\n")
	text := kept.texts["recipes/"+id].text
	if !json.Valid([]byte(text)) || strings.Contains(text, "\n") || !strings.Contains(text, `"name":"<b>&"`) || !strings.Contains(text, `"objective":[]`) {
		t.Errorf("kept %s", text)
	}
}
