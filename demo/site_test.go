package demo_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/demo"
)

// built is the site in this test, which is skipped without one.
func built(t *testing.T) fs.FS {
	t.Helper()
	if !demo.Built(demo.Site()) {
		lacking(t, "the page is not built; make site builds it")
	}
	return demo.Site()
}

// listing is an entry of manifest.json.
type listing struct {
	Path, Sha256        string
	Bytes, Gzip, Brotli int64
}

// readManifest reads the list of a built page's files, as it is and parsed.
func readManifest(t *testing.T, site fs.FS) ([]byte, []listing) {
	t.Helper()
	data, err := fs.ReadFile(site, "manifest.json")
	if errors.Is(err, fs.ErrNotExist) {
		lacking(t, "the page was built without its manifest, by npm alone; make site finishes it")
	}
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct{ Files []listing }
	if err := json.Unmarshal(data, &manifest); err != nil {
		t.Fatal(err)
	}
	return data, manifest.Files
}

// The manifest lists every file as it is, and what lies compressed beside a
// file is that file.
func TestTheManifestTellsTheTruth(t *testing.T) {
	site := built(t)
	data, files := readManifest(t, site)
	told := map[string]int64{"manifest.json": int64(len(data)), ".gitkeep": 0}
	for _, f := range files {
		plain, err := fs.ReadFile(site, f.Path)
		if err != nil {
			t.Error(err)
			continue
		}
		if sum := sha256.Sum256(plain); hex.EncodeToString(sum[:]) != f.Sha256 {
			t.Errorf("%s has another hash than manifest.json says", f.Path)
		}
		told[f.Path] = f.Bytes
		if f.Brotli > 0 {
			told[f.Path+".br"] = f.Brotli
		}
		if f.Gzip == 0 {
			continue
		}
		told[f.Path+".gz"] = f.Gzip
		packed, err := fs.ReadFile(site, f.Path+".gz")
		if err != nil {
			t.Error(err)
			continue
		}
		reader, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Errorf("%s.gz: %v", f.Path, err)
			continue
		}
		if unpacked, err := io.ReadAll(reader); err != nil || !bytes.Equal(unpacked, plain) {
			t.Errorf("%s.gz does not hold %s: %v", f.Path, f.Path, err)
		}
	}
	err := fs.WalkDir(site, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if size, ok := told[path]; !ok || err != nil || size != info.Size() {
			t.Errorf("%s: manifest.json says %d bytes (listed: %v), there are %d; %v", path, size, ok, info.Size(), err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// The page knows the hash of everything that its worker loads by name, so that
// nothing else is run.
func TestThePageKnowsWhatItLoads(t *testing.T) {
	site := built(t)
	workers, err := fs.Glob(site, "assets/worker-*.js")
	if err != nil || len(workers) != 1 {
		t.Fatalf("the page has the workers %v (%v), want one", workers, err)
	}
	worker, err := fs.ReadFile(site, workers[0])
	if err != nil {
		t.Fatal(err)
	}
	_, files := readManifest(t, site)
	loaded := 0
	for _, f := range files {
		if f.Path != "sdo.wasm" && f.Path != "wasm_exec.js" && !strings.HasPrefix(f.Path, "models/") {
			continue
		}
		loaded++
		if !bytes.Contains(worker, []byte(f.Sha256)) {
			t.Errorf("%s does not know the hash of %s", workers[0], f.Path)
		}
	}
	if loaded < 10 {
		t.Errorf("the worker loads %d files, there were ten", loaded)
	}
}

// A module runs only with the glue of the toolchain that built it.
func TestTheGlueIsTheToolchains(t *testing.T) {
	site := built(t)
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "lib", "wasm", "wasm_exec.js"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fs.ReadFile(site, "wasm_exec.js"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("wasm_exec.js is not that of this Go; make site copies it (%v)", err)
	}
}
