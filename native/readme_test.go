package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sdo-go/sdo/recipes"
	"github.com/sdo-go/sdo/wasm/edge"
)

// The README's commands run as written, except that work is cut down to what
// shows that they run: few pictures, steps and updates, on the CPU. Make
// targets must exist, links must lead somewhere, and the recipe must parse.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```(\\w+)\n(.*?)```").FindAllStringSubmatch(text, -1) {
		if block[1] == "yaml" {
			if _, err := recipes.Parse([]byte(block[2]), "README.md"); err != nil {
				t.Error(err)
			}
			continue
		}
		for line := range strings.Lines(block[2]) {
			command, _, _ := strings.Cut(strings.TrimSpace(line), " #")
			words := strings.Fields(command)
			switch {
			case len(words) == 0:
			case words[0] == "make":
				if !strings.Contains(string(makefile), "\n"+words[1]+":") {
					t.Errorf("%s: the Makefile has no such target", command)
				}
			case words[0] == "bin/sdo":
				t.Run(command, func(t *testing.T) {
					t.Chdir(t.TempDir())
					if code, _, stderr := invoke(t, shorten(words[1:])...); code != exitOK {
						t.Errorf("exit code %d: %s", code, stderr)
					}
				})
			case words[0] == "curl":
				t.Run(command, func(t *testing.T) { askEdge(t, command) })
			default:
				t.Errorf("%q: this test does not know how to run it", command)
			}
		}
	}
	for _, link := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(text, -1) {
		if strings.HasPrefix(link[1], "https://") {
			continue
		}
		if _, err := os.Stat(filepath.Join("..", link[1])); err != nil {
			t.Errorf("README links to %s: %v", link[1], err)
		}
	}
}

// shorten appends flags that make a command quick; the last of a repeated flag
// wins.
func shorten(args []string) []string {
	switch args[0] {
	case "steer":
		return append(args, "--num-images", "1", "--steps", "2", "--updates", "1", "--device", "cpu", "-q")
	case "tune":
		return append(args, "--steps", "2", "--updates", "1", "--set", "tune.batch_size=1", "--set", "tune.eval_images=1", "--device", "cpu", "-q")
	case "sample":
		return append(args, "--num-images", "1", "--steps", "2", "--device", "cpu", "-q")
	case "audit":
		return append(args, "--num-images", "1", "--steps", "2", "--device", "cpu", "-q")
	case "bench":
		if args[1] == "method" {
			return append(args, "--device", "cpu", "-q")
		}
		// A list flag given twice adds up, so the README's own goes.
		if i := slices.Index(args, "--steps"); i >= 0 {
			args = slices.Delete(args, i, i+2)
		}
		return append(args, "--steps", "2", "--num-images", "1", "--device", "cpu", "-q")
	}
	return args
}

// askEdge makes a request of a command line to a server of package edge.
func askEdge(t *testing.T, command string) {
	match := regexp.MustCompile(`^curl -N http://127\.0\.0\.1:8787(/\S+) -d '(.+)'$`).FindStringSubmatch(command)
	if match == nil {
		t.Fatal("this test does not know how to ask it")
	}
	budget := edge.Budget{Seconds: 20, Rate: 500e6, Bytes: 48 << 20} // of wrangler.jsonc
	answer := httptest.NewRecorder()
	edge.New(edge.Options{Budget: budget}).ServeHTTP(answer, httptest.NewRequest(http.MethodPost, match[1], strings.NewReader(match[2])))
	if body := answer.Body.String(); answer.Code != http.StatusOK || !strings.Contains(body, "event: result\n") {
		t.Errorf("%d: %s", answer.Code, body)
	}
}
