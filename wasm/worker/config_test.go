//go:build !js

package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/model/builtin"
	"github.com/sdo-go/sdo/wasm/edge/edgetest"
)

// configuration reads wrangler.jsonc, which is JSON but for lines of comment.
func configuration(t *testing.T) map[string]any {
	t.Helper()
	text := regexp.MustCompile(`(?m)^\s*//.*$`).ReplaceAllString(source(t, "wrangler.jsonc"), "")
	var config map[string]any
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		t.Fatalf("wrangler.jsonc without its lines of comment is no JSON: %v", err)
	}
	return config
}

func source(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// config is wrangler.jsonc from a place elsewhere, with the options' changes.
func (o options) config(t *testing.T) map[string]any {
	t.Helper()
	absolute := func(name string) string {
		path, err := filepath.Abs(name)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := configuration(t)
	delete(config, "$schema")
	config["main"] = absolute(config["main"].(string))
	if o.main != "" {
		config["main"] = o.main
	}
	assets := config["assets"].(map[string]any)
	assets["directory"] = absolute(assets["directory"].(string))
	vars := config["vars"].(map[string]any)
	vars["SDO_SECRET"], vars["SDO_KEY"] = edgetest.Secret, "a key for tests"
	for name, value := range o.vars {
		vars[name] = value
	}
	if o.rate == 0 {
		delete(config, "ratelimits")
	} else {
		config["ratelimits"].([]any)[0].(map[string]any)["simple"] = map[string]any{"limit": o.rate, "period": 60}
	}
	return config
}

// The configuration sets what main.go reads, and binds what it asks for.
func TestTheConfigurationIsRead(t *testing.T) {
	config, program := configuration(t), source(t, "main.go")
	var names []string
	for name := range config["vars"].(map[string]any) {
		names = append(names, name)
	}
	for _, of := range []string{"r2_buckets", "kv_namespaces"} {
		for _, b := range config[of].([]any) {
			names = append(names, b.(map[string]any)["binding"].(string))
		}
	}
	for _, b := range config["ratelimits"].([]any) {
		names = append(names, b.(map[string]any)["name"].(string))
	}
	if len(names) < 5 {
		t.Errorf("the configuration has only %v", names)
	}
	for _, name := range names {
		if !regexp.MustCompile(`(variable|text|there)\("` + name + `"`).MatchString(program) {
			t.Errorf("wrangler.jsonc has %s, which main.go does not read", name)
		}
	}
	if name := config["assets"].(map[string]any)["binding"].(string); !strings.Contains(source(t, "front.mjs"), "env."+name+".") {
		t.Errorf("wrangler.jsonc has %s, which front.mjs does not read", name)
	}
}

// The worker's modules are the weights of the built-in networks, all of them and
// each under its own name.
func TestWeightsAreModules(t *testing.T) {
	text := source(t, "weights.mjs")
	files := map[string]string{} // by the names they are imported as
	for _, m := range regexp.MustCompile(`import (\w+) from '\.\./\.\./model/builtin/([^']+)'`).FindAllStringSubmatch(text, -1) {
		files[m[1]] = m[2]
	}
	var listed []string
	for _, m := range regexp.MustCompile(`'([^']+\.safetensors)': (\w+),`).FindAllStringSubmatch(text, -1) {
		listed = append(listed, m[1])
		if files[m[2]] != m[1] {
			t.Errorf("weights.mjs has %q under the name %s", files[m[2]], m[1])
		}
	}
	var want []string
	for _, f := range builtin.Weights {
		want = append(want, f.Name)
	}
	slices.Sort(listed)
	slices.Sort(want)
	if !slices.Equal(listed, want) {
		t.Errorf("weights.mjs lists\n%v, package builtin has\n%v", listed, want)
	}
}
