//go:build !js

// Package main_test drives the worker on the real runtime: `wrangler dev`, which
// bundles what it would upload and runs workerd. `make worker` builds what that
// takes. SDO_REQUIRE_WORKER=1 makes a missing part a failure.
package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sdo-go/sdo/wasm/edge/edgetest"
)

// options say how a worker differs from what wrangler.jsonc makes of it. None
// counts callers' requests unless rate says so: tests send many.
type options struct {
	vars map[string]any // in place of its variables
	rate int            // requests a minute that an address may make
	main string         // a script in place of worker.mjs, which it may import
}

// isolate is what Go's memory may grow to, in bytes: what an isolate may take at
// Cloudflare, where scripts and weights need some of it too.
const isolate = 112 << 20

// memoryBudget is what Go's memory may grow to in these tests. main.go asks for
// less, softly.
const memoryBudget = 80 << 20

// worker is one that runs.
type worker struct {
	url   string
	group int // of processes
	log   string
	end   func()
}

var shared struct {
	once sync.Once
	*worker
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.worker != nil {
		shared.end()
	}
	os.Exit(code)
}

// common is a worker with the standard options that most tests share. Whatever
// they did, its memory stays small.
func common(t *testing.T) *worker {
	t.Helper()
	require(t)
	shared.once.Do(func() {
		folder, err := os.MkdirTemp("", "sdo-worker-")
		if err != nil {
			t.Fatal(err)
		}
		w := launch(t, folder, options{})
		end := w.end
		w.end = func() { end(); os.RemoveAll(folder) }
		shared.worker = w
	})
	if shared.worker == nil {
		t.Fatal("the worker that tests share did not start; the first test that wanted it says why")
	}
	shared.tellOf(t)
	t.Cleanup(func() {
		if got := shared.health(t).Memory.System; got > memoryBudget {
			t.Errorf("Go has taken %d bytes of memory, want at most %d", got, memoryBudget)
		}
	})
	return shared.worker
}

// start runs a worker for one test.
func start(t *testing.T, o options) *worker {
	t.Helper()
	require(t)
	w := launch(t, t.TempDir(), o)
	t.Cleanup(w.end)
	w.tellOf(t)
	return w
}

// require skips a test where a worker cannot run.
func require(t *testing.T) {
	t.Helper()
	for _, name := range []string{"build/edge.wasm", "build/wasm_exec.js", wrangler, "../../demo/dist/manifest.json"} {
		if _, err := os.Stat(name); err != nil {
			lacking(t, name+" is missing; run make worker")
		}
	}
	text, err := node("--version").Output()
	if version := regexp.MustCompile(`^v(\d+)\.`).FindSubmatch(text); version == nil {
		lacking(t, fmt.Sprintf("there is no Node (%v); run tools/setup.sh worker", err))
	} else if major, _ := strconv.Atoi(string(version[1])); major < 22 {
		lacking(t, fmt.Sprintf("Node is %s, and wrangler needs 22.12; run tools/setup.sh worker", bytes.TrimSpace(text)))
	}
}

func lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("SDO_REQUIRE_WORKER") == "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}

const wrangler = "node_modules/wrangler/bin/wrangler.js"

// node is a command with the Node that setup may have put into bin/node.
func node(args ...string) *exec.Cmd {
	name, err := filepath.Abs("../../bin/node/node_modules/.bin/node")
	if err == nil {
		_, err = os.Stat(name)
	}
	if err != nil {
		name = "node"
	}
	return exec.Command(name, args...)
}

// guardian runs its arguments as a program until nobody holds its input any
// more, which is also when a test has died, and then ends the whole group of
// processes.
const guardian = `{ "$@" </dev/null; echo "$1 ended with status $?"; } & cat >/dev/null; kill -KILL 0`

// launch starts wrangler in a folder and waits until the worker answers.
func launch(t *testing.T, folder string, o options) *worker {
	t.Helper()
	config, err := json.Marshal(o.config(t))
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "wrangler.json"), config, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs(wrangler)
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{log: filepath.Join(folder, "log")}
	log, err := os.Create(w.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	run := node(script, "dev", "--config", filepath.Join(folder, "wrangler.json"), "--persist-to", filepath.Join(folder, "state"),
		"--ip", "127.0.0.1", "--port", "0", "--inspector-port", "0")
	cmd := exec.Command("/bin/sh", append([]string{"-c", guardian, "sh"}, run.Args...)...)
	cmd.Env = append(os.Environ(), "CI=1", "NO_COLOR=1", "WRANGLER_SEND_METRICS=false", "WRANGLER_HIDE_BANNER=true",
		"CLOUDFLARE_CF_FETCH_ENABLED=false", "XDG_CONFIG_HOME="+filepath.Join(folder, "config"), "TMPDIR="+folder,
		fmt.Sprintf("MINIFLARE_WORKERD_V8_FLAGS=--wasm-max-mem-pages=%d", isolate>>16))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	held, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.group = cmd.Process.Pid
	w.end = func() {
		held.Close()
		cmd.Wait() // killed, as it was told to be
		for syscall.Kill(-w.group, 0) == nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
	if w.url = w.ready(); w.url == "" {
		w.end()
		t.Fatalf("wrangler runs no worker:\n%s", w.tail(0))
	}
	return w
}

var (
	readyLine = regexp.MustCompile(`Ready on (http://127\.0\.0\.1:\d+)`)
	endedLine = regexp.MustCompile(`ended with status \d+`)
)

// ready waits for wrangler and returns the worker's address; none where it does
// not come.
func (w *worker) ready() string {
	for began := time.Now(); time.Since(began) < 3*time.Minute; time.Sleep(50 * time.Millisecond) {
		log := w.tail(0)
		if endedLine.Match(log) {
			return ""
		}
		if found := readyLine.FindSubmatch(log); found != nil {
			answer, err := http.Get(string(found[1]) + "/v1/health")
			if err != nil {
				continue
			}
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return string(found[1])
			}
		}
	}
	return ""
}

// tail is what wrangler told since the log had so many bytes.
func (w *worker) tail(since int64) []byte {
	file, err := os.Open(w.log)
	if err != nil {
		return []byte(err.Error())
	}
	defer file.Close()
	file.Seek(since, io.SeekStart)
	text, err := io.ReadAll(file)
	if err != nil {
		return []byte(err.Error())
	}
	return text
}

// tellOf shows what wrangler told during a test that fails.
func (w *worker) tellOf(t *testing.T) {
	since := int64(len(w.tail(0)))
	t.Cleanup(func() {
		if t.Failed() {
			told := w.tail(since)
			t.Logf("wrangler told:\n%s", told[max(0, len(told)-8<<10):])
		}
	})
}

// health is what a worker says of itself.
type health struct {
	Service, Version, Platform string
	Budget                     json.RawMessage
	Slices, LoRAs, Uploads     bool
	Links                      bool
	Live                       int
	Memory                     struct {
		Held   int64 `json:"held_bytes"`
		Heap   int64 `json:"heap_bytes"`
		System int64 `json:"system_bytes"`
	}
}

func (w *worker) health(t *testing.T) (h health) {
	t.Helper()
	edgetest.NewClient(t, w.url).Do(t, "GET", "/v1/health", nil).Decode(t, http.StatusOK, &h)
	return h
}

// idle waits until nothing runs and says what Go's memory then holds.
func (w *worker) idle(t *testing.T, within time.Duration) health {
	t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		h := w.health(t)
		if h.Live == 0 && h.Memory.Held == 0 {
			return h
		}
		if time.Since(began) > within {
			t.Fatalf("after %v there are %d runs, which hold %d bytes", within, h.Live, h.Memory.Held)
		}
	}
}
