// Package edgetest tests the edge worker's interface by its address alone, so
// that a server of package edge and the worker that carries it pass the same
// tests.
package edgetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Secret is the one a server under test must have.
const Secret = "edge-test-secret"

// authorization is the header that goes with it.
const authorization = "Bearer " + Secret

// Client sends requests to a server under test.
type Client struct {
	url  string
	http *http.Client
}

// NewClient makes a client of the server at an address. It follows no redirects
// and takes answers as they are sent.
func NewClient(t *testing.T, url string) *Client {
	transport := &http.Transport{DisableCompression: true, ExpectContinueTimeout: time.Minute}
	t.Cleanup(transport.CloseIdleConnections)
	return &Client{strings.TrimSuffix(url, "/"), &http.Client{
		Timeout:       5 * time.Minute, // or a server that hangs hangs its tests
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Answer is a response with its body.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends a request; more are header names and values in turn. One that expects
// "100-continue" only announces its body, for a server that refuses by the length
// alone: what is sent of it may break the connection, and the answer with it.
func (c *Client) Do(t *testing.T, method, path string, body []byte, more ...string) Answer {
	t.Helper()
	r, err := http.NewRequest(method, c.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(more); i += 2 {
		r.Header.Add(more[i], more[i+1])
	}
	if r.Header.Get("Expect") != "" {
		announced, end := io.Pipe()
		defer end.Close()
		r.Body = announced
	}
	response, err := c.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: reading the answer: %v", method, path, err)
	}
	return Answer{response.StatusCode, response.Header, data}
}

// Decode reads the JSON of an answer with this status.
func (a Answer) Decode(t *testing.T, status int, into any) {
	t.Helper()
	if a.Status != status {
		t.Fatalf("status %d, want %d: %s", a.Status, status, a.Body)
	}
	if got := a.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q, want application/json", got)
	}
	d := json.NewDecoder(bytes.NewReader(a.Body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%v in %s", err, a.Body)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("more than one value in %s", a.Body)
	}
}

// Refused wants an answer to be a refusal in one sentence with this in it, and
// returns the sentence.
func (a Answer) Refused(t *testing.T, status int, code, gist string) (message string) {
	t.Helper()
	var body struct {
		Error struct {
			Code     string          `json:"code"`
			Message  string          `json:"message"`
			Problems json.RawMessage `json:"problems"`
			Estimate json.RawMessage `json:"estimate"`
			Budget   json.RawMessage `json:"budget"`
		} `json:"error"`
	}
	a.Decode(t, status, &body)
	if e := body.Error; e.Code != code || !strings.Contains(e.Message, gist) {
		t.Errorf("%s: %q, want %s with %q", e.Code, e.Message, code, gist)
	} else if strings.Contains(e.Message, "\n") && e.Problems == nil {
		t.Errorf("%q is not one sentence", e.Message)
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "Content-Disposition": ""} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("a refusal with %s %q, want %q", name, got, want)
		}
	}
	return body.Error.Message
}

// Refusal is a request and how it is refused.
type Refusal struct {
	Name         string
	Method, Path string
	Body         []byte
	Header       []string // names and values in turn
	Status       int
	Code, Gist   string
}

// Refuses sends requests that are refused.
func (c *Client) Refuses(t *testing.T, refusals []Refusal) {
	for _, r := range refusals {
		t.Run(r.Name, func(t *testing.T) {
			c.Do(t, r.Method, r.Path, r.Body, r.Header...).Refused(t, r.Status, r.Code, r.Gist)
		})
	}
}
