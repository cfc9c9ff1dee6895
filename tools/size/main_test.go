package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sdo-go/sdo/demo"
)

// What the page weighs is what people wait for.
func TestTheDownloadStaysSmall(t *testing.T) {
	files, err := manifest(demo.Site())
	if err != nil {
		if os.Getenv("SDO_REQUIRE_BROWSER") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if got := sum(files, isModule); got.raw == 0 || got.raw > rawModuleBudget || got.gzip > moduleBudget {
		t.Errorf("%s is %d bytes and %d as gzip, want at most %d and %d; see what it imports with GOOS=js GOARCH=wasm go list -deps ./wasm/browser",
			module, got.raw, got.gzip, rawModuleBudget, moduleBudget)
	}
	if sum(files, isWeights).raw == 0 {
		t.Errorf("the site holds no weights of %s", model)
	}
	if got := sum(files, isDownload).gzip; got > downloadBudget {
		t.Errorf("a first visit downloads %d bytes as gzip, want at most %d; make size shows what of", got, downloadBudget)
	}
}

func TestSizes(t *testing.T) {
	site := fstest.MapFS{"manifest.json": {Data: []byte(`{"files": [
		{"path": "index.html", "bytes": 100, "gzip": 60, "brotli": 50},
		{"path": "icon.svg", "bytes": 10},
		{"path": "sdo.wasm", "bytes": 1000, "gzip": 400, "brotli": 300},
		{"path": "models/avatars-16-s/w.safetensors", "bytes": 2000, "brotli": 1900},
		{"path": "models/fashion-28/w.safetensors", "bytes": 7, "gzip": 6, "brotli": 5}]}`)}}
	var out bytes.Buffer
	if err := run(&out, site); err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(out.String()) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	want := "bytes raw gzip brotli|module 1000 400 300|page 110 70 60|avatars-16 weights 2000 2000 1900|first visit 3110 2470 2260|other models 7 6 5"
	if got := strings.Join(rows, "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if err := run(&out, fstest.MapFS{}); err == nil || err.Error() != "the page is not built; run make site" {
		t.Errorf("no manifest: %v", err)
	}
}
