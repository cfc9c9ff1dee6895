package builtin

import (
	"io/fs"
	"slices"
	"testing"
)

func TestWeightsAreListed(t *testing.T) {
	files, err := fs.Glob(folders, "*/*.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(files, Weights) {
		t.Errorf("embedded are %v, listed %v", files, Weights)
	}
}
