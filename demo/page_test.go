package demo_test

import (
	"net/http"
	"os"
	"testing"

	"github.com/sdo-go/sdo/demo"
)

// The page finds its files wherever it lies, and needs nothing of the server
// but the files.
func TestThePageLoads(t *testing.T) {
	for name, o := range map[string]options{
		"root":            {},
		"base path":       {base: "/some/base/"},
		"any file server": {base: "/some/base/", handler: http.FileServerFS(demo.Site())},
	} {
		t.Run(name, func(t *testing.T) {
			p := openPage(t, o)
			p.wait("tab-steer")
			p.waitText("device-chip", p.adapter())
		})
	}
}

// For a person to look at, on every screen and in both colours.
func TestFirstLook(t *testing.T) {
	p := openPage(t, options{})
	p.waitText("device-chip", p.adapter())
	p.screenshots("first-look")
}

// The adapter must be there, or every other test would run on the CPU and pass.
func TestTheBrowserHasWebGPU(t *testing.T) {
	p := openPage(t, options{})
	here := p.adapter()
	there := evaluateInWorker[string](p, "const a = await navigator.gpu?.requestAdapter(); return a ? a.info.architecture || a.info.vendor : ''")
	if here == "" || there != here {
		t.Errorf("the page has adapter %q and its worker %q", here, there)
	}
	if os.Getenv("SDO_BROWSER_ADAPTER") == "lavapipe" && here == "swiftshader" {
		t.Error("Chromium found no use for lavapipe and took SwiftShader; docs/testing.md says what it needs of Mesa")
	}
	t.Logf("adapter %s", here)
}
