package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sdo-go/sdo/demo"
	"github.com/sdo-go/sdo/model/builtin"
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

// What the worker weighs is parsed by every isolate before its first answer.
func TestTheWorkerStaysSmall(t *testing.T) {
	modules, err := upload(os.DirFS("../../" + bundle))
	if err != nil {
		if os.Getenv("SDO_REQUIRE_WORKER") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if got := sum(modules, isWasm); got.raw == 0 || got.gzip > edgeBudget {
		t.Errorf("the edge's module is %d bytes and %d as gzip, want at most %d; see what it imports with GOOS=js GOARCH=wasm go list -deps ./wasm/worker",
			got.raw, got.gzip, edgeBudget)
	}
	weights := 0
	for _, m := range modules {
		if strings.HasSuffix(m.Path, ".safetensors") {
			weights++
		}
	}
	if weights != len(builtin.Weights) {
		t.Errorf("the worker uploads %d files of weights, the built-in networks have %d", weights, len(builtin.Weights))
	}
	if got := sum(modules, all); got.raw > workerLimit {
		t.Errorf("the worker uploads %d bytes, %d are allowed", got.raw, workerLimit)
	}
}

func TestSizes(t *testing.T) {
	site := fstest.MapFS{"manifest.json": {Data: []byte(`{"files": [
		{"path": "index.html", "bytes": 100, "gzip": 60, "brotli": 50},
		{"path": "icon.svg", "bytes": 10},
		{"path": "sdo.wasm", "bytes": 1000, "gzip": 400, "brotli": 300},
		{"path": "models/avatars-16-s/w.safetensors", "bytes": 2000, "brotli": 1900},
		{"path": "models/fashion-28/w.safetensors", "bytes": 7, "gzip": 6, "brotli": 5}]}`)}}
	many := strings.Repeat("x", 5000)
	bundle := fstest.MapFS{
		"worker.js": {Data: []byte("x")}, "1-edge.wasm": {Data: []byte(many)}, "2-w.safetensors": {Data: []byte("x")},
		"worker.js.map": {Data: []byte(many)}, "README.md": {Data: []byte(many)},
	}
	var out bytes.Buffer
	if err := run(&out, site, bundle); err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(out.String()) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	modules, err := upload(bundle)
	if err != nil {
		t.Fatal(err)
	}
	module, worker := sum(modules, isWasm).gzip, sum(modules, all).gzip
	if module == 0 || worker <= module || worker > 500 {
		t.Errorf("of a bundle of 5002 bytes gzip makes %d, of its module %d", worker, module)
	}
	want := "bytes raw gzip brotli|module 1000 400 300|page 110 70 60|avatars-16 weights 2000 2000 1900|first visit 3110 2470 2260|other models 7 6 5|" +
		fmt.Sprintf("edge module 5000 %d -|edge worker 5002 %d -|its limit 67108864 - -|once, on a free plan - 3145728 -|once, on a paid plan - 10485760 -", module, worker)
	if got := strings.Join(rows, "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if err := run(&out, fstest.MapFS{}, bundle); err == nil || err.Error() != "the page is not built; run make site" {
		t.Errorf("no manifest: %v", err)
	}
	if err := run(&out, site, fstest.MapFS{}); err == nil || err.Error() != "the edge worker is not built; run make worker" {
		t.Errorf("no bundle: %v", err)
	}
}
