package demo_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The device's and the kernels' own tests, the whole op table among them, built
// for js/wasm and run in the browser as they stand.
func TestGoTestsInTheBrowser(t *testing.T) {
	browserPath(t)
	for _, run := range []struct {
		pkg, name string
		env       map[string]string
	}{
		{"gpu", "gpu", nil},
		{"gpu", "gpu without replay", map[string]string{"SDO_REPLAY": "0"}},
		{"graph/webgpu", "kernels", map[string]string{"SDO_LIMITS": "default"}},
	} {
		t.Run(run.name, func(t *testing.T) {
			binary := filepath.Join(t.TempDir(), "test.wasm")
			build := exec.Command("go", "test", "-c", "-o", binary, "./"+run.pkg)
			build.Dir, build.Env = "..", append(os.Environ(), "GOOS=js", "GOARCH=wasm", "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("building the tests of %s: %v\n%s", run.pkg, err, out)
			}
			env := map[string]string{"SDO_REQUIRE_GPU": "1"}
			for key, value := range run.env {
				env[key] = value
			}
			began := time.Now()
			p := openPage(t, options{handler: testSite(t, binary, env), at: "gotest.html", patience: 40 * time.Minute})
			p.expect(".*") // tests provoke errors; their verdict is the exit code
			p.waitFor("return window.exit !== undefined")
			output := strings.Join(p.console(), "\n")
			if code := evaluate[int](p, "return window.exit"); code != 0 || !strings.Contains(output, "PASS") {
				t.Errorf("%s exits with %d:\n%s", run.pkg, code, output)
			}
			if strings.Contains(output, "--- SKIP") {
				t.Errorf("%s skips tests:\n%s", run.pkg, output)
			}
			t.Logf("%d tests of %s on %s in %v", strings.Count(output, "\npage: console.log: --- PASS"), run.pkg, p.adapter(), time.Since(began).Round(time.Second))
		})
	}
}

// testSite serves a test binary and what runs it.
func testSite(t *testing.T, binary string, env map[string]string) http.Handler {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	run, err := json.Marshal(map[string]any{"args": []string{"-test.v"}, "env": env})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, file := range map[string]string{
		"/gotest.html":  "testdata/gotest.html",
		"/replay.js":    "../gpu/replay.js",
		"/wasm_exec.js": filepath.Join(strings.TrimSpace(string(root)), "lib", "wasm", "wasm_exec.js"),
		"/test.wasm":    binary,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	}
	mux.HandleFunc("/run.json", func(w http.ResponseWriter, _ *http.Request) { w.Write(run) })
	return mux
}
