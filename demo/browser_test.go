package demo_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/sdo-go/sdo/demo"
)

// This file starts headless browsers and opens pages in them; hands_test.go is
// what a test does with a page.
//
// SDO_REQUIRE_BROWSER=1 makes a missing browser a failure. SDO_BROWSER_ADAPTER
// names what WebGPU runs on: swiftshader, which Chromium brings along, lavapipe
// or default, the machine's own.

// options say how a page is opened. The zero value is a desktop in light
// colours with an adapter.
type options struct {
	phone     bool
	dark      bool
	noAdapter bool          // navigator.gpu is there, but knows no adapter
	insecure  bool          // plain http from another host: no navigator.gpu, no private files
	base      string        // path the site lies under, "/some/base/"; the root for none
	at        string        // what follows the address: "#tune", "?x=1"
	handler   http.Handler  // instead of demo.Handler of the embedded site
	before    string        // JavaScript that runs before the page's own
	patience  time.Duration // for anything to happen; a minute for none
}

// page is one page in a browser of its own storage.
type page struct {
	*testing.T
	url    string
	ctx    context.Context
	opt    options
	scope  string
	server *httptest.Server
	heard  *heard
}

// heard is what a page and its workers told the console, and what failed.
type heard struct {
	mu       sync.Mutex
	asked    map[network.RequestID]string // addresses
	lines    []string
	problems []string
	expected []*regexp.Regexp
	workers  []context.Context
	attached sync.WaitGroup
}

// insecureHost is this machine by a name that browsers do not trust.
const insecureHost = "sdo.test"

var launched = struct {
	sync.Mutex
	browsers map[bool]context.Context // by whether they lack an adapter
	ends     []func()
}{browsers: map[bool]context.Context{}}

func TestMain(m *testing.M) {
	stale, _ := filepath.Glob(filepath.Join(pictures, "failed-*")) // the pattern is well formed
	for _, picture := range stale {
		os.Remove(picture)
	}
	code := m.Run()
	for _, end := range launched.ends {
		end()
	}
	os.Exit(code)
}

// browserPath finds Chromium, or skips the test.
func browserPath(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	lacking(t, "there is no Chromium on this machine; tools/setup.sh browser installs it")
	return ""
}

// lacking skips a test for want of something, which SDO_REQUIRE_BROWSER=1 does
// not let pass.
func lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("SDO_REQUIRE_BROWSER") == "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// adapterFlags make Chromium offer the adapter of SDO_BROWSER_ADAPTER.
func adapterFlags(t *testing.T) []chromedp.ExecAllocatorOption {
	t.Helper()
	switch adapter := os.Getenv("SDO_BROWSER_ADAPTER"); adapter {
	case "", "swiftshader":
		return []chromedp.ExecAllocatorOption{chromedp.Flag("enable-unsafe-webgpu", true), chromedp.Flag("use-webgpu-adapter", "swiftshader")}
	case "lavapipe":
		drivers, err := filepath.Glob("/usr/share/vulkan/icd.d/*lvp*")
		if err != nil || len(drivers) == 0 {
			t.Fatalf("SDO_BROWSER_ADAPTER is lavapipe, but there is no driver in /usr/share/vulkan/icd.d; install mesa-vulkan-drivers")
		}
		return []chromedp.ExecAllocatorOption{
			chromedp.Env("VK_DRIVER_FILES="+drivers[0], "VK_ICD_FILENAMES="+drivers[0]),
			chromedp.Flag("enable-unsafe-webgpu", true), chromedp.Flag("ignore-gpu-blocklist", true), chromedp.Flag("use-webgpu-adapter", "default"),
			chromedp.Flag("use-vulkan", "native"), chromedp.Flag("use-angle", "vulkan"), chromedp.Flag("enable-features", "Vulkan"),
		}
	case "default":
		return []chromedp.ExecAllocatorOption{
			chromedp.Flag("enable-unsafe-webgpu", true), chromedp.Flag("ignore-gpu-blocklist", true), chromedp.Flag("enable-features", "Vulkan"),
		}
	default:
		t.Fatalf("SDO_BROWSER_ADAPTER is %q, want swiftshader, lavapipe or default", adapter)
		return nil
	}
}

// browser starts Chromium, once with an adapter and once without.
func browser(t *testing.T, noAdapter bool) context.Context {
	t.Helper()
	path := browserPath(t)
	launched.Lock()
	defer launched.Unlock()
	if ctx, ok := launched.browsers[noAdapter]; ok {
		return ctx
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
		chromedp.Flag("host-resolver-rules", "MAP "+insecureHost+" 127.0.0.1"),
		chromedp.Flag("disable-component-update", true))
	if os.Getuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // Chromium's own sandbox refuses root
	}
	if noAdapter {
		opts = append(opts, chromedp.DisableGPU, chromedp.Flag("disable-software-rasterizer", true))
	} else {
		opts = append(opts, adapterFlags(t)...)
	}
	allocator, release := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(allocator)
	end := func() {
		grace, done := context.WithTimeout(ctx, 10*time.Second)
		_ = chromedp.Cancel(grace) // it ends either way
		done()
		cancel()
		release()
	}
	if err := chromedp.Do(ctx); err != nil {
		end()
		t.Fatalf("%s does not start: %v", path, err)
	}
	launched.browsers[noAdapter] = ctx
	launched.ends = append(launched.ends, end)
	return ctx
}

// openPage opens the site in a browser of its own storage and waits until it
// has loaded. The test fails at its end if the console of the page or of one of
// its workers told an error, an exception was not caught, or a request failed.
func openPage(t *testing.T, o options) *page {
	t.Helper()
	parent := browser(t, o.noAdapter)
	if o.patience == 0 {
		o.patience = 60 * time.Second
	}
	if o.base == "" {
		o.base = "/"
	}
	if o.handler == nil {
		o.handler = demo.Handler(built(t))
	}
	p := &page{T: t, opt: o, heard: &heard{asked: map[network.RequestID]string{}}}
	mux := http.NewServeMux()
	mux.Handle(o.base, http.StripPrefix(strings.TrimSuffix(o.base, "/"), p.heard.requests(o.handler)))
	p.server = httptest.NewServer(mux)
	p.url = p.server.URL + o.base + o.at
	if o.insecure {
		p.url = strings.Replace(p.url, "127.0.0.1", insecureHost, 1)
	}

	var cancel context.CancelFunc
	p.ctx, cancel = chromedp.NewContext(parent, chromedp.WithNewBrowserContext(), chromedp.WithListener(func(event any) { p.hear("page", event) }))
	t.Cleanup(func() {
		p.settle()
		if t.Failed() {
			p.leaveTraces()
		}
		cancel()
		p.server.Close()
	})
	p.do(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := chromedp.Call(ctx, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: watchTasks + o.before})
		return err
	}))
	p.dress(o.phone, o.dark)
	p.do(chromedp.Navigate(p.url))
	return p
}

// dress gives the page a screen and colours.
func (p *page) dress(phone, dark bool) {
	p.Helper()
	p.opt.phone, p.opt.dark = phone, dark
	screen := chromedp.EmulateViewport(1280, 900, chromedp.EmulateScale(1))
	if phone {
		screen = chromedp.EmulateViewport(390, 844, chromedp.EmulateScale(2), chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait)
	}
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	p.do(screen, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
}

// do runs actions within the page's patience.
func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	// The first run of a context opens the page and must not end with a timeout.
	if chromedp.FromContext(p.ctx).Target == nil {
		if err := chromedp.Do(p.ctx); err != nil {
			p.Fatalf("no page opens: %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(p.ctx, p.opt.patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.Fatal(err)
	}
}

// hear takes an event of the page or of one of its workers. It runs where
// messages of the browser are read, so it asks nothing of the browser.
func (p *page) hear(who string, event any) {
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		line := fmt.Sprintf("%s: console.%s: %s", who, e.Type, arguments(e.Args))
		p.heard.note(line, e.Type == "error" || e.Type == "assert")
	case *runtime.EventExceptionThrown:
		p.heard.note(fmt.Sprintf("%s: not caught: %v", who, &chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}), true)
	case *log.EventEntryAdded:
		p.heard.note(fmt.Sprintf("%s: %s: %s %s", who, e.Entry.Source, e.Entry.Text, e.Entry.URL), e.Entry.Level == "error")
	case *network.EventRequestWillBeSent:
		p.heard.mu.Lock()
		defer p.heard.mu.Unlock()
		p.heard.asked[e.RequestID] = e.Request.URL
	case *network.EventLoadingFailed:
		p.heard.mu.Lock()
		address := p.heard.asked[e.RequestID]
		p.heard.mu.Unlock()
		if !e.Canceled {
			p.heard.note(fmt.Sprintf("%s: a request failed: %s %s %s", who, e.ErrorText, e.BlockedReason, address), true)
		}
	case *target.EventAttachedToTarget:
		if who == "page" && e.TargetInfo.Type == "worker" {
			p.heard.attached.Add(1)
			go p.listenToWorker(e.TargetInfo.TargetID)
		}
	}
}

// listenToWorker hears a worker's console from its beginning, since the browser
// repeats what was told before.
func (p *page) listenToWorker(id target.ID) {
	defer p.heard.attached.Done()
	ctx, _ := chromedp.NewContext(p.ctx, chromedp.WithTargetID(id), chromedp.WithDetachOnCancel(), // ends with the page
		chromedp.WithListener(func(event any) { p.hear("worker", event) }))
	if err := chromedp.Do(ctx); err != nil {
		return // the worker has ended meanwhile
	}
	p.heard.mu.Lock()
	defer p.heard.mu.Unlock()
	p.heard.workers = append(p.heard.workers, ctx)
}

func (h *heard) note(line string, problem bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, line)
	if problem {
		h.problems = append(h.problems, line)
	}
}

// requests notes what the server could not answer, which also finds requests
// made by a worker before anybody listened.
func (h *heard) requests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		s := &status{ResponseWriter: w}
		next.ServeHTTP(s, r)
		if s.code >= 400 {
			h.note(fmt.Sprintf("server: status %d for %s", s.code, path), true)
		}
	})
}

type status struct {
	http.ResponseWriter
	code int
}

func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// arguments are those of a console call, as its reader sees them.
func arguments(args []*runtime.RemoteObject) string {
	var words []string
	for _, a := range args {
		word := a.Description
		if word == "" {
			word = strings.Trim(string(a.Value), `"`)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// expect lets problems pass that match the pattern, because the test makes them
// on purpose.
func (p *page) expect(pattern string) {
	p.heard.mu.Lock()
	defer p.heard.mu.Unlock()
	p.heard.expected = append(p.heard.expected, regexp.MustCompile(pattern))
}

// console is what the page and its workers have told so far.
func (p *page) console() []string {
	p.heard.mu.Lock()
	defer p.heard.mu.Unlock()
	return append([]string(nil), p.heard.lines...)
}

// settle fails the test for what went wrong unseen.
func (p *page) settle() {
	p.heard.attached.Wait()
	p.heard.mu.Lock()
	everyone := append([]context.Context{p.ctx}, p.heard.workers...)
	p.heard.mu.Unlock()
	for _, ctx := range everyone {
		// Whatever was told before this answer has been heard by then.
		brief, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, _ = chromedp.Run(brief, chromedp.Evaluate[chromedp.Void]("0")) // it may have ended or be at work
		cancel()
	}
	p.heard.mu.Lock()
	defer p.heard.mu.Unlock()
	for _, line := range p.heard.problems {
		foreseen := false
		for _, pattern := range p.heard.expected {
			foreseen = foreseen || pattern.MatchString(line)
		}
		if !foreseen {
			p.Errorf("%s", line)
		}
	}
}

// leaveTraces keeps what helps to see why a test failed.
func (p *page) leaveTraces() {
	lines := p.console()
	if len(lines) > 40 {
		lines = lines[len(lines)-40:]
	}
	p.Logf("%s told:\n%s", p.url, strings.Join(lines, "\n"))
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.Logf("no screenshot: %v", err)
		return
	}
	p.keep("failed-"+strings.ReplaceAll(p.Name(), "/", "-"), picture)
}
