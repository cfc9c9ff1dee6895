package demo_test

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// A thing is named by its data-testid, by the name a person or a screen reader
// would call it, or by text in it, tried in this order. A name that means
// nothing visible, or several things, fails the test.

//go:embed testdata/find.js
var find string

// watchTasks counts from the start how long the page was busy at once.
const watchTasks = `if (self.PerformanceObserver) {
	self.__tasks = [];
	new PerformanceObserver((list) => { for (const e of list.getEntries()) self.__tasks.push(e.duration) }).observe({ type: 'longtask', buffered: true });
}
`

// within looks for things only inside the one called scope.
func (p *page) within(scope string) *page {
	narrow := *p
	narrow.scope = scope
	return &narrow
}

// patient waits up to d where p would wait a minute.
func (p *page) patient(d time.Duration) *page {
	calm := *p
	calm.opt.patience = d
	return &calm
}

// evaluate runs the body of an asynchronous JavaScript function in the page and
// decodes what it returns.
func evaluate[T any](p *page, body string) T {
	p.Helper()
	value, err := evaluateIn[T](p.ctx, p.opt.patience, body)
	if err != nil {
		p.Fatalf("%v\nin %s", err, strings.TrimSpace(body))
	}
	return value
}

// evaluateInWorker does so in the page's newest worker.
func evaluateInWorker[T any](p *page, body string) T {
	p.Helper()
	for end := time.Now().Add(p.opt.patience); ; time.Sleep(50 * time.Millisecond) {
		p.heard.mu.Lock()
		workers := p.heard.workers
		p.heard.mu.Unlock()
		if len(workers) > 0 {
			value, err := evaluateIn[T](workers[len(workers)-1], p.opt.patience, body)
			if err != nil {
				p.Fatalf("%v\nin the worker, in %s", err, strings.TrimSpace(body))
			}
			return value
		}
		if time.Now().After(end) {
			p.Fatal("the page has started no worker")
		}
	}
}

func evaluateIn[T any](ctx context.Context, patience time.Duration, body string) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T]("(async () => {\n"+body+"\n})()", chromedp.EvalAwaitPromise))
}

// query evaluates an expression of testdata/find.js, the thing's name and scope
// coming first among the arguments.
func query[T any](p *page, expression string, name string, more ...any) (T, error) {
	var arguments []string
	for _, a := range append([]any{name, p.scope}, more...) {
		text, err := json.Marshal(a)
		if err != nil {
			panic(err) // strings and numbers always marshal
		}
		arguments = append(arguments, string(text))
	}
	body := fmt.Sprintf("const page = %s;\nreturn await (async (name, scope, value) => %s)(%s)", find, expression, strings.Join(arguments, ", "))
	return evaluateIn[T](p.ctx, p.opt.patience, body)
}

// plain is the sentence in an error of the page.
func plain(err error) string {
	var thrown *chromedp.ExceptionError
	if errors.As(err, &thrown) && thrown.Exception != nil {
		text, _, _ := strings.Cut(strings.TrimPrefix(thrown.Exception.Description, "Error: "), "\n    at ")
		return text
	}
	return err.Error()
}

// until asks again and again until done, and fails the test after p's patience
// with what it last heard.
func (p *page) until(what string, done func() (bool, string)) {
	p.Helper()
	end := time.Now().Add(p.opt.patience)
	for {
		ok, why := done()
		if ok {
			return
		}
		if time.Now().After(end) {
			p.Fatalf("waited %v for %s: %s", p.opt.patience, what, why)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// wait waits until something called name is visible.
func (p *page) wait(name string) {
	p.Helper()
	p.until(fmt.Sprintf("%q", name), func() (bool, string) {
		n, err := query[int](p, "page.visible(name, scope).length", name)
		if err != nil {
			return false, plain(err)
		}
		return n > 0, "it is not there"
	})
}

// waitGone waits until nothing called name is visible.
func (p *page) waitGone(name string) {
	p.Helper()
	p.until(fmt.Sprintf("%q to go", name), func() (bool, string) {
		n, err := query[int](p, "page.visible(name, scope).length", name)
		if err != nil {
			return false, plain(err)
		}
		return n == 0, "it is still there"
	})
}

// waitText waits until the thing called name says text somewhere.
func (p *page) waitText(name, text string) {
	p.Helper()
	p.until(fmt.Sprintf("%q to say %q", name, text), func() (bool, string) {
		got, err := query[string](p, "page.tidy(page.one(name, scope).innerText)", name)
		if err != nil {
			return false, plain(err)
		}
		return strings.Contains(got, text), fmt.Sprintf("it says %q", got)
	})
}

// waitFor waits until the body of an asynchronous JavaScript function returns
// something true.
func (p *page) waitFor(body string) {
	p.Helper()
	p.until(strings.TrimSpace(body), func() (bool, string) {
		ok, err := evaluateIn[bool](p.ctx, p.opt.patience, "return !!(await (async () => {\n"+body+"\n})())")
		if err != nil {
			return false, plain(err)
		}
		return ok, "it is not so"
	})
}

// visible tells whether something called name can be seen now.
func (p *page) visible(name string) bool {
	p.Helper()
	return p.count(name) > 0
}

// count is how many visible things are called name.
func (p *page) count(name string) int {
	p.Helper()
	return must(p, func() (int, error) { return query[int](p, "page.visible(name, scope).length", name) })
}

// text is what the thing called name says, on one line.
func (p *page) text(name string) string {
	p.Helper()
	p.wait(name)
	return must(p, func() (string, error) { return query[string](p, "page.tidy(page.one(name, scope).innerText)", name) })
}

// value is what the field called name holds.
func (p *page) value(name string) string {
	p.Helper()
	p.wait(name)
	return must(p, func() (string, error) { return query[string](p, "page.one(name, scope).value", name) })
}

// attribute is an attribute of the thing called name, empty for none.
func (p *page) attribute(name, attribute string) string {
	p.Helper()
	p.wait(name)
	return must(p, func() (string, error) {
		return query[string](p, "page.one(name, scope).getAttribute(value) ?? ''", name, attribute)
	})
}

func must[T any](p *page, f func() (T, error)) T {
	p.Helper()
	value, err := f()
	if err != nil {
		p.Fatal(plain(err))
	}
	return value
}

type point struct{ X, Y float64 }

// spot waits until the thing called name can be pressed, and is where.
func (p *page) spot(name string) point {
	p.Helper()
	var at point
	p.until(fmt.Sprintf("%q to press", name), func() (bool, string) {
		var err error
		if at, err = query[point](p, "page.spot(name, scope)", name); err != nil {
			return false, plain(err)
		}
		return true, ""
	})
	return at
}

// click presses the thing called name with the mouse, or with a finger on a
// phone, once it is visible, enabled and not covered.
func (p *page) click(name string) {
	p.Helper()
	at := p.spot(name)
	if p.opt.phone {
		p.do(chromedp.TapXY(at.X, at.Y))
		return
	}
	p.do(chromedp.MouseClickXY(at.X, at.Y))
}

// draw presses the mouse in the thing called name and drags it from point to
// point, each in shares of its width and height.
func (p *page) draw(name string, points ...point) {
	p.Helper()
	p.wait(name)
	box := must(p, func() (struct{ X, Y, Width, Height float64 }, error) {
		return query[struct{ X, Y, Width, Height float64 }](p, "page.box(name, scope)", name)
	})
	at := func(i int) (float64, float64) { return box.X + points[i].X*box.Width, box.Y + points[i].Y*box.Height }
	x, y := at(0)
	p.do(chromedp.MouseEvent(chromedp.MousePressed, x, y, chromedp.ButtonLeft, chromedp.ClickCount(1)))
	for i := range points {
		x, y = at(i)
		p.do(chromedp.MouseEvent(chromedp.MouseMoved, x, y, chromedp.ButtonLeft))
	}
	p.do(chromedp.MouseEvent(chromedp.MouseReleased, x, y, chromedp.ButtonLeft, chromedp.ClickCount(1)))
}

// focus puts the keyboard's focus on the thing called name.
func (p *page) focus(name string) {
	p.Helper()
	p.wait(name)
	must(p, func() (chromedp.Void, error) { return query[chromedp.Void](p, "page.one(name, scope).focus()", name) })
}

// key types keys into what has the focus; package kb names those without a
// letter. Modifiers are held meanwhile.
func (p *page) key(keys string, held ...chromedp.Modifier) {
	p.Helper()
	p.do(chromedp.KeyEvent(keys, chromedp.KeyModifiers(held...)))
}

// set gives the field called name a value: of a list, the value or the words of
// a choice.
func (p *page) set(name, value string) {
	p.Helper()
	p.until(fmt.Sprintf("%q to set", name), func() (bool, string) {
		if _, err := query[chromedp.Void](p, "page.set(name, value, scope)", name, value); err != nil {
			return false, plain(err)
		}
		return true, ""
	})
}

// upload chooses files in the field called name, which may be invisible. For a
// field that takes a folder it is the folder's path.
func (p *page) upload(name string, paths ...string) {
	p.Helper()
	for i, path := range paths {
		full, err := filepath.Abs(path)
		if err != nil {
			p.Fatal(err)
		}
		paths[i] = full
	}
	p.until(fmt.Sprintf("%q to upload to", name), func() (bool, string) {
		field, err := query[*runtime.RemoteObject](p, `page.all(name, scope).flatMap((e) => e.matches('input[type=file]') ? [e] : [...e.querySelectorAll('input[type=file]')])[0]`, name)
		if err != nil {
			return false, plain(err)
		}
		if field.ObjectID == "" {
			return false, "there is no field for files"
		}
		if _, err := chromedp.Call(p.ctx, dom.SetFileInputFiles, dom.SetFileInputFilesParams{Files: paths, ObjectID: field.ObjectID}); err != nil {
			return false, err.Error()
		}
		return true, ""
	})
}

// download is the file that the page saves when do is done, and its name.
func (p *page) download(do func()) (name string, data []byte) {
	p.Helper()
	folder := p.TempDir()
	p.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, cdpbrowser.SetDownloadBehavior, cdpbrowser.SetDownloadBehaviorParams{
			Behavior: cdpbrowser.SetDownloadBehaviorBehaviorAllow, BrowserContextID: chromedp.FromContext(ctx).BrowserContextID, DownloadPath: folder,
		})
		return err
	}))
	do()
	p.until("a file to be saved", func() (bool, string) {
		files, err := os.ReadDir(folder)
		if err != nil {
			return false, err.Error()
		}
		if len(files) != 1 || strings.HasSuffix(files[0].Name(), ".crdownload") || strings.HasPrefix(files[0].Name(), ".") {
			return false, fmt.Sprintf("there are %v", files)
		}
		name = files[0].Name()
		data, err = os.ReadFile(filepath.Join(folder, name))
		return err == nil, fmt.Sprint(err)
	})
	return name, data
}

// copied is the text that the page puts into the clipboard when do is done.
func (p *page) copied(do func()) string {
	p.Helper()
	for _, name := range []string{"clipboard-read", "clipboard-write"} {
		p.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			_, err := chromedp.Call(ctx, cdpbrowser.SetPermission, cdpbrowser.SetPermissionParams{
				Permission: &cdpbrowser.PermissionDescriptor{Name: name}, Setting: cdpbrowser.PermissionSettingGranted,
				BrowserContextID: chromedp.FromContext(ctx).BrowserContextID,
			})
			return err
		}))
	}
	evaluate[chromedp.Void](p, "await navigator.clipboard.writeText('')")
	do()
	p.waitFor("return await navigator.clipboard.readText()")
	return evaluate[string](p, "return await navigator.clipboard.readText()")
}

// reload loads the page again, as after an accident.
func (p *page) reload() {
	p.Helper()
	p.do(chromedp.Reload())
}

// visit goes to another part of the site, "#tune" or "?x=1", in the same tab.
func (p *page) visit(at string) {
	p.Helper()
	p.url = strings.TrimSuffix(p.url, p.opt.at) + at
	p.opt.at = at
	p.do(chromedp.Navigate(p.url))
}

// cutOff takes the network away: nothing can be loaded any more.
func (p *page) cutOff() {
	p.server.CloseClientConnections()
	p.server.Close()
}

// longestTask is the longest time since load or since forgetTasks in which the
// page could not answer; zero when it never took 50 ms.
func (p *page) longestTask() time.Duration {
	p.Helper()
	// One frame more, so that the task under way is counted too.
	ms := evaluate[float64](p, "await new Promise(requestAnimationFrame); await new Promise((r) => setTimeout(r)); return Math.max(0, ...self.__tasks)")
	return time.Duration(ms * float64(time.Millisecond))
}

func (p *page) forgetTasks() {
	p.Helper()
	evaluate[chromedp.Void](p, "self.__tasks.length = 0")
}

// adapter is the architecture of the page's WebGPU adapter, empty for none.
func (p *page) adapter() string {
	p.Helper()
	return evaluate[string](p, "const a = await navigator.gpu?.requestAdapter(); return a ? a.info.architecture || a.info.vendor || 'unnamed' : ''")
}

// pictures is where screenshots go, for a person to look at.
const pictures = "../out/screenshots"

// screenshot keeps the whole page, as far as it can be scrolled, as
// name-<desktop|phone>-<light|dark>.
func (p *page) screenshot(name string) {
	p.Helper()
	evaluate[chromedp.Void](p, "scrollTo(0, 0); await new Promise(requestAnimationFrame); await new Promise(requestAnimationFrame)")
	ctx, cancel := context.WithTimeout(p.ctx, p.opt.patience)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		p.Fatalf("screenshot %s: %v", name, err)
	}
	p.keep(name, picture)
}

// screenshots keeps the page in its present state on every screen and in all
// colours, and gives it back the ones it had.
func (p *page) screenshots(name string) {
	p.Helper()
	phone, dark := p.opt.phone, p.opt.dark
	for _, look := range []struct{ phone, dark bool }{{false, false}, {false, true}, {true, true}, {true, false}} {
		p.dress(look.phone, look.dark)
		p.screenshot(name)
	}
	p.dress(phone, dark)
}

// keep writes a picture of the page as it is dressed.
func (p *page) keep(name string, picture []byte) {
	p.Helper()
	screen, scheme := "desktop", "light"
	if p.opt.phone {
		screen = "phone"
	}
	if p.opt.dark {
		scheme = "dark"
	}
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		p.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pictures, fmt.Sprintf("%s-%s-%s.png", name, screen, scheme)), picture, 0o644); err != nil {
		p.Fatal(err)
	}
}
