//go:build !js

package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sdo-go/sdo/wasm/edge/edgetest"
)

// long is a run that nobody waits for the end of.
var long, _ = json.Marshal(edgetest.Small("dark-glasses", map[string]any{"updates": 500}))

// begin posts a run and reads its events until there is one of a kind. Closing
// the answer is to go.
func (w *worker) begin(t *testing.T, body []byte, until string) io.ReadCloser {
	t.Helper()
	answer, err := http.Post(w.url+"/v1/steer", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if lines.Text() == "event: "+until {
			return answer.Body
		}
	}
	t.Fatalf("status %d, and no %s came: %v", answer.StatusCode, until, lines.Err())
	return nil
}

// dial opens a connection and sends the beginning of a request.
func (w *worker) dial(t *testing.T, head ...string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, strings.Join(head, "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return c
}

// endless makes an isolate continue runs of any length, so that nothing but its
// caller ends one.
var endless = map[string]any{"CPU_SECONDS": 1e6}

const soon = 3 * time.Second

// A caller who goes takes the run along, and leaves nothing behind.
func TestACallerGoes(t *testing.T) {
	w := start(t, options{vars: endless})
	part := bytes.Repeat([]byte(" "), 1<<20) // of a body that is allowed
	for name, visit := range map[string]func(t *testing.T){
		"while it runs": func(t *testing.T) {
			answer := w.begin(t, long, "update")
			if h := w.health(t); h.Live != 1 || h.Memory.Held == 0 {
				t.Fatalf("while a run goes on, there are %d, which hold %d bytes", h.Live, h.Memory.Held)
			}
			answer.Close()
			w.idle(t, soon)
		},
		"before it begins": func(t *testing.T) {
			c := w.dial(t, "POST /v1/steer HTTP/1.1", "Host: sdo", "Content-Type: application/json", fmt.Sprintf("Content-Length: %d", 2*len(part)))
			if _, err := c.Write(part); err != nil {
				t.Fatal(err)
			}
			c.Close()
			w.idle(t, soon)
		},
	} {
		t.Run(name, func(t *testing.T) {
			visit(t)
			before := w.inUse(t)
			for range 20 {
				visit(t)
			}
			after := w.inUse(t)
			t.Logf("Go uses %d bytes before and %d after", before, after)
			if after-before > 4<<20 {
				t.Errorf("20 callers who went left %d bytes behind", after-before)
			}
		})
	}
}

// inUse is what Go's memory holds right after garbage was collected: the least
// that is seen while runs make some.
func (w *worker) inUse(t *testing.T) int64 {
	t.Helper()
	c := edgetest.NewClient(t, w.url)
	least := int64(1 << 40)
	for range 8 {
		c.Stream(t, "/v1/sample", edgetest.Small("dark-glasses", map[string]any{"sampler.num_inference_steps": 1}))
		least = min(least, w.health(t).Memory.Heap)
	}
	return least
}

// patience is short enough to be waited for.
var patience = map[string]any{"PATIENCE_SECONDS": 2, "CPU_SECONDS": 1e6}

// unread is a worker that has the body of an answer unread for some seconds, and
// then reads it. On the way through a socket an answer as small as those here
// would be taken by buffers.
const unread = `
import worker from %q
export default {
  async fetch(request, env, context) {
    const seconds = request.headers.get('Unread')
    const answer = await worker.fetch(request, env, context)
    if (!seconds) return answer
    await scheduler.wait(1000 * seconds)
    const health = await (await worker.fetch(new Request(new URL('/v1/health', request.url)), env, context)).json()
    const text = await answer.text().catch((error) => 'broken: ' + error.message)
    return Response.json({ live: health.live, text })
  },
}
`

func TestACallerIsSlow(t *testing.T) {
	script := filepath.Join(t.TempDir(), "unread.mjs")
	beside, err := filepath.Abs("worker.mjs")
	if err == nil {
		err = os.WriteFile(script, fmt.Appendf(nil, unread, beside), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, options{vars: patience, main: script})

	t.Run("to read", func(t *testing.T) {
		var told struct {
			Live int
			Text string
		}
		c := edgetest.NewClient(t, w.url)
		short, _ := json.Marshal(edgetest.Small("dark-glasses", nil))
		c.Do(t, http.MethodPost, "/v1/steer", short, "Unread", "1").Decode(t, http.StatusOK, &told)
		if told.Live != 1 || !strings.Contains(told.Text, "event: result") {
			t.Errorf("within a caller's time: %d runs, and then to read %.2000q", told.Live, told.Text)
		}
		w.idle(t, soon)
		longer, _ := json.Marshal(edgetest.Small("dark-glasses", map[string]any{"updates": 30}))
		c.Do(t, http.MethodPost, "/v1/steer", longer, "Unread", "5").Decode(t, http.StatusOK, &told)
		if told.Live != 0 || !strings.HasPrefix(told.Text, "broken: ") {
			t.Errorf("after more than a caller's time: %d runs, and then to read %.2000q", told.Live, told.Text)
		}
	})
	t.Run("to send", func(t *testing.T) {
		c := w.dial(t, "POST /v1/steer HTTP/1.1", "Host: sdo", "Content-Type: application/json", "Content-Length: 1000")
		began := time.Now()
		if _, err := io.WriteString(c, `{"recipe": `); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(began.Add(15 * time.Second))
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if answer.StatusCode != http.StatusRequestTimeout || !strings.Contains(string(text), "without a pause of 2s") {
			t.Errorf("status %d: %s (%v)", answer.StatusCode, text, err)
		}
		if waited := time.Since(began); waited < 2*time.Second {
			t.Errorf("dropped after %v already", waited)
		}
		w.idle(t, soon)
	})
	t.Run("but sends", func(t *testing.T) {
		body, _ := json.Marshal(edgetest.Small("dark-glasses", map[string]any{"updates": 1}))
		c := w.dial(t, "POST /v1/steer HTTP/1.1", "Host: sdo", "Accept: application/json", fmt.Sprintf("Content-Length: %d", len(body)))
		for at := 0; at < len(body); at += len(body)/4 + 1 {
			if _, err := c.Write(body[at:min(len(body), at+len(body)/4+1)]); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // all of them together take longer than patience
		}
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("status %d", answer.StatusCode)
		}
	})
}

// A caller who leaves an answer to lie holds neither the program nor its memory.
func TestACallerNeverReads(t *testing.T) {
	w := common(t)
	body, _ := json.Marshal(edgetest.Small("dark-glasses", nil))
	c := w.dial(t, "POST /v1/steer HTTP/1.1", "Host: sdo", fmt.Sprintf("Content-Length: %d", len(body)), "", string(body))
	defer c.Close()
	for w.health(t).Live == 0 {
		time.Sleep(20 * time.Millisecond)
	}
	w.idle(t, time.Minute)
}

// A body too large is refused before it has come: by what it says of its length
// or, where it says nothing, by what has come of it.
func TestLargeBodies(t *testing.T) {
	w := common(t)
	for path, most := range map[string]int{
		"POST /v1/steer": 2<<20 + 256<<10, "POST /v1/sample": 256 << 10, "PUT /v1/loras/large": 8 << 20, "POST /v1/recipes": 64 << 10,
	} {
		for header, sent := range map[string]string{
			"Content-Length: 1000000000": "{",
			"Transfer-Encoding: chunked": fmt.Sprintf("%x\r\n%s\r\n", most+1, strings.Repeat(" ", most+1)), // and more to come
		} {
			t.Run(path+", "+header, func(t *testing.T) {
				c := w.dial(t, path+" HTTP/1.1", "Host: sdo", "Authorization: Bearer "+edgetest.Secret, header)
				if _, err := io.WriteString(c, sent); err != nil {
					t.Fatal(err)
				}
				c.SetReadDeadline(time.Now().Add(20 * time.Second)) // less than patience
				answer, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(answer.Body)
				if answer.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(string(text), fmt.Sprintf("%d bytes", most)) {
					t.Errorf("status %d: %s (%v)", answer.StatusCode, text, err)
				}
			})
		}
	}
	w.idle(t, soon)
}

// Bodies take the room there is, as runs do, and no more.
func TestManySendAtOnce(t *testing.T) {
	w := common(t)
	const callers = 40
	body := bytes.Repeat([]byte(" "), 2<<20)
	type answer struct {
		status int
		err    error
	}
	ask := func(c net.Conn, within time.Duration) (a answer) {
		c.SetReadDeadline(time.Now().Add(within))
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return answer{0, err}
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if response.StatusCode != http.StatusBadRequest && !strings.Contains(string(text), `"busy"`) {
			err = fmt.Errorf("status %d: %s", response.StatusCode, text)
		}
		return answer{response.StatusCode, err}
	}
	var answers [callers]answer
	var inside [callers]bool
	var sent, all sync.WaitGroup
	full := make(chan struct{})
	for i := range callers {
		c := w.dial(t, "POST /v1/steer HTTP/1.1", "Host: sdo", fmt.Sprintf("Content-Length: %d", len(body)))
		sent.Add(1)
		all.Go(func() {
			// Who is refused for want of room is refused now.
			answers[i] = ask(c, 2*time.Second)
			if inside[i] = errors.Is(answers[i].err, os.ErrDeadlineExceeded); inside[i] {
				c.SetWriteDeadline(time.Now().Add(2 * time.Second)) // who waits for room is not read
				n, _ := c.Write(body[1:])
				sent.Done()
				<-full
				c.SetWriteDeadline(time.Time{})
				c.Write(body[n:])
				answers[i] = ask(c, time.Minute)
			} else {
				sent.Done()
			}
		})
	}
	sent.Wait()
	if h := w.health(t); h.Memory.Held < int64(len(body)) {
		t.Errorf("bodies of %d bytes each hold %d", len(body), h.Memory.Held)
	}
	close(full)
	all.Wait()
	for i, a := range answers {
		if a.err != nil {
			t.Errorf("caller %d, inside %v: %v", i, inside[i], a.err)
		}
	}
	if !slices.Contains(inside[:], true) || !slices.Contains(inside[:], false) {
		t.Errorf("of %d callers, inside were %v", callers, inside)
	}
	w.idle(t, soon)
}
