// Package architecture holds no code, only the test of the arrows in
// docs/architecture.md: which room may import which.
package architecture

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sdo-go/sdo/"

// rooms lists, for every package of the module, the packages of the module it
// may import and the foreign modules it may use besides the standard library.
// A package that is missing here fails the test: a new room needs its arrows.
var rooms = map[string]struct{ own, foreign string }{
	"":                   {"", ""},
	"sampler":            {"", ""},
	"shaders":            {"", ""},
	"graph":              {"", ""},
	"gpu":                {"", "github.com/cogentcore/webgpu"},
	"graph/optable":      {"graph", ""},
	"graph/cpu":          {"graph graph/cpu/wide", "gonum.org/v1/gonum gonum.org/v1/netlib"},
	"graph/cpu/wide":     {"", "golang.org/x/sys"},
	"graph/webgpu":       {"graph gpu shaders", "github.com/x448/float16"},
	"recipes/spelling":   {"", ""},
	"sdo":                {"sampler", ""},
	"sdo/mixture":        {"sampler sdo", ""},
	"model":              {"graph model/placeholder model/tokenizer recipes/spelling", "github.com/x448/float16"},
	"model/modeltest":    {"graph model", ""},
	"model/builtin":      {"", ""},
	"model/placeholder":  {"", ""},
	"model/tokenizer":    {"model/placeholder", "golang.org/x/text"},
	"train":              {"graph model sampler train/avatars train/fashion", ""},
	"train/avatars":      {"graph model", ""},
	"train/fashion":      {"graph model", ""},
	"recipes":            {"recipes/spelling", "github.com/goccy/go-yaml"},
	"engine":             {"graph model model/builtin recipes sampler sdo train/avatars", "gonum.org/v1/gonum"},
	"engine/enginetest":  {"engine graph/cpu recipes sdo", ""},
	"demo":               {"", ""},
	"demo/sitetest":      {"", "github.com/andybalholm/brotli"},
	"demo/studio":        {"engine gpu graph graph/cpu graph/optable graph/webgpu model model/builtin recipes sampler sdo train/avatars", ""},
	"wasm/browser":       {"demo/studio model/builtin", ""},
	"wasm/edge":          {"engine graph graph/cpu model model/builtin recipes sdo", ""},
	"wasm/edge/edgetest": {"engine/enginetest model model/builtin recipes sdo", ""},
	"wasm/worker":        {"model/builtin wasm/edge", "github.com/syumai/workers"},
	"native":             {"*", "*"},
	"native/benchmark":   {"engine graph native/report recipes sampler sdo sdo/mixture", ""},
	"native/hub":         {"graph", ""},
	"native/hub/hubtest": {"", ""},
	"native/report":      {"engine graph model recipes sdo", "golang.org/x/image gonum.org/v1/plot gorgonia.org/tensor"},
}

// portable are the packages that must build for the browser and the worker.
// Nothing they reach may import the host tensor, which would add 20 MB. Only the
// edge is a server, and there is no GPU.
var portable = []string{"sampler", "shaders", "graph", "gpu", "graph/cpu", "graph/cpu/wide", "graph/webgpu", "sdo", "sdo/mixture", "model", "model/builtin", "model/placeholder", "model/tokenizer", "train", "train/avatars", "train/fashion", "recipes/spelling", "recipes", "engine", "demo/studio", "wasm/browser", "wasm/edge", "wasm/worker"}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Standard   bool
	Module     *struct{ Path string }
}

func list(t *testing.T, env []string, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.Bytes())
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportDirections(t *testing.T) {
	// Both tags together see every file; tools are programs run by hand. The
	// programs of wasm are in one place only.
	fields := "-json=ImportPath,Imports,Standard,Module"
	all := list(t, nil, "-tags", "openblas", "-deps", fields, "./...")
	all = append(all, list(t, []string{"GOOS=js", "GOARCH=wasm"}, fields, "./wasm/...")...)
	for _, p := range all {
		if p.Standard || p.Module == nil || p.Module.Path+"/" != module {
			continue
		}
		name := strings.TrimPrefix(p.ImportPath+"/", module)
		name = strings.TrimSuffix(name, "/")
		if strings.HasPrefix(name, "tools/") {
			continue
		}
		room, known := rooms[name]
		if !known {
			t.Errorf("package %s has no arrows in architecture_test.go; add them here and to docs/architecture.md", name)
			continue
		}
		for _, path := range p.Imports {
			own, isOwn := strings.CutPrefix(path, module)
			foreign := strings.Contains(strings.Split(path, "/")[0], ".")
			switch {
			case isOwn && room.own != "*" && !slices.Contains(strings.Fields(room.own), own):
				t.Errorf("%s imports %s; it may import only: %s", name, own, room.own)
			case !isOwn && foreign && room.foreign != "*" && !slices.ContainsFunc(strings.Fields(room.foreign), func(m string) bool {
				return path == m || strings.HasPrefix(path, m+"/")
			}):
				t.Errorf("%s imports %s; the only foreign modules it may use: %s", name, path, room.foreign)
			case path == "syscall/js" && name != "gpu" && !strings.HasPrefix(name, "wasm/"):
				t.Errorf("%s imports syscall/js; only gpu and the rooms of wasm may", name)
			}
		}
	}
}

// The algorithm is arithmetic: no device, no C, no browser.
func TestTheCoreIsPure(t *testing.T) {
	for _, env := range [][]string{nil, {"GOOS=js", "GOARCH=wasm"}} {
		for _, p := range list(t, env, "-json=ImportPath,Deps", "./sdo", "./sampler") {
			for _, dep := range p.Deps {
				if dep == "runtime/cgo" || dep == "syscall/js" && env == nil || strings.HasPrefix(dep, module+"gpu") || strings.HasPrefix(dep, "github.com/") && !strings.HasPrefix(dep, module) {
					t.Errorf("%s reaches %s", p.ImportPath, dep)
				}
			}
		}
	}
}

func TestPortablePackagesStaySmall(t *testing.T) {
	args := []string{"-json=ImportPath,Deps"}
	for _, name := range portable {
		args = append(args, "./"+name)
	}
	for _, p := range list(t, []string{"GOOS=js", "GOARCH=wasm"}, args...) {
		for _, dep := range p.Deps {
			name := strings.TrimPrefix(p.ImportPath, module)
			edge := name == "wasm/edge" || name == "wasm/worker"
			switch {
			case strings.HasPrefix(dep, "gorgonia.org/"), strings.HasPrefix(dep, "gonum.org/v1/plot"), dep == "net/http" && !edge:
				t.Errorf("%s reaches %s, which has no place in wasm", name, dep)
			case edge && slices.Contains([]string{"gpu", "graph/webgpu", "shaders", "train"}, strings.TrimPrefix(dep, module)):
				t.Errorf("%s reaches %s, which has no place at the edge", name, dep)
			}
		}
	}
}
