package builtin

import (
	"io/fs"
	"slices"
	"testing"
)

func TestWeightsAreListed(t *testing.T) {
	names, err := fs.Glob(folders, "*/*.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	var files []File
	for _, name := range names {
		info, err := fs.Stat(folders, name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, File{name, info.Size()})
	}
	if !slices.Equal(files, Weights) {
		t.Errorf("embedded are %v, listed %v", files, Weights)
	}
}
