package recipes

import (
	"io/fs"
	"os"
	"strings"
	"testing"
)

// The examples, which need models that people bring, read and repeat like the
// library's own recipes, and are no part of it.
func TestExamples(t *testing.T) {
	files := os.DirFS("examples")
	names, err := fs.Glob(files, "*")
	if err != nil || len(names) < 2 {
		t.Fatalf("%d examples, %v", len(names), err)
	}
	for _, file := range names {
		r, err := Find(file, files)
		if err != nil {
			t.Error(err)
			continue
		}
		name := strings.TrimSuffix(file, ".yaml")
		if r.Name != name || r.Description == "" || r.CLIP == "" || contains(List(), name) {
			t.Errorf("%s: name %q, description %q, clip %q", file, r.Name, r.Description, r.CLIP)
		}
		if back := mustParse(t, string(r.Canonical())); !same(r, back) {
			t.Errorf("%s: canonical form reads back differently:\n%s", file, r.Canonical())
		}
		if err := r.CheckPictures(512, 512); err != nil {
			t.Error(err)
		}
	}
}
