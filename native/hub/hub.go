// Package hub downloads models from a server that speaks the interface of the
// Hugging Face hub: a listing of a model's files with their sizes and
// checksums, and the files by their paths, with redirects and ranges.
//
// Nothing a server says is believed. A file is kept under its name only once
// its checksum is the one the listing gave; names stay inside the folder;
// answers have limits; and the token goes to the server it was meant for and
// to no other.
package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Endpoint is the address where models are looked for unless told otherwise.
const Endpoint = "https://huggingface.co"

// Limits of patience. A download that gains ground may fail any number of
// times, since every failure costs it nothing but the pause.
const (
	maxRedirects = 10
	maxFailures  = 6       // in a row without ground gained
	ground       = 1 << 16 // bytes that count as ground
	longestPause = 30 * time.Second
	longestWait  = 5 * time.Minute // that a server may ask for by Retry-After
)

// Client asks one hub.
type Client struct {
	Note func(string) // told of what delays a download; nil for nobody

	endpoint *url.URL
	token    string
	http     *http.Client
	stall    time.Duration // without a byte, until a connection is given up
	pause    func(context.Context, time.Duration) error
	space    func(dir string) (free int64, known bool)
}

// New makes a client of the hub at an address. The token goes to that address
// only, and not over plain HTTP unless the hub is on this machine.
func New(endpoint, token string) (*Client, error) {
	u, err := url.Parse(strings.TrimRight(endpoint, "/"))
	switch {
	case err != nil:
		return nil, fmt.Errorf("address %q of the hub: %w", endpoint, errors.Unwrap(err))
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return nil, fmt.Errorf("address %q of the hub: expected https://host or http://host", endpoint)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("address %q of the hub: expected no user, query or fragment; a token is taken from HF_TOKEN", u.Redacted())
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("HF_TOKEN holds spaces or other characters that no token has; set it again")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true // lengths and ranges are those of the file itself
	transport.ResponseHeaderTimeout = time.Minute
	transport.MaxResponseHeaderBytes = 1 << 18
	return &Client{
		endpoint: u,
		token:    token,
		stall:    time.Minute,
		pause:    wait,
		space:    freeSpace,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // followed by ask, which knows whom the token is for
		}},
	}, nil
}

// Address is the hub's.
func (c *Client) Address() string { return c.endpoint.String() }

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Refusal is an answer of the server that asking again does not change: the
// model is not there, or not for this user.
type Refusal struct{ error }

// statusError is an answer other than the one hoped for.
type statusError struct {
	status  int
	message string        // of the server, made plain
	wait    time.Duration // it asks for
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("the server answers %d %s", e.status, http.StatusText(e.status))
	if e.message != "" {
		text += " (" + e.message + ")"
	}
	return text
}

// mistrust is an answer that contradicts what the server said before, or that
// no hub gives. Asking again would only repeat it.
type mistrust struct{ string }

func (e mistrust) Error() string { return e.string }

func distrust(format string, args ...any) error { return mistrust{fmt.Sprintf(format, args...)} }

// lasting tells whether asking again is of no use.
func lasting(err error) bool {
	var status *statusError
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var doubt mistrust
	switch {
	case errors.Is(err, context.Canceled), errors.As(err, &doubt), errors.As(err, &certificate):
		return true
	case errors.As(err, &status):
		return status.status < 500 && status.status != http.StatusRequestTimeout && status.status != http.StatusTooManyRequests || status.status == http.StatusNotImplemented
	case errors.As(err, &dns):
		return dns.IsNotFound
	}
	return false
}

// persist repeats an attempt with growing pauses until it succeeds, fails for
// good, or has failed too often in a row without gaining ground.
func (c *Client) persist(ctx context.Context, what string, attempt func() (gained bool, err error)) error {
	for failures := 0; ; {
		gained, err := attempt()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case lasting(err):
			return err
		case gained:
			failures = 0
		}
		if failures++; failures == maxFailures {
			return fmt.Errorf("%w; given up after %d attempts", err, maxFailures)
		}
		pause := min(longestPause, time.Second<<(failures-1)/2)
		pause += time.Duration(rand.Int64N(int64(pause)/2 + 1)) // so that many clients do not come back together
		if status := (*statusError)(nil); errors.As(err, &status) && status.wait > 0 {
			if pause = status.wait; pause > longestWait {
				return fmt.Errorf("%w; it asks to come back in %s", err, pause.Round(time.Second))
			}
		}
		if c.Note != nil {
			c.Note(fmt.Sprintf("%s: %v; again in %s", what, err, pause.Round(100*time.Millisecond)))
		}
		if err := c.pause(ctx, pause); err != nil {
			return err
		}
	}
}

// answer is a response and what the hub itself said of the file before it
// redirected to where the bytes are.
type answer struct {
	*http.Response
	linked http.Header
}

// ask makes one request of the hub and follows its redirects. The caller closes
// the body. An answer other than 200 or 206 is an error, but for a redirect that
// says all that HEAD asks for.
func (c *Client) ask(ctx context.Context, method, path string, header http.Header) (*answer, error) {
	at, err := c.endpoint.Parse(strings.TrimRight(c.endpoint.EscapedPath(), "/") + path)
	if err != nil {
		return nil, err
	}
	result := &answer{}
	home := true // not yet sent elsewhere
	for range maxRedirects {
		request, err := http.NewRequestWithContext(ctx, method, at.String(), nil)
		if err != nil {
			return nil, err
		}
		request.Header = header.Clone()
		if request.Header == nil {
			request.Header = http.Header{}
		}
		request.Header.Set("User-Agent", "sdo")
		home = home && at.Scheme == c.endpoint.Scheme && at.Host == c.endpoint.Host
		if home && c.token != "" && c.mayTell() {
			request.Header.Set("Authorization", "Bearer "+c.token)
		}
		response, err := c.http.Do(request)
		if err != nil {
			return nil, plainError(err, at)
		}
		if result.linked == nil {
			result.linked = response.Header
		}
		result.Response = response
		switch response.StatusCode {
		case http.StatusOK, http.StatusPartialContent:
			if coding := response.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
				response.Body.Close()
				return nil, distrust("the server packs its answer as %s, unasked", plain(coding))
			}
			return result, nil
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			response.Body.Close()
			if method == http.MethodHead && response.Header.Get("X-Linked-Etag") != "" && response.Header.Get("X-Linked-Size") != "" {
				return result, nil // all that was asked for; storage may sign its addresses for GET only
			}
			next, err := response.Location()
			switch {
			case err != nil:
				return nil, distrust("the server redirects to nowhere")
			case next.Scheme != "https" && next.Scheme != "http", next.Scheme == "http" && at.Scheme == "https":
				return nil, distrust("the server redirects to %s://, which is not followed", plain(next.Scheme))
			}
			at = next
		default:
			message := plain(response.Header.Get("X-Error-Message"))
			response.Body.Close()
			return nil, &statusError{response.StatusCode, message, retryAfter(response.Header.Get("Retry-After"))}
		}
	}
	return nil, distrust("the server redirects %d times and more", maxRedirects)
}

// mayTell tells whether the token may travel: encrypted, or not at all far.
func (c *Client) mayTell() bool {
	host := c.endpoint.Hostname()
	address := net.ParseIP(host)
	return c.endpoint.Scheme == "https" || host == "localhost" || address != nil && address.IsLoopback()
}

// plainError is a failure to reach an address, without the query that may hold
// a signature.
func plainError(err error, at *url.URL) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return fmt.Errorf("%s://%s: %w", at.Scheme, at.Host, err)
}

// plain makes a server's words fit for a terminal: one line, printable, short.
func plain(s string) string {
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)), " ")
	if runes := []rune(s); len(runes) > 200 {
		s = string(runes[:200]) + "…"
	}
	return strings.TrimRight(s, ".")
}

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(s string) time.Duration {
	if seconds, err := strconv.ParseInt(s, 10, 32); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(date))
	}
	return 0
}

// patient is a body that ends in an error when nothing comes for too long.
type patient struct {
	io.Reader
	timer *time.Timer
	stall time.Duration
	over  error
}

// patiently reads a body whose request is cancelled through cancel once it has
// stalled.
func (c *Client) patiently(body io.Reader, cancel context.CancelCauseFunc) *patient {
	over := fmt.Errorf("nothing came for %s", c.stall)
	return &patient{body, time.AfterFunc(c.stall, func() { cancel(over) }), c.stall, over}
}

func (p *patient) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	// A timer that had run out has cancelled the request already.
	if err != nil && err != io.EOF && !p.timer.Stop() {
		return n, p.over
	}
	if err == nil {
		p.timer.Reset(p.stall)
	}
	return n, err
}
