package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
)

// Commands of docs/models.md need models that are downloaded, so they are not
// run; they must be commands with flags that there are.
func TestCommandsOfTheModelsPage(t *testing.T) {
	text, err := os.ReadFile("../docs/models.md")
	if err != nil {
		t.Fatal(err)
	}
	word := regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`)
	commands := 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(block[1]) {
			line, ok := strings.CutPrefix(strings.TrimSpace(line), "bin/sdo ")
			if !ok {
				t.Errorf("%q is no command of bin/sdo", line)
				continue
			}
			commands++
			var args []string
			for _, w := range word.FindAllString(line, -1) {
				args = append(args, strings.Trim(w, `'"`))
			}
			a := &app{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}
			cmd, rest, err := a.root().Find(args)
			if err != nil || !cmd.Runnable() {
				t.Errorf("%s: %v", line, err)
				continue
			}
			if err := cmd.ParseFlags(rest); err != nil {
				t.Errorf("%s: %v", line, err)
				continue
			}
			if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
	if commands == 0 {
		t.Error("docs/models.md shows no command")
	}
	for _, flag := range regexp.MustCompile("`(--[a-z-]+)").FindAllStringSubmatch(string(text), -1) {
		known := false
		for _, cmd := range [][]string{{"model", "pull"}, {"model", "inspect"}, {"sample"}, {"steer"}} {
			a := &app{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}
			if found, _, err := a.root().Find(cmd); err == nil && found.Flag(flag[1][2:]) != nil {
				known = true
			}
		}
		if !known {
			t.Errorf("docs/models.md tells of %s, which no command has", flag[1])
		}
	}
}
