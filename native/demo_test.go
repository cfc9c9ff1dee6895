package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/demo"
)

// page is a folder with a page in it, as far as serving one goes.
func page(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("<!doctype html>steer"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// serving runs sdo demo and returns the first line it prints; end is Ctrl-C and
// returns how the command ended and the lines after the first.
func serving(t *testing.T, args ...string) (line string, end func() (code int, rest, stderr string)) {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	out, in := io.Pipe()
	var stderr bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		code := run(ctx, append([]string{"demo"}, args...), in, &stderr)
		in.Close()
		ended <- code
	}()
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	if err != nil {
		interrupt()
		t.Fatalf("nothing printed: %v, exit code %d, standard error %q", err, <-ended, &stderr)
	}
	rest := make(chan string, 1)
	go func() {
		data, _ := io.ReadAll(lines)
		rest <- string(data)
	}()
	return line, func() (int, string, string) {
		interrupt()
		return <-ended, <-rest, stderr.String()
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestDemoServesUntilInterrupted(t *testing.T) {
	line, end := serving(t, "--addr", "127.0.0.1:0", "--dir", page(t))
	url, _, ok := strings.Cut(line, " steers in your browser")
	if !ok || !strings.HasPrefix(url, "http://127.0.0.1:") {
		t.Fatalf("printed %q", line)
	}
	if got := fetch(t, url); got != "<!doctype html>steer" {
		t.Errorf("%s serves %q", url, got)
	}
	if code, rest, stderr := end(); code != exitOK || rest != "" || stderr != "" {
		t.Errorf("exit code %d, more output %q, standard error %q", code, rest, stderr)
	}
	if _, err := http.Get(url); err == nil {
		t.Errorf("%s still serves", url)
	}
}

func TestDemoServesThePageInTheBinary(t *testing.T) {
	if !demo.Built(demo.Site()) {
		code, stdout, stderr := invoke(t, "demo", "--addr", "127.0.0.1:0")
		if code != exitFailure || stdout != "" || stderr != "sdo: this binary was built without the page; make demo builds one with it and serves it, or name a built page with --dir\n" {
			t.Errorf("exit code %d, standard output %q, standard error %q", code, stdout, stderr)
		}
		return
	}
	line, end := serving(t, "--addr", "127.0.0.1:0")
	url, _, _ := strings.Cut(line, " ")
	if got := fetch(t, url+"wasm_exec.js"); !strings.Contains(got, "Go Authors") {
		t.Errorf("%swasm_exec.js is %.80q", url, got)
	}
	if code, _, stderr := end(); code != exitOK {
		t.Errorf("exit code %d, standard error %q", code, stderr)
	}
}

func TestDemoTellsProgramsWhereItIs(t *testing.T) {
	line, end := serving(t, "--addr", "127.0.0.1:0", "--dir", page(t), "--json")
	_, rest, _ := end()
	var s served
	if err := json.Unmarshal([]byte(line+rest), &s); err != nil || !strings.HasPrefix(s.URL, "http://127.0.0.1:") || !s.Secure {
		t.Errorf("%+v, %v", s, err)
	}
}

// Who serves to others is told what they will miss.
func TestDemoWarnsWhereThereIsNoWebGPU(t *testing.T) {
	for _, c := range []struct {
		addr   string
		url    string
		secure bool
	}{
		{"127.0.0.1:0", "http://127.0.0.1:", true},
		{"localhost:0", "http://127.0.0.1:", true},
		{"0.0.0.0:0", "http://localhost:", false},
		{":0", "http://localhost:", false},
	} {
		line, end := serving(t, "--addr", c.addr, "--dir", page(t))
		code, _, stderr := end()
		if warned := strings.Contains(stderr, "browsers offer WebGPU only to https"); warned == c.secure || code != exitOK || !strings.HasPrefix(line, c.url) {
			t.Errorf("%s: exit code %d, printed %q, standard error %q", c.addr, code, line, stderr)
		}
	}
	for _, c := range []struct {
		addr string
		want served
	}{
		{"127.0.0.1:80", served{"http://127.0.0.1:80/", true}},
		{"[::1]:80", served{"http://[::1]:80/", true}},
		{"0.0.0.0:80", served{"http://localhost:80/", false}},
		{"[::]:80", served{"http://localhost:80/", false}},
		{"192.0.2.7:80", served{"http://192.0.2.7:80/", false}},
	} {
		addr, err := net.ResolveTCPAddr("tcp", c.addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := address(addr); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.addr, got, c.want)
		}
	}
}

func TestDemoRefusesWhatItCannotServe(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--addr", taken.Addr().String(), "--dir", page(t)}, exitFailure, "another program serves on " + taken.Addr().String() + " already"},
		{[]string{"--addr", "8321", "--dir", page(t)}, exitUsage, "--addr 8321: want a host and a port, such as 127.0.0.1:8321"},
		{[]string{"--addr", "127.0.0.1:99999", "--dir", page(t)}, exitUsage, "--addr 127.0.0.1:99999: "},
		{[]string{"--dir", "/no/such/folder"}, exitUsage, "--dir: "},
		{[]string{"--dir", t.TempDir()}, exitUsage, "there is no index.html in it; make site builds the page"},
		{[]string{"twice"}, exitUsage, "unknown command"},
	} {
		code, stdout, stderr := invoke(t, append([]string{"demo"}, c.args...)...)
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: exit code %d, standard output %q, standard error %q; want %d and %q", c.args, code, stdout, stderr, c.code, c.want)
		}
	}
}
